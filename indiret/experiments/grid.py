"""A grid of runs: every combination of settings that a TOML file lists, resumed after any kill.

A run is finished when its results are in its folder; see `indiret.experiments.runner`.

Chapter: *Reproducing the tables*.
"""

import itertools
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from indiret.distributed import ProcessGroup
from indiret.experiments.reproduction import RunConfig, finished, run
from indiret.experiments.runner import cluster, in_turn, run_missing
from indiret.experiments.runner import processes as worker_processes
from indiret.training import ALONE

_NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reproduce.ipynb"


def read_grid(path: Path) -> list[RunConfig]:
    """The runs that a TOML file asks for, each once, in order.

    ``[run]`` holds settings of all runs, each ``[[grid]]`` lists of settings, every combination of
    which is a run. Where no ``fold`` is given, all are run. Raises FileNotFoundError if there is no
    such file, and ValueError, with its name, if it is no TOML, or a name or value is not allowed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp(), "grid.toml")
    >>> _ = file.write_text('[run]\\nfolds = 2\\n[[grid]]\\nby = ["query", "landmark"]')
    >>> [(config.by, config.fold) for config in read_grid(file)]
    [('query', 0), ('query', 1), ('landmark', 0), ('landmark', 1)]
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give a grid of runs as TOML.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from error
    try:
        return _combinations(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _combinations(table: dict[str, Any]) -> list[RunConfig]:
    fixed, grids = table.pop("run", {}), table.pop("grid", [{}])
    if table or not isinstance(fixed, dict) or not isinstance(grids, list) or not grids:
        raise ValueError("a grid has one [run] and one or more [[grid]], and nothing else.")
    found: dict[RunConfig, None] = {}
    for grid in grids:
        for name, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{name} = {values!r} in [[grid]] is not a list of values.")
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
    """Do all runs that are not finished; why some failed, by their keys.

    Each run has its folder in ``out``. Processes of this machine do them, or the workers of a Dask
    scheduler's address; ``"local"`` starts some here. With ``notebooks`` each leaves an executed
    copy of ``notebooks/reproduce.ipynb``, too. Raises ValueError if there is no process, and
    ImportError if Dask, or what executes notebooks, is missing.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} is not at least 1.")
    notebook = _notebook() if notebooks else None
    execute = in_turn if processes == 1 else worker_processes(processes)
    execute = cluster(scheduler, processes) if scheduler else execute
    do, done = partial(do_run, notebook=notebook), partial(is_done, notebook=notebook)
    return run_missing(configs, out, do, done, execute)


def run_together(
    configs: Sequence[RunConfig], out: Path, group: ProcessGroup, notebooks: bool = True
) -> None:
    """All runs one by one, each trained by all processes of a group that ``torchrun`` started."""
    notebook = _notebook() if notebooks else None
    for config in configs:
        do_run(config, out, notebook, group)


def _notebook() -> Path:
    """The notebook of a run; it needs papermill, and a checkout of the project."""
    import papermill  # noqa: F401

    if not _NOTEBOOK.is_file():
        raise FileNotFoundError(f"there is no {_NOTEBOOK}; run in a checkout, or --no-notebooks.")
    return _NOTEBOOK


def is_done(config: RunConfig, out: Path, notebook: Path | None = None) -> bool:
    """Whether a run's results are there, and its notebook if one is asked for."""
    if notebook and not (out / config.key / notebook.name).is_file():
        return False
    return finished(config, out / config.key) is not None


def do_run(
    config: RunConfig, out: Path, notebook: Path | None = None, group: ProcessGroup = ALONE
) -> None:
    """One run, and a copy of the notebook, which takes up the results where they are."""
    folder, threads = out / config.key, torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the processors, and sums come out alike everywhere
    try:
        run(config, folder, group)
    finally:
        torch.set_num_threads(threads)
    if notebook and group.first and not (folder / notebook.name).is_file():
        import papermill

        options = {"kernel_name": "python3", "cwd": str(folder), "progress_bar": False}
        unfinished = folder / f"unfinished-{notebook.name}"
        papermill.execute_notebook(notebook, unfinished, config.plain | {"out": "."}, **options)
        unfinished.replace(folder / notebook.name)
