"""What methods measured here and what papers report: the tables and figures that compare them.

`read_results` reads what ``indiret compare`` wrote, `read_published` what papers report. The two
are drawn apart, since a reported figure comes from another database, other training photos, and
sometimes another way of cutting the query.

Chapter: *Baselines*.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from indiret.baselines.reranking import AGAIN, rerank_option
from indiret.datasets.files import read_json
from indiret.evaluation import Interval
from indiret.experiments.records import DATA, StoredResult, markdown_table, show_interval

PUBLISHED = DATA / "published.csv"
STORED_COMPARISON = DATA / "comparison"
VERIFIED = DATA / "verifiers.json"  # of tools.measure_verifiers
LINES = DATA / "lines.json"  # of tools.measure_lines
ABLATION = DATA / "planes" / "ablation.json"  # of tools.ablate_planes
INDEX_RESULTS = DATA / "index.json"  # of benchmarks.index
LINE_COLUMNS = {  # evidence by the names of tools.measure_lines, and as tables call it
    "base: combined": "the paper's network",
    "base: gradcam (Eq. 3, literal)": "its Grad-CAM, as printed",
    "planes: planes": "planes, by votes",
    "plane-net: support": "planes, with a network",
}
LINE_ROWS = {
    "spread": "lines more nearly parallel",
    "crossings": "fewer lines that cross",
    "on_plane": "more lines on one plane",
    "coverage": "evidence over more of the query",
    "score": "a higher score",
}
RANKING_COLUMNS = ("mAP", "mAP_without_query", "mAP@5", "mAP@10", "mAP@20")
COST = {"ms_per_query": ".0f", "mb_per_image": ".2g"}
EVIDENCE_COLUMNS = ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
TRIVIAL = ("all ones", "random", "centre Gaussian", "ceiling: RoI on the grid", "ceiling: RoI")
Result = dict[str, Any]
_Named = dict[str, Result]
_Text = Annotated[str, Field(min_length=1)]


class Published(NamedTuple):
    """One figure that a paper reports: mAP from 0 to 1, and where it was read."""

    method: _Text
    family: _Text
    dataset: str
    mAP: Annotated[float, Field(gt=0, le=100)]  # the file has percentages
    paper: _Text
    place: _Text
    year: int
    read_at: _Text
    note: str


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """Every reported figure, in the file's order; ValueError if a value or a source is missing.

    Examples
    --------
    >>> {row.dataset for row in read_published()} == {"oxford5k", "paris6k"}
    True
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = TypeAdapter(list[Published]).validate_python(list(csv.DictReader(file)))
    return [row._replace(mAP=round(row.mAP / 100, 4)) for row in rows]


def read_results(folder: Path = STORED_COMPARISON, dataset: str | None = None) -> list[Result]:
    """What ``indiret compare`` wrote in a folder, best mAP first.

    Raises FileNotFoundError if there are no results, or none of a ``dataset`` that is given, and
    ValueError if a file is none.

    Examples
    --------
    >>> names = [result["method"] for result in read_results(dataset="toytown/test")]
    >>> names.index("sift-ransac") < names.index("thumbnail")
    True
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        result: Any = read_json(path, StoredResult)
        if dataset in (None, result["dataset"]):
            results.append(result)
    if not results:
        raise FileNotFoundError(
            f"There are no results{f' on {dataset}' if dataset else ''} in {folder}; make some "
            "with `indiret compare --out FOLDER`."
        )
    return sorted(results, key=lambda result: (-result["mAP"], result["method"]))


def ranking_table(
    results: Iterable[Result], measures: Sequence[str] = RANKING_COLUMNS, again: str | None = None
) -> str:
    """Table 2 of any methods: ranking, with 95 % intervals, and cost, in Markdown.

    A second look at a list has no row, but a column if ``again`` names it, as
    `indiret.baselines.descriptors.OPTIONS` does.

    Examples
    --------
    >>> print(ranking_table([{"method": "base", "mAP": 0.5, "mAP_ci": [0.4, 0.6],
    ...                       "ms_per_query": 812.3, "mb_per_image": 0.8}], ["mAP"]))
    | method | mAP | ms a query | MB an image |
    |---|---|---|---|
    | base | 0.500 (0.40 … 0.60) | 812 | 0.8 |
    """
    lists, looks = _second_looks(results)
    rows = []
    for name, result in lists.items():
        cells = [_cell(result, measure) for measure in measures]
        cells += [_cell(looks[name].get(again), "mAP")] if again else []
        rows.append([name, *cells, *(format(result[cost], form) for cost, form in COST.items())])
    head = [*measures, f"mAP, +{again}"] if again else measures
    return markdown_table(["method", *head, *COST], rows)


def second_look_table(results: Iterable[Result]) -> str:
    """The mAP that second looks make of a list, a column each, for lists that have two or more."""
    lists, looks = _second_looks(results)
    several = {name: found for name, found in looks.items() if len(found) > 1}
    options = sorted(set().union(*several.values()))
    columns = [o for name in AGAIN for o in options if o.rstrip("0123456789") == name]
    rows = [
        [name, *(_cell(row, "mAP") for row in (lists[name], *map(found.get, columns)))]
        for name, found in several.items()
    ]
    return markdown_table(["method", "as it is", *columns], rows)


def verifier_table(path: Path = VERIFIED) -> str:
    """What networks that verify gain over their start or a list, from tools.measure_verifiers."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for pair, gain in found["gains"].items():
        names = pair.split(" − ")
        values = (show_interval(found["rows"][name]["mAP"]) for name in names)
        rows.append([*names, *values, show_interval(gain, signed=True)])
    return markdown_table(["network", "against", "mAP", "mAP of the other", "gain"], rows)


