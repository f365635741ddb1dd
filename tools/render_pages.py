"""Fill the book's page templates, and the figures of the README, from stored results.

    python -m tools.render_pages _build/source/book
    python -m tools.render_pages --readme README.md
    python -m tools.render_pages --readme README.md --check

The first turns each ``NAME.md.j2`` below a folder into ``NAME.md`` (jinja2; a value that is not
there is an error) and makes the files of `MADE`. The README is a template of its own: what
stands between ``<!-- = EXPRESSION -->`` and ``<!-- end -->`` is what the expression gives. The
second brings it up to date, the third says whether it is, and exits with 1 if not.

A template reads results with `stored`, `comparison`, `by_landmark`, `difference`, `study_rows`,
`parameters`, `verdicts`, `scale_costs`, `collection_costs` and `read_coverage`, and shows them with
`table` and the filters ``fixed``, ``signed``, ``interval``, ``gain``, ``measured``, ``cells``,
``coverage_line`` and ``average``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageDraw

from indiret.checkpoints import load_network
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import nested_bootstrap
from indiret.experiments.claims import STORED_GRID, count_verdicts, judge_claims, read_measured
from indiret.experiments.forecast import Rates, distinct, estimate, in_words
from indiret.index.collection import SCORED_AT_ONCE
from indiret.index.segments import FANOUT, LEVELS
from indiret.index.shards import SHARD
from indiret.network import parameter_count
from indiret.pairs import VERSIONS
from indiret.retrieval import LEAST
from indiret.training import TrainingConfig
from indiret.widgets import photos_page
from tools.landing import landing_explorer
from tools.make_slides import read_lectures, read_questions
from tools.paper_coverage import copy_tests, coverage_line, read_coverage

ROOT = Path(__file__).parents[1]


class RunRates(NamedTuple):
    """The rates of a run as ``book/scale.json`` has them: seconds, and bytes kept of a photo."""

    photo: float
    pair: float
    step: float
    target: float
    query: float
    kept: int


BOOK, DATA = ROOT / "book", ROOT / "indiret" / "data"
EVIDENCE = ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
MARKED = re.compile(r"(<!-- = (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)

# The page on scale: what is worked out from measured rates, and for which machines.
DATABASES = {
    "Oxford, 5,063 photos": 5063,
    "Paris, 6,392 photos": 6392,
    "Oxford and 1 million more": 1_005_063,
    "Paris and 1 million more": 1_006_392,
}
PLACES = {  # cores; None: one GPU that takes no time for what it does, and 16 cores
    "1 core": 1,
    "16 cores": 16,
    "1 GPU and 16 cores, at best": None,
    "a cluster of 256 cores": 256,
}
QUERIES, SHORTLIST, RUNS = 55, 1000, 40
OXFORD = 567  # photos of Oxford that are good or ok for some query

# The same page's part on collections, by rates of benchmarks/index.py.
COLLECTIONS = {
    "Oxford, 5,063 photos": 5063,
    "Oxford and 100,000 more": 105_063,
    "Oxford and 1 million more": 1_005_063,
}
CLUSTER = 256  # cores

# The sample pictures of the page on Toytown.
CELL = (200, 160)  # pixels of one sample, with its margin
VIEWS = 6
PAPER, BOX = "#fbfaf7", "#ffb000"


@cache
def stored(name: str) -> Any:
    """A JSON file of ``indiret/data``, or a folder's as ``FOLDER/*.json``: a list, by name."""
    if "*" in name:
        return [json.loads(path.read_text("utf-8")) for path in sorted(DATA.glob(name))]
    return json.loads((DATA / name).read_text("utf-8"))


@cache
def comparison(dataset: str) -> dict[str, Any]:
    """What `indiret compare` measured on a data set, by method, best mAP first."""
    found = [result for result in stored("comparison/*.json") if result["dataset"] == dataset]
    return {r["method"]: r for r in sorted(found, key=lambda r: (-r["mAP"], r["method"]))}


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[float]:
    """Of two results of `comparison` on one data set: mAP with interval, paired by query."""
    ours, theirs = (
        {(query.rpartition("_")[0], query, 0): value for query, value in result["AP"].items()}
        for result in (one, other)
    )
    return nested_bootstrap(ours, theirs)


def by_landmark(result: Mapping[str, Any]) -> dict[str, float]:
    """Mean average precision of each landmark's queries, of a result of `comparison`."""
    values: dict[str, list[float]] = {}
    for query, value in result["AP"].items():
        values.setdefault(query.rpartition("_")[0], []).append(value)
    return {landmark: fmean(found) for landmark, found in sorted(values.items())}


def study_rows(dataset: str) -> dict[tuple[str, str], Any]:
    """Of the study of attention and feedback: what was measured, by mask and second round."""
    return {
        (row["variant"], row["scheme"]): row
        for row in stored("study/results.json")[dataset]["rows"]
    }


@cache
def verdicts() -> dict[str, int]:
    """How many of the paper's claims got which verdict, by the stored runs."""
    return count_verdicts(v for one in read_measured(STORED_GRID) for v in judge_claims(one))


