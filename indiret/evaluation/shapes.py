"""What shape do the matching patch pairs have in the tensor: a sphere, a Gaussian or a plane?

The paper looks for a hypersphere (Eq. 6). Where the true pairs are known, each shape can be fitted
to them, and how many other entries it takes in as well can be counted.

Chapter: *Hypersphere attention*.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
Distance = Callable[[_Array], _Array]


def fit_ball(points: _Array) -> Distance:
    """How far places (..., 4) are from the mean of the points (N, 4): Eq. 6 with μ = 0."""
    return lambda places: np.linalg.norm(places - points.mean(axis=0), axis=-1)


def fit_sphere(points: _Array) -> Distance:
    """How far places are from the sphere that fits the points best: Eq. 6 with any μ.

    Least squares on ‖x‖² = 2 c·x + (r² − ‖c‖²), which is linear in c and the rest.
    """
    linear = np.hstack([2 * points, np.ones((len(points), 1))])
    *center, rest = np.linalg.lstsq(linear, (points**2).sum(1))[0]
    radius = np.sqrt(max(rest + np.dot(center, center), 0))
    return lambda places: np.abs(np.linalg.norm(places - np.array(center), axis=-1) - radius)


def fit_gaussian(points: _Array) -> Distance:
    """How far places are from the points' mean in their own standard deviations (Mahalanobis)."""
    center, covariance = points.mean(axis=0), np.cov(points.T)
    floor = 1e-6 * max(float(np.trace(covariance)), 1e-12) * np.eye(len(center))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance + floor))
    return lambda places: np.linalg.norm((places - center) @ whitening, axis=-1)


def fit_affine_map(points: _Array) -> Distance:
    """How far (i, j) is from A(k, l) + t, with A and t fitted by least squares."""
    query = np.hstack([points[:, 2:], np.ones((len(points), 1))])
    plane = np.linalg.lstsq(query, points[:, :2])[0]
    return lambda x: np.linalg.norm(x[..., :2] - x[..., 2:] @ plane[:2] - plane[2], axis=-1)


SHAPES: dict[str, Callable[[_Array], Distance]] = {
    "ball": fit_ball,
    "sphere": fit_sphere,
    "gaussian": fit_gaussian,
    "plane": fit_affine_map,
}


def matching_points(matches: NDArray[np.int_]) -> NDArray[np.int_]:
    """(N, 4): i, j, k, l of every true pair, of `indiret.evaluation.ground_truth_matches`."""
    k, l = np.nonzero(matches[..., 0] >= 0)
    return np.column_stack([matches[k, l], k, l])


def shape_precision(
    points: NDArray[np.int_], grid: tuple[int, int, int, int], shape: str, recall: float = 0.9
) -> float:
    """Of the entries that a fitted shape takes in, how many are true pairs.

    The shape, one of ``SHAPES``, is fitted to the true pairs themselves, the best case, and made
    just thick enough to hold the share ``recall`` of them. ``points`` (N, 4) are i, j, k, l of 6
    pairs or more, ``grid`` is (m, n, m', n').

    Examples
    --------
    >>> k_l = np.stack(np.meshgrid(*[np.arange(6)] * 2), axis=-1).reshape(-1, 2)
    >>> points = np.hstack([k_l + 2, k_l])
    >>> [round(shape_precision(points, (10, 10, 6, 6), shape), 2) for shape in SHAPES]
    [..., 1.0]
    """
    of_points, everywhere = _distances(points, grid, shape)
    thickness = np.quantile(of_points, recall) + 1e-9
    return float((of_points <= thickness).sum()) / int((everywhere <= thickness).sum())


def shape_recall(
    points: NDArray[np.int_], grid: tuple[int, int, int, int], shape: str, entries: int
) -> float:
    """The share of the true pairs that a fitted shape holds when it is made of so many entries.

    Where `shape_precision` gives every shape the same recall, this gives every one the same volume.
    """
    of_points, everywhere = _distances(points, grid, shape)
    if not 1 <= entries <= everywhere.size:
        raise ValueError(f"entries={entries} is not from 1 to {everywhere.size}.")
    thickness = np.partition(everywhere, entries - 1, axis=None).flat[entries - 1]
    return float((of_points <= thickness + 1e-9).mean())


def _distances(
    points: NDArray[np.int_], grid: tuple[int, int, int, int], shape: str
) -> tuple[_Array, _Array]:
    """How far the points and all entries are from a shape fitted to the points."""
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} is not known; choose from {', '.join(SHAPES)}.")
    if len(points) < 6:
        raise ValueError(f"{len(points)} true pairs determine no shape; give 6 or more.")
    scale = np.array(grid, dtype=float)
    normal = (2 * points + 1) / scale - 1
    everywhere = (2 * np.moveaxis(np.indices(grid), 0, -1) + 1) / scale - 1
    distance = SHAPES[shape](normal)
    return distance(normal), distance(everywhere)
