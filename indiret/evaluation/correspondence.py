"""Which patch really matches which: exact in Toytown, clicked by hand on real photos.

A Toytown photo tells which surface point each of its cells shows; a point seen at a query patch
is projected into the target, and the patch there is its true match.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indiret.datasets import Geometry

_Array = NDArray[np.float64]
NO_MATCH = -1
HIDDEN = 0.05  # a point this share of its distance behind what the target shows is not visible


def ground_truth_matches(
    query: Geometry,
    target: Geometry,
    query_box: Sequence[float],
    query_grid: Sequence[int],
    target_shape: Sequence[int],
    target_grid: Sequence[int],
) -> NDArray[np.int_]:
    """The target patch that shows the surface point at each query patch's centre.

    The point is that of the geometry cell which holds the centre, 5 pixels off at most. It is
    visible if it falls inside the target picture, the target shows the landmark there, and what it
    shows is not more than 5 % nearer to the camera. The query's (m', n') grid covers ``query_box``,
    x1 y1 x2 y2 pixels; the target's (m, n) grid all of its picture, (H, W) ``target_shape``.

    Returns (m', n', 2): row and column of the match; `NO_MATCH` where there is none.

    Examples
    --------
    A wall seen straight on, by two cameras that differ in a shift of 10 pixels:

    >>> wall = np.stack([*np.meshgrid([5.0, 15, 25], [5.0, 15]), np.ones((2, 3))], axis=-1)
    >>> query = Geometry(wall, np.eye(3, 4))
    >>> target = Geometry(wall - [10, 0, 0], np.array([[1, 0, 10, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))
    >>> ground_truth_matches(query, target, (0, 0, 30, 20), (2, 3), (20, 30), (2, 3))[0].tolist()
    [[0, 1], [0, 2], [-1, -1]]
    """
    (rows, columns), (x1, y1, x2, y2) = _grid(query_grid), query_box
    centre_x = x1 + (np.arange(columns) + 0.5) / columns * (x2 - x1)
    centre_y = y1 + (np.arange(rows) + 0.5) / rows * (y2 - y1)
    places = ground_truth_points(
        query, target, np.stack(np.meshgrid(centre_x, centre_y), axis=-1), target_shape
    )
    visible = np.isfinite(places[..., 0])
    matches = np.full((rows, columns, 2), NO_MATCH)
    matches[visible] = _patch_of(places[visible], target_shape, target_grid)
    return matches


def ground_truth_points(
    query: Geometry, target: Geometry, points: ArrayLike, target_shape: Sequence[int]
) -> NDArray[np.float64]:
    """Where the target shows the surface points that the query shows at (..., 2) pixels x, y.

    NaN where a point is not visible, as `ground_truth_matches` defines it.
    """
    height, width = target_shape[:2]
    seen = _surface_points(query, *np.moveaxis(np.asarray(points, dtype=float), -1, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y, depth = _project(target.camera, seen)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        shown = _surface_points(target, np.where(inside, x, 0), np.where(inside, y, 0))
        behind = depth / _project(target.camera, shown)[2]  # NaN where no landmark is shown
        visible = inside & (behind > 0) & (behind <= 1 + HIDDEN)
    return np.where(visible[..., None], np.stack([x, y], axis=-1), np.nan)


class PatchMatches(NamedTuple):
    """How well claimed patch pairs agree with the truth."""

    accuracy: float  # the share of hits
    chance: float  # that of a random pair of patches
    coverage: float  # the share of query patches that have a true match at all


def patch_match_accuracy(
    matches: Sequence[Sequence[float]],
    truth: NDArray[np.int_],
    target_grid: Sequence[int],
    first: int = 20,
) -> PatchMatches:
    """Share of the strongest patch pairs that show the same surface, within one patch.

    ``matches`` are (i, j, k, l, ...), strongest first, ``truth`` is of `ground_truth_matches`. A
    hit is a pair whose target patch is the query patch's true match or one of its eight neighbours.
    A query patch without a match is a miss, and so is each pair that is lacking when fewer than
    ``first`` are given, unless a grid has no more patches.

    Raises ValueError if a patch is outside its grid or used twice.

    Examples
    --------
    >>> truth = np.array([[[0, 0], [0, 1]], [[5, 1], [-1, -1]]])
    >>> result = patch_match_accuracy([(0, 1, 0, 0), (0, 5, 0, 1)], truth, (6, 6), first=2)
    >>> result.accuracy, result.coverage
    (0.5, 0.75)
    """
    rows, columns = _grid(target_grid)
    if first < 1:
        raise ValueError(f"first={first} is not at least 1.")
    pairs = np.array([match[:4] for match in matches[:first]], dtype=int).reshape(-1, 4)
    limits = rows, columns, *truth.shape[:2]
    if ((pairs < 0) | (pairs >= np.array(limits))).any():
        raise ValueError(f"A matched patch lies outside the grids {limits[:2]} and {limits[2:]}.")
    for side, name in ((pairs[:, :2], "target"), (pairs[:, 2:], "query")):
        if len(np.unique(side, axis=0)) < len(side):
            raise ValueError(f"A {name} patch is matched twice; use each once.")
    distance = _chebyshev(pairs[:, :2], truth[pairs[:, 2], pairs[:, 3]])
    everywhere = np.moveaxis(np.indices((rows, columns)), 0, -1).reshape(-1, 2)
    chance = _chebyshev(everywhere[:, None], truth.reshape(1, -1, 2)) <= 1
    accuracy = (distance <= 1).sum() / min(first, rows * columns, truth[..., 0].size)
    coverage = (truth[..., 0] != NO_MATCH).mean()
    return PatchMatches(float(accuracy), float(chance.mean()), float(coverage))


def strongest_targets(
    pairs: ArrayLike,
    query_points: ArrayLike,
    query_shape: Sequence[int],
    target_shape: Sequence[int],
) -> NDArray[np.float64]:
    """Where the evidence sends points of the query: the centre of the strongest target patch.

    ``pairs`` is M*, (m, n, m', n'), whose grids cover the whole pictures; points are (N, 2) pixels
    x and y. Raises ValueError if one lies outside the query.

    Examples
    --------
    >>> pairs = np.zeros((2, 2, 1, 1))
    >>> pairs[1, 0, 0, 0] = 1
    >>> strongest_targets(pairs, [[3, 3]], (10, 10), (40, 60))
    array([[15., 30.]])
    """
    pairs = np.asarray(pairs, dtype=float)
    points = np.asarray(query_points, dtype=float).reshape(-1, 2)
    if pairs.ndim != 4:
        raise ValueError(f"pairs has shape {pairs.shape}; give (m, n, m', n').")
    height, width = query_shape[:2]
    if ((points < 0) | (points > (width, height))).any():
        raise ValueError(f"A point lies outside the query picture, which is {width} x {height}.")
    rows, columns = pairs.shape[:2]
    at = _patch_of(points, query_shape, pairs.shape[2:])
    best = pairs.reshape(rows * columns, *pairs.shape[2:])[:, at[:, 0], at[:, 1]].argmax(axis=0)
    i, j = np.divmod(best, columns)
    x = (j + 0.5) * target_shape[1] / columns
    y = (i + 0.5) * target_shape[0] / rows
    return np.stack([x, y], axis=-1)


class PointMatches(NamedTuple):
    """How near predicted points come to clicked ones."""

    within_one: float  # the share of points within one patch (Chebyshev)
    within_two: float
    error: float  # the median distance over the target picture's diagonal


def point_match_accuracy(
    predicted: ArrayLike,
    target_points: ArrayLike,
    target_shape: Sequence[int],
    target_grid: Sequence[int],
) -> PointMatches:
    """Compare predicted points (N, 2) of the target with those that somebody clicked.

    NaN where there is no prediction, which is a miss: the error is infinite where fewer than half
    of the points have one. Patches are counted in the (m, n) ``target_grid``.

    Examples
    --------
    >>> point_match_accuracy([[5, 5], [25, 5]], [[5, 5], [5, 5]], (30, 40), (3, 4))
    PointMatches(within_one=0.5, within_two=1.0, error=0.2)
    """
    points, guesses = (
        np.asarray(side, dtype=float).reshape(-1, 2) for side in (target_points, predicted)
    )
    if points.shape != guesses.shape or not len(points):
        raise ValueError(
            f"Give a prediction for each clicked point; got {len(guesses)} for {len(points)}."
        )
    known = np.isfinite(guesses).all(axis=1)
    steps, miss = np.full(len(points), np.inf), np.full(len(points), np.inf)
    rows, columns = _grid(target_grid)
    patch = np.array([target_shape[1] / columns, target_shape[0] / rows])
    cells = np.floor(guesses[known] / patch) - np.floor(points[known] / patch)
    steps[known] = np.abs(cells).max(axis=1)
    miss[known] = np.hypot(*(guesses[known] - points[known]).T)
    error = np.median(miss) / np.hypot(target_shape[0], target_shape[1])
    return PointMatches(float((steps <= 1).mean()), float((steps <= 2).mean()), float(error))


def _grid(grid: Sequence[int]) -> tuple[int, int]:
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid={tuple(grid)} is not two sides of at least 1: (14, 14).")
    return int(grid[0]), int(grid[1])


def _surface_points(geometry: Geometry, x: _Array, y: _Array) -> _Array:
    """Surface points (..., 3) of the cells that hold these pixels."""
    rows, columns = geometry.positions.shape[:2]
    row = np.clip(y // geometry.cell, 0, rows - 1).astype(int)
    column = np.clip(x // geometry.cell, 0, columns - 1).astype(int)
    return geometry.positions[row, column]


def _project(camera: _Array, points: _Array) -> tuple[_Array, ...]:
    """Pixels x and y of surface points (..., 3), and their depth up to the camera's own scale."""
    x, y, depth = np.moveaxis(points @ camera[:, :3].T + camera[:, 3], -1, 0)
    return x / depth, y / depth, depth


def _patch_of(points: _Array, shape: Sequence[int], grid: Sequence[int]) -> NDArray[np.int_]:
    """Row and column (N, 2) of the patches that hold points (N, 2) given as x and y."""
    rows, columns = grid
    row = np.clip(points[:, 1] * rows // shape[0], 0, rows - 1)  # a point on the far edge, too
    column = np.clip(points[:, 0] * columns // shape[1], 0, columns - 1)
    return np.stack([row, column], axis=-1).astype(int)


def _chebyshev(patches: NDArray[np.int_], matches: NDArray[np.int_]) -> _Array:
    """Steps between patches (..., 2), infinite where there is no match."""
    steps = np.abs(patches - matches).max(axis=-1)
    return np.where(matches[..., 0] == NO_MATCH, np.inf, steps)
