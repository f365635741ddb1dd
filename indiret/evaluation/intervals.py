"""How sure a number is: nested bootstrap intervals, a sign-flip test, a calibrated probability.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def nested_bootstrap(
    values: Mapping[tuple[str, str, int], float],
    other: Mapping[tuple[str, str, int], float] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of a mean over queries: landmarks are resampled, queries inside them, and seeds.

    Queries of one landmark succeed and fail together, so resampling queries alone would make the
    interval too narrow. A training seed touches all queries at once, so one draw of seeds serves
    all queries of a resample. The ends are the 2.5 % and 97.5 % points of the resampled means.

    ``values`` go by (landmark, query, seed), every query with every seed. With ``other``, those of
    another method under the same keys, the interval is of the paired difference ``values - other``.

    Examples
    --------
    >>> values = {(name, f"{name}_{i}", 0): x for name, x in zip("abcd", (0.2, 0.4, 0.6, 0.8))
    ...           for i in range(5)}
    >>> interval = nested_bootstrap(values)
    >>> round(interval.mean, 3), interval.low < 0.4, interval.high > 0.6
    (0.5, True, True)
    """
    if not values:
        raise ValueError("There are no values to draw an interval from.")
    if other is not None:
        if values.keys() != other.keys():
            raise ValueError(
                "A paired difference needs the same (landmark, query, seed) keys on both sides; "
                f"{min(values.keys() ^ other.keys())} is on one only."
            )
        values = {key: values[key] - other[key] for key in values}
    queries = sorted({key[:2] for key in values})
    seeds = sorted({key[2] for key in values})
    if len(values) < len(queries) * len(seeds):
        raise ValueError(f"Every query needs a value for each of the seeds {seeds}.")
    table = np.array([[values[(*query, one)] for one in seeds] for query in queries], dtype=float)
    if not np.isfinite(table).all():
        raise ValueError("Some values are not finite; leave those queries out and say so.")
    random = np.random.default_rng(seed)
    drawn_seeds = random.integers(len(seeds), size=(draws, len(seeds), 1))
    by_draw = (drawn_seeds == np.arange(len(seeds))).mean(axis=1) @ table.T  # (draws, queries)
    landmarks, first, count = np.unique(
        [landmark for landmark, _ in queries], return_index=True, return_counts=True
    )
    total, number = np.zeros(draws), np.zeros(draws)
    for landmark in random.integers(len(landmarks), size=(len(landmarks), draws)):
        within = random.random((draws, count.max())) * count[landmark, None]
        chosen = first[landmark, None] + within.astype(int)
        drawn = np.take_along_axis(by_draw, np.minimum(chosen, len(queries) - 1), axis=1)
        used = np.arange(count.max()) < count[landmark, None]
        total += (drawn * used).sum(axis=1)
        number += count[landmark]
    low, high = np.quantile(total / number, (0.025, 0.975))
    return Interval(float(table.mean()), float(low), float(high))


def sign_flip_test(differences: ArrayLike) -> float:
    """How often differences as large as these come about if their signs mean nothing.

    If two methods are equally good, either could have been the better one in each landmark: of all
    2ᴺ ways to sign 1 to 20 differences, the share of those whose mean is at least as far from 0.

    Examples
    --------
    >>> sign_flip_test([0.1, 0.2, 0.3])
    0.25
    """
    values = np.asarray(differences, dtype=float).ravel()
    if not 1 <= values.size <= 20 or not np.isfinite(values).all():
        raise ValueError(f"Give 1 to 20 finite differences; got {values.size}.")
    signs = 1 - 2 * (np.arange(2**values.size)[:, None] >> np.arange(values.size) & 1)
    return float((np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean())


def fit_calibration(
    margins: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """Platt's calibration: a and b with sigmoid(a · margin + b) the probability of relevance.

    Logistic regression of ``labels`` (N,) bool on ``margins`` (N,) by Newton's method, with Platt's
    softened targets (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), so that margins which part the two
    classes perfectly stay finite. With ``weights`` (N,), each pair counts as often as its weight
    says, such as for another share of relevant pairs. Raises ValueError if one class is missing.

    Examples
    --------
    >>> a, b = fit_calibration([-2.0, -1.0, 0.5, 0.0, 1.0, 3.0], [0, 0, 0, 1, 1, 1])
    >>> a > 0, round(-b / a, 2)
    (True, 0.22)
    """
    x, y = np.asarray(margins, dtype=float).ravel(), np.asarray(labels, dtype=bool).ravel()
    if x.shape != y.shape or not np.isfinite(x).all():
        raise ValueError(f"Give one finite margin a label; got {x.size} and {y.size}.")
    counts = np.ones(x.size) if weights is None else np.asarray(weights, dtype=float).ravel()
    if counts.shape != x.shape or not np.isfinite(counts).all() or (counts <= 0).any():
        raise ValueError(f"Give one positive weight a margin; got {counts.size} for {x.size}.")
    relevant = int(y.sum())
    if relevant in (0, y.size):
        raise ValueError("Calibration needs relevant and irrelevant pairs; one kind is missing.")
    soft = np.where(y, (relevant + 1) / (relevant + 2), 1 / (y.size - relevant + 2))
    centre = x.mean()
    scale = x.std() if np.ptp(x) > 1e-12 * np.abs(x).max() else 1.0
    design = np.stack([(x - centre) / scale, np.ones_like(x)], axis=1)
    line = np.zeros(2)
    for _ in range(100):
        probability = np.exp(-np.logaddexp(0, -(design @ line)))  # the sigmoid
        gradient = design.T @ (counts * (probability - soft))
        curvature = (design * (counts * probability * (1 - probability))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        loss = _log_loss(design @ line, soft, counts)
        while _log_loss(design @ (line - step), soft, counts) > loss:
            step = step / 2
        line = line - step
        if np.abs(step).max() < 1e-10:
            break
    slope, offset = line
    return float(slope / scale), float(offset - slope * centre / scale)


def robust_z_score(values: ArrayLike) -> float:
    """How many robust standard deviations the largest value lies above the others' median.

    That deviation is 1.4826 times the others' median absolute deviation, so that a few more large
    values change little. 0 if it is 0, or there are no others.

    Examples
    --------
    >>> round(robust_z_score([1.0, 9.0, 2.0, 3.0, 8.0]), 2)
    4.38
    """
    ranked = np.sort(np.asarray(values, dtype=float).ravel())
    if ranked.size < 2:
        return 0.0
    middle = np.median(ranked[:-1])
    deviation = 1.4826 * np.median(np.abs(ranked[:-1] - middle))
    return float((ranked[-1] - middle) / deviation) if deviation else 0.0


def _log_loss(
    z: NDArray[np.float64], target: NDArray[np.float64], counts: NDArray[np.float64]
) -> float:
    return float(np.sum(counts * (np.logaddexp(0, z) - target * z)))
