"""Pictures under evidence, ranked lists (Figures 3 and 4), patches and matched pairs.

All pictures are (H, W, 3) uint8 RGB, as they were compared: the query is cropped to its box.

Chapter: all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from indiret.evaluation import line_pattern, upsample_map
from indiret.evidence import Evidence
from indiret.figures.style import BACKGROUND, GOOD, INK, LINE, show_picture, subplots
from indiret.images import Picture


def shrink_picture(picture: Picture, long_side: int) -> Picture:
    """The picture with at most so many pixels on its long side.

    Examples
    --------
    >>> shrink_picture(np.zeros((100, 200, 3), dtype=np.uint8), 50).shape
    (25, 50, 3)
    """
    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side))
    return np.asarray(image)


def jpeg(picture: Picture) -> bytes:
    """The picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def plain_array(values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """A tensor of any device, or anything that numpy takes, as float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)


def overlay(picture: Picture, evidence_map: ArrayLike | Tensor) -> Picture:
    """Lay an evidence map over a picture: warm where it is strong, a grey photo where it is zero.

    The map, (m, n) ≥ 0 of any scale, is P over the target or Q over the query (Eq. 4).

    Examples
    --------
    >>> overlay(np.full((6, 8, 3), 200, dtype=np.uint8), [[0.0, 1.0], [0.0, 0.0]]).shape
    (6, 8, 3)
    """
    heat = upsample_map(plain_array(evidence_map), picture.shape[:2])
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

    ``captions`` are ranks if left out; ``relevant`` frames a hit green or red. ValueError if there
    is no hit, or not one caption and judgement for each.

    Examples
    --------
    >>> grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    >>> len(ranked_strip(grey, [grey, grey], relevant=[True, False]).axes)
    3
    """
    captions = captions or [f"{rank}" for rank in range(1, len(hits) + 1)]
    relevant = relevant or [None] * len(hits)
    if not hits or len(captions) != len(hits) or len(relevant) != len(hits):
        told = f"{len(hits)} hits, {len(captions)} captions and {len(relevant)} judgements"
        raise ValueError(f"Give one of each, for at least one hit; there are {told}.")
    with _row([query, *hits], width=11, height=4.6, first=1.25) as (figure, axes):
        show_picture(axes[0], query, "query")
        for ax, hit, caption, right in zip(axes[1:], hits, captions, relevant, strict=True):
            show_picture(ax, hit, caption, right)
    return figure


class RankedPicture(NamedTuple):
    """One place of a ranked list: the picture, its evidence map or None, and if it is relevant."""

    picture: Picture
    evidence: ArrayLike | None
    relevant: bool


def ranked_lists(query: Picture, lists: Mapping[str, Sequence[RankedPicture]]) -> Figure:
    """Figures 3 and 4: one query, and the first answers of several methods under their evidence.

    ``lists`` holds as many answers of each method, by its name, best first. ValueError if they
    differ in length, or are empty.

    Examples
    --------
    >>> grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    >>> len(ranked_lists(grey, {"gem": [RankedPicture(grey, np.eye(3), True)] * 2}).axes)
    3
    """
    lengths = {len(listed) for listed in lists.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"Give lists of one length, at least 1; these have {sorted(lengths)}.")
    shares = [1.3, *[1] * lengths.pop()]
    size = 11, 0.5 + 1.5 * len(lists)
    with subplots(len(lists), len(shares), figsize=size, width_ratios=shares) as (figure, axes):
        show_picture(figure.add_subplot(axes[0, 0].get_gridspec()[:, 0]), query, "query")
        for (blank, *row), (name, listed) in zip(axes, lists.items(), strict=True):
            blank.remove()
            for rank, (ax, one) in enumerate(zip(row, listed, strict=True), start=1):
                shown = one.picture if one.evidence is None else overlay(one.picture, one.evidence)
                show_picture(ax, shown, f"{rank}" if rank > 1 else f"{name}   1", one.relevant)
    return figure


def draw_evidence_pairs(
    query: Picture,
    target: Picture,
    evidence: Evidence,
    k: int = 10,
    titles: tuple[str, str] = ("query", "target"),
) -> Figure:
    """The query under its map, the target under its map, and the strongest patch pairs as lines.

    The ``k`` strongest are joined; the stronger, the thicker the line. Below stands what
    `indiret.evaluation.line_pattern` counts of the lines.

    Examples
    --------
    >>> import torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> figure = draw_evidence_pairs(grey, grey, Evidence(1.5, torch.rand(4, 5, 3, 3)))
    >>> [ax.get_title() for ax in figure.axes]
    ['query', 'target']
    """
    matches = evidence.matches(k)
    seen = line_pattern(matches, evidence.pairs.shape, target.shape, query.shape)
    with _row([query, target], width=10, height=4.6) as (figure, axes):
        crossings = f"{seen.crossings} crossing{'' if seen.crossings == 1 else 's'}"
        row = seen.on_plane < min(3, seen.lines)  # all of them, which lies on many planes
        plane = "no three span a plane" if row else f"{seen.on_plane} on one plane"
        figure.supxlabel(f"{seen.lines} lines: {plane}, {crossings}", fontsize="medium")
        show_picture(axes[0], overlay(query, evidence.query_map), titles[0])
        show_picture(axes[1], overlay(target, evidence.target_map), titles[1])
        frames = axes[0].transData, axes[1].transData
        for match in reversed(matches):
            ends = (
                patch_centre(match.k, match.l, evidence.query_map.shape, query.shape),
                patch_centre(match.i, match.j, evidence.target_map.shape, target.shape),
            )
            thick = 1.4 * match.value / matches[0].value
            for colour, width in ((INK, 2.0 + thick), (LINE, 0.6 + thick)):
                line = ConnectionPatch(*ends, *frames, color=colour, linewidth=width)
                figure.add_artist(line).set_in_layout(False)  # or it would move the pictures
            for frame, (x, y) in zip(frames, ends, strict=True):
                dot = Line2D([x], [y], marker="o", color=LINE, mec=INK, ms=4.5, transform=frame)
                figure.add_artist(dot).set_in_layout(False)
    return figure


def patch_mosaic(picture: Picture, patches: ArrayLike) -> Figure:
    """A picture, and its patches put down one by one with a gap between them.

    ``patches`` are (m, n, size · size · 3) in 0 … 1, cut by `indiret.patches.extract_patches`.

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
    apart = np.full((m, n, size + gap, size + gap, 3), to_rgb(BACKGROUND))
    apart[:, :, :size, :size] = cells.reshape(m, n, size, size, 3)
    sheet = (255 * apart.swapaxes(1, 2).reshape(m * (size + gap), n * (size + gap), 3)).astype("u1")
    with _row([picture, sheet], width=9, height=4) as (figure, axes):
        show_picture(axes[0], picture, f"{picture.shape[0]} × {picture.shape[1]} pixels")
        show_picture(axes[1], sheet, f"{m} × {n} patches of {size} × {size} pixels")
    return figure


def patch_windows(picture: Picture, windows: Mapping[str, ArrayLike]) -> Figure:
    """One picture under the windows of several schemes, by title: boxes (N, 4) x1, y1, x2, y2.

    `indiret.patches.patch_boxes` gives such boxes.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> len(patch_windows(grey, {"grid": [[0, 0, 20, 15]], "dense": [[10, 5, 50, 35]]}).axes)
    2
    """
    with _row([picture] * len(windows), width=11, height=4) as (figure, axes):
        for ax, (title, boxes) in zip(axes, windows.items(), strict=True):
            show_picture(ax, picture, title)
            for x1, y1, x2, y2 in np.asarray(boxes, dtype=np.float64) - 0.5:
                size = x2 - x1, y2 - y1
                for edge, colour in ((2.6, INK), (1.2, LINE)):
                    ax.add_patch(Rectangle((x1, y1), *size, fill=False, ec=colour, lw=edge))
    return figure


def patch_responses(
    query: Picture,
    target: Picture,
    maps: Mapping[str, ArrayLike],
    patch: tuple[int, int],
    query_grid: tuple[int, int],
    partner: Sequence[int] | None = None,
) -> Figure:
    """One patch of the query, and how alike it is to each patch of the target.

    ``patch`` is (k, l) on ``query_grid`` (m', n'); ``maps`` by title are slices T[:, :, k, l], warm
    above their median, a ring at the best; ``partner`` (i, j) shows the same and is framed green.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> figure = patch_responses(grey, grey, {"zncc": np.eye(4)}, (0, 0), (3, 3), partner=(1, 1))
    >>> [ax.get_title() for ax in figure.axes]
    ['query patch (0, 0)', 'zncc']
    """
    with _row([query, *[target] * len(maps)], width=10, height=4) as (figure, axes):
        show_picture(axes[0], query, f"query patch ({patch[0]}, {patch[1]})")
        _cell(axes[0], query, patch, query_grid, LINE)
        for ax, (title, values) in zip(axes[1:], maps.items(), strict=True):
            values = np.asarray(values, dtype=np.float64)
            show_picture(ax, overlay(target, (values - np.median(values)).clip(0)), title)
            if partner is not None:
                _cell(ax, target, partner, values.shape, GOOD)
            best = np.unravel_index(values.argmax(), values.shape)
            x, y = patch_centre(int(best[0]), int(best[1]), values.shape, target.shape)
            for colour, edge in ((INK, 4.0), (LINE, 2.0)):
                ax.plot(x, y, "o", mfc="none", mec=colour, mew=edge, ms=13)
    return figure


def evidence_columns(query: Picture, target: Picture, evidences: Mapping[str, Evidence]) -> Figure:
    """One pair under several kinds of evidence, by name: targets above, the query below.

    Examples
    --------
    >>> import torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> two = {name: Evidence(1.5, torch.rand(4, 5, 3, 3)) for name in ("Base", "+HAR")}
    >>> len(evidence_columns(grey, grey, two).axes)
    4
    """
    with subplots(2, len(evidences), figsize=(2.2 * len(evidences), 5.2)) as (figure, axes):
        for column, (name, evidence) in zip(axes.T, evidences.items(), strict=True):
            show_picture(column[0], overlay(target, evidence.target_map), name)
            show_picture(column[1], overlay(query, evidence.query_map), "")
    return figure


def map_strip(picture: Picture, maps: Mapping[str, ArrayLike]) -> Figure:
    """One picture under several maps, (m, n) ≥ 0 by title, side by side.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> len(map_strip(grey, {"mean": np.eye(4), "max": np.ones((4, 4))}).axes)
    2
    """
    with _row([picture] * len(maps), width=11, height=4) as (figure, axes):
        for ax, (title, values) in zip(axes, maps.items(), strict=True):
            show_picture(ax, overlay(picture, values), title)
    return figure


def _cell(
    ax: Axes, picture: Picture, place: Sequence[int], grid: Sequence[int], colour: str
) -> None:
    """Frame one cell of a grid laid over the picture."""
    height, width = picture.shape[0] / grid[0], picture.shape[1] / grid[1]
    corner = place[1] * width - 0.5, place[0] * height - 0.5
    for edge, line in ((INK, 4.0), (colour, 2.2)):
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=edge, linewidth=line))


@contextmanager
def _row(
    pictures: Sequence[Picture], width: float, height: float, first: float = 1.0
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Axes for a row of pictures below a line of titles, within a width and a height in inches."""
    shares = [float(np.clip(one.shape[1] / one.shape[0], 0.4, 2.5)) for one in pictures]
    shares[0] *= first
    inner = min(height - 0.35, width / sum(shares))
    size = inner * sum(shares), inner + 0.35
    with subplots(1, len(shares), figsize=size, width_ratios=shares) as (figure, axes):
        yield figure, axes[0]
