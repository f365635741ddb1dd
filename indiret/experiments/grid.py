"""A grid of runs: every combination of settings that a TOML file lists, resumed after any kill.

A run is finished when its results are in its folder; see `indiret.experiments.runner`.

Chapter: *Reproducing the tables*.
"""

import itertools
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field

from indiret.datasets.files import check_type, read_text
from indiret.distributed import ProcessGroup
from indiret.experiments.evaluator import TRAINED, provenance, usable_device
from indiret.experiments.records import StoredRun, read_kept
from indiret.experiments.reproduction import RESULTS, RunConfig, finished, run
from indiret.experiments.runner import Keyed, cluster, in_turn, run_missing
from indiret.experiments.runner import processes as worker_processes
from indiret.training import ALONE

MOST_RUNS = 10_000  # of one grid, unless whoever asks has said yes to more
_NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reproduce.ipynb"


_Values = Annotated[list[Any], Field(min_length=1)]


class _Grid(BaseModel, extra="forbid"):
    """The form of the file."""

    run: dict[str, Any] = {}
    grid: Annotated[list[dict[str, _Values]], Field(min_length=1)] = [{}]


def read_grid(path: Path, most: float = MOST_RUNS) -> list[RunConfig]:
    """The runs that a TOML file asks for, each once, in order, if they are not more than ``most``.

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
    text = read_text(path)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from error
    grid = check_type(path, table, _Grid, "grid, one [run] and one or more [[grid]] of lists,")
    try:
        if not any((grid.run, *grid.grid)):
            raise ValueError("it sets nothing; give [run] a setting, or [[grid]] a list of some.")
        return _combinations(grid, most)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _combinations(table: _Grid, most: float) -> list[RunConfig]:
    settings: list[dict[str, Any]] = []
    for grid in table.grid:
        _check_number(math.prod(map(len, grid.values())), most)
        products = itertools.product(*grid.values())
        settings += [table.run | dict(zip(grid, values, strict=True)) for values in products]
    parts = [
        (first, [first.fold] if "fold" in one else range(first.folds))
        for one in settings
        for first in [RunConfig.from_dict(one)]
    ]
    _check_number(sum(len(numbers) for _, numbers in parts), most)
    return list({replace(one, fold=n): None for one, numbers in parts for n in numbers})


def _check_number(runs: int, most: float) -> None:
    if runs > most:
        raise ValueError(
            f"these are {runs:,} runs or more, and more than {most:,} are not begun unasked; give "
            "fewer values, a fold, or --yes."
        )


def place_on_devices(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The runs, each once, those of methods that run on the processor alone there."""
    usable = cache(usable_device)
    return [
        *dict.fromkeys(
            one if one.method == TRAINED else replace(one, device=usable(one.method, one.device))
            for one in configs
        )
    ]


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
    done = partial(is_done, notebook=notebook, origins=_origins(configs))
    work = [Keyed(config.key, config.placed) for config in configs]
    return run_missing(work, out, partial(do_run, notebook=notebook), done, execute)


def _origins(configs: Sequence[RunConfig]) -> dict[str, dict[str, str]]:
    """Where results would come from, by key; without those whose data cannot be read."""

    @cache
    def origin(dataset: str, root: str, regions: str, method: str) -> dict[str, str]:
        try:
            return provenance(RunConfig(dataset, root, regions).load(), method)
        except (OSError, ValueError):
            return {}

    return {c.key: origin(c.dataset, c.root, c.regions, c.method) for c in configs}


def skipped_in(configs: Sequence[RunConfig], out: Path) -> dict[str, str]:
    """What finished runs left out, and why."""
    found = (read_kept(out / one.key / RESULTS, StoredRun) or {} for one in configs)
    return {name: why for run in found for name, why in run.get("skipped", {}).items()}


def run_together(
    configs: Sequence[RunConfig], out: Path, group: ProcessGroup, notebooks: bool = True
) -> None:
    """All runs one by one, each trained by all processes of a group that ``torchrun`` started."""
    notebook = _notebook() if notebooks else None
    for config in configs:
        do_run(Keyed(config.key, config.placed), out, notebook, group)


def _notebook() -> Path:
    """The notebook of a run; it needs papermill, and a checkout of the project."""
    import papermill  # noqa: F401

    if not _NOTEBOOK.is_file():
        raise FileNotFoundError(f"there is no {_NOTEBOOK}; run in a checkout, or --no-notebooks.")
    return _NOTEBOOK


def is_done(
    one: Keyed, out: Path, notebook: Path | None = None, origins: Mapping[str, Any] | None = None
) -> bool:
    """Whether a run's results on these data are there, and its notebook if one is asked for."""
    if notebook and not (out / one.key / notebook.name).is_file():
        return False
    origin = (origins or {}).get(one.key)
    return bool(origin and finished(one.value, out / one.key, origin))


def do_run(
    one: Keyed, out: Path, notebook: Path | None = None, group: ProcessGroup = ALONE
) -> None:
    """One run, and a copy of the notebook, which takes up the results where they are."""
    folder, threads = out / one.key, torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the processors, and sums come out alike everywhere
    try:
        run(one.value, folder, group)
    finally:
        torch.set_num_threads(threads)
    if notebook and group.first and not (folder / notebook.name).is_file():
        import papermill

        options = {"kernel_name": "python3", "cwd": str(folder), "progress_bar": False}
        unfinished = folder / f"unfinished-{notebook.name}"
        names = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, unfinished))
        papermill.execute_notebook(*names, one.value.plain | {"out": "."}, **options)
        unfinished.replace(folder / notebook.name)
