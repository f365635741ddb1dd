"""Pictures for chapters and reports, in one style that reads on light and dark pages.

Every function returns a matplotlib ``Figure`` that is closed for pyplot: as the last line of a
notebook cell it is shown once, and nothing is left open.

Chapter: all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import ArrayLike, NDArray

from indiret.evaluation import upsample_map
from indiret.evidence import Evidence

Picture = NDArray[np.uint8]

INK = "#22252b"
PAPER = "#fbfaf7"  # figures bring their own ground, so they need no second, dark version
GOOD, BAD, LINE = "#1b8a5a", "#b3402e", "#ffb000"
STYLE: Any = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 110,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dcd8cf",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # Okabe and Ito's colours, told apart by colour-blind readers too.
    "axes.prop_cycle": plt.cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"]),
}


def overlay(picture: Picture, evidence_map: ArrayLike) -> Picture:
    """Lay an evidence map over a picture: warm where it is strong, a grey photo where it is zero.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    evidence_map
        (m, n) ≥ 0, of any scale: P over the target or Q over the query (Eq. 4). It is upsampled
        to the picture and divided by its maximum.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.

    Examples
    --------
    >>> overlay(np.full((6, 8, 3), 200, dtype=np.uint8), [[0.0, 1.0], [0.0, 0.0]]).shape
    (6, 8, 3)
    """
    heat = upsample_map(np.asarray(evidence_map, dtype=np.float64), picture.shape[:2])
    heat = np.clip(heat / max(float(heat.max()), 1e-12), 0, 1)
    grey = picture.mean(axis=2, keepdims=True)
    ground = 0.35 * picture + 0.5 * grey + 20
    colour = 255 * colormaps["inferno"](0.25 + 0.65 * heat)[..., :3]
    opacity = 0.75 * heat[..., None] ** 0.75
    return np.clip((1 - opacity) * ground + opacity * colour, 0, 255).astype(np.uint8)


def patch_centre(
    row: int, column: int, grid: Sequence[int], size: Sequence[float]
) -> tuple[float, float]:
    """Centre (x, y), in pixels, of a grid's cell laid over a picture of ``size`` (H, W).

    Examples
    --------
    >>> patch_centre(0, 3, grid=(2, 4), size=(100, 200))
    (175.0, 25.0)
    """
    return (column + 0.5) * size[1] / grid[1], (row + 0.5) * size[0] / grid[0]


def ranked_strip(
    query: Picture,
    hits: Sequence[Picture],
    captions: Sequence[str] | None = None,
    relevant: Sequence[bool | None] | None = None,
) -> Figure:
    """A query and, to its right, its ranked list, best first.

    Parameters
    ----------
    query
        (H, W, 3) uint8 RGB, as it was searched for (cropped to its box).
    hits
        The pictures found, best first, of any sizes.
    captions
        A line under each hit, such as its score; its rank if left out.
    relevant
        Whether each hit is right: framed green and ticked, or red and crossed (None: no frame).

    Raises
    ------
    ValueError
        If there is no hit, or captions or judgements are not one for each.

    Examples
    --------
    >>> grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    >>> len(ranked_strip(grey, [grey, grey], relevant=[True, False]).axes)
    3
    """
    captions = captions or [f"{rank}" for rank in range(1, len(hits) + 1)]
    relevant = relevant or [None] * len(hits)
    if not hits or len(captions) != len(hits) or len(relevant) != len(hits):
        raise ValueError(
            f"there are {len(hits)} hits, {len(captions)} captions and {len(relevant)} judgements; "
            "give at least one hit, and one of each for it."
        )
    with plt.rc_context(STYLE):
        widths = [1.25 * _proportion(query), *(_proportion(hit) for hit in hits)]
        figure, axes = plt.subplots(
            1,
            len(widths),
            figsize=_fitted(sum(widths), width=11, height=4.6),
            width_ratios=widths,
            squeeze=False,
            layout="constrained",
        )
        _show(axes[0, 0], query, "query")
        for ax, hit, caption, right in zip(axes[0, 1:], hits, captions, relevant, strict=True):
            mark = {True: " ✓", False: " ✗", None: ""}[right]
            _show(ax, hit, caption + mark)
            if right is not None:
                ax.title.set_color(GOOD if right else BAD)
                _frame(ax, hit, GOOD if right else BAD)
        plt.close(figure)
    return figure


def evidence_pairs(
    query: Picture,
    target: Picture,
    evidence: Evidence,
    k: int = 10,
    titles: tuple[str, str] = ("query", "target"),
) -> Figure:
    """The query under its map, the target under its map, and the strongest patch pairs as lines.

    Parameters
    ----------
    query, target
        (H, W, 3) uint8 RGB, as they were compared (the query cropped to its box).
    evidence
        From `indiret.evidence.explain`; its patches lie on a regular grid over the pictures.
    k
        How many of ``evidence.matches`` are joined; the stronger, the thicker the line.
    titles
        Above the query and above the target.

    Examples
    --------
    >>> import torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> figure = evidence_pairs(grey, grey, Evidence(1.5, torch.rand(4, 5, 3, 3)))
    >>> [ax.get_title() for ax in figure.axes]
    ['query', 'target']
    """
    matches = evidence.matches(k)
    with plt.rc_context(STYLE):
        widths = [_proportion(query), _proportion(target)]
        figure, axes = plt.subplots(
            1,
            2,
            figsize=_fitted(sum(widths), width=10, height=4.6),
            width_ratios=widths,
            layout="constrained",
        )
        _show(axes[0], overlay(query, _numpy(evidence.query_map)), titles[0])
        _show(axes[1], overlay(target, _numpy(evidence.target_map)), titles[1])
        query_grid, target_grid = evidence.query_map.shape, evidence.target_map.shape
        lines, dots = [], []
        for match in reversed(matches):
            ends = (
                patch_centre(match.k, match.l, query_grid, query.shape),
                patch_centre(match.i, match.j, target_grid, target.shape),
            )
            strength = match.value / matches[0].value
            lines += [
                ConnectionPatch(
                    *ends,
                    coordsA=axes[0].transData,
                    coordsB=axes[1].transData,
                    color=colour,
                    linewidth=width + 1.4 * strength,
                )
                for colour, width in ((INK, 2.0), (LINE, 0.6))
            ]
            dots += [
                Line2D([x], [y], marker="o", color=LINE, mec=INK, ms=4.5, transform=ax.transData)
                for ax, (x, y) in zip(axes, ends, strict=True)
            ]
        for artist in (*lines, *dots):  # dots on top, and neither moves the pictures
            artist.set_in_layout(False)
            figure.add_artist(artist)
        plt.close(figure)
    return figure


def training_curves(log: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, and mAP on validation, over the steps of a training run.

    Parameters
    ----------
    log
        Rows as `indiret.training.fit` returns them, each with ``step`` and ``loss``; rows where
        the validation was measured have ``validation_map``.

    Raises
    ------
    ValueError
        If the log has no row.

    Examples
    --------
    >>> log = [{"step": 10, "loss": 0.7}, {"step": 20, "loss": 0.5, "validation_map": 0.3}]
    >>> [ax.get_ylabel() for ax in training_curves(log).axes]
    ['loss', 'validation mAP']
    """
    if not log:
        raise ValueError("the log has no row to plot; train for at least one logged step.")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
        for ax, key, label in zip(
            axes, ("loss", "validation_map"), ("loss", "validation mAP"), strict=True
        ):
            rows = [row for row in log if key in row]
            ax.plot([row["step"] for row in rows], [row[key] for row in rows], marker=".")
            ax.set(xlabel="step", ylabel=label)
            ax.set_ylim(bottom=0)
        plt.close(figure)
    return figure


