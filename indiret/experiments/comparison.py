"""What methods measured here and what papers report: the tables and figures that compare them.

`read_results` reads what ``indiret compare`` wrote, of any methods; `read_published` reads the
figures that papers report, each with the place where it was read. The two are drawn apart, since
a reported figure comes from another database, other training photos, and sometimes another way of
cutting the query.

Chapter: *Baselines*.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from indiret.baselines.descriptors import AGAIN, rerank_option
from indiret.evaluation import Interval
from indiret.experiments.records import DATA, markdown_table, show_interval

PUBLISHED = DATA / "published.csv"
STORED_COMPARISON = DATA / "comparison"
VERIFIED = DATA / "verifiers.json"  # of tools.measure_verifiers
ABLATION = DATA / "planes" / "ablation.json"  # of tools.ablate_planes, both
CASCADE = DATA / "planes" / "cascade.json"
RANKING_COLUMNS = ("mAP", "mAP_without_query", "mAP@5", "mAP@10", "mAP@20")
COST = {"ms_per_query": ".0f", "mb_per_image": ".2g"}
EVIDENCE_COLUMNS = ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
TRIVIAL = ("all ones", "random", "centre Gaussian", "ceiling: RoI on the grid", "ceiling: RoI")
Result = dict[str, Any]


class Published(NamedTuple):
    """One figure that a paper reports: mAP from 0 to 1, and where it was read."""

    method: str
    family: str
    dataset: str
    mAP: float
    paper: str
    place: str
    year: int
    read_at: str
    note: str


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """Every reported figure, in the file's order.

    Raises ValueError if a column is missing, a value is no percentage, a source is empty, or a
    method has two values on one data set.

    Examples
    --------
    >>> rows = read_published()
    >>> {row.dataset for row in rows} == {"oxford5k", "paris6k"}
    True
    """
    found: dict[tuple[str, str], Published] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Published._fields:
            raise ValueError(f"{path} needs the columns {', '.join(Published._fields)}.")
        for number, text in enumerate(reader, start=2):
            try:
                mAP = round(float(text["mAP"]) / 100, 4)
                values: dict[str, Any] = {**text, "mAP": mAP, "year": int(text["year"])}
                row = Published(**values)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: no row of figures ({error}).") from error
            wrong = ""
            if not 0 < row.mAP <= 1:
                wrong = f"mAP is a percentage, not {text['mAP']}."
            if not all((row.method, row.family, row.paper, row.place, row.read_at)):
                wrong = "a figure without a source is no figure."
            if found.setdefault((row.method, row.dataset), row) is not row:
                wrong = f"{row.method} has two values on {row.dataset}."
            if wrong:
                raise ValueError(f"{path}, line {number}: {wrong}")
    return list(found.values())


def read_results(folder: Path = STORED_COMPARISON, dataset: str | None = None) -> list[Result]:
    """What ``indiret compare`` wrote in a folder, best mAP first.

    Only of one ``dataset``, if it is given. Raises FileNotFoundError if there are no results, and
    ValueError if a file is none.

    Examples
    --------
    >>> names = [result["method"] for result in read_results(dataset="toytown/test")]
    >>> names.index("sift-ransac") < names.index("thumbnail")
    True
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            known = isinstance(result["method"], str) and isinstance(result["mAP"], float)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no result of `indiret compare` ({error!r}).") from error
        if known and dataset in (None, result["dataset"]):
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

    A second look at a list has no row. Its mAP stands in a column of its own, beside that of the
    list, if ``again`` names it as `indiret.baselines.descriptors.OPTIONS` does.

    Examples
    --------
    >>> print(ranking_table([{"method": "base", "mAP": 0.5, "mAP_ci": [0.4, 0.6],
    ...                       "ms_per_query": 812.3, "mb_per_image": 0.8}], ["mAP"]))
    | method | mAP | ms a query | MB an image |
    |---|---|---|---|
    | base | 0.500 (0.40 … 0.60) | 812 | 0.8 |
    """
    lists, looks = _second_looks(results)
    shown = [again] if again else []
    rows = [
        [name, *(_cell(result, measure) for measure in measures)]
        + [_cell(looks[name].get(look, {}), "mAP") for look in shown]
        + [format(result[cost], form) for cost, form in COST.items()]
        for name, result in lists.items()
    ]
    return markdown_table(["method", *measures, *(f"mAP, +{look}" for look in shown), *COST], rows)


def second_look_table(results: Iterable[Result], measure: str = "mAP") -> str:
    """What second looks make of a list, a column each, for lists that have two or more."""
    lists, looks = _second_looks(results)
    several = {name: found for name, found in looks.items() if len(found) > 1}
    options = sorted({option for found in several.values() for option in found})
    columns = [o for name in AGAIN for o in options if o.rstrip("0123456789") == name]
    rows = [
        [name, _cell(lists[name], measure)]
        + [_cell(found.get(column, {}), measure) for column in columns]
        for name, found in several.items()
    ]
    return markdown_table(["method", "as it is", *columns], rows)


def verifier_table(path: Path = VERIFIED) -> str:
    """What each verification network gains over its untrained start, and a verifier over a list.

    The file is one that tools.measure_verifiers stored.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for pair, gain in found["gains"].items():
        names = pair.split(" − ")
        values = (show_interval(found["rows"][name]["mAP"]) for name in names)
        rows.append([*names, *values, show_interval(gain, signed=True)])
    return markdown_table(["network", "against", "mAP", "mAP of the other", "gain"], rows)


