"""Figures 3, 4 and 5 of the paper for any methods: ranked lists, reported and measured mAP.

Chapter: *Baselines*.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from indiret.experiments.comparison import CASCADE, Published
from indiret.figures.pictures import overlay
from indiret.figures.style import INK, STYLE, show_picture, subplots
from indiret.images import Picture

_CASCADES = {0: "vote alone", 0.25: "network on a quarter of those", 0.5: "on half", 1: "on all"}


class RankedPicture(NamedTuple):
    """One place of a ranked list: the picture, its evidence map or None, and if it is relevant."""

    picture: Picture
    evidence: ArrayLike | None
    relevant: bool


def ranked_lists(query: Picture, lists: Mapping[str, Sequence[RankedPicture]]) -> Figure:
    """Figures 3 and 4: one query, and the first answers of several methods under their evidence.

    ``lists`` holds as many answers of each method, by its name, best first. Right ones are framed
    green, wrong ones red and crossed. ValueError if lists differ in length, or are empty.

    Examples
    --------
    >>> grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    >>> len(ranked_lists(grey, {"gem": [RankedPicture(grey, np.eye(3), True)] * 2}).axes)
    3
    """
    lengths = {len(listed) for listed in lists.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"Give lists of one length, at least 1; these have {sorted(lengths)}.")
    columns = lengths.pop()
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure = plt.figure(figsize=(11, 0.5 + 1.5 * len(lists)), layout="constrained")
        grid = figure.add_gridspec(len(lists), columns + 1, width_ratios=[1.3, *[1] * columns])
        show_picture(figure.add_subplot(grid[:, 0]), query, "query")
        for row, (name, listed) in enumerate(lists.items()):
            for column, (picture, evidence, relevant) in enumerate(listed, start=1):
                shown = picture if evidence is None else overlay(picture, evidence)
                rank = f"{column}" if column > 1 else f"{name}   1"
                show_picture(figure.add_subplot(grid[row, column]), shown, rank, relevant)
        plt.close(figure)
    return figure


def reported_and_measured(
    published: Iterable[Published], measured: Mapping[str, tuple[float, float, float]]
) -> Figure:
    """Figure 5, honestly: what papers report on the left, what was measured here on the right.

    The two stand apart, since reported figures come from another database, other training photos,
    and sometimes another way of cutting the query. ``published`` is grouped by family;
    ``measured`` is (mAP, low, high) by method. ValueError if the published figures are not of
    exactly one data set.

    Examples
    --------
    >>> from indiret.experiments.comparison import read_published
    >>> rows = [row for row in read_published() if row.dataset == "oxford5k"]
    >>> figure = reported_and_measured(rows, {"base": (0.5, 0.4, 0.6)})
    >>> [ax.get_title() for ax in figure.axes]
    ['reported by papers, oxford5k', 'measured here']
    """
    rows = sorted(published, key=lambda row: (row.family, row.mAP))
    datasets = {row.dataset for row in rows}
    if len(datasets) != 1:
        raise ValueError(f"Give the figures of one data set; these are of {sorted(datasets)}.")
    size = 11, 0.9 + 0.24 * max(len(rows), len(measured))
    with subplots(1, 2, figsize=size, sharex=True) as (figure, ((left, right),)):
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
    return figure


def cascade_curve() -> Figure:
    """Quality against cost, for shares of the photos that the vote and the network look at.

    What ``python -m tools.ablate_planes`` measured.

    Examples
    --------
    >>> cascade_curve().axes[0].get_xlabel()
    'milliseconds a pair, of all pairs'
    """
    points = json.loads(CASCADE.read_text(encoding="utf-8"))["points"]
    with subplots(figsize=(7, 3.2)) as (figure, ((ax,),)):
        for part, name in _CASCADES.items():
            line = [one for one in points if np.isclose(one["judged"], part * one["voted"])]
            ax.plot([p["ms"] for p in line], [p["toytown"] for p in line], marker="o", label=name)
        for one in points:
            if one["judged"] == 0:
                at = one["ms"], one["toytown"]
                ax.annotate(f"{one['voted']:.0%}", at, (7, -4), textcoords="offset points")
        ax.set(xlabel="milliseconds a pair, of all pairs", ylabel="mAP")
        ax.legend()
    return figure
