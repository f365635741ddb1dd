"""Numbers as pictures: tables, bars, lines and matrices, in the style of `indiret.figures`.

Chapter: all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from indiret.experiments.comparison import INDEX_RESULTS, Published
from indiret.figures.style import BAD, INK, subplots

_PANELS = 3  # in a row


def heat_table(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    form: str = "z.2f",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A table whose cells are coloured by their number, between the limits or those of their row.

    Examples
    --------
    >>> figure = heat_table([[0.1, 0.9]], ["zncc"], ["darker", "moved"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.10', '0.90']
    """
    table = np.asarray(values, dtype=np.float64)
    low, high = limits or (table.min(1, keepdims=True), table.max(1, keepdims=True))
    shade = (table - low) / np.maximum(np.subtract(high, low), 1e-12)
    size = 2 + 1.15 * len(columns), 0.6 + 0.42 * len(rows)
    style = {"axes.grid": False, "axes.spines.left": False}
    with subplots(style=style, figsize=size) as (figure, ((ax,),)):
        ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")  # ink stays readable
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(length=0)
        ax.xaxis.tick_top()
        ax.spines["bottom"].set_visible(False)
        for (row, column), value in np.ndenumerate(table):
            ax.text(column, row, format(value, form), ha="center", va="center")
    return figure


def bars(values: Mapping[str, float], label: str, chance: float | None = None) -> Figure:
    """Numbers by name as bars, with the number beside each; chance as a dashed line.

    Examples
    --------
    >>> bars({"cosine": 0.1, "zncc": 0.2}, "share of hits", chance=0.05).axes[0].get_xlabel()
    'share of hits'
    """
    size = 7.5, 0.8 + 0.34 * len(values)
    with subplots(style={"axes.grid.axis": "x"}, figsize=size) as (figure, ((ax,),)):
        drawn = ax.barh(list(values), list(values.values()), height=0.7, zorder=2)
        ax.bar_label(drawn, fmt="{:.2f}", padding=4)
        if chance is not None:
            said = f"by chance {chance:.2f}"
            ax.axvline(chance, color=BAD, linestyle="--", label=said, zorder=3)
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        ax.set_xlabel(label)
        ax.margins(x=0.12)
        ax.invert_yaxis()
    return figure


def plane_fit(points: ArrayLike, plane: tuple[ArrayLike, ArrayLike] | None = None) -> Figure:
    """Matching patch pairs, (N, 4) of (i, j, k, l): i over k, j over l, the more the larger.

    ``plane``, A and t of (i, j) = A (k, l) + t, is drawn as a line through the points' mean.

    Examples
    --------
    >>> figure = plane_fit([[2, 3, 0, 0], [3, 4, 1, 1]], ([[1, 0], [0, 1]], [2, 3]))
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['i, target row', 'j, target column']
    """
    pairs = np.asarray(points, dtype=np.float64)
    names = ("i, target row", "k, query row"), ("j, target column", "l, query column")
    with subplots(1, 2, figsize=(8, 3.6)) as (figure, (row,)):
        for axis, (ax, (up, along)) in enumerate(zip(row, names, strict=True)):
            places, counts = np.unique(pairs[:, [axis + 2, axis]], axis=0, return_counts=True)
            ax.scatter(*places.T, s=12 * counts, alpha=0.75, label="true pairs")
            if plane is not None:
                query = np.tile(pairs[:, 2:].mean(0), (2, 1))
                query[:, axis] = pairs[:, axis + 2].min(), pairs[:, axis + 2].max()
                line = query @ np.asarray(plane[0]).T + np.asarray(plane[1])
                ax.plot(query[:, axis], line[:, axis], color="#d55e00", label="plane")
            ax.set(xlabel=along, ylabel=up)
            ax.legend(loc="upper left")
    return figure


