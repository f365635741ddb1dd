"""A grid of runs: on this machine by processes, on a cluster through Dask, resumed after any kill.

Nothing central keeps the books. A run is finished when its results are in its folder, and a lock
in that folder says that somebody is at it; the system lets go of the lock when that process dies.
So any number of processes and machines with one folder in common share the work, whoever is
killed is replaced by starting the same command again, and nothing that finished is done twice.

Chapter: *Reproducing the tables*.
"""

import itertools
import multiprocessing
import os
import threading
import tomllib
import traceback
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from indiret.experiments.reproduction import RunConfig, finished, run
from indiret.parallel import Team

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reproduce.ipynb"
FAILURE = "failure.txt"
TRIES = 3  # rounds of workers after some were killed


def read_grid(path: Path) -> list[RunConfig]:
    """The runs that a TOML file asks for.

    Parameters
    ----------
    path
        ``[run]`` holds settings of all runs, each ``[[grid]]`` lists of settings, every combination
        of which is a run. Where no ``fold`` is given, all are run.

    Returns
    -------
    list of RunConfig
        Each once, in order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, TypeError
        If the file is no TOML, or a name or value is not allowed; the file is named.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "grid.toml")
    ...     _ = file.write_text('[run]\\nfolds = 2\\n[[grid]]\\nby = ["query", "landmark"]')
    ...     [(config.by, config.fold) for config in read_grid(file)]
    [('query', 0), ('query', 1), ('landmark', 0), ('landmark', 1)]
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}; give a grid of runs, a TOML file with one [run] and one or "
            "more [[grid]]."
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from error
    try:
        return _expand(table)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from error


def _expand(table: dict[str, Any]) -> list[RunConfig]:
    fixed, grids = table.pop("run", {}), table.pop("grid", [{}])
    if table or not isinstance(fixed, dict) or not isinstance(grids, list) or not grids:
        raise ValueError("a grid has one [run] and one or more [[grid]], and nothing else.")
    found: dict[RunConfig, None] = {}
    for grid in grids:
        for name, values in grid.items():
            if not isinstance(values, list) or not values:
                raise TypeError(f"{name} = {values!r} in [[grid]] is not a list of values.")
        for values in itertools.product(*grid.values()):
            settings = fixed | dict(zip(grid, values, strict=True))
            first = RunConfig.from_dict(settings)
            numbers = [first.fold] if "fold" in settings else range(first.folds)
            found |= {RunConfig.from_dict(settings | {"fold": n}): None for n in numbers}
    return list(found)


def run_grid(
    configs: Sequence[RunConfig],
    out: Path,
    processes: int = 1,
    scheduler: str | None = None,
    notebooks: bool = True,
) -> dict[str, str]:
    """Do all runs that are not finished.

    Parameters
    ----------
    configs
        From `read_grid`.
    out
        Folder of the grid; each run has its own in it.
    processes
        Of this machine.
    scheduler
        Address of a Dask scheduler, ``"local"`` for a cluster of this machine that is started here
        and stopped at the end, or None for plain processes.
    notebooks
        Whether each run leaves an executed copy of ``notebooks/reproduce.ipynb``, too.

    Returns
    -------
    dict
        Why a run failed, by its key; empty if all are finished.

    Raises
    ------
    ValueError
        If there is no process.
    ImportError
        If Dask, or what executes notebooks, is asked for and missing.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} is not at least 1.")
    out.mkdir(parents=True, exist_ok=True)
    notebook = notebook_to_run() if notebooks else None
    for config in configs:
        (out / config.key / FAILURE).unlink(missing_ok=True)
    if scheduler:
        _by_dask(configs, out, processes, scheduler, notebook)
    elif processes == 1:
        for config in tqdm(configs, desc="runs", unit="run", disable=None):
            do(config, out, notebook)
    else:
        _by_processes(configs, out, processes, notebook)
    return {
        config.key: _failure(config, out)
        for config in configs
        if not is_done(config, out, notebook)
    }


def run_together(
    configs: Sequence[RunConfig], out: Path, team: Team, notebooks: bool = True
) -> None:
    """All runs one by one, each trained by all processes of a team that ``torchrun`` started."""
    notebook = notebook_to_run() if notebooks else None
    for config in configs:
        run(config, out / config.key, team)
        if team.first and notebook:
            execute(notebook, config, out / config.key)


