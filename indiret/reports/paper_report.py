"""The report of a grid beside the paper: tables, figures and a verdict on every claim.

Chapter: *Reproducing the tables*.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from indiret.checkpoints import load_network, write_atomically
from indiret.evaluation import SPLIT_PROTOCOLS, THRESHOLDS
from indiret.evidence import KINDS, explain
from indiret.experiments.claims import (
    PAPER_SCHEME,
    TABLE_ROWS,
    Measured,
    count_verdicts,
    judge_claims,
    published,
    read_measured,
)
from indiret.experiments.query_evaluator import HONEST
from indiret.experiments.records import show_interval
from indiret.experiments.reproduction import FEEDBACK, LITERAL, RunConfig
from indiret.feedback import feedback_weights, weight_tensor
from indiret.figures import interval_rows, map_strip, subplots
from indiret.images import Picture
from indiret.reports.pages import write_page

_VARIANTS = {"Base": "none", "HAR": "har"}
_MEASURES = ("mAP", "mAP@5", "mAP@10", "mAP@20", "mIoU")


@dataclass
class ReportPage:
    """Headings, paragraphs, tables and figures in order, for a template in Markdown or HTML."""

    title: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        self.blocks.append({"kind": "text", "text": text})

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.blocks.append({"kind": "table", "head": head, "rows": rows})

    def figure(self, name: str, figure: Figure, alt: str, caption: str) -> None:
        """A figure with its description, and a caption that says what to see."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        block = {"kind": "figure", "name": name, "png": buffer.getvalue()}
        self.blocks.append(block | {"alt": alt, "caption": caption})

    def write(self, folder: Path) -> list[Path]:
        """The page as ``report.md``, its pictures beside it, and ``report.html``, all inside."""
        for block in self.blocks:
            if block["kind"] == "figure":
                with write_atomically(folder / f"{block['name']}.png") as part:
                    part.write_bytes(block["png"])
        pages = [folder / "report.md", folder / "report.html"]
        for path in pages:
            write_page(path, f"paper_{path.name}.j2", **vars(self))
        return pages


def write_paper_report(folder: Path, out: Path) -> list[Path]:
    """Write ``report.md``, its pictures, and ``report.html``, each whole or not at all.

    ``folder`` is one that `indiret.experiments.grid.run_grid` filled, wholly or in part;
    ValueError if no run has finished in it. Returns the paths of both pages.
    """
    settings = read_measured(folder)
    first = settings[0]  # by which claims are judged
    page = ReportPage(f"The paper and {first.dataset}, claim by claim")
    _claims(page, first)
    for measured in settings:
        _table(page, measured)
    _leak(page, first)
    _figures(page, first)
    _origin(page, settings)
    return page.write(out)


def _claims(page: ReportPage, measured: Measured) -> None:
    regions = sorted({run.get("regions", "not written down") for run in measured.runs})
    known = sum("IoU" in row for run in measured.runs for row in run["records"])
    evidence = f"{'; '.join(regions)}" if known else "none was used"
    page.text(
        f"{len(measured.runs)} runs on {measured.dataset} ({measured.setting}), "
        f"{measured.queries} queries. Numbers are means with 95 % intervals in brackets: "
        "landmarks are resampled, then queries inside them, then seeds. Each query is asked of the "
        f"network that did not learn from it. Regions of interest: {evidence}."
    )
    page.heading("Claims")
    verdicts = judge_claims(measured)
    counts = [f"{number} {verdict}" for verdict, number in count_verdicts(verdicts).items()]
    page.text(f"Of {len(verdicts)} claims: {', '.join(counts)}.")
    page.table(["the paper says", "where", "here", "verdict", "because"], verdicts)


