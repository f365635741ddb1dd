"""The paper's claims, one by one, each with a verdict from what was measured.

The claims are data, in ``indiret/data/paper/claims.toml``. A verdict is one of `VERDICTS`, always
with the reason. Where a difference is judged its whole 95 % interval has to lie on the claim's side
of zero; if it holds zero, nothing is shown. Networks of a few steps show nothing either way.

Chapter: *Reproducing the tables*.
"""

import json
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from indiret.attention import coordinates, hypersphere
from indiret.datasets import load_dataset
from indiret.datasets.files import read_json
from indiret.evaluation import Interval, matching_points, nested_bootstrap, shape_precision
from indiret.experiments import records
from indiret.experiments.evidence_protocol import pair_matches
from indiret.experiments.query_evaluator import HONEST
from indiret.experiments.records import DATA, ReportedRun, Values, paired_difference, show_interval
from indiret.experiments.reproduction import FAST_STEPS, TRAINED, RunConfig
from indiret.experiments.study import cells
from indiret.network import build_network, parameter_count

STORED_GRID = DATA / "reproduction"  # runs of Toytown that the book reports
STORED_PAPER = DATA / "paper-base"  # the one of the paper's network at full width
REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
UNDERTRAINED, NOT_TESTABLE, NOT_RUN = "undertrained", "not testable here", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, UNDERTRAINED, NOT_TESTABLE, NOT_RUN)
BY_SIDE = {1: REPRODUCED, 0: INCONCLUSIVE, -1: NOT_REPRODUCED}  # of zero, the claim's or the other
PAPER_SCHEME = "query"  # most likely the paper's folds
ENOUGH = 12  # true pairs of patches from which a shape is fitted
TABLE_ROWS = {  # of Tables 1 and 2 that a grid can hold: variant and scheme
    "Base": ("none", "none"),
    "Base+HAR": ("har", "none"),
    "Base+HAR+PRF-avg": ("har", "mean"),
    "Base+HAR+PRF-max": ("har", "max"),
}
_Place = tuple[str, str, str]  # fold scheme, variant, round


