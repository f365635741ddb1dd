"""The report of a grid beside the paper: tables, figures and a verdict on every claim.

Written as Markdown and as one HTML page that loads nothing and runs no script.

Chapter: *Reproducing the tables*.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from indiret.claims import (
    HONEST,
    PAPER_SCHEME,
    ROWS,
    Measured,
    count_verdicts,
    judge,
    paired,
    published,
    read_measured,
    show,
)
from indiret.crossvalidation import SCHEMES
from indiret.evidence import explain
from indiret.feedback import query_weights, refine_query, weight_tensor
from indiret.figures import interval_rows, map_strip, subplots
from indiret.localisation import THRESHOLDS
from indiret.networks import load_network
from indiret.protocol import EVIDENCE
from indiret.reports.pages import render, write_bytes, write_page
from indiret.runs import FEEDBACK, LITERAL, RunConfig

TABLE = ("mAP", "mAP@5", "mAP@10", "mAP@20", "mIoU")


@dataclass
class Page:
    """Headings, paragraphs, tables and figures in order, for a template in Markdown or HTML.

    Examples
    --------
    >>> page = Page("A <b> title")
    >>> page.table(["name", "mAP"], [["a|b", "0.5"]])
    >>> print(page.markdown())
    # A &lt;b&gt; title
    <BLANKLINE>
    | name | mAP |
    |---|---|
    | a\\|b | 0.5 |
    <BLANKLINE>
    >>> "<td>a|b</td>" in page.html() and "<b>" not in page.html()
    True
    """

    title: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section's."""
        self.blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        """A paragraph."""
        self.blocks.append({"kind": "text", "text": text})

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of texts."""
        self.blocks.append({"kind": "table", "head": head, "rows": rows})

    def figure(self, name: str, figure: Figure, alt: str, caption: str) -> None:
        """A figure with its description, and a caption that says what to see."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        block = {"kind": "figure", "name": name, "png": buffer.getvalue()}
        self.blocks.append(block | {"alt": alt, "caption": caption})

    def markdown(self) -> str:
        """The page as Markdown, its pictures beside it."""
        return render("paper_report.md.j2", title=self.title, blocks=self.blocks)

    def html(self) -> str:
        """The page as one HTML file, its pictures inside."""
        return render("paper_report.html.j2", title=self.title, blocks=self.blocks)


def write_paper_report(folder: Path, out: Path) -> list[Path]:
    """Write ``report.md``, its pictures, and ``report.html``.

    Parameters
    ----------
    folder
        That `indiret.grid.run_grid` filled, wholly or in part.
    out
        Where to write; each file whole or not at all.

    Returns
    -------
    list of Path
        Both pages.

    Raises
    ------
    ValueError
        If no run has finished in the folder.
    """
    page = make_page(read_measured(folder))
    for block in page.blocks:
        if block["kind"] == "figure":
            write_bytes(out / f"{block['name']}.png", block["png"])
    pages = [out / "report.md", out / "report.html"]
    for path in pages:
        write_page(path, f"paper_{path.name}.j2", title=page.title, blocks=page.blocks)
    return pages


def make_page(settings: Sequence[Measured]) -> Page:
    """The report of all settings that a grid holds; claims are judged by the first."""
    first = settings[0]
    page = Page(f"The paper and {first.dataset}, claim by claim")
    _about(page, first)
    _claims(page, first)
    for measured in settings:
        _table(page, measured)
    _leak(page, first)
    _figures(page, first)
    _origin(page, settings)
    return page


def _about(page: Page, measured: Measured) -> None:
    regions = sorted({run.get("regions", "not written down") for run in measured.runs})
    known = sum("IoU" in row for run in measured.runs for row in run["records"])
    evidence = f"{'; '.join(regions)}" if known else "none was used"
    page.text(
        f"{len(measured.runs)} runs on {measured.dataset} ({measured.setting}), "
        f"{measured.queries} queries. Numbers are means with 95 % intervals in brackets: "
        "landmarks are resampled, then queries inside them, then seeds. Each query is asked of the "
        f"network that did not learn from it. Regions of interest: {evidence}."
    )


def _claims(page: Page, measured: Measured) -> None:
    verdicts = judge(measured)
    page.heading("Claims")
    counts = [f"{number} {verdict}" for verdict, number in count_verdicts(verdicts).items()]
    page.text(f"Of {len(verdicts)} claims: {', '.join(counts)}.")
    page.table(["the paper says", "where", "here", "verdict", "because"], verdicts)


def _table(page: Page, measured: Measured) -> None:
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
        rows.append([name, "the paper"] + [_printed(row, measure) for measure in TABLE] + ["", ""])
        if name in ROWS:
            for by in SCHEMES:
                rows += _our_row(measured, name, (by, *ROWS[name]))
    for by, variant, scheme in measured.cells:
        if (variant, scheme) not in ROWS.values():
            name = variant if scheme == "none" else f"{variant}, {scheme}"
            rows += _our_row(measured, name, (by, variant, scheme))
    page.table(["", "", *TABLE, "mAP without the query's own photo", "queries"], rows)
    ceiling, ones = (
        measured.interval(PAPER_SCHEME, "none", "none", f"mIoU, {what}")
        for what in ("ceiling", "all ones")
    )
    if ceiling and ones:
        page.text(
            f"mIoU is of Eq. 3 as printed. A map of all ones has {ones.mean:.3f}, the region "
            f"itself on the grid of patches {ceiling.mean:.3f}. Our default evidence has "
            f"{show(measured.interval(PAPER_SCHEME, 'none', 'none', 'mIoU, combined'))}."
        )