def _table(page: ReportPage, measured: Measured) -> None:
    page.heading(f"Table 1 beside ours: {measured.dataset}, {measured.setting}")
    theirs = published(measured.dataset)
    if not theirs:
        page.text(
            f"The paper has no table of {measured.dataset}; its Oxford-5k is printed for "
            "orientation. These are other photos, and no number of one can refute the other."
        )
        theirs = published("oxford5k")
    rows = []
    for name, row in theirs.items():
        printed = [f"{row[what] / 100:.3f} ± {row[f'{what}_sd'] / 100:.3f}" for what in _MEASURES]
        rows.append([name, "the paper", *printed, "", ""])
        if name in TABLE_ROWS:
            for by in SPLIT_PROTOCOLS:
                rows += _our_row(measured, name, (by, *TABLE_ROWS[name]))
    for by, variant, scheme in measured.cells:
        if (variant, scheme) not in TABLE_ROWS.values():
            name = variant if scheme == "none" else f"{variant}, {scheme}"
            rows += _our_row(measured, name, (by, variant, scheme))
    page.table(["", "", *_MEASURES, "mAP without the query's own photo", "queries"], rows)
    ceiling, ones = (
        measured.interval(PAPER_SCHEME, "none", "none", f"mIoU, {what}")
        for what in ("ceiling", "all ones")
    )
    if ceiling and ones:
        page.text(
            f"mIoU is of Eq. 3 as printed. A map of all ones has {ones.mean:.3f}, the region "
            f"itself on the grid of patches {ceiling.mean:.3f}. Our default evidence has "
            f"{show_interval(measured.interval(PAPER_SCHEME, 'none', 'none', 'mIoU, combined'))}."
        )


def _our_row(measured: Measured, name: str, place: tuple[str, str, str]) -> list[list[str]]:
    found = [show_interval(measured.interval(*place, measure)) for measure in (*_MEASURES, HONEST)]
    if not any(found):
        return []
    asked = {key[1] for key in measured.cells[place]["mAP"]}
    return [[name, f"ours, folds by {place[0]}", *found, str(len(asked))]]


def _leak(page: ReportPage, measured: Measured) -> None:
    page.heading("What the folds are worth")
    rows = []
    for name, place in TABLE_ROWS.items():
        for measure in ("mAP", HONEST):
            by_query, by_landmark = [(by, *place) for by in SPLIT_PROTOCOLS]
            if found := measured.difference(by_query, by_landmark, measure):
                rows.append([name, measure, show_interval(found, signed=True)])
    page.text(
        "The same queries, asked of networks that met their landmark in training (folds by query) "
        "and of networks that did not (by landmark). Folds by query also learn from more "
        "landmarks, so that this is not yet the leak alone; the audit keeps their numbers equal."
    )
    page.table(["", "measure", "folds by query less folds by landmark"], rows)


def _figures(page: ReportPage, measured: Measured) -> None:
    page.heading("Figures")
    rows = {}
    for by in SPLIT_PROTOCOLS:
        for name, place in TABLE_ROWS.items():
            for measure in ("mAP@5", "mAP@20", "mAP"):
                if found := measured.interval(by, *place, measure):
                    rows[f"{name}, {measure}, by {by}"] = (found.mean, found.low, found.high)
    if rows:
        page.figure(
            "depth", interval_rows(rows, "mean average precision"),
            "Means and 95 % intervals of mAP at 5, at 20 and of the whole list, for each variant "
            "and fold scheme.",
            "Precision by depth. Where intervals of two rows lie over each other, look at the "
            "paired differences above before calling one better.",
        )  # fmt: skip
    curves = {
        name: np.mean(measured.curves[PAPER_SCHEME, *place], axis=0)
        for name, place in TABLE_ROWS.items()
        if (PAPER_SCHEME, *place) in measured.curves
    }
    if curves:
        with subplots(figsize=(6, 3.4)) as (figure, ((ax,),)):
            for name, values in curves.items():
                ax.plot(THRESHOLDS, values, marker="o", label=name)
            ax.set(xlabel="threshold", ylabel="IoU", ylim=(0, None))
            ax.legend()
        page.figure(
            "thresholds", figure,
            "Lines of IoU over the threshold from 0.0 to 0.9, one for each variant.",
            "IoU by threshold, Eq. 3 as printed. All lines start where the mask is the whole "
            "picture: there the IoU is the share that the region fills, whatever the map.",
        )  # fmt: skip
    if maps := _evidence_figure(measured):
        page.figure(
            "evidence", maps,
            "One photo of a test landmark under its evidence maps by Base, HAR and both kinds of "
            "feedback.",
            "Evidence for one answer, the first test query that has a region, after Eq. 3 as "
            "printed. Warm is where that puts the evidence; early layers alone locate better.",
        )  # fmt: skip
    theirs = published(measured.dataset)
    if theirs and measured.queries >= 55:
        among = {}
        for name, row in theirs.items():
            middle, spread = row["mAP"] / 100, row["mAP_sd"] / 100
            among[f"{name}, the paper"] = middle, middle - spread, middle + spread
        for name, place in TABLE_ROWS.items():
            if found := measured.interval(PAPER_SCHEME, *place, "mAP"):
                among[f"{name}, ours"] = (found.mean, found.low, found.high)
        page.figure(
            "among", interval_rows(among, "mAP"),
            "The paper's mAP of each method with its deviation, and ours with intervals.",
            "Reported and measured. The paper's bars are deviations over folds, ours intervals.",
        )  # fmt: skip