def notebook_to_run() -> Path:
    """The notebook of a run.

    Raises
    ------
    ImportError
        If papermill is missing.
    FileNotFoundError
        If this is no checkout, but the installed library.
    """
    import papermill  # noqa: F401

    if not NOTEBOOK.is_file():
        raise FileNotFoundError(
            f"there is no {NOTEBOOK}; run the command in a checkout of the project, or add "
            "--no-notebooks."
        )
    return NOTEBOOK


def is_done(config: RunConfig, out: Path, notebook: Path | None) -> bool:
    """Whether a run's results are there, and its notebook if one is asked for."""
    folder = out / config.key
    known = finished(config, folder) is not None
    return known and (notebook is None or (folder / notebook.name).is_file())


def do(config: RunConfig, out: Path, notebook: Path | None) -> str:
    """One run with its notebook; what went wrong is written down and returned."""
    folder = out / config.key
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the processors, and sums come out alike everywhere
    try:
        run(config, folder)
        if notebook:
            execute(notebook, config, folder)
    except Exception as error:  # one run that fails must not stop the others
        (folder / FAILURE).write_text(f"{error}\n\n{traceback.format_exc()}")
        return str(error)
    finally:
        torch.set_num_threads(threads)
    return ""


def execute(notebook: Path, config: RunConfig, folder: Path) -> None:
    """Execute a copy of the notebook for a run; it takes up the run's results where they are."""
    executed = folder / notebook.name
    if executed.is_file():
        return
    import papermill

    unfinished = folder / f"unfinished-{notebook.name}"
    papermill.execute_notebook(
        str(notebook),
        str(unfinished),
        config.plain | {"out": "."},
        kernel_name="python3",
        cwd=str(folder),
        progress_bar=False,
    )
    os.replace(unfinished, executed)


def _failure(config: RunConfig, out: Path) -> str:
    try:
        return (out / config.key / FAILURE).read_text().partition("\n")[0]
    except OSError:
        return "its process was killed, or another is still at it; start the command again."


def _by_processes(
    configs: Sequence[RunConfig], out: Path, processes: int, notebook: Path | None
) -> None:
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        context.set_forkserver_preload(["indiret.experiments.runner"])  # torch is loaded once

    def left() -> list[RunConfig]:
        return [
            config
            for config in configs
            if not is_done(config, out, notebook) and not (out / config.key / FAILURE).exists()
        ]

    todo = left()
    with tqdm(total=len(configs), initial=len(configs) - len(todo), desc="runs", unit="run",
              disable=None) as bar:  # fmt: skip
        for _ in range(TRIES):
            workers = [
                context.Process(target=_work, args=(todo, out, notebook))
                for _ in range(min(processes, len(todo)))
            ]
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=1)
                bar.update(len(configs) - len(left()) - bar.n)
            todo = left()
            bar.update(len(configs) - len(todo) - bar.n)
            if not todo:
                return


def _work(todo: Sequence[RunConfig], out: Path, notebook: Path | None) -> None:
    """A worker: whatever nobody is at, then what others were at, in case they died."""
    die_with_parent()
    for config in todo:
        folder = out / config.key
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".worker", timeout=0):
                if not is_done(config, out, notebook) and not (folder / FAILURE).exists():
                    do(config, out, notebook)
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


def _by_dask(
    configs: Sequence[RunConfig], out: Path, processes: int, scheduler: str, notebook: Path | None
) -> None:
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise ImportError(
            "--scheduler needs Dask; install it with: pip install indiret[cluster]"
        ) from error
    cluster = None
    if scheduler == "local":
        cluster = LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None)
    try:
        with Client(cluster or scheduler) as client:
            todo = [config for config in configs if not is_done(config, out, notebook)]
            jobs = client.map(do, todo, out=out.resolve(), notebook=notebook, pure=False)
            bar = tqdm(total=len(configs), initial=len(configs) - len(todo), desc="runs",
                       unit="run", disable=None)  # fmt: skip
            for _ in as_completed(jobs):
                bar.update()
            bar.close()
    finally:
        if cluster:
            cluster.close()
