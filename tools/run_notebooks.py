"""Run notebooks with papermill and stage what they made for the book.

    python -m tools.run_notebooks notebooks/01_quick_tour.ipynb -p top 3

Each notebook runs in a fresh kernel, where the caller stands. The executed copy goes to ``--out``,
every PNG picture of a cell to ``pictures/<notebook>/<cell id>.png`` beside it, for other pages.

With ``--reuse FOLDER`` a chapter that was run before is taken from there, if nothing it depends on
has changed (`chapter_key`). Where ``CI`` is set, every chapter is run.

Exit status: 0 when all ran; 1 when a cell failed (it is named, and the executed copy is kept); 2
when a notebook or a parameter's name or type is wrong.
"""

import argparse
import ast
import base64
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import nbformat
import papermill
from pydantic import TypeAdapter, ValidationError

LIBRARY = Path(__file__).parents[1] / "indiret"  # code, weights and data are all in it
KINDS = {kind.__name__: kind for kind in (int, float, str, bool, tuple, list)}


class NotebookFailure(RuntimeError):
    """A cell of a chapter failed; the message names the notebook and the cell."""


def as_typed(path: Path) -> str:
    """A path for papermill, which would put parameters in place of braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def declared_parameters(notebook: Path) -> dict[str, str]:
    """Name and type of every value in the notebook's cell tagged ``parameters``."""
    found = papermill.inspect_notebook(as_typed(notebook))
    return {name: entry["inferred_type_name"] for name, entry in found.items()}


def is_a(value: object, kind: str) -> bool:
    """Whether a value is of a kind as a parameters cell may write it.

    >>> is_a(3, "int"), is_a(3, "float"), is_a(True, "int"), is_a(None, "str | None")
    (True, True, False, True)
    >>> is_a((14, 10), "tuple[int, int]"), is_a((14,), "tuple[int, int]")
    (True, False)
    """
    try:
        TypeAdapter(eval(kind, {"__builtins__": KINDS})).validate_python(value, strict=True)
    except NameError as error:
        raise ValueError(
            f"a parameter's type {kind!r} is not known; write int, float, str, bool, "
            "tuple[int, int], list[str], or one of them | None."
        ) from error
    except ValidationError:
        return False
    return True


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """ValueError if the notebook does not declare a name, or gives it another type.

    Papermill itself only warns of unknown names, and then runs with the defaults.
    """
    declared = declared_parameters(notebook)
    if unknown := sorted(set(parameters) - set(declared)):
        names = ", ".join(sorted(declared)) or "none"
        raise ValueError(f"{notebook} has no parameter {', '.join(unknown)}; it takes: {names}.")
    for name, value in parameters.items():
        if not is_a(value, declared[name]):
            raise ValueError(f"{notebook}: {name} is {value!r}; it takes {declared[name]}.")


def parse_values(notebook: Path, texts: dict[str, str]) -> dict[str, Any]:
    """Values typed on the command line, each read as the notebook declares it, and checked."""
    kinds = declared_parameters(notebook)
    values = {k: text if kinds.get(k) == "str" else parse_value(text) for k, text in texts.items()}
    check_parameters(notebook, values)
    return values


def parse_value(text: str) -> Any:
    """Read a parameter's value as a Python literal, or else as the text itself.

    >>> parse_value("3"), parse_value("(14, 14)"), parse_value("none of these")
    (3, (14, 14), 'none of these')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def library_key() -> str:
    """Hash of what every chapter runs on: the library, its weights and data, all packages."""
    digest = hashlib.sha256(sys.version.encode())
    for package in sorted(f"{one.name}=={one.version}" for one in distributions()):
        digest.update(package.encode())
    for path in [Path(__file__), *sorted(LIBRARY.rglob("*"))]:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def chapter_key(notebook: Path, library: str) -> str:
    """Hash of all that one chapter's outputs depend on, given the `library_key`."""
    return hashlib.sha256(library.encode() + notebook.read_bytes()).hexdigest()


def run_notebook(notebook: Path, out: Path, parameters: dict[str, Any]) -> Path:
    """Execute one notebook, stage its copy and its pictures, and return the copy's path.

    Raises NotebookFailure if a cell raises, or its kernel dies.
    """
    out.mkdir(parents=True, exist_ok=True)
    executed = out / notebook.name
    try:
        papermill.execute_notebook(
            as_typed(notebook),
            as_typed(executed),
            parameters,
            kernel_name="python3",
            cwd=str(Path.cwd()),
            progress_bar=False,
            store_widget_state=False,  # pages hold the explorer as HTML, not twice
            extra_arguments=["--log-level=ERROR"],  # else each kernel warns that it is no server
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
        pngs = (one.get("data", {}).get("image/png") for one in cell.get("outputs", []))
        if png := next(filter(None, pngs), None):
            folder.mkdir(parents=True, exist_ok=True)
            saved.append(folder / f"{cell['id']}.png")
            saved[-1].write_bytes(base64.b64decode(png))
    return saved


def stage(notebook: Path, out: Path, parameters: dict[str, Any], kept: Path | None) -> str:
    """Run a notebook, or stage the copy that was kept of it; what was done, in a word."""
    if kept is not None and kept.is_file():
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, out / notebook.name)
        save_pictures(kept, out / "pictures" / notebook.stem)
        return "unchanged"
    executed = run_notebook(notebook, out, parameters)
    if kept is not None:  # under its key, in place of the one that was kept before
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in kept.parent.glob(f"{notebook.stem}.*"):
            old.unlink()
        unfinished = kept.with_suffix(".part")
        shutil.copy(executed, unfinished)
        unfinished.replace(kept)
    return "run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.run_notebooks", description="Run notebooks for the book."
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("_build/runs"), help="executed copies")
    parser.add_argument("--reuse", type=Path, metavar="FOLDER", help="keep and reuse runs here")
    parser.add_argument(
        *("-p", "--parameter"), nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a value of the notebook's parameters cell",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    texts = dict(options.parameter)
    if options.reuse and texts:
        parser.error("--reuse keeps chapters as the book shows them; leave it out with -p.")
    try:
        if absent := [path for path in options.notebooks if not path.is_file()]:
            raise ValueError(f"{absent[0]} is not a file; name one such as notebooks/01_*.ipynb.")
        parameters = [parse_values(notebook, texts) for notebook in options.notebooks]
        proved = os.environ.get("CI", "").lower() not in ("", "0", "false")  # not only shown
        library = library_key() if options.reuse and not proved else ""
        for notebook, values in zip(options.notebooks, parameters, strict=True):
            print(f"{notebook} ... ", end="", flush=True)
            started = time.perf_counter()
            name = f"{notebook.stem}.{chapter_key(notebook, library)}.ipynb"
            done = stage(notebook, options.out, values, options.reuse / name if library else None)
            seconds = time.perf_counter() - started
            print(f"{done}, {seconds:.0f} s -> {options.out / notebook.name}", flush=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except NotebookFailure as error:
        print(f"failed\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
