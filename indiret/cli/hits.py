"""Ranked lists for a reader, a spreadsheet or a program, and copies of the photos found."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from indiret.images import printable

if TYPE_CHECKING:
    from indiret.retrieval import Hit

Format = Literal["table", "json", "jsonl", "csv", "parquet"]
COLUMNS = ("query", "rank", "name", "probability", "score", "structure")


def plain(hit: "Hit") -> dict[str, Any]:
    """A hit as json has it."""
    return hit._asdict() | ({} if hit.judged else {"score": None})


def is_found(hits: list["Hit"]) -> bool:
    """Whether the first of all hits of a search is an answer, so far as its method can tell.

    It is if its probability says so, which knows the pair alone, or if that is not negligible and
    the hit stands out from the rest of the folder.
    """
    from indiret.evaluation import robust_z_score
    from indiret.retrieval import FOUND, LEAST_COMPANY, NOT_NEGLIGIBLE, STANDS_OUT

    likely = hits[0].probability
    if likely is None or likely >= FOUND:
        return True
    judged = [hit.score for hit in hits if hit.judged]
    stands_out = len(judged) >= LEAST_COMPANY and robust_z_score(judged) >= STANDS_OUT
    return stands_out and likely >= NOT_NEGLIGIBLE


def is_little(structure: float | None) -> bool:
    """Whether a photo can hardly be judged."""
    from indiret.retrieval import LITTLE_STRUCTURE

    return structure is not None and structure < LITTLE_STRUCTURE


def print_table(hits: list["Hit"], structure: dict[str, float | None], notes: list[str]) -> None:
    """A ranked list in lines, after what is to be said of it."""
    print(*notes, sep="\n", end="\n" * bool(notes))
    figures = [_figures(hit) for hit in hits]
    width = max(map(len, figures), default=0)
    for number, (hit, text) in enumerate(zip(hits, figures, strict=True), start=1):
        little = is_little(structure[hit.name]) * "  (too little structure)"
        print(f"{number:3}  {text:>{width}}  {printable(hit.name)}{little}")


def _figures(hit: "Hit") -> str:
    if not hit.judged:
        return "not judged"
    likely = "" if hit.probability is None else f"{hit.probability:6.1%}  "
    return f"{likely}{hit.score:8.2f}"


def check_format(name: Format) -> None:
    """ValueError if rows cannot be printed in this format, before any work is done for them."""
    if name == "parquet" and not find_spec("pyarrow"):
        raise ValueError("--format parquet needs pyarrow: pip install pyarrow; csv needs nothing.")
    if name == "parquet" and sys.stdout.isatty():
        raise ValueError(
            "--format parquet is no text; send it to a file: indiret ... > hits.parquet"
        )


class RowWriter:
    """Prints rows of `COLUMNS`: lines as they come, others all at the end."""

    def __init__(self, style: Format):
        self.style, self.rows = style, list[dict[str, Any]]()
        self.csv = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        self.has_header = False

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Print what belongs to one query."""
        if self.style == "jsonl":
            print(*map(json.dumps, rows), sep="\n", end="\n" * bool(rows), flush=True)
        elif self.style == "csv":
            if not self.has_header:
                self.csv.writeheader()
                self.has_header = True
            self.csv.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
            sys.stdout.flush()
        else:
            self.rows += rows

    def close(self) -> None:
        """Print what is left."""
        if self.style == "json":
            print(json.dumps(self.rows, indent=2))
        elif self.style == "parquet":
            from pandas import DataFrame

            file = io.BytesIO()
            DataFrame(self.rows, columns=list(COLUMNS)).to_parquet(file, index=False)
            sys.stdout.buffer.write(file.getvalue())


def _cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else value


def place_hits(folder: Path, names: Iterable[str], into: Path, link: bool) -> None:
    """Copy photos of a folder into another, or link to them there; nothing is replaced.

    A file whose name is taken gets a number, which is said.
    """
    into.mkdir(parents=True, exist_ok=True)
    place, done = (_link, "linked") if link else (_copy, "copied")
    for name in names:
        wanted, number = into / PurePosixPath(name).name, 1
        target = wanted
        while not place(folder / name, target):
            number += 1
            target = wanted.with_stem(f"{wanted.stem} ({number})")
        taken = f", since {wanted.name} was there" if number > 1 else ""
        print(printable(f"{done} {name} to {target}{taken}"), file=sys.stderr)


def _link(source: Path, target: Path) -> bool:
    """Link to a file; False if there is something already."""
    try:
        target.symlink_to(os.path.abspath(source))
    except FileExistsError:
        return False
    return True


def _copy(source: Path, target: Path) -> bool:
    """Copy a file with its times; False if there is something already."""
    try:
        with open(source, "rb") as read, open(target, "xb") as written:
            try:
                shutil.copyfileobj(read, written)
            except OSError:  # a full disk
                target.unlink()
                raise
    except FileExistsError:
        return False
    shutil.copystat(source, target)
    return True