def parameters(network: str) -> int:
    """How many parameters a shipped network has."""
    return parameter_count(load_network(network))


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many digits, with a true minus; nothing for None.

    >>> fixed(-0.0314), fixed(12, 0), fixed(None)
    ('−0.031', '12', '')
    """
    return "" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference, always with its sign.

    >>> signed(0.0314), signed(-0.5, 1)
    ('+0.031', '−0.5')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(row: Any, digits: int = 3, form: Callable[[float, int], str] = fixed) -> str:
    """A mean with its interval, from a mapping or three numbers.

    >>> interval({"mean": 0.5, "low": 0.4, "high": 0.6}, 2)
    '0.50 (0.40 … 0.60)'
    """
    values = [row[key] for key in ("mean", "low", "high")] if isinstance(row, Mapping) else row
    mean, low, high = (form(value, digits) for value in values)
    return f"{mean} ({low} … {high})"


def gain(row: Any, digits: int = 3) -> str:
    """A paired difference with its interval.

    >>> gain((0.021, -0.001, 0.042))
    '+0.021 (−0.001 … +0.042)'
    """
    return interval(row, digits, signed)


def measured(result: Mapping[str, Any], measure: str = "mAP", digits: int = 2) -> str:
    """A measure of `comparison`, with the interval that stands beside it.

    >>> measured({"mAP": 0.5, "mAP_ci": [0.4, 0.6]})
    '0.500 (0.40 … 0.60)'
    """
    low, high = result[f"{measure}_ci"]
    return f"{fixed(result[measure])} ({fixed(low, digits)} … {fixed(high, digits)})"


def cells(row: Mapping[str, Any], *measures: str) -> str:
    """Some measures as cells of a table's line, by default those of evidence.

    >>> cells({"mIoU": 0.5, "pixel_auc": 0.9}, "mIoU", "patch_match", "pixel_auc")
    '0.500 |  | 0.900'
    """
    return " | ".join(fixed(row.get(measure)) for measure in measures or EVIDENCE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table(["", "test"], [["photos", "3"]]))
    |   | test |
    | --- | --- |
    | photos | 3 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def scale_costs(found: Mapping[str, Any]) -> dict[str, Any]:
    """What rankings and trainings cost, by measured rates: two tables' rows, and seconds a photo.

    A GPU takes no time for pairs and steps here; reading and encoding photos stays on the cores.
    """
    run = RunRates(*(found["rates"][name] for name in RunRates._fields))
    done = found["rehearsals"]["full"]
    queries, photos = done["queries"], done["photos"]
    photo = (done["processor_seconds"] - queries * photos * run.pair) / (photos + queries)
    rates = Rates(photo, run.pair, run.kept)

    def times(seconds: float, read: float, most: int = 10**9) -> list[str]:
        """By place; ``read`` is the part that a GPU does not shorten."""
        parts = [
            read / 16 if cores is None else seconds / min(cores, most) for cores in PLACES.values()
        ]
        return [in_words(part / 3600) for part in parts]

    ranking = []
    for name, count in DATABASES.items():
        whole = estimate(rates, count, QUERIES)
        short = count * photo + QUERIES * SHORTLIST * run.pair
        row = [name, f"{whole.pairs:,}", *times(3600 * whole.hours, (count + QUERIES) * photo)]
        ranking.append([*row, in_words(short / 3600), f"{whole.memory / 1e9:,.0f} GB"])
    recipe = TrainingConfig()
    views = 2 * distinct(VERSIONS * OXFORD, recipe.steps * recipe.batch)
    slower = photo / run.photo  # real photos are larger than Toytown's, which were measured
    encoded = slower * views * (run.target + run.query) / 2
    training = recipe.steps * run.step + encoded
    fold, count = QUERIES // 10, DATABASES["Oxford, 5,063 photos"]
    once = [in_words(seconds / 3600) for seconds in (training, training, encoded, training)]
    one_run = training + 3600 * estimate(rates, count, fold).hours
    every = times(RUNS * one_run, RUNS * (encoded + (count + fold) * photo), RUNS)
    return {"photo": photo, "ranking": ranking, "once": once, "every": every}


def extrapolate(measured: Sequence[tuple[float, float]], at: float) -> float:
    """A value between or past measured ones, (place, value) in order, by straight lines.

    Past the last one it does not fall: a larger collection costs no less.

    >>> extrapolate([(1, 10), (3, 30), (5, 30)], 2), extrapolate([(1, 10), (3, 30)], 5)
    (20.0, 50.0)
    >>> extrapolate([(1, 10), (3, 9)], 5)
    9
    """
    after = next((n for n in range(1, len(measured)) if at <= measured[n][0]), len(measured) - 1)
    (first, low), (last, high) = measured[after - 1], measured[after]
    if at > last and high < low:
        return high
    return low + (at - first) * (high - low) / (last - first)


def collection_costs(found: Mapping[str, Any], road: str) -> dict[str, Any]:
    """What collections cost by one kind of shortlist, from the rates of benchmarks/index.py.

    On a cluster segments are searched, and shares of the photos verified, beside one another; the
    largest segment takes longest. A GPU at best verifies in no time; the rest stays on one core.
    """
    rates, grown = found["rates"], [row for row in found["growth"][road] if row["thinned"] == 1]
    photo = rates["read"] + rates["code"] + rates["describe"][road]
    query = rates["query"] + rates["describe_query"][road]
    verify = rates["choose"] * rates["listed"] + rates["verify"] * rates["verified"]
    rows = []
    for name, photos in COLLECTIONS.items():
        seconds, memory, disk = (
            extrapolate([(row["photos"], row[one]) for row in grown], photos)
            for one in ("seconds", "peak", "disk")
        )
        alone, at_best = query + seconds + verify, query + seconds
        largest = SHARD * FANOUT ** min(int(math.log(photos / SHARD, FANOUT)), LEVELS - 1)
        spread = query + seconds * largest / photos
        spread += SCORED_AT_ONCE * rates["choose"] + LEAST * rates["verify"]
        rows.append(
            [
                name,
                in_words(photos * photo / 3600),
                in_words(photos * photo / CLUSTER / 3600),
                *(f"{fixed(each, 2)} s" for each in (alone, at_best, spread)),
                f"{fixed(memory / 1e9, 1)} GB",
                f"{fixed((photos * rates['codes'] + disk) / 1e9, 1)} GB",
            ]
        )
    parts = {"photo": photo, "query": query, "verify": verify}
    return {"rows": rows, "most": max(row["photos"] for row in grown), **parts}


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


def zip_notebooks(path: Path) -> None:
    """The chapters as they are run, for the landing page to hand out."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
            packed.writestr(zipfile.ZipInfo(f"notebooks/{notebook.name}"), notebook.read_bytes())