def evidence_columns(query: Picture, target: Picture, evidences: Mapping[str, Evidence]) -> Figure:
    """One pair under the maps of several kinds of evidence: targets above, the query below.

    Parameters
    ----------
    query, target
        (H, W, 3) uint8 RGB, as they were compared.
    evidences
        By the name over their column.

    Examples
    --------
    >>> import torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> two = {name: Evidence(1.5, torch.rand(4, 5, 3, 3)) for name in ("Base", "+HAR")}
    >>> len(evidence_columns(grey, grey, two).axes)
    4
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(evidences), figsize=(11, 5.2), squeeze=False, layout="constrained"
        )
        for column, (name, evidence) in zip(axes.T, evidences.items(), strict=True):
            _show(column[0], overlay(target, _numpy(evidence.target_map)), name)
            _show(column[1], overlay(query, _numpy(evidence.query_map)), "")
        plt.close(figure)
    return figure


def map_strip(picture: Picture, maps: Mapping[str, ArrayLike]) -> Figure:
    """One picture under several maps, side by side.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    maps
        (m, n) ≥ 0 by title.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> len(map_strip(grey, {"mean": np.eye(4), "max": np.ones((4, 4))}).axes)
    2
    """
    with plt.rc_context(STYLE):
        proportion = len(maps) * _proportion(picture)
        figure, axes = plt.subplots(
            1,
            len(maps),
            figsize=_fitted(proportion, width=11, height=4.0),
            squeeze=False,
            layout="constrained",
        )
        for ax, (title, values) in zip(axes[0], maps.items(), strict=True):
            _show(ax, overlay(picture, np.asarray(values, dtype=np.float64)), title)
        plt.close(figure)
    return figure


def slices(tensors: Mapping[str, ArrayLike], limits: tuple[float, float] = (0, 1)) -> Figure:
    """The slice (i, k) through the middle of some (m, n, m', n') tensors: target down, query along.

    Parameters
    ----------
    tensors
        By title; of any values.
    limits
        The values at the ends of the colour scale.

    Examples
    --------
    >>> len(slices({"ball": np.ones((5, 5, 5, 5)), "shell": np.zeros((5, 5, 5, 5))}).axes)
    3
    """
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(tensors), figsize=(11, 2.9), squeeze=False, layout="constrained"
        )
        for ax, (title, tensor) in zip(axes[0], tensors.items(), strict=True):
            values = np.asarray(tensor, dtype=np.float64)
            _, n, _, columns = values.shape
            shown = values[:, n // 2, :, columns // 2]
            image = ax.imshow(shown, vmin=limits[0], vmax=limits[1], cmap="viridis")
            ax.set(title=title, xlabel="query row k", ylabel="target row i")
        figure.colorbar(image, ax=axes[0].tolist(), shrink=0.85)
        plt.close(figure)
    return figure


def true_pairs(points: ArrayLike, grid: Sequence[int]) -> Figure:
    """Where true pairs lie: target rows over query rows, and target columns over query columns.

    Parameters
    ----------
    points
        (N, 4) i, j, k, l, from `indiret.shapes.matching_points`.
    grid
        (m, n, m', n'): the axes' limits.

    Examples
    --------
    >>> [ax.get_xlabel() for ax in true_pairs([[0, 1, 2, 3]], (14, 14, 10, 10)).axes]
    ['query row k', 'query column l']
    """
    i, j, k, l = np.asarray(points).T
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for ax, target, query, name, height, width in (
            (axes[0], i, k, "row", grid[0], grid[2]),
            (axes[1], j, l, "column", grid[1], grid[3]),
        ):
            ax.scatter(query, target, s=26, alpha=0.4, linewidths=0)
            letters = ("k", "i") if name == "row" else ("l", "j")
            ax.set(xlabel=f"query {name} {letters[0]}", ylabel=f"target {name} {letters[1]}")
            ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        plt.close(figure)
    return figure


def intervals(
    rows: Mapping[str, tuple[float, float, float]], label: str, zero: bool = False
) -> Figure:
    """Means and their intervals, one a row, first on top.

    Parameters
    ----------
    rows
        (mean, low, high) by the name to the left of it.
    label
        Of the axis below, with its unit.
    zero
        Whether to draw a line at zero, for differences.

    Examples
    --------
    >>> intervals({"Base": (0.5, 0.4, 0.6)}, "mAP").axes[0].get_xlabel()
    'mAP'
    """
    names, values = list(rows), np.array(list(rows.values()))
    height = np.arange(len(rows))[::-1]
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 0.8 + 0.27 * len(rows)), layout="constrained")
        ax.hlines(height, values[:, 1], values[:, 2], color=INK, linewidth=1.4)
        ax.plot(values[:, 0], height, "o", markersize=6)
        if zero:
            ax.axvline(0, color=BAD, linewidth=1, linestyle="--")
        ax.set_yticks(height, names)
        ax.set_xlabel(label)
        plt.close(figure)
    return figure


def bars(groups: Mapping[str, Sequence[float]], names: Sequence[str], label: str) -> Figure:
    """Values side by side: a cluster of bars for each name, a colour for each group.

    Examples
    --------
    >>> len(bars({"one": [0.2, 0.4], "other": [0.3, 0.1]}, ["a", "b"], "AUC").axes[0].patches)
    4
    """
    width = 0.8 / len(groups)
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
        for number, (group, values) in enumerate(groups.items()):
            ax.bar(np.arange(len(names)) + number * width, values, 0.9 * width, label=group)
        ax.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
        if len(groups) > 1:
            ax.legend()
        plt.close(figure)
    return figure


def trajectories(
    runs: Mapping[str, Sequence[Mapping[str, float]]], readings: Sequence[str]
) -> Figure:
    """What was learnt, reading by reading, over the steps of several runs.

    Parameters
    ----------
    runs
        Logs as `indiret.training.fit` returns them, by name.
    readings
        Which entries of their rows, one panel each.

    Examples
    --------
    >>> log = [{"step": 1, "mu": 0.0}, {"step": 2, "mu": 0.1}]
    >>> [ax.get_title() for ax in trajectories({"har": log}, ["mu"]).axes]
    ['mu']
    """
    with plt.rc_context(STYLE):
        columns = min(len(readings), 3)
        figure, axes = plt.subplots(
            -(-len(readings) // columns),
            columns,
            figsize=(3.5 * columns, 2.5 * -(-len(readings) // columns)),
            squeeze=False,
            layout="constrained",
        )
        for ax, reading in zip(axes.flat, readings, strict=False):
            for name, log in runs.items():
                ax.plot([row["step"] for row in log], [row[reading] for row in log], label=name)
            ax.set(title=reading, xlabel="step")
        for ax in axes.flat[len(readings) :]:
            ax.remove()
        if len(runs) > 1:
            axes[0, 0].legend()
        plt.close(figure)
    return figure


def _show(ax: Axes, picture: Picture, title: str) -> None:
    ax.imshow(picture, aspect="equal")
    ax.set_title(title)
    ax.axis("off")


def _frame(ax: Axes, picture: Picture, colour: str) -> None:
    height, width = picture.shape[:2]
    ax.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=colour, linewidth=3))


def _fitted(proportion: float, width: float, height: float) -> tuple[float, float]:
    """Size in inches of a row of pictures below a line of titles, within width and height."""
    inner = min(height - 0.35, width / proportion)
    return inner * proportion, inner + 0.35


def _proportion(picture: Picture) -> float:
    return float(np.clip(picture.shape[1] / picture.shape[0], 0.4, 2.5))


def _numpy(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu(), dtype=np.float64)
