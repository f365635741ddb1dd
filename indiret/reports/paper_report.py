"""The report of a grid beside the paper: tables, figures and a verdict on every claim.

Its words are in ``paper_report.j2``; here is what is worked out for them.

Chapter: *Reproducing the tables*.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from indiret.checkpoints import load_network, write_atomically
from indiret.evaluation import SPLIT_PROTOCOLS, THRESHOLDS
from indiret.evidence import KINDS, explain
from indiret.experiments import claims
from indiret.experiments.claims import PAPER_SCHEME, TABLE_ROWS, Measured, published
from indiret.experiments.query_evaluator import HONEST
from indiret.experiments.records import show_interval
from indiret.experiments.reproduction import FEEDBACK, LITERAL, TRAINED, RunConfig
from indiret.feedback import feedback_weights, weight_tensor
from indiret.figures import interval_rows, line_chart, map_strip, trajectories
from indiret.images import Picture
from indiret.reports.pages import write_page

_VARIANTS = {"Base": "none", "HAR": "har"}
_Bar = tuple[float, float, float]  # middle, low, high
_MEASURES = ["mAP", "mAP@5", "mAP@10", "mAP@20", "mIoU"]
_SAME = ("commit", "lock", "data_manifest")  # what all runs of one report should share


def write_paper_report(folder: Path, out: Path) -> list[Path]:
    """Write ``report.md``, its pictures, and ``report.html``, each whole or not at all.

    ``folder`` is one that `indiret.experiments.grid.run_grid` filled, wholly or in part;
    ValueError if no run has finished in it. Returns the paths of both pages.
    """
    settings = claims.read_measured(folder)
    first = settings[0]  # by which claims are judged
    verdicts = claims.judge_claims(first)
    runs = [run for measured in settings for run in measured.runs]
    configs = [RunConfig.from_dict(run["config"]) for run in runs]
    origins = [run["provenance"] for run in runs]
    pictures = {}
    for name, figure in _figures(first).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        pictures[name] = buffer.getvalue()
        with write_atomically(out / f"{name}.png") as part:
            part.write_bytes(pictures[name])
    pages = [out / "report.md", out / "report.html"]
    for path in pages:
        write_page(
            path,
            f"paper_{path.name}.j2",
            title=f"The paper and {first.dataset}, claim by claim",
            first=first,
            regions=_regions(first),
            verdicts=verdicts,
            counts=claims.count_verdicts(verdicts),
            measures=_MEASURES,
            tables=[_table(measured) for measured in settings],
            leak=_leak(first),
            pictures=pictures,
            settings=_settings(configs),
            grid=_grid(configs),
            origin=_origin(origins),
            differing=[name for name in _SAME if len({one[name] for one in origins}) > 1],
        )
    return pages


def _regions(measured: Measured) -> str:
    if not any("IoU" in row for run in measured.runs for row in run["records"]):
        return "none was used"
    return "; ".join(sorted({run.get("regions", "not written down") for run in measured.runs}))


def _table(measured: Measured) -> dict[str, Any]:
    """The paper's table, and our rows below those that they answer."""
    theirs = published(measured.dataset)
    rows = []
    for name, row in (theirs or published("oxford5k")).items():
        printed = [f"{row[what] / 100:.3f} ± {row[f'{what}_sd'] / 100:.3f}" for what in _MEASURES]
        rows.append([name, "the paper", *printed, "", ""])
        if name in TABLE_ROWS:
            for by in SPLIT_PROTOCOLS:
                rows += _our_row(measured, name, (by, *TABLE_ROWS[name]))
    for by, variant, scheme in measured.cells:
        if (variant, scheme) not in TABLE_ROWS.values():
            name = variant if scheme == "none" else f"{variant}, {scheme}"
            rows += _our_row(measured, name, (by, variant, scheme))
    ceiling, ones, combined = (
        measured.interval(PAPER_SCHEME, "none", "none", f"mIoU, {what}")
        for what in ("ceiling", "all ones", "combined")
    )
    found = {"ceiling": ceiling, "ones": ones, "combined": show_interval(combined)}
    return {"of": measured, "foreign": not theirs, "rows": rows} | found


def _our_row(measured: Measured, name: str, place: tuple[str, str, str]) -> list[list[str]]:
    found = [show_interval(measured.interval(*place, measure)) for measure in (*_MEASURES, HONEST)]
    if not any(found):
        return []
    asked = {key[1] for key in measured.cells[place]["mAP"]}
    return [[name, f"ours, folds by {place[0]}", *found, str(len(asked))]]