def histograms(samples: Mapping[str, ArrayLike], label: str) -> Figure:
    """How often each value comes, as a share of its own sample, for samples of different size.

    Examples
    --------
    >>> figure = histograms({"match": [1.0, 2.0], "other": [0.0, 0.5, 0.5]}, "margin")
    >>> figure.axes[0].get_xlabel()
    'margin'
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in samples.items()}
    bins = int(np.clip(min(map(len, arrays.values())), 12, 40))  # no spikes of single values
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    with subplots(figsize=(7.5, 2.8)) as (figure, ((ax,),)):
        for name, values in arrays.items():
            shown = {"histtype": "stepfilled", "alpha": 0.55, "label": name}
            ax.hist(values, edges.tolist(), weights=np.full(len(values), 1 / len(values)), **shown)
        ax.set(xlabel=label, ylabel="share")
        ax.legend()
    return figure


def matrices(pictures: Mapping[str, ArrayLike], label: str) -> Figure:
    """Matrices side by side in one scale of colours, such as tensors seen flat.

    Examples
    --------
    >>> len(matrices({"match": np.eye(3), "none": np.zeros((3, 3))}, "similarity").axes)
    3
    """
    arrays = {title: np.asarray(values, dtype=np.float64) for title, values in pictures.items()}
    low, high = np.quantile(np.concatenate([*map(np.ravel, arrays.values())]), (0.02, 0.998))
    size = min(10, 3.6 * len(arrays) + 0.6), 3.7
    with subplots(1, len(arrays), {"axes.grid": False}, figsize=size) as (figure, (axes,)):
        for ax, (title, values) in zip(axes, arrays.items(), strict=True):
            drawn = ax.imshow(values, cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
            ax.set_title(title)
            ax.axis("off")
        figure.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    return figure


def interval_rows(
    rows: Mapping[str, tuple[float, float, float]], label: str, zero: bool = False
) -> Figure:
    """Means and intervals, (mean, low, high) by name, first on top; ``zero`` draws a line there.

    Examples
    --------
    >>> interval_rows({"Base": (0.5, 0.4, 0.6)}, "mAP").axes[0].get_xlabel()
    'mAP'
    """
    with subplots(figsize=(8, 0.8 + 0.27 * len(rows))) as (figure, ((ax,),)):
        _intervals(ax, rows)
        if zero:
            ax.axvline(0, color=BAD, linewidth=1, linestyle="--")
        ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    return figure


def reported_and_measured(
    published: Iterable[Published], measured: Mapping[str, tuple[float, float, float]]
) -> Figure:
    """Figure 5: what papers report, by year, on the left; what was measured here on the right.

    They stand apart, since reported figures come from another database, other training photos, and
    sometimes another crop of the query. ``measured`` is (mAP, low, high) by method. ValueError if
    the published figures are not of exactly one data set.

    Examples
    --------
    >>> from indiret.experiments.comparison import read_published
    >>> rows = [row for row in read_published() if row.dataset == "oxford5k"]
    >>> figure = reported_and_measured(rows, {"base": (0.5, 0.4, 0.6)})
    >>> [ax.get_title() for ax in figure.axes]
    ['reported by papers, oxford5k', 'measured here']
    """
    rows = sorted(published, key=lambda row: (row.year, row.mAP))
    datasets = {row.dataset for row in rows}
    if len(datasets) != 1:
        raise ValueError(f"Give the figures of one data set; these are of {sorted(datasets)}.")
    size = 11, 0.9 + 0.24 * max(len(rows), len(measured))
    with subplots(1, 2, figsize=size, sharex=True) as (figure, ((left, right),)):
        for family in dict.fromkeys(row.family for row in rows):
            places = [at for at, row in enumerate(rows) if row.family == family]
            left.plot([rows[at].mAP for at in places], places, "D", mfc="none", label=family)
        left.set_yticks(range(len(rows)), [f"{row.method}, {row.year}" for row in rows])
        left.legend(loc="upper center", bbox_to_anchor=(0.3, -0.08), ncols=2)
        left.set(xlabel="mAP", title=f"reported by papers, {datasets.pop()}")
        _intervals(right, measured)
        right.set(xlabel="mAP, 95 % interval", title="measured here", xlim=(0, 1))
    return figure


def shortlist_curves(database: str) -> Figure:
    """Recall and mAP of searches by shortlist, over their cost, as ``benchmarks.index`` stored it.

    ``database`` is ``"real"`` or another that was measured. A search verifies 10 to 200 photos of
    its list.

    Examples
    --------
    >>> [ax.get_title() for ax in shortlist_curves("real").axes]
    ['recall', 'mAP']
    """
    roads = json.loads(INDEX_RESULTS.read_text(encoding="utf-8"))["recall"][database]
    with _panels(2, width=3.5, more=(0, 0.4), sharey=True) as (figure, axes):
        for ax, measure in zip(axes, ("recall", "mAP"), strict=True):
            for road, found in roads.items():
                rows = [row for row in found["rows"] if row["verified"]]
                steps = found["seconds"]
                before = steps["query"] + steps["shortlist"] + steps["choose"]
                places = [before + row["verified"] * steps["verify"] / 200 for row in rows]
                mean, low, high = np.array([row[measure] for row in rows]).T
                ax.plot(places, mean, marker="o", markersize=4, label=road)
                ax.fill_between(places, low, high, alpha=0.13)
            ax.set(title=measure, xlabel="seconds a query, one core", ylim=(-0.03, 1.05))
        handles, labels = axes[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def trajectories(runs: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> Figure:
    """What `indiret.training.fit` logged in several runs over its steps, a panel for each name.

    Examples
    --------
    >>> log = [{"step": 10, "loss": 0.7}, {"step": 20, "loss": 0.5, "validation_map": 0.3}]
    >>> [ax.get_title() for ax in trajectories({"har": log}, ["loss", "validation_map"]).axes]
    ['loss', 'validation mAP']
    """
    with _panels(len(names), width=3.5, more=(1.5 * (len(runs) > 1), 0)) as (figure, axes):
        for ax, name in zip(axes, names, strict=True):
            for run, log in runs.items():
                known = [row for row in log if name in row]
                marker = "." if len(known) < 20 else None  # a value or two is no line
                steps, values = ([row[key] for row in known] for key in ("step", name))
                ax.plot(steps, values, label=run, marker=marker)
            ax.set(title=name.replace("_map", " mAP"), xlabel="step")
        if len(runs) > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def line_chart(
    lines: Mapping[str, ArrayLike], places: Sequence[float], along: str, up: str
) -> Figure:
    """Values by name as lines over the same places.

    Examples
    --------
    >>> line_chart({"all ones": [0.5, 0.5]}, [0.0, 0.1], "threshold", "IoU").axes[0].get_ylabel()
    'IoU'
    """
    with subplots(figsize=(7.5, 3)) as (figure, ((ax,),)):
        for name, values in lines.items():
            ax.plot(places, np.asarray(values, dtype=np.float64), marker="o", label=name)
        ax.set(xlabel=along, ylabel=up)
        figure.legend(loc="outside right upper")
    return figure


def curves(
    panels: Mapping[str, Mapping[str, ArrayLike]],
    places: Mapping[str, Sequence[float]],
    labels: Mapping[str, str],
    height: str,
) -> Figure:
    """Lines with their intervals as bands, a panel for each thing that is varied.

    ``panels`` hold (N, 3) by panel and line: mean, low and high, in 0 … 1, at the panel's N
    ``places``; ``labels`` and ``height`` name its axes.

    Examples
    --------
    >>> line = {"planes": [(1.0, 1.0, 1.0), (0.5, 0.3, 0.7)]}
    >>> figure = curves({"scale": line}, {"scale": [1, 2]}, {"scale": "times smaller"}, "found")
    >>> figure.axes[0].get_xlabel()
    'times smaller'
    """
    with _panels(len(panels), width=3.1, more=(0, 0.4), sharey=True) as (figure, axes):
        for ax, (panel, lines) in zip(axes, panels.items(), strict=True):
            for name, points in lines.items():
                mean, low, high = np.asarray(points, dtype=np.float64).T
                ax.plot(places[panel], mean, marker="o", markersize=4, label=name)
                ax.fill_between(places[panel], low, high, alpha=0.13)
            ax.set(title=panel, xlabel=labels[panel], ylim=(-0.03, 1.05))
        for ax in axes[::_PANELS]:
            ax.set_ylabel(height)
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside upper center", ncols=len(names[1]))
    return figure


def _intervals(ax: Axes, rows: Mapping[str, tuple[float, float, float]]) -> None:
    """Draw (mean, low, high) by name as dots on lines, first on top."""
    height, values = np.arange(len(rows))[::-1], np.array(list(rows.values()))
    ax.hlines(height, values[:, 1], values[:, 2], color=INK, linewidth=1.4)
    ax.plot(values[:, 0], height, "o")
    ax.set_yticks(height, list(rows))


@contextmanager
def _panels(
    number: int, width: float, more: tuple[float, float], **options: Any
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Axes in rows of three, with ``more`` inches beside and above them for a legend."""
    columns, rows = min(number, _PANELS), -(-number // _PANELS)
    size = width * columns + more[0], 2.2 * rows + more[1]
    with subplots(rows, columns, figsize=size, **options) as (figure, axes):
        for ax in axes.flat[number:]:
            ax.remove()
        yield figure, axes.flat[:number]
