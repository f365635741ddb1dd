"""Make the parts of the book's Toytown page that come from the data: tables and sample pictures.

    python -m tools.toytown_page indiret/data/toytown _build/source/book

writes ``toytown_card.md``, the tables of ``card.json``, and ``toytown_samples.jpg``, views of every
test landmark, into the second folder. ``book/toytown.md`` includes both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from indiret.datasets import RetrievalDataset, load_dataset

CELL = (200, 160)  # pixels of one sample, with its margin
VIEWS = 6
PAPER, BOX = "#fbfaf7", "#ffb000"
HEADS = {"sizes": "width and height", "forms": "form", "palettes": "palette"}


def card_tables(card: Mapping[str, Any]) -> str:
    """Render a data card as Markdown: what it is, then counts, spreads, twins and baselines."""
    plain = {key: value for key, value in card.items() if not isinstance(value, Mapping)}
    plain["size"] = f"{plain.pop('bytes') / 1e6:.1f} MB"
    splits = list(card["splits"])
    rows = {key: [card["splits"][split][key] for split in splits] for key in card["splits"]["test"]}
    sections = [
        table(["", "what"], [[_words(key), str(value)] for key, value in plain.items()]),
        "## Splits",
        table(["", *splits], [[_words(k), *_shown(v)] for k, v in rows.items() if _is_number(v)]),
        "Median, and in brackets the least and the greatest:",
        table(["", *splits], [[_words(k), *_shown(v)] for k, v in rows.items() if _is_spread(v)]),
    ]
    for name, counts in rows.items():
        if not _is_number(counts) and not _is_spread(counts):
            kinds = sorted({kind for count in counts for kind in count})
            lines = [[_words(kind), *(str(c.get(kind, 0)) for c in counts)] for kind in kinds]
            sections += [table([f"photos by {HEADS[name]}", *splits], lines)]
    twins = [[_words(name), ", ".join(others)] for name, others in card["colour_twins"].items()]
    sections += ["## Colour twins", table(["landmark", "distractors in its colours"], twins)]
    return "\n\n".join([*sections, *_baselines(card)])


def _baselines(card: Mapping[str, Any]) -> list[str]:
    measured, chance = card["outside_baselines"], card["chance"]
    splits, methods = list(measured), list(measured["test"])
    heads = [f"{split}{own}" for split in splits for own in ("", ", own photo left out")]
    rows = {name: [measured[split][name] for split in splits] for name in methods}
    rows["by lot"] = [chance[split] for split in splits]
    lines = [
        [name, *(f"{row[own]:.3f}" for row in found for own in ("with_own", "without_own"))]
        for name, found in rows.items()
    ]
    sections = ["## Outside baselines", table(["mAP", *heads], lines)]
    for split in splits:
        apart = {name: measured[split][name]["by_landmark"] for name in methods}
        lines = [
            [_words(landmark), *(f"{apart[name][landmark]:.3f}" for name in methods)]
            for landmark in apart[methods[0]]
        ]
        sections.append(table([f"mAP by landmark, {split}", *methods], lines))
    return sections


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Examples
    --------
    >>> print(table(["", "test"], [["photos", "3"]]))
    |   | test |
    | --- | --- |
    | photos | 3 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def _is_number(values: Sequence[Any]) -> bool:
    return not isinstance(values[0], Mapping)


def _is_spread(values: Sequence[Any]) -> bool:
    return isinstance(values[0], Mapping) and "median" in values[0]


def _shown(values: Sequence[Any]) -> list[str]:
    """Numbers as they are; a spread as its median and its ends."""
    if _is_number(values):
        return [f"{value:,}" for value in values]
    form = ",.0f" if values[0]["max"] > 100 else ".2f"
    middle, low, high = ([format(v[key], form) for v in values] for key in ("median", "min", "max"))
    return [f"{m} ({a} … {b})" for m, a, b in zip(middle, low, high, strict=True)]


def _words(key: str) -> str:
    return key.replace("_", " ")


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
