"""One runner of experiments: what is missing is done, in turn, by processes or on a cluster.

An experiment is a list of configs, each with a ``key`` that nothing else has, and a function that
does one of them and leaves its results in the experiment's folder, whole or not at all. Nothing
central keeps the books. A config is done when its results are there, and a lock beside them says
that somebody is at it; the system lets go of the lock when that process dies. So any number of
processes and machines with one folder in common share the work, whoever is killed is replaced by
starting the same command again, and nothing that finished is done twice.

Chapter: *Reproducing the tables*.
"""

import json
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.experiments.records import Row, read_rows, write_rows

FAILURE = "failure.txt"
TRIES = 3  # rounds of workers after some were killed
Do = Callable[[Any, Path], object]  # a config and the experiment's folder
IsDone = Callable[[Any, Path], bool]
Executor = Callable[[Sequence[Any], Path, Do, IsDone, tqdm], None]


class Keyed(NamedTuple):
    """A config of an experiment whose ``value`` has no key of its own."""

    key: str
    value: Any


def in_turn(left: Sequence[Any], out: Path, do: Do, done: IsDone, bar: tqdm) -> None:
    """One config after the other, in this process."""
    for config in left:
        attempt(config, out, do)
        bar.update()


def run_missing(
    configs: Sequence[Any],
    out: Path,
    do: Do,
    done: IsDone,
    execute: Executor = in_turn,
    name: str = "runs",
    unit: str = "run",
) -> dict[str, str]:
    """Do all configs that are not done; one that fails does not stop the others.

    Each config has a ``key``, the name of its folder or file in ``out``, the experiment's folder.
    ``do`` does one and ``done`` tells whether its results are there; other processes need them by
    name. ``execute`` is `in_turn`, `processes`\\ ``(n)`` or `cluster`\\ ``(scheduler, n)``. Returns
    why a config failed, by its key.

    Examples
    --------
    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> def double(config, out):
    ...     (out / config.key).write_text(str(2 * int(config.key)))
    >>> configs = [SimpleNamespace(key="1"), SimpleNamespace(key="two"), SimpleNamespace(key="3")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_missing(configs, Path(folder), double, lambda one, out: (out / one.key).is_file())
    {'two': "invalid literal for int() with base 10: 'two'"}
    """
    out.mkdir(parents=True, exist_ok=True)
    for config in configs:
        (out / config.key / FAILURE).unlink(missing_ok=True)
    left = [config for config in configs if not done(config, out)]
    bar = tqdm(total=len(configs), initial=len(configs) - len(left), desc=name, unit=unit,
               disable=None)  # fmt: skip
    execute(left, out, do, done, bar)
    bar.close()
    return {config.key: _failure(config, out) for config in left if not done(config, out)}


def run_all(
    configs: Sequence[Any], out: Path, do: Do, done: IsDone, name: str, unit: str = "run"
) -> None:
    """`run_missing` in turn, where a summary needs all: ValueError at the end if one failed."""
    if failed := run_missing(configs, out, do, done, name=name, unit=unit):
        key, reason = next(iter(failed.items()))
        raise ValueError(
            f"{name}: {len(failed)} of {len(configs)} failed, first {key}: {reason} The others are "
            "kept; mend it and start the same command again."
        )


def collect_rows(
    name: str, configs: Sequence[Any], rows: Callable[[Any], Sequence[Row]], out: Path
) -> pd.DataFrame:
    """The table of records of all configs, those that are not in the folder yet made first.

    ``rows`` gives the records of a config (see `indiret.experiments.records.long_rows`), which
    ``out`` keeps in a file of json lines for each. The table has them in the order of the configs.
    Raises ValueError if one of them failed, when the others are done.
    """

    def path(config: Any) -> Path:
        return out / f"{config.key}.jsonl"

    def do(config: Any, out: Path) -> None:
        write_rows(path(config), rows(config))

    run_all(configs, out, do, lambda config, out: path(config).exists(), name)
    return read_rows(map(path, configs))


def keep_settings(
    path: Path, settings: Mapping[str, Any], provenance: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write down what a folder's results are of, or make sure that they are of the same.

    Returns the provenance of the first start. Raises ValueError if the folder has results of other
    settings or data.
    """
    plain = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, {"settings": plain, "provenance": dict(provenance or {})})
    kept = json.loads(path.read_text())
    if kept.get("settings") != plain:
        raise ValueError(
            f"{path.parent} holds another {path.stem}: other settings or data; name another folder."
        )
    started: dict[str, str] = kept["provenance"]
    return started


def attempt(config: Any, out: Path, do: Do) -> None:
    """Do one config; what went wrong is written down."""
    try:
        do(config, out)
    except Exception as error:  # one that fails must not stop the others
        (out / config.key).mkdir(exist_ok=True)
        (out / config.key / FAILURE).write_text(f"{error}\n\n{traceback.format_exc()}")


def _failure(config: Any, out: Path) -> str:
    try:
        return (out / config.key / FAILURE).read_text().partition("\n")[0]
    except OSError:
        return "its process was killed, or another is still at it; start the command again."


def processes(n: int) -> Executor:
    """Executor: so many worker processes of this machine; those that are killed are replaced."""
    return partial(_by_processes, n)


def _by_processes(n: int, todo: Sequence[Any], out: Path, do: Do, done: IsDone, bar: tqdm) -> None:
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        context.set_forkserver_preload([getattr(do, "func", do).__module__])  # torch is loaded once

    def left() -> list[Any]:
        return [c for c in todo if not done(c, out) and not (out / c.key / FAILURE).exists()]

    remaining = left()

    def update() -> None:
        nonlocal remaining
        before, remaining = len(remaining), left()
        bar.update(before - len(remaining))

    bar.update(len(todo) - len(remaining))
    for _ in range(TRIES):
        workers = [
            context.Process(target=_work, args=(remaining, out, do, done))
            for _ in range(min(n, len(remaining)))
        ]
        for worker in workers:
            worker.start()
        while alive := [worker.sentinel for worker in workers if worker.is_alive()]:
            wait(alive, timeout=1)
            update()
        update()


def _work(todo: Sequence[Any], out: Path, do: Do, done: IsDone) -> None:
    """A worker: whatever nobody is at, then what others were at, in case they died."""
    die_with_parent()
    for config in todo:
        folder = out / config.key
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".worker", timeout=0):
                if not done(config, out) and not (folder / FAILURE).exists():
                    attempt(config, out, do)
        except Timeout:
            continue


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cluster(scheduler: str, n: int = 1) -> Executor:
    """Executor: the workers of a Dask scheduler's address; ``"local"`` starts ``n`` here."""
    return partial(_by_dask, scheduler, n)


def _by_dask(
    scheduler: str, n: int, todo: Sequence[Any], out: Path, do: Do, done: IsDone, bar: tqdm
) -> None:
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise ImportError(
            "--scheduler needs Dask; install it with: pip install indiret[cluster]"
        ) from error
    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler == "local":
            here = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(here)
        client = stack.enter_context(Client(address))
        jobs = client.map(attempt, todo, out=out.resolve(), do=do, pure=False)
        for _ in as_completed(jobs):
            bar.update()