def line_table() -> str:
    """How often the lines, or the score, of a right answer are better than of the first wrong one.

    In percent with intervals, of each query's first right answer; ties count half.
    """
    found = json.loads(LINES.read_text(encoding="utf-8"))["methods"]
    rows = []
    for measure, title in LINE_ROWS.items():
        chances = (found[name]["chances"][measure]["first"] for name in LINE_COLUMNS)
        shown = ([f"{100 * value:.0f}" for value in chance] for chance in chances)
        rows.append([title, *(f"{mean} % ({low} … {high})" for mean, low, high in shown)])
    return markdown_table(["a right answer has", *LINE_COLUMNS.values()], rows)


def is_second_look(method: str) -> bool:
    """Whether a method's name ends in an option that looks at a list again."""
    return "+" in method and rerank_option(method.rpartition("+")[2]) is not None


def evidence_table(results: Iterable[Result], measures: Sequence[str] = EVIDENCE_COLUMNS) -> str:
    """The evidence columns of Table 2: a row for each kind of map of each method, in Markdown.

    Below them what costs nothing and what is possible, from the first method that has them. Maps
    for a query of another landmark are left out.

    Examples
    --------
    >>> row = {"mIoU": 0.3, "mIoU_ci": [0.2, 0.4]}
    >>> print(evidence_table([{"method": "gem", "evidence": {"saliency": row, "all ones": row}}],
    ...                      ["mIoU"]))
    | method | map | mIoU |
    |---|---|---|
    | gem | saliency | 0.300 (0.20 … 0.40) |
    | | all ones | 0.300 (0.20 … 0.40) |
    """
    rows, trivial = [], dict[str, Mapping[str, Any]]()
    for result in results:
        for kind, row in (result.get("evidence") or {}).items():
            if kind in TRIVIAL:
                trivial.setdefault(kind, row)
            elif ", " not in kind.removesuffix(", stem") and "mIoU" in row:
                rows.append((result["method"], kind, row))
    rows += [("", kind, trivial[kind]) for kind in TRIVIAL if kind in trivial]
    cells = [[name, kind, *(_cell(row, m) for m in measures)] for name, kind, row in rows]
    return markdown_table(["method", "map", *measures], cells)


def _second_looks(results: Iterable[Result]) -> tuple[_Named, dict[str, _Named]]:
    """Lists by their method, and by method the second looks at its list, by option."""
    looks = defaultdict[str, dict[str, Result]](dict)
    named = {result["method"]: result for result in results}
    for method in filter(is_second_look, named):
        name, _, option = method.rpartition("+")
        looks[name][option] = named[method]
    return {name: one for name, one in named.items() if not is_second_look(name)}, looks


def _cell(row: Mapping[str, Any] | None, measure: str) -> str:
    """A mean and its interval; nothing where it was not measured."""
    if not row or row.get(measure) is None:
        return ""
    interval = row.get(f"{measure}_ci")
    shown = f"{row[measure]:.3f}"
    return f"{shown} ({interval[0]:.2f} … {interval[1]:.2f})" if interval else shown


def ablation_table() -> str:
    """The score of each part of the plane vote."""
    head = ["what is changed", "Toytown, mAP", "difference"]
    head += ["landmarks, MRR", "paintings, MRR", "parts, MRR", "ms a pair"]
    rows: list[list[str]] = []
    for row in json.loads(ABLATION.read_text(encoding="utf-8"))["rows"]:
        gain = show_interval(Interval(*row["gain"]), signed=True) if rows else ""
        ranks = [f"{row[name]:.3f}" for name in ("landmarks", "paintings", "crops")]
        rows.append([row["name"], f"{row['toytown']:.3f}", gain, *ranks, f"{row['ms']:.1f}"])
    return markdown_table(head, rows)