def save_samples(path: Path) -> None:
    sample_sheet(load_dataset("toytown", split="test")).save(path, quality=85)


def save_explorer(path: Path) -> None:
    path.write_text(landing_explorer().to_html(), encoding="utf-8")


def save_photos_page(path: Path) -> None:
    """The page that compares the reader's photos."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(photos_page(), encoding="utf-8")


MADE = {  # files that pages show or hand out
    "toytown_samples.jpg": save_samples,
    "landing.html": save_explorer,
    "notebooks.zip": zip_notebooks,
    "_static/photos.html": save_photos_page,
    "tests": copy_tests,
}


def environment(folder: Path = BOOK) -> Environment:
    """Where templates are found, and what they may use."""
    made = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    forms = (fixed, signed, interval, gain, measured, cells, coverage_line)
    made.filters |= {form.__name__: form for form in forms} | {"average": fmean}
    readers = (stored, comparison, by_landmark, difference, study_rows, parameters)
    costs = (scale_costs, collection_costs)
    made.globals |= {"verdicts": verdicts, "read_coverage": read_coverage}
    made.globals |= {one.__name__: one for one in (*readers, *costs, table, in_words)}
    made.globals |= {"lectures": read_lectures(), "questions": read_questions()}
    made.globals["scale"] = json.loads((BOOK / "scale.json").read_text("utf-8"))
    made.globals |= {"scale_databases": DATABASES, "scale_places": list(PLACES)}
    return made


def render_folder(folder: Path) -> list[Path]:
    """Put a page in the place of every template below the folder, and make the files of `MADE`."""
    made, pages = environment(folder), []
    for path in sorted(folder.rglob("*.md.j2")):
        page = path.with_suffix("")
        text = made.get_template(path.relative_to(folder).as_posix()).render()
        page.write_text(text, encoding="utf-8")
        path.unlink()
        pages.append(page)
    for name, make in MADE.items():
        make(folder / name)
    return pages


def fill_figures(text: str) -> str:
    """The text with every marked figure as its expression gives it.

    >>> fill_figures("took <!-- = 2 + 3 -->?<!-- end --> minutes")
    'took <!-- = 2 + 3 -->5<!-- end --> minutes'
    """
    made = environment()

    def fill(found: re.Match[str]) -> str:
        value = made.compile_expression(found[2], undefined_to_none=False)()
        return f"{found[1]}{value}{found[4]}"

    return MARKED.sub(fill, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Render a staged copy of the book, or the README's figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a copy of book/, changed in place")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="bring its figures up to date")
    parser.add_argument("--check", action="store_true", help="only say whether they are")
    asked = parser.parse_args(arguments)
    if asked.folder is None and asked.readme is None:
        parser.error("name the folder of a staged book, or --readme FILE.")
    if asked.folder is not None:
        if asked.folder.resolve() == BOOK:
            parser.error(f"{asked.folder} is the source itself; render a copy of it.")
        render_folder(asked.folder)
    if asked.readme is not None:
        text = asked.readme.read_text("utf-8")
        if (current := fill_figures(text)) == text:
            return
        if asked.check:
            sys.exit(
                f"The figures of {asked.readme} are not those of the stored results: run "
                f"`python -m tools.render_pages --readme {asked.readme}`."
            )
        asked.readme.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