def is_second_look(method: str) -> bool:
    """Whether a method's name ends in an option that looks at a list again."""
    return "+" in method and rerank_option(method.rpartition("+")[2]) is not None


def evidence_table(results: Iterable[Result], measures: Sequence[str] = EVIDENCE_COLUMNS) -> str:
    """The evidence columns of Table 2: a row for each kind of map of each method, in Markdown.

    Below them what costs nothing and what is possible, from the first method that has them; the
    ceiling of the grid is that of its grid. Maps for a query of another landmark are left out.

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
                rows.append([result["method"], kind, *(_cell(row, name) for name in measures)])
    for kind in TRIVIAL:
        if kind in trivial:
            rows.append(["", kind, *(_cell(trivial[kind], name) for name in measures)])
    return markdown_table(["method", "map", *measures], rows)


def _second_looks(
    results: Iterable[Result],
) -> tuple[dict[str, Result], dict[str, dict[str, Result]]]:
    """Lists by their method, and by method the second looks at its list, by option."""
    lists, looks = dict[str, Result](), defaultdict[str, dict[str, Result]](dict)
    for result in results:
        name, _, option = result["method"].rpartition("+")
        if is_second_look(result["method"]):
            looks[name][option] = result
        else:
            lists[result["method"]] = result
    return lists, looks


def _cell(row: Mapping[str, Any], measure: str) -> str:
    """A mean and its interval; nothing where it was not measured."""
    if row.get(measure) is None:
        return ""
    interval = row.get(f"{measure}_ci")
    shown = f"{row[measure]:.3f}"
    return f"{shown} ({interval[0]:.2f} … {interval[1]:.2f})" if interval else shown


def ablation_table(path: Path = ABLATION) -> str:
    """The score of each part of the plane vote, in Markdown.

    The file is as ``python -m tools.ablate_planes`` writes it.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    cells = []
    for number, row in enumerate(rows):
        gain = show_interval(Interval(*row["gain"]), signed=True) if number else ""
        ranks = [f"{row[name]:.3f}" for name in ("landmarks", "paintings", "crops")]
        cells.append([row["name"], f"{row['toytown']:.3f}", gain, *ranks, f"{row['ms']:.1f}"])
    ranked = ["landmarks, MRR", "paintings, MRR", "parts, MRR"]
    titles = ["Toytown, mAP", "difference", *ranked, "ms a pair"]
    return markdown_table(["what is changed", *titles], cells)
