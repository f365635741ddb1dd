"""Numbers as pictures: tables, bars, lines and matrices, in the style of `indiret.figures`.

Every function returns a matplotlib ``Figure`` that is closed for pyplot, as there.

Chapter: all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from indiret.figures.style import BAD, INK, subplots


def heat_table(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    form: str = "z.2f",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A table whose cells are coloured by their number, from white to blue between the limits.

    Without limits each row is coloured from its own least number to its largest.

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


def bars(
    values: Mapping[str, float], label: str, chance: float | None = None, form: str = ".2f"
) -> Figure:
    """Numbers by name as bars, with the number beside each; chance as a dashed line.

    Examples
    --------
    >>> bars({"cosine": 0.1, "zncc": 0.2}, "share of hits", chance=0.05).axes[0].get_xlabel()
    'share of hits'
    """
    size = 7.5, 0.8 + 0.34 * len(values)
    with subplots(style={"axes.grid.axis": "x"}, figsize=size) as (figure, ((ax,),)):
        drawn = ax.barh(list(values), list(values.values()), height=0.7, zorder=2)
        ax.bar_label(drawn, fmt=f"{{:{form}}}", padding=4)
        if chance is not None:
            ax.axvline(
                chance, color=BAD, linestyle="--", label=f"by chance {chance:{form}}", zorder=3
            )
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        ax.set_xlabel(label)
        ax.margins(x=0.12)
        ax.invert_yaxis()
    return figure


def plane_fit(points: ArrayLike, fitted: ArrayLike | None = None) -> Figure:
    """Matching patch pairs (i, j, k, l): i over k, and j over l.

    Parameters
    ----------
    points
        (N, 4) whole numbers; pairs that fall on one place make a larger dot.
    fitted
        (3, 2): the target row and column of a query patch are (k, l, 1) @ fitted. Drawn as a line
        through the points' mean.

    Examples
    --------
    >>> figure = plane_fit([[2, 3, 0, 0], [3, 4, 1, 1]], [[1, 0], [0, 1], [2, 3]])
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['i, target row', 'j, target column']
    """
    pairs = np.asarray(points, dtype=np.float64)
    names = ("i, target row", "k, query row"), ("j, target column", "l, query column")
    with subplots(1, 2, figsize=(8, 3.6)) as (figure, axes):
        for axis, (ax, (up, along)) in enumerate(zip(axes[0], names, strict=True)):
            places, counts = np.unique(pairs[:, [axis + 2, axis]], axis=0, return_counts=True)
            ax.scatter(*places.T, s=12 * counts, alpha=0.75, label="true pairs")
            if fitted is not None:
                query = np.tile([*pairs[:, 2:].mean(0), 1.0], (2, 1))
                query[:, axis] = pairs[:, axis + 2].min(), pairs[:, axis + 2].max()
                line = query @ np.asarray(fitted, dtype=np.float64)
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
            share = np.full(len(values), 1 / len(values))
            ax.hist(
                values, edges.tolist(), weights=share, histtype="stepfilled", alpha=0.55, label=name
            )
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
    low, high = (
        np.quantile(np.concatenate([a.ravel() for a in arrays.values()]), q) for q in (0.02, 0.998)
    )
    size = min(10, 3.6 * len(arrays) + 0.6), 3.7
    with subplots(1, len(arrays), {"axes.grid": False}, figsize=size) as (figure, axes):
        for ax, (title, values) in zip(axes[0], arrays.items(), strict=True):
            drawn = ax.imshow(values, cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
            ax.set_title(title)
            ax.axis("off")
        figure.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    return figure


def interval_rows(
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
    >>> interval_rows({"Base": (0.5, 0.4, 0.6)}, "mAP").axes[0].get_xlabel()
    'mAP'
    """
    names, values = list(rows), np.array(list(rows.values()))
    height = np.arange(len(rows))[::-1]
    with subplots(figsize=(8, 0.8 + 0.27 * len(rows))) as (figure, ((ax,),)):
        ax.hlines(height, values[:, 1], values[:, 2], color=INK, linewidth=1.4)
        ax.plot(values[:, 0], height, "o", markersize=6)
        if zero:
            ax.axvline(0, color=BAD, linewidth=1, linestyle="--")
        ax.set_yticks(height, names)
        ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    return figure


def trajectories(runs: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> Figure:
    """What was logged, value by value, over the steps of several runs.

    Parameters
    ----------
    runs
        Logs as `indiret.training.fit` returns them, by name; a row need not have every value.
    names
        Which entries of their rows, one panel each.

    Examples
    --------
    >>> log = [{"step": 10, "loss": 0.7}, {"step": 20, "loss": 0.5, "validation_map": 0.3}]
    >>> [ax.get_title() for ax in trajectories({"har": log}, ["loss", "validation_map"]).axes]
    ['loss', 'validation_map']
    """
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    size = 3.5 * columns + 1.5 * (len(runs) > 1), 2.5 * rows
    with subplots(rows, columns, figsize=size) as (figure, axes):
        for ax, name in zip(axes.flat, names, strict=False):
            for run, log in runs.items():
                known = [row for row in log if name in row]
                marker = "." if len(known) < 20 else None  # a value or two is no line
                steps, values = ([row[key] for row in known] for key in ("step", name))
                ax.plot(steps, values, label=run, marker=marker)
            ax.set(title=name, xlabel="step")
        for ax in axes.flat[len(names) :]:
            ax.remove()
        if len(runs) > 1:
            figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def curves(
    panels: Mapping[str, Mapping[str, ArrayLike]],
    places: Mapping[str, Sequence[float]],
    labels: Mapping[str, str],
    height: str,
) -> Figure:
    """Lines with their intervals as bands, a panel for each thing that is varied.

    Parameters
    ----------
    panels
        By panel and line: (N, 3), mean, low and high at each place.
    places, labels
        By panel: the N places along its axis, and what they are.
    height
        What the lines show, from 0 to 1.

    Examples
    --------
    >>> line = {"planes": [(1.0, 1.0, 1.0), (0.5, 0.3, 0.7)]}
    >>> figure = curves({"scale": line}, {"scale": [1, 2]}, {"scale": "times smaller"}, "found")
    >>> figure.axes[0].get_xlabel()
    'times smaller'
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = 3.1 * columns, 2.5 * rows + 0.4
    with subplots(rows, columns, figsize=size, sharey=True) as (figure, axes):
        for ax, (panel, lines) in zip(axes.flat, panels.items(), strict=False):
            for name, points in lines.items():
                mean, low, high = np.asarray(points, dtype=np.float64).T
                ax.plot(places[panel], mean, marker="o", markersize=4, label=name)
                ax.fill_between(places[panel], low, high, alpha=0.13)
            ax.set(title=panel, xlabel=labels[panel], ylim=(-0.03, 1.05))
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel(height)
        names = axes[0, 0].get_legend_handles_labels()
        figure.legend(*names, loc="outside upper center", ncols=len(names[1]))
    return figure
