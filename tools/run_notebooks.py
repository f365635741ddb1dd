"""Run notebooks with papermill and stage what they made for the book.

    python -m tools.run_notebooks notebooks/01_quick_tour.ipynb -p top 3

Each notebook runs in a fresh kernel, in its own folder. The executed copy goes to ``--out``, every
PNG picture of a cell to ``pictures/<notebook>/<cell id>.png`` beside it, so that other pages (and
the README) can show a picture that the code just made. CI, the book and a reader's own runs with
other parameters all go through here: there is one way to run a chapter.

Set up with ``pip install -e .[book]``. Exit status: 0 when all ran; 1 when a cell failed (it is
named, and the executed copy is kept); 2 when a notebook or a parameter's name is wrong.
"""

from __future__ import annotations

import argparse
import ast
import base64
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill


class NotebookFailure(RuntimeError):
    """A cell of a chapter failed; the message names the notebook and the cell."""


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuse parameter names that the notebook does not declare.

    Papermill itself only warns of them, and then runs with the defaults.

    Raises
    ------
    ValueError
        If a name is not in the notebook's cell tagged ``parameters``.
    """
    known = sorted(papermill.inspect_notebook(str(notebook)))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(
            f"{notebook} has no parameter {', '.join(unknown)}; it takes: "
            f"{', '.join(known) or 'none'}."
        )


def run_notebook(notebook: Path, out: Path, parameters: dict[str, Any]) -> Path:
    """Execute one notebook, stage its copy and its pictures, and return the copy's path.

    Raises
    ------
    NotebookFailure
        If a cell raises, or its kernel dies.
    """
    out.mkdir(parents=True, exist_ok=True)
    executed = out / notebook.name
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=False,
            store_widget_state=False,  # pages hold the explorer as HTML, not twice
        )
    except papermill.PapermillExecutionError as error:
        cells = nbformat.read(executed, as_version=4).cells
        failed = next(cell for cell in cells if cell.metadata.get("papermill", {}).get("exception"))
        raise NotebookFailure(
            f"{notebook}: cell {failed.get('id')!r} failed with "
            f"{error.ename}: {error.evalue}\n{chr(10).join(error.traceback)}"
        ) from error
    except RuntimeError as error:  # a dead kernel
        raise NotebookFailure(f"{notebook}: {error}") from error
    save_pictures(executed, out / "pictures" / notebook.stem)
    return executed


def save_pictures(executed: Path, folder: Path) -> list[Path]:
    """Write each cell's first PNG output to ``folder/<cell id>.png``."""
    saved = []
    for cell in nbformat.read(executed, as_version=4).cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                folder.mkdir(parents=True, exist_ok=True)
                saved.append(folder / f"{cell['id']}.png")
                saved[-1].write_bytes(base64.b64decode(png))
                break
    return saved


def parse_value(text: str) -> Any:
    """Read a parameter's value as a Python literal, or else as the text itself.

    >>> parse_value("3"), parse_value("(14, 14)"), parse_value("base")
    (3, (14, 14), 'base')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.run_notebooks", description="Run notebooks for the book."
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("_build/runs"), help="executed copies")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a value of the notebook's parameters cell",
    )
    options = parser.parse_args(arguments)
    parameters = {name: parse_value(value) for name, value in options.parameter}
    try:
        for notebook in options.notebooks:
            if not notebook.is_file():
                raise ValueError(
                    f"{notebook} is not a file; give a path such as notebooks/01_*.ipynb."
                )
            check_parameters(notebook, parameters)
        for notebook in options.notebooks:
            print(f"{notebook} ... ", end="", flush=True)
            started = time.perf_counter()
            executed = run_notebook(notebook, options.out, parameters)
            print(f"{time.perf_counter() - started:.0f} s -> {executed}", flush=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except NotebookFailure as error:
        print(f"failed\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
