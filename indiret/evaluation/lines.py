"""What the lines between matched patches look like: parallel or not, crossing, of one plane.

Chapters: *Quick tour*, *Your own photos*.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.float64]


class LinePattern(NamedTuple):
    """What a reader sees of lines between two photos; see `line_pattern`."""

    lines: int
    spread: float  # degrees, standard deviation of the directions: 0 where all are parallel
    crossings: int  # pairs of lines that cross
    on_plane: int  # lines within one patch of the plane that most of them lie on


def line_pattern(
    matches: Sequence[Sequence[float]],
    grid: Sequence[int],
    target_shape: Sequence[int],
    query_shape: Sequence[int],
) -> LinePattern:
    """Describe the lines of matched patches, drawn between photos of one height side by side.

    ``matches`` are whole numbers (i, j, k, l, ...) on a ``grid`` (m, n, m', n'), shapes (H, W, ...)
    are those of the photos. A plane is (i, j) = A (k, l) + t through three of the lines, where A
    does not mirror; two lines are always on one. Takes time as the fourth power of the lines'
    number: 20 need a millisecond. ValueError if the matches are not of four numbers or more.

    Examples
    --------
    >>> shift = [(1, 1, 0, 0), (1, 2, 0, 1), (2, 1, 1, 0), (2, 2, 1, 1)]
    >>> line_pattern(shift, (4, 4, 4, 4), (90, 120), (90, 120))
    LinePattern(lines=4, spread=0.0, crossings=0, on_plane=4)
    >>> line_pattern([(0, 0, 3, 0), (3, 0, 0, 0)], (4, 4, 4, 4), (90, 120), (90, 120))[1:]
    (29.35..., 1, 2)
    """
    if any(len(match) < 4 for match in matches):
        raise ValueError(f"a match is {min(matches, key=len)}; give i, j, k and l of each.")
    pairs = np.array([match[:4] for match in matches], dtype=np.int64).reshape(-1, 4)
    wide, high = (shape[1] / shape[0] for shape in (query_shape, target_shape))
    query = (pairs[:, [3, 2]] + 0.5) / [grid[3], grid[2]] * [wide, 1]  # x and y, the height is 1
    target = (pairs[:, [1, 0]] + 0.5) / [grid[1], grid[0]] * [high, 1] + [wide, 0]
    run, rise = (target - query).T
    spread = float(np.degrees(np.arctan2(rise, run)).std()) if len(pairs) else 0.0
    return LinePattern(len(pairs), spread, _crossings(query, target), _on_plane(pairs))


def map_coverage(evidence: ArrayLike) -> float:
    """Share of a map, (m, n) ≥ 0, that evidence covers: exp(entropy) over the number of patches.

    Examples
    --------
    >>> map_coverage([[1, 1], [0, 0]]), map_coverage([[0, 0]])
    (0.5, 0.0)
    """
    values = np.asarray(evidence, dtype=np.float64).ravel()
    shares = values[values > 0] / max(values.sum(), 1e-300)
    return float(np.exp(-(shares * np.log(shares)).sum()) / values.size) if shares.size else 0.0


def _cross(one: NDArray, other: NDArray) -> NDArray:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def _crossings(query: _Array, target: _Array) -> int:
    """Lines of which each has the ends of the other on both its sides."""
    along = target - query

    def side(points: _Array) -> _Array:
        return np.sign(_cross(along[:, None], points - query[:, None]))

    parted = side(query) * side(target) < 0
    return int((parted & parted.T).sum()) // 2


def _on_plane(pairs: NDArray[np.int64]) -> int:
    """In whole numbers, so that no rounding decides."""
    triples = np.array(list(combinations(range(len(pairs)), 3)), dtype=int).reshape(-1, 3)
    first, second, third = np.moveaxis(pairs[triples], 1, 0)
    ahead, aside = second - first, third - first
    area = _cross(ahead[:, 2:], aside[:, 2:])
    there = _cross(ahead[:, :2], aside[:, :2]) * area > 0
    first, ahead, aside, area = (part[there] for part in (first, ahead, aside, area))
    away = pairs[:, None] - first
    parts = _cross(away[..., 2:], aside[:, 2:]), _cross(ahead[:, 2:], away[..., 2:])
    carried = parts[0][..., None] * ahead[:, :2] + parts[1][..., None] * aside[:, :2]
    near = np.abs(carried - away[..., :2] * area[:, None]).max(-1) <= np.abs(area)
    return int(near.sum(0).max(initial=min(len(pairs), 2)))
