"""Make the parts of the book's Toytown page that come from the data: tables and sample pictures.

    python -m tools.toytown_page indiret/data/toytown _build/source/book

writes ``toytown_card.md``, the tables of ``card.json``, and ``toytown_samples.jpg``, views of every
test landmark, into the second folder. ``book/toytown.md`` includes both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from indiret.datasets import RetrievalDataset, load_dataset

CELL = (200, 160)  # pixels of one sample, with its margin
VIEWS = 6
PAPER, BOX = "#fbfaf7", "#ffb000"


def card_tables(card: Mapping[str, Any]) -> str:
    """Render a data card as Markdown: a section with a table for every entry that has parts.

    Examples
    --------
    >>> print(card_tables({"seed": 7, "counts": {"test": {"photos": 3}, "train": {"photos": 4}}}))
    |   |   |
    | --- | --- |
    | seed | 7 |
    <BLANKLINE>
    ## Counts
    <BLANKLINE>
    |   | photos |
    | --- | --- |
    | test | 3 |
    | train | 4 |
    """
    facts = {key: value for key, value in card.items() if not isinstance(value, Mapping)}
    sections = [_table(facts)] if facts else []
    for key, value in card.items():
        if isinstance(value, Mapping) and value:
            sections.append(f"## {_words(key).capitalize()}\n\n{_table(value)}")
    return "\n\n".join(sections)


def _table(rows: Mapping[str, Any]) -> str:
    """Rows of plain values, or of mappings, laid so that the table is taller than wide."""
    parts: dict[str, Mapping[str, Any]] = {
        key: row if isinstance(row, Mapping) else {"": row} for key, row in rows.items()
    }
    columns = list(dict.fromkeys(column for row in parts.values() for column in row))
    if len(columns) > len(parts):
        parts = {c: {key: row.get(c, "") for key, row in parts.items()} for c in columns}
        columns = list(rows)
    lines = [["", *map(_words, columns)], ["---"] * (len(columns) + 1)]
    for key, row in parts.items():
        lines.append([_words(key), *(_show(row.get(column, "")) for column in columns)])
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def _words(key: str) -> str:
    return key.replace("_", " ").replace("|", "/")


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(key)} {_show(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_show(part) for part in value)
    return str(value).replace("|", "/")


def sample_sheet(town: RetrievalDataset) -> Image.Image:
    """One row a landmark: a query with its box, then other views that show the landmark."""
    sheet = Image.new("RGB", (VIEWS * CELL[0], len(town.landmarks) * CELL[1]), PAPER)
    for row, landmark in enumerate(town.landmarks):
        query = next(query for query in town.queries if query.landmark == landmark)
        names = [query.image, *sorted(query.positives - {query.image})][:VIEWS]
        for column, name in enumerate(names):
            picture = Image.fromarray(town.read(name))
            if column == 0 and query.box is not None:
                ImageDraw.Draw(picture).rectangle(query.box, outline=BOX, width=4)
            picture.thumbnail((CELL[0] - 8, CELL[1] - 8))
            corner = [column * CELL[0], row * CELL[1]]
            for axis in (0, 1):
                corner[axis] += (CELL[axis] - picture.size[axis]) // 2
            sheet.paste(picture, (corner[0], corner[1]))
    return sheet


def main(data: str, out: str) -> None:
    """Write both parts into the folder ``out``."""
    card = json.loads((Path(data) / "card.json").read_text(encoding="utf-8"))
    (Path(out) / "toytown_card.md").write_text(card_tables(card) + "\n", encoding="utf-8")
    sheet = sample_sheet(load_dataset("toytown", data, split="test"))
    sheet.save(Path(out) / "toytown_samples.jpg", quality=85)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