def _our_row(measured: Measured, name: str, place: tuple[str, str, str]) -> list[list[str]]:
    found = [show(measured.interval(*place, measure)) for measure in (*TABLE, HONEST)]
    if not any(found):
        return []
    asked = {key[1] for key in measured.cells[place]["mAP"]}
    return [[name, f"ours, folds by {place[0]}", *found, str(len(asked))]]


def _printed(row: dict[str, float], measure: str) -> str:
    return f"{row[measure] / 100:.3f} ± {row[f'{measure}_sd'] / 100:.3f}"


def _leak(page: Page, measured: Measured) -> None:
    page.heading("What the folds are worth")
    rows = []
    for name, place in ROWS.items():
        for measure in ("mAP", HONEST):
            cells = [measured.cells.get((by, *place), {}).get(measure, {}) for by in SCHEMES]
            if found := paired(cells[0], cells[1]):
                rows.append([name, measure, show(found, signed=True)])
    page.text(
        "The same queries, asked of networks that met their landmark in training (folds by query) "
        "and of networks that did not (by landmark). Folds by query also learn from more "
        "landmarks, so that this is not yet the leak alone; the audit keeps their numbers equal."
    )
    page.table(["", "measure", "folds by query less folds by landmark"], rows)


def _figures(page: Page, measured: Measured) -> None:
    page.heading("Figures")
    rows = {}
    for by in SCHEMES:
        for name, place in ROWS.items():
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
        for name, place in ROWS.items()
        if (PAPER_SCHEME, *place) in measured.curves
    }
    if curves:
        page.figure(
            "thresholds", _threshold_figure(curves),
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
        among = {f"{name}, the paper": _spread(row) for name, row in theirs.items()}
        for name, place in ROWS.items():
            if found := measured.interval(PAPER_SCHEME, *place, "mAP"):
                among[f"{name}, ours"] = (found.mean, found.low, found.high)
        page.figure(
            "among", interval_rows(among, "mAP"),
            "The paper's mAP of each method with its deviation, and ours with intervals.",
            "Reported and measured. The paper's bars are deviations over folds, ours intervals.",
        )  # fmt: skip


def _spread(row: dict[str, float]) -> tuple[float, float, float]:
    middle, spread = row["mAP"] / 100, row["mAP_sd"] / 100
    return middle, middle - spread, middle + spread


def _threshold_figure(curves: dict[str, np.ndarray]) -> Figure:
    with subplots(figsize=(6, 3.4)) as (figure, ((ax,),)):
        for name, values in curves.items():
            ax.plot(THRESHOLDS, values, marker="o", label=name)
        ax.set(xlabel="threshold", ylabel="IoU", ylim=(0, None))
        ax.legend()
    return figure


def _evidence_figure(measured: Measured) -> Figure | None:
    """Maps of one pair by the networks of one fold; None where no fold has both, with regions."""
    by_fold: dict[tuple[str, int, int], dict[str, RunConfig]] = {}
    folders = {}
    for results in measured.runs:
        config = RunConfig.from_dict(results["config"])
        if (results["folder"] / "network.safetensors").is_file():
            by_fold.setdefault((config.by, config.fold, config.seed), {})[config.variant] = config
            folders[config] = results["folder"]
    for variants in by_fold.values():
        if {"none", "har"} <= variants.keys():
            try:
                dataset = variants["none"].load()
            except (OSError, ValueError):  # the data are elsewhere by now
                return None
            for query in variants["none"].part(dataset).test:
                others = sorted(query.good - {query.image})
                name = next((n for n in others if dataset.roi(n) is not None), None)
                if name is None:
                    continue
                maps = {}
                for title, variant in (("Base", "none"), ("HAR", "har")):
                    network = load_network(folders[variants[variant]] / "network.safetensors")
                    asked = network.describe(dataset.read_query(query), query=True)
                    tensor = network.correlate(asked, [network.describe(dataset.read(name))])
                    literal = EVIDENCE[LITERAL]
                    found = explain(network, tensor, **literal)  # type: ignore[arg-type]
                    maps[title] = found[0].target_map
                for kind, feedback in FEEDBACK.items():  # of HAR, by this answer alone
                    once = explain(network, tensor, feedback.evidence)
                    weights = query_weights(refine_query(once, feedback.pool, feedback.normalise))
                    again = weight_tensor(tensor, weights, feedback.strength)
                    found = explain(network, again, **literal)  # type: ignore[arg-type]
                    maps[f"HAR + PRF {kind}"] = found[0].target_map
                return map_strip(dataset.read(name), maps)
    return None


def _origin(page: Page, settings: Sequence[Measured]) -> None:
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
