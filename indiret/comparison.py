# SHIM
"""The drawing functions of the comparison, until the figures have them; tables live in the wing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from indiret.experiments.comparison import *  # noqa: F403
from indiret.experiments.comparison import CASCADE, Published
from indiret.figures import BAD, GOOD, INK, STYLE, Picture, overlay


class Listed(NamedTuple):
    """One place of a ranked list: the picture, its evidence map or None, and if it is right."""

    picture: Picture
    evidence: ArrayLike | None
    right: bool


def ranked_lists(query: Picture, lists: Mapping[str, Sequence[Listed]]) -> Figure:
    """Figures 3 and 4: one query, and the first answers of several methods under their evidence.

    Parameters
    ----------
    query
        (H, W, 3) uint8 RGB, cropped to its box.
    lists
        By the method's name: its answers, best first, as many for each. A picture without evidence
        is shown as it is. Right answers are framed green, wrong ones red and crossed.

    Raises
    ------
    ValueError
        If there is no list, or they are of different or no length.

    Examples
    --------
    >>> grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    >>> figure = ranked_lists(grey, {"gem": [Listed(grey, np.eye(3), True)] * 2})
    >>> len(figure.axes)
    3
    """
    lengths = {len(listed) for listed in lists.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"Give lists of one length, at least 1; these have {sorted(lengths)}.")
    columns = lengths.pop()
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure = plt.figure(figsize=(11, 0.5 + 1.5 * len(lists)), layout="constrained")
        grid = figure.add_gridspec(len(lists), columns + 1, width_ratios=[1.3, *[1] * columns])
        _picture(figure.add_subplot(grid[:, 0]), query, "query", None)
        for row, (name, listed) in enumerate(lists.items()):
            for column, (picture, evidence, right) in enumerate(listed):
                ax = figure.add_subplot(grid[row, column + 1])
                shown = picture if evidence is None else overlay(picture, evidence)
                mark = f"{column + 1} {'✓' if right else '✗'}"
                _picture(ax, shown, mark if column else f"{name}   {mark}", right)
        plt.close(figure)
    return figure


def reported_and_measured(
    published: Iterable[Published], measured: Mapping[str, tuple[float, float, float]]
) -> Figure:
    """Figure 5, honestly: what papers report on the left, what was measured here on the right.

    Parameters
    ----------
    published
        Of one data set; grouped by family.
    measured
        (mAP, low, high) by method.

    Raises
    ------
    ValueError
        If the published figures are of several data sets, or of none.

    Examples
    --------
    >>> rows = [row for row in read_published() if row.dataset == "oxford5k"]
    >>> figure = reported_and_measured(rows, {"base": (0.5, 0.4, 0.6)})
    >>> [ax.get_title() for ax in figure.axes]
    ['reported by papers, oxford5k', 'measured here']
    """
    rows = sorted(published, key=lambda row: (row.family, row.mAP))
    datasets = {row.dataset for row in rows}
    if len(datasets) != 1:
        raise ValueError(f"Give the figures of one data set; these are of {sorted(datasets)}.")
    with plt.rc_context(STYLE):
        most = max(len(rows), len(measured))
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, 0.9 + 0.24 * most), layout="constrained", sharex=True
        )
        for family in dict.fromkeys(row.family for row in rows):
            places = [at for at, row in enumerate(rows) if row.family == family]
            left.plot([rows[at].mAP for at in places], places, "D", mfc="none", label=family)
        left.set_yticks(range(len(rows)), [row.method for row in rows])
        left.legend(loc="upper center", bbox_to_anchor=(0.3, -0.08), ncols=2)
        left.set(xlabel="mAP", title=f"reported by papers, {datasets.pop()}")
        values = np.array(list(measured.values()))[::-1]
        right.hlines(range(len(values)), values[:, 1], values[:, 2], color=INK, linewidth=1.4)
        right.plot(values[:, 0], range(len(values)), "o")
        right.set_yticks(range(len(values)), list(measured)[::-1])
        right.set(xlabel="mAP, 95 % interval", title="measured here", xlim=(0, 1))
        plt.close(figure)
    return figure


def _picture(ax: Axes, picture: Picture, title: str, right: bool | None) -> None:
    ax.imshow(picture)
    ax.axis("off")
    ax.set_title(title)
    if right is not None:
        colour = GOOD if right else BAD
        ax.title.set_color(colour)
        height, width = picture.shape[:2]
        corner = -0.5, -0.5
        frame = Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2.5)
        ax.add_patch(frame)


def cascade_curve(path: Path = CASCADE) -> Figure:
    """Quality against cost, for shares of the photos that the vote and the network look at.

    Parameters
    ----------
    path
        As ``python -m tools.ablate_planes`` writes it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> cascade_curve().axes[0].get_xlabel()
    'milliseconds a pair, of all pairs'
    """
    points = json.loads(path.read_text(encoding="utf-8"))["points"]
    names = {
        0.0: "vote alone",
        0.25: "network on a quarter of those",
        0.5: "on half",
        1.0: "on all",
    }
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
        for part, name in names.items():
            line = [one for one in points if np.isclose(one["judged"], part * one["voted"])]
            ax.plot([p["ms"] for p in line], [p["toytown"] for p in line], marker="o", label=name)
        for one in points:
            if one["judged"] == 0:
                at = one["ms"], one["toytown"]
                ax.annotate(f"{one['voted']:.0%}", at, (7, -4), textcoords="offset points")
        ax.set(xlabel="milliseconds a pair, of all pairs", ylabel="mAP")
        ax.legend()
        plt.close(figure)
    return figure