def _evidence_figure(measured: Measured) -> Figure | None:
    """Maps of one pair by the networks of one fold; None where no fold has both, with regions."""
    folds: dict[tuple[str, int, int], dict[str, tuple[RunConfig, Path]]] = {}
    for results in measured.runs:
        config = RunConfig.from_dict(results["config"])
        if (weights := results["folder"] / "network.safetensors").is_file():
            fold = folds.setdefault((config.by, config.fold, config.seed), {})
            fold[config.variant] = config, weights
    for fold in folds.values():
        if {"none", "har"} <= fold.keys():
            config = fold["none"][0]
            try:
                dataset = config.load()
            except (OSError, ValueError):  # the data are elsewhere by now
                return None
            for query in config.part(dataset).test:
                for name in sorted(query.good - {query.image}):
                    if dataset.roi(name) is not None:
                        paths = {title: fold[of][1] for title, of in _VARIANTS.items()}
                        query_picture, picture = dataset.read_query(query), dataset.read(name)
                        return map_strip(picture, _evidence_maps(paths, query_picture, picture))
    return None


def _evidence_maps(paths: Mapping[str, Path], query: Picture, target: Picture) -> dict[str, Tensor]:
    """P of each network, and of the last after feedback by this answer alone."""
    maps, literal = {}, KINDS[LITERAL]
    for title, path in paths.items():
        network = load_network(path)
        tensor = network.correlate(network.encode(query, query=True), [network.encode(target)])
        maps[title] = explain(network, tensor, **literal)[0].target_map
    for kind, feedback in FEEDBACK.items():
        weights = feedback_weights(explain(network, tensor, feedback.evidence), feedback)
        again = weight_tensor(tensor, weights, feedback.strength)
        maps[f"{title} + PRF {kind}"] = explain(network, again, **literal)[0].target_map
    return maps


def _origin(page: ReportPage, settings: Sequence[Measured]) -> None:
    page.heading("Where the numbers come from")
    origins = [run["provenance"] for measured in settings for run in measured.runs]
    rows = []
    same = "commit", "lock", "data_manifest"
    for name in (*same, "python", "torch", "numpy", "machine", "device"):
        rows.append([name, ", ".join(sorted({str(origin[name]) for origin in origins}))])
    hours = sum(origin["processor_seconds"] for origin in origins) / 3600
    each = mean(origin["seconds"] for origin in origins)
    rows.append(["processor", f"{hours:.2f} hours; {each:.0f} s a run"])
    for part, name in {"processors": "joules", "GPUs": "gpu_joules"}.items():
        joules = [origin.get(name) for origin in origins]
        text = "not readable here" if None in joules else f"{sum(joules) / 3.6e6:.3f} kWh"
        rows.append([f"energy of the {part}", text])
    page.table(["", ""], rows)
    for name in same:
        if len({origin[name] for origin in origins}) > 1:
            page.text(f"The runs differ in {name}; make them anew before you publish.")
