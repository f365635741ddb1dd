"""Run every chapter with the first, the last and an illegal value of each of its parameters.

    python -m tools.sweep_parameters notebooks/03_correlation_tensor.ipynb
    python -m tools.sweep_parameters --only illegal notebooks/*.ipynb

Each run is one call of ``papermill`` as a user types it, ``papermill CHAPTER OUT -p NAME VALUE``. A
legal value has to run to the end; an illegal one has to stop at the chapter's check, with one
sentence. The legal values are read from that check. Where the last one would run for hours,
`AFFORDABLE` takes its place and the line says so. All chapters take hours on one core, so the test
suite runs the checks alone, and a weekly workflow runs this.

Exit status: 0 when every call ended as it has to, 1 when one did not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import nbformat

from indiret.checkpoints import WEIGHTS
from indiret.exercises import parameters

# The largest value that a sweep runs, in place of a last one that takes hours or much memory.
AFFORDABLE = {"steps": 200, "draws": 20_000, "processes": 2, "seconds": 5.0, "fold": 9, "folds": 11}
WEIGHTS_FILE = str(WEIGHTS / "base.safetensors")
# What a function of a text takes and refuses, by the parameter's name.
TEXTS: dict[str, tuple[list[Any], list[Any]]] = {
    "network": (["base", WEIGHTS_FILE], ["absent", "absent.safetensors"]),
    "results_file": ([""], ["absent.json"]),
    "folder": ([""], ["absent"]),
    "regions": ([""], []),
    "query_photo": ([""], []),
    "box": ([[], [10, 10, 120.5, 100]], [[1, 2, 3], "some"]),
    # of the notebook `reproduce`
    "dataset": (["toytown"], ["absent"]),
    "root": ([""], []),
    "method": (["network", "thumbnail"], ["absent"]),
    "attention": (["none", "har"], ["absent"]),
    "norm": (["batch", "group"], ["absent"]),
    "metrics": ([[], ["zncc"]], [["absent"], "some"]),
    "feedback": ([[], ["mean", "max"]], [["absent"], "some"]),
    "by": (["landmark", "query"], ["absent"]),
    "device": (["cpu"], []),
    "out": ([], []),
}
# What each run of a notebook is given besides, so that it is short and writes where it is told.
BESIDES = {"reproduce": {"steps": 2, "out": "{out}"}}


class Case(NamedTuple):
    """One value of one parameter."""

    name: str
    value: Any
    legal: bool
    note: str = ""


def read_limits(notebook: Path) -> dict[str, Any]:
    """What the chapter's check allows, by parameter, with the others at their defaults."""
    cells = {cell.id: cell.source for cell in nbformat.read(notebook, as_version=4).cells}
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    check = parameters.check_parameters

    def record(given: dict[str, Any], **allowed: Any) -> None:
        limits.update(allowed)
        check(given, **allowed)

    with patch.object(parameters, "check_parameters", record):
        exec(cells["parameters"], values)
        exec(cells["parameters-check"], values)
    return limits


def edge_values(name: str, limit: Any) -> Iterable[Case]:
    """The first, the last and illegal values of a parameter.

    >>> [(case.value, case.legal) for case in edge_values("top", range(1, 50))]
    [(1, True), (49, True), (0, False), (50, False), ('some', False)]
    >>> [case.value for case in edge_values("patch", (range(10), range(5)))]
    [(0, 0), (9, 4), (-1, -1), (10, 5), 'some']
    """
    if name in TEXTS:
        legal, illegal = TEXTS[name]
        if limit is str:  # of the notebook `reproduce`, which takes names alone
            legal = [value for value in legal if value != WEIGHTS_FILE]
    elif isinstance(limit, tuple):
        ends = [[limit_ends(one)[n] for one in limit] for n in range(4)]
        legal, illegal = [tuple(end) for end in ends[:2]], [*map(tuple, ends[2:]), "some"]
    elif isinstance(limit, range | slice):
        first, last, below, above = limit_ends(limit)
        legal, illegal = [first, last], [below, above, "some"]
    elif isinstance(limit, list):
        legal, illegal = limit, ["some", ""]
    elif limit is bool:
        legal, illegal = [True, False], ["some", 2]
    else:
        raise ValueError(f"no values are known for {name}; add it to TEXTS.")
    most = AFFORDABLE.get(name)
    for value in legal:
        if most is not None and value > most:
            yield Case(name, most, True, f"in place of {value}")
        else:
            yield Case(name, value, True)
    yield from (Case(name, value, False) for value in illegal)


def limit_ends(limit: range | slice) -> tuple[Any, Any, Any, Any]:
    """First, last, just below and just above."""
    if isinstance(limit, range):
        return limit[0], limit[-1], limit[0] - 1, limit[-1] + 1
    return limit.start, limit.stop, limit.start - 1, limit.stop + 1


def run_case(notebook: Path, case: Case, out: Path) -> str:
    """One call of papermill; what is wrong with how it ended, or nothing."""
    given = BESIDES.get(notebook.stem, {}) | {case.name: case.value}
    options = [(name, str(value).format(out=out / "results")) for name, value in given.items()]
    executed = out / notebook.name
    command = [sys.executable, "-m", "papermill", str(notebook), str(executed)]
    command += ["--no-progress-bar", "--log-level", "ERROR", "--kernel", "python3"]
    command += chain.from_iterable(("-p", *pair) for pair in options)
    done = subprocess.run(command, capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if case.legal:
        return last if done.returncode else "" if executed.is_file() else "it wrote nothing"
    if not done.returncode:
        return "it was taken"
    is_sentence = (
        last.startswith("ParameterError: ")
        and "Traceback"
        not in done.stderr.partition("papermill.exceptions.PapermillExecutionError")[2]
    )
    return "" if is_sentence else last


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep over the notebooks named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.sweep_parameters", description="Run chapters with edge values."
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--only", choices=["legal", "illegal"], help="of the values")
    options = parser.parse_args(arguments)
    failed = 0
    for notebook in options.notebooks:
        cases = [Case("unknown_name", 1, False)]
        cases += chain.from_iterable(edge_values(*one) for one in read_limits(notebook).items())
        for case in cases:
            kind = "legal" if case.legal else "illegal"
            if options.only not in (None, kind):
                continue
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                wrong = run_case(notebook, case, Path(folder))
            failed += bool(wrong)
            seconds = f"{time.perf_counter() - started:.0f} s"
            line = [notebook.stem, case.name, repr(case.value), case.note, kind, seconds]
            print(*filter(None, line), f"WRONG: {wrong}" if wrong else "as it should", flush=True)
    print(f"{failed} calls ended as they should not")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
