"""One runner of experiments: what is missing is done, in turn, by processes or on a cluster.

An experiment is a list of configs, each with a ``key`` that nothing else has, and a function that
does one of them and leaves its results in the experiment's folder, whole or not at all. Nothing
central keeps the books: a config is done when its results are there, and a lock says that somebody
is at it, which the system lets go when that process dies. So any number of processes and machines
share a folder, whoever is killed is replaced by starting the same command again, and nothing that
finished is done twice.

Chapter: *Reproducing the tables*.
"""

import json
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.datasets.writing import hold_lock
from indiret.experiments.records import (
    DEPENDS,
    Row,
    read_kept,
    read_rows,
    set_aside,
    what_changed,
    write_rows,
)
from indiret.index.cluster import dask_client

FAILURE = "failure.txt"
TRIES = 3  # rounds of workers after some were killed
Do = Callable[[Any, Path], object]  # a config and the experiment's folder
IsDone = Callable[[Any, Path], bool]


class Keyed(NamedTuple):
    """A config of an experiment whose ``value`` has no key of its own."""

    key: str
    value: Any


class Work(NamedTuple):
    """An experiment's folder, what does a config there, and what tells whether it is done."""

    out: Path
    do: Do
    done: IsDone

    def left(self, configs: Sequence[Any]) -> list[Any]:
        """Those that are neither done nor known to fail."""
        return [c for c in configs if not self.done(c, self.out) and not self.failure(c).exists()]

    def failure(self, config: Any) -> Path:
        """The file that says why a config failed."""
        return self.out / config.key / FAILURE

    def reason(self, config: Any) -> str:
        """Why a config is not done, in a line."""
        if self.failure(config).is_file():
            return self.failure(config).read_text().partition("\n")[0]
        return "its process was killed, or the disk is full; start the command again."

    def attempt(self, config: Any, patient: bool = True) -> None:
        """Do one config, when nobody is at it; what went wrong is written down.

        So it does not stop the others. Who is not ``patient`` leaves what somebody is at.
        """
        lock = self.out / ".locks" / config.key.replace("/", "_")
        try:
            with hold_lock(lock, config.key, patient) as held:
                if held and self.left([config]):
                    self.do(config, self.out)
        except Exception as error:
            reason = f"{error or type(error).__name__}\n\n{traceback.format_exc()}"
            try:
                self.failure(config).parent.mkdir(exist_ok=True)
                self.failure(config).write_text(reason)
            except OSError as full:
                print(f"{self.failure(config)}: {full.strerror}: {error}", file=sys.stderr)


Executor = Callable[[Work, Sequence[Any], tqdm], None]


def in_turn(work: Work, left: Sequence[Any], bar: tqdm) -> None:
    """One config after the other, in this process; last what another command is at."""
    for config in left:
        work.attempt(config, patient=False)
        bar.update()
    for config in work.left(left):
        work.attempt(config)


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

    A config's ``key`` is the name of its folder or file in ``out``. ``do`` does one and ``done``
    tells whether its results are there; other processes need both by name. ``execute`` is
    `in_turn`, `processes`\\ ``(n)`` or `cluster`\\ ``(scheduler, n)``. Returns why a config failed,
    by its key.

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
    work = Work(out, do, done)
    out.mkdir(parents=True, exist_ok=True)
    for config in configs:
        work.failure(config).unlink(missing_ok=True)
    left = work.left(configs)
    start = {"total": len(configs), "initial": len(configs) - len(left), "disable": None}
    with tqdm(desc=name, unit=unit, **start) as bar:
        execute(work, left, bar)
    return {config.key: work.reason(config) for config in left if not done(config, out)}


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
    """The table of records of all configs in their order, what is not in the folder made first.

    ``rows`` gives the records of a config (see `indiret.experiments.records.long_rows`), which
    ``out`` keeps. Raises ValueError if one of them failed, when the others are done.
    """

    def path(config: Any) -> Path:
        return out / f"{config.key}.jsonl"

    def do(config: Any, out: Path) -> None:
        set_aside(path(config))
        write_rows(path(config), rows(config))

    def done(config: Any, out: Path) -> bool:
        try:
            return not read_rows([path(config)]).empty
        except (OSError, ValueError):  # missing or broken
            return False

    run_all(configs, out, do, done, name)
    return read_rows(map(path, configs))


def keep_settings(
    path: Path, settings: Mapping[str, Any], provenance: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write down what a folder's results are of, or make sure that they are of the same.

    Returns the provenance of the first start. Raises ValueError if they are of other settings, data
    or weights, which it names. A folder of which nobody can tell any more is set aside.
    """
    now = {"settings": json.loads(json.dumps(settings)), "provenance": dict(provenance or {})}
    kept = read_kept(path, dict[str, dict[str, Any]])
    if kept is None or kept.keys() != now.keys():
        if path.exists():
            set_aside(path.parent)
        write_json(path, kept := now)
    depends = {name: value for name, value in now["provenance"].items() if name in DEPENDS}
    made = kept["provenance"] | kept["settings"]
    if other := what_changed(made, depends | now["settings"]):
        raise ValueError(
            f"{path.parent} holds another {path.stem}: other settings or data, namely {other}; "
            "delete it, or name another folder."
        )
    return dict(kept["provenance"])


def processes(n: int) -> Executor:
    """Executor: so many worker processes of this machine; those that are killed are replaced."""
    return partial(_by_processes, n)


def _by_processes(n: int, work: Work, left: Sequence[Any], bar: tqdm) -> None:
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:  # torch is loaded once
        context.set_forkserver_preload([getattr(work.do, "func", work.do).__module__])
    for _ in range(TRIES):
        workers = [
            context.Process(target=_take_part, args=(work, left)) for _ in range(min(n, len(left)))
        ]
        for worker in workers:
            worker.start()
        while workers:
            wait([worker.sentinel for worker in workers], timeout=1)
            workers = [worker for worker in workers if worker.is_alive()]
            before, left = left, work.left(left)
            bar.update(len(before) - len(left))


def _take_part(work: Work, configs: Sequence[Any]) -> None:
    """A worker: whatever nobody is at, then what others were at, in case they died."""
    die_with_parent()
    for patient in (False, True):
        for config in configs:
            work.attempt(config, patient)


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that was killed."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: Any) -> None:
        wait([sentinel])
        os._exit(1)

    if parent:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def cluster(scheduler: str, n: int = 1) -> Executor:
    """Executor: the workers of a Dask scheduler's address; ``"local"`` starts ``n`` here."""
    return partial(_by_dask, scheduler, n)


def _by_dask(scheduler: str, n: int, work: Work, left: Sequence[Any], bar: tqdm) -> None:
    with dask_client(scheduler, n) as client:
        from distributed import as_completed

        work = work._replace(out=work.out.resolve())
        for _ in as_completed(client.map(work.attempt, left, pure=False)):
            bar.update()