def _leak(measured: Measured) -> list[list[str]]:
    rows = []
    for name, place in TABLE_ROWS.items():
        for measure in ("mAP", HONEST):
            by_query, by_landmark = [(by, *place) for by in SPLIT_PROTOCOLS]
            if found := measured.difference(by_query, by_landmark, measure):
                rows.append([name, measure, show_interval(found, signed=True)])
    return rows


def _figures(measured: Measured) -> dict[str, Figure]:
    """Those for which there are numbers."""
    figures = {
        "depth": _depth_figure(measured),
        "thresholds": _threshold_figure(measured),
        "learning": _learning_figure(measured),
        "evidence": _evidence_figure(measured),
        "among": _table_figure(measured),
    }
    return {name: figure for name, figure in figures.items() if figure}


def _depth_figure(measured: Measured) -> Figure | None:
    """Precision among the first 5, the first 20 and all."""
    rows: dict[str, _Bar] = {}
    for by in SPLIT_PROTOCOLS:
        for name, place in TABLE_ROWS.items():
            for measure in ("mAP@5", "mAP@20", "mAP"):
                if found := measured.interval(by, *place, measure):
                    rows[f"{name}, {measure}, by {by}"] = found
    return interval_rows(rows, "mean average precision") if rows else None


def _threshold_figure(measured: Measured) -> Figure | None:
    curves = {
        name: np.mean(measured.curves[PAPER_SCHEME, *place], axis=0)
        for name, place in TABLE_ROWS.items()
        if (PAPER_SCHEME, *place) in measured.curves
    }
    if not curves:
        return None
    chart = line_chart(curves, THRESHOLDS.tolist(), "threshold", "IoU")
    chart.axes[0].set_ylim(bottom=0)
    return chart


def _learning_figure(measured: Measured) -> Figure | None:
    looks = DataFrame(
        {"variant": run["config"]["attention"], **row}
        for run in measured.runs
        for row in run.get("log", ())
    )
    if looks.empty:
        return None
    measures = ["loss", "validation_map"]
    means = looks.groupby(["variant", "step"])[measures].mean().reset_index()
    runs = {str(name): rows.to_dict("records") for name, rows in means.groupby("variant")}
    return trajectories(runs, measures)


def _table_figure(measured: Measured) -> Figure | None:
    """The methods of the paper's table, and ours, where all of its queries were asked."""
    theirs = published(measured.dataset)
    if not theirs or measured.queries < 55:
        return None
    among: dict[str, _Bar] = {}
    for name, row in theirs.items():
        middle, spread = row["mAP"] / 100, row["mAP_sd"] / 100
        among[f"{name}, the paper"] = middle, middle - spread, middle + spread
    for name, place in TABLE_ROWS.items():
        if found := measured.interval(PAPER_SCHEME, *place, "mAP"):
            among[f"{name}, ours"] = found
    return interval_rows(among, "mAP")


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


def _settings(configs: Sequence[RunConfig]) -> list[list[str]]:
    """What the runs, their training and their networks were set to, all values that occur."""
    found: dict[str, dict[str, None]] = {}
    for config in configs:
        trained = config.method == TRAINED
        more = asdict(config.recipe) | asdict(config.shape) if trained else {}
        for name, value in (config.plain | more).items():
            text = value if isinstance(value, str) else json.dumps(value)
            found.setdefault(name, {})[text] = None
    return [[name, "; ".join(texts)] for name, texts in found.items()]


def _grid(configs: Sequence[RunConfig]) -> str:
    """The file from which ``indiret reproduce`` does these runs again."""
    plain = [config.plain for config in configs]
    same = {k: v for k, v in plain[0].items() if all(one[k] == v for one in plain)}
    folds: dict[str, list[int]] = {}
    for one in plain:
        own = {k: [v] for k, v in one.items() if k not in same and k != "fold"}
        folds.setdefault(json.dumps(own, ensure_ascii=False), []).append(one["fold"])
    tables = [("[run]", same)]
    tables += [("[[grid]]", json.loads(own) | {"fold": part}) for own, part in folds.items()]
    return "\n\n".join(
        "\n".join([head, *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in table.items())])
        for head, table in tables
    )


def _origin(origins: Sequence[Any]) -> list[list[str]]:
    rows = []
    for name in (*_SAME, "python", "torch", "numpy", "machine", "device", "processes"):
        rows.append([name, ", ".join(sorted({str(origin[name]) for origin in origins}))])
    hours = sum(origin["processor_seconds"] for origin in origins) / 3600
    each = mean(origin["seconds"] for origin in origins)
    rows.append(["processor", f"{hours:.2f} hours; {each:.0f} s a run"])
    return rows