@dataclass
class Measured:
    """What the runs of one setting found: values by fold scheme, variant, round and measure."""

    dataset: str
    setting: str
    queries: int  # of the data set; an unfinished grid has fewer
    steps: int = FAST_STEPS  # the fewest that a network of it learned from
    cells: dict[_Place, dict[str, Values]] = field(default_factory=dict)
    curves: dict[_Place, list[list[float]]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def values(self, place: _Place, measure: str) -> Values:
        """Of the measure, by landmark, query and seed; none if there are none."""
        return self.cells.get(place, {}).get(measure, {})

    def interval(self, by: str, variant: str, scheme: str, measure: str) -> Interval | None:
        """Mean and interval; None where nothing was measured."""
        values = records.complete(self.values((by, variant, scheme), measure))
        return nested_bootstrap(values) if values else None

    def lacks(self, *places: _Place) -> tuple[str, str] | None:
        """The verdict, and why, if nothing can be judged by these cells yet."""
        for place in places:
            known = len({query for _, query, _ in self.values(place, "mAP")})
            if known < self.queries:
                asked = f"{known} of {self.queries} queries asked so far"
                return NOT_RUN, f"{asked}, folds by {place[0]}"
        if self.steps < FAST_STEPS:
            return UNDERTRAINED, f"learned from {self.steps} batches; give {FAST_STEPS} or more"
        return None

    def difference(self, one: _Place, other: _Place, measure: str) -> Interval | None:
        """Paired, over the queries that both have."""
        return paired_difference(self.values(one, measure), self.values(other, measure))


class ClaimVerdict(NamedTuple):
    claim: str
    where: str
    ours: str  # the number, with its interval
    verdict: str  # one of `VERDICTS`
    reason: str


def read_measured(folder: Path) -> list[Measured]:
    """Everything that finished in a grid's folder, the setting with most runs first.

    A run whose results are broken is as good as none, with a warning. Raises ValueError if nothing
    has finished there.
    """
    found: dict[str, Measured] = {}
    for file in sorted(folder.glob("*/results.json")):
        try:
            run = read_json(file, ReportedRun)
            config = RunConfig.from_dict(run.config)
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(f"{error} The run is left out; do it again.", stacklevel=2)
            continue
        setting = f"{config.network}, {'fast' if config.fast else 'full'} setting"
        for name in ("norm", "metrics", "steps", "device", "regions"):
            if getattr(config, name) not in ("batch", (), 0, "cpu", ""):
                setting += f", {name} {config.plain[name]}"
        key = f"{config.dataset} at {config.root}: {setting}"
        part = found.setdefault(key, Measured(config.dataset, setting, 0))
        part.runs.append(run.model_dump() | {"folder": file.parent})
        part.queries = max(part.queries, sum(run.fold.values()))
        if config.method == TRAINED:
            part.steps = min(part.steps, config.steps or FAST_STEPS)
        for row in run.records:
            place = config.by, row.variant, row.scheme
            cell = part.cells.setdefault(place, {})
            for measure, value in (row.model_extra or {}).items():
                if isinstance(value, float):
                    cell.setdefault(measure, {})[row.landmark, row.query, row.seed] = value
                elif measure == "IoU":
                    part.curves.setdefault(place, []).append(value)
    if not found:
        raise ValueError(f"no run has finished in {folder}; fill it with `indiret reproduce`.")
    return sorted(found.values(), key=lambda part: -len(part.runs))


def published(dataset: str) -> dict[str, dict[str, float]]:
    """The paper's table of a data set by method, in per cent; empty where it has none."""
    file = DATA / "paper" / f"{dataset}.csv"
    if not file.is_file():
        return {}
    return pd.read_csv(file, index_col="method", dtype=str).astype(float).to_dict("index")


def _stored(name: str) -> Any:
    """What another command stored with the library (``study``, ``audit``); None if it did not."""
    file = DATA / name / "results.json"
    return json.loads(file.read_text()) if file.is_file() else None


def stored_comparison(dataset: str) -> dict[str, Values]:
    """Average precisions that `indiret compare` stored for a data set, by method."""
    stored = [json.loads(file.read_text()) for file in sorted(DATA.glob("comparison/*.json"))]
    return {
        row["method"]: {("", query, 0): ap for query, ap in row["AP"].items()}
        for row in stored
        if row["dataset"].split("/")[0] == dataset
    }


def read_claims() -> list[dict[str, Any]]:
    """The paper's claims as the data file has them."""
    text = (DATA / "paper" / "claims.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["claim"])


def judge_claims(measured: Measured) -> list[ClaimVerdict]:
    """A verdict on every claim."""
    return [
        ClaimVerdict(claim["text"], claim["where"], *JUDGES[claim["kind"]](claim, measured))
        for claim in read_claims()
    ]


Found = tuple[str, str, str]  # our number, verdict, reason


def _value(claim: Mapping[str, Any], measured: Measured) -> Found:
    place = PAPER_SCHEME, claim["variant"], claim["scheme"]
    interval = measured.interval(*place, claim["measure"])
    ours = show_interval(interval)
    if measured.dataset != claim["dataset"] or measured.queries < 55:
        reason = f"needs all 55 queries of {claim['dataset']}; this grid has {measured.queries}"
        return ours, NOT_TESTABLE, f"{reason} of {measured.dataset}"
    if (lacking := measured.lacks(place)) or interval is None:
        return ours, *(lacking or (NOT_RUN, f"no {claim['measure']} was measured"))
    if interval.high >= claim["published"] / 100:
        return ours, REPRODUCED, "our interval reaches the published number"
    return ours, NOT_REPRODUCED, "the published number lies above our interval"


def _gain(claim: Mapping[str, Any], measured: Measured) -> Found:
    place = PAPER_SCHEME, claim["variant"], claim["scheme"]
    other = (PAPER_SCHEME, "none", "none")
    if claim["against"] == "feedback_gain":
        other = (PAPER_SCHEME, claim["variant"], "none")
    here: Any = measured.difference(place, other, claim["measure"])
    ours, reason = show_interval(here, signed=True), "this grid"
    lacking = measured.lacks(place, other)
    study = _stored("study") if measured.dataset == "toytown" else None
    if study and (row := cells(study).get(place[1:])):
        mine = ours and f"; in this grid {ours}"
        here, lacking = row[claim["measure"]][claim["against"]], None
        ours = show_interval(here, signed=True) + mine
        reason = "the study of five seeds on landmarks not met in training"
    if lacking or here is None:
        return ours, *(lacking or (NOT_RUN, "neither this grid nor the stored study has it"))
    side = records.side_of_zero(here, claim["rises"])
    where = {1: "", 0: ": the interval holds zero", -1: ": the interval lies on the other side"}
    return ours, BY_SIDE[side], reason + where[side]


def _beats(claim: Mapping[str, Any], measured: Measured) -> Found:
    place = claim["by"], "none", "none"
    if lacking := measured.lacks(place):
        return "", *lacking
    base, stored = measured.values(place, "mAP"), stored_comparison(measured.dataset)
    texts, sides = [], []
    for method in claim["methods"]:
        here = measured.values((claim["by"], method, "none"), "mAP")
        rivals = here or stored.get(method, {})
        rival = {query: value for (_, query, _), value in rivals.items()}
        same = {key: rival[key[1]] for key in base if key[1] in rival}
        if (found := paired_difference(base, same)) is None:
            return "", NOT_RUN, f"{method} is in no run of this grid and in no stored result"
        texts.append(f"{method} {show_interval(found, signed=True)}")
        sides.append(records.side_of_zero(found))
    reason = f"paired difference in mAP, folds by {claim['by']}"
    return "; ".join(texts), BY_SIDE[min(sides)], reason


def judge_gains(results: Mapping[str, Any]) -> str:
    """Each claim about a gain with the difference that a study measured, as a Markdown table.

    A claim is reproduced if the whole 95 % interval lies on its side of zero, not reproduced if it
    lies on the other, and inconclusive if it holds zero.
    """
    rows, judged = cells(results), []
    for claim in (claim for claim in read_claims() if claim["kind"] == "gain"):
        found = rows[claim["variant"], claim["scheme"]][claim["measure"]][claim["against"]]
        verdict = BY_SIDE[records.side_of_zero(found, claim["rises"])]
        judged.append([claim["text"], show_interval(found, signed=True), verdict])
    head = ["the paper's tables say", "here, paired difference", "verdict"]
    return records.markdown_table(head, judged)


def _above(claim: Mapping[str, Any], measured: Measured) -> Found:
    place = PAPER_SCHEME, claim["variant"], claim["scheme"]
    ours = measured.interval(*place, claim["measure"])
    if (lacking := measured.lacks(place)) or ours is None:
        lacking = lacking or (NOT_RUN, "the data have no regions of interest")
        return show_interval(ours), *lacking
    side = records.side_of_zero(Interval(*(value - claim["bound"] for value in ours)))
    return show_interval(ours), BY_SIDE[side], f"literal Eq. 3, against {claim['bound']}"


def _leak(claim: Mapping[str, Any], measured: Measured) -> Found:
    audit = _stored("audit") if measured.dataset == "toytown" else None
    places = ("query", "none", "none"), ("landmark", "none", "none")
    found: Any = measured.difference(*places, HONEST)
    ours = show_interval(found, signed=True)
    ours = ours and f"folds by query less folds by landmark, this grid: {ours}"
    lacking = measured.lacks(*places)
    if audit:
        found, lacking = audit["comparisons"]["the whole leak"], None
        ours = f"the audit: {show_interval(found, True)}" + (f"; {ours}" if ours else "")
    if lacking or found is None:
        return ours, *(lacking or (NOT_RUN, f"no {HONEST} was measured"))
    side = records.side_of_zero(found)
    reason = {
        1: "having met the test landmarks raises the figure",
        0: "the interval holds zero: neither a leak nor its absence shown",
        -1: "having met the test landmarks does not raise the figure",
    }
    return ours, BY_SIDE[-side], reason[side]


def _parameters() -> Found:
    count = parameter_count(build_network("paper-base")) / 1e6
    reason = "of the tensor laid flat as a picture; with 4-D maps of Eq. 5 and 6 it has nine times"
    return f"{count:.1f} M", REPRODUCED if round(count) == 11 else NOT_REPRODUCED, reason


def _mask_peak() -> Found:
    middle = torch.zeros(1, 4), torch.zeros(1), torch.full((1,), 0.1)
    peak = float(hypersphere(coordinates((3, 3, 3, 3)), *middle, "paper").max())
    reason = "as printed the factor passes 1 where σ is small; a factor of 1 keeps the claim"
    return f"peak {peak:.2f} for σ = 0.1", REPRODUCED if peak <= 1 else NOT_REPRODUCED, reason


@cache
def _hypersphere() -> Found:
    town, grid = load_dataset("toytown"), (14, 14, 10, 10)
    found: dict[str, Values] = {shape: {} for shape in ("ball", "sphere", "plane")}
    for query in town.queries:
        partners = pair_matches(town, query, min(query.good - {query.image}), grid)
        if partners is not None and len(points := matching_points(partners)) >= ENOUGH:
            for shape, values in found.items():
                precision = shape_precision(points, grid, shape)
                values[query.landmark, query.name, 0] = precision
    return judge_shapes(found)


def judge_shapes(found: Mapping[str, Values]) -> Found:
    """Whether the better of ball and sphere takes in fewer wrong pairs than a plane does."""
    rounder = max(("ball", "sphere"), key=lambda shape: sum(found[shape].values()))
    difference = paired_difference(found[rounder], found["plane"])
    assert difference is not None  # Toytown has pairs enough
    ours = f"{rounder} {show_interval(nested_bootstrap(found[rounder]))}, "
    ours += f"plane {show_interval(nested_bootstrap(found['plane']))}"
    reason = (
        "share of true pairs in a shape fitted to the true pairs of two photos of Toytown and just "
        "thick enough for 90 % of them; less that of a plane "
        f"{show_interval(difference, signed=True)}"
    )
    return ours, BY_SIDE[records.side_of_zero(difference)], reason


FACTS: Mapping[str, Callable[[], Found]] = {
    "parameters": _parameters,
    "mask_peak": _mask_peak,
    "hypersphere": _hypersphere,
}
JUDGES: Mapping[str, Callable[[Mapping[str, Any], Measured], Found]] = {
    "value": _value, "gain": _gain, "beats": _beats, "above": _above, "leak": _leak,
    "fact": lambda claim, measured: FACTS[claim["fact"]](),
    "none": lambda claim, measured: ("", NOT_TESTABLE, claim["reason"]),
}  # fmt: skip


def count_verdicts(verdicts: Iterable[ClaimVerdict]) -> dict[str, int]:
    """How many of each."""
    return dict.fromkeys(VERDICTS, 0) | Counter(verdict.verdict for verdict in verdicts)
