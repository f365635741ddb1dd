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
from matplotlib.colors import to_rgb
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
    "axes.prop_cycle": plt.cycler(
        color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
    ),
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


def patch_mosaic(picture: Picture, patches: ArrayLike) -> Figure:
    """A picture, and its patches put down one by one with a gap between them.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    patches
        (m, n, size · size · 3) in 0 … 1, as `indiret.patches.extract_patches` cuts them.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> len(patch_mosaic(grey, np.ones((3, 4, 192))).axes)
    2
    """
    cells = np.asarray(patches, dtype=np.float64)
    m, n, values = cells.shape
    size = round((values / 3) ** 0.5)
    gap = max(1, size // 4)
    apart = np.empty((m, n, size + gap, size + gap, 3))
    apart[:] = to_rgb(PAPER)
    apart[:, :, :size, :size] = cells.reshape(m, n, size, size, 3)
    sheet = (255 * apart.swapaxes(1, 2).reshape(m * (size + gap), n * (size + gap), 3)).astype("u1")
    with plt.rc_context(STYLE):
        widths = [_proportion(picture), _proportion(sheet)]
        figure, axes = plt.subplots(
            1,
            2,
            figsize=_fitted(sum(widths), width=9, height=4),
            width_ratios=widths,
            layout="constrained",
        )
        _show(axes[0], picture, f"{picture.shape[0]} × {picture.shape[1]} pixels")
        _show(axes[1], sheet, f"{m} × {n} patches of {size} × {size} pixels")
        plt.close(figure)
    return figure


def responses(
    query: Picture,
    target: Picture,
    maps: Mapping[str, ArrayLike],
    patch: tuple[int, int],
    query_grid: tuple[int, int],
    partner: Sequence[int] | None = None,
) -> Figure:
    """One patch of the query, and how alike it is to each patch of the target.

    Parameters
    ----------
    query, target
        (H, W, 3) uint8 RGB.
    maps
        (m, n) each, by title: the slices T[:, :, k, l]. What is above a map's median is coloured;
        a ring marks its largest value.
    patch
        (k, l), framed in the query.
    query_grid
        (m', n').
    partner
        (i, j) of the target patch that truly shows the same, framed in green.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> figure = responses(grey, grey, {"zncc": np.eye(4)}, (0, 0), (3, 3), partner=(1, 1))
    >>> [ax.get_title() for ax in figure.axes]
    ['query patch (0, 0)', 'zncc']
    """
    with plt.rc_context(STYLE):
        widths = [_proportion(query), *[_proportion(target)] * len(maps)]
        figure, axes = plt.subplots(
            1,
            len(widths),
            figsize=_fitted(sum(widths), width=10, height=4),
            width_ratios=widths,
            layout="constrained",
        )
        _show(axes[0], query, f"query patch ({patch[0]}, {patch[1]})")
        _cell(axes[0], query, patch, query_grid, LINE)
        for ax, (title, values) in zip(axes[1:], maps.items(), strict=True):
            values = np.asarray(values, dtype=np.float64)
            _show(ax, overlay(target, (values - np.median(values)).clip(0)), title)
            if partner is not None:
                _cell(ax, target, partner, values.shape, GOOD)
            best = np.unravel_index(values.argmax(), values.shape)
            x, y = patch_centre(int(best[0]), int(best[1]), values.shape, target.shape)
            for colour, edge in ((INK, 4.0), (LINE, 2.0)):
                ax.plot(x, y, "o", mfc="none", mec=colour, mew=edge, ms=13)
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


def _show(ax: Axes, picture: Picture, title: str) -> None:
    ax.imshow(picture, aspect="equal")
    ax.set_title(title)
    ax.axis("off")


def _frame(ax: Axes, picture: Picture, colour: str) -> None:
    height, width = picture.shape[:2]
    ax.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=colour, linewidth=3))


def _cell(
    ax: Axes, picture: Picture, place: Sequence[int], grid: Sequence[int], colour: str
) -> None:
    """Frame one cell of a grid laid over the picture."""
    height, width = picture.shape[0] / grid[0], picture.shape[1] / grid[1]
    corner = place[1] * width - 0.5, place[0] * height - 0.5
    for edge, line in ((INK, 4.0), (colour, 2.2)):
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=edge, linewidth=line))


def _fitted(proportion: float, width: float, height: float) -> tuple[float, float]:
    """Size in inches of a row of pictures below a line of titles, within width and height."""
    inner = min(height - 0.35, width / proportion)
    return inner * proportion, inner + 0.35


def _proportion(picture: Picture) -> float:
    return float(np.clip(picture.shape[1] / picture.shape[0], 0.4, 2.5))


def _numpy(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu(), dtype=np.float64)
