"""What ranking a database will cost, from half a minute of measurement on the machine at hand.

Chapter: *Reproducing the tables*.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from indiret.datasets import RetrievalDataset
from indiret.ranking import Method, prepare_query

SECONDS = 30.0  # of measurement
clock = time.monotonic


class Rates(NamedTuple):
    """What the machine at hand needs, in seconds, and what it keeps, in bytes."""

    photo: float  # read and prepare one photo of the database
    pair: float  # score one pair of prepared photos
    kept: int  # of one prepared photo


class Estimate(NamedTuple):
    """Pairs scored, hours of this machine, and bytes of memory beside the program's own (about
    0.5 GB with torch).
    """

    pairs: int
    hours: float
    memory: int

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs, {self.hours:.2f} hours, {self.memory / 1e9:.1f} GB of memory"


def measure_rates(method: Method, dataset: RetrievalDataset, seconds: float = SECONDS) -> Rates:
    """Time a method on photos and pairs of a data set.

    Parameters
    ----------
    method : Method
        A network or a baseline.
    dataset : RetrievalDataset
        With at least one query.
    seconds : float
        About how long; half for photos, half for pairs, at least one of each.

    Returns
    -------
    Rates
        For `estimate`.

    Raises
    ------
    ValueError
        If the data set has no query.

    Examples
    --------
    >>> from indiret.baselines import build_method
    >>> from indiret.datasets import load_dataset
    >>> rates = measure_rates(build_method("thumbnail"), load_dataset("toytown"), seconds=0.2)
    >>> 0 < rates.pair < rates.photo < 1
    True
    """
    if not dataset.queries:
        raise ValueError(f"data set {dataset.name!r} has no query to measure a pair with.")
    names = list(dataset.images)
    spread = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    prepared: list[Any] = [method.prepare(dataset.read(spread[0]))]  # not timed: caches fill
    photo = _time_each(lambda i: prepared.append(method.prepare(dataset.read(spread[i]))),
                       1, len(spread), seconds / 2)  # fmt: skip
    query = prepare_query(method, dataset, dataset.queries[0])
    method.score(query, prepared[:8])
    part = prepared[: 8 * (len(prepared) // 8) or len(prepared)]
    rounds = _time_each(lambda _: method.score(query, part), 0, 10**6, seconds / 2)
    return Rates(photo, rounds / len(part), _bytes(prepared[0]))


def estimate(rates: Rates, photos: int, queries: int, rounds: int = 1) -> Estimate:
    """What ranking will need on the machine where the rates were measured.

    Parameters
    ----------
    rates : Rates
        From `measure_rates`.
    photos, queries : int
        Of the database; each query is ranked against all of it.
    rounds : int
        How often: 2 with feedback, and so on for every seed.

    Returns
    -------
    Estimate
        For one process.

    Examples
    --------
    >>> print(estimate(Rates(photo=0.012, pair=0.004, kept=800_000), photos=5063, queries=55))
    278,465 pairs, 0.33 hours, 4.1 GB of memory
    """
    pairs = photos * queries * rounds
    seconds = (photos + queries) * rates.photo + pairs * rates.pair
    return Estimate(pairs, seconds / 3600, photos * rates.kept)


def _time_each(call: Callable[[int], object], first: int, last: int, seconds: float) -> float:
    """Mean seconds of one call, over as many as fit."""
    began, number = clock(), first
    while number == first or (number < last and clock() - began < seconds):
        call(number)
        number += 1
    return (clock() - began) / (number - first)


def _bytes(prepared: Any) -> int:
    """What a prepared picture holds, in tensors, arrays and numbers."""
    if isinstance(prepared, torch.Tensor | np.ndarray):
        return int(prepared.nbytes)
    if isinstance(prepared, dict):
        return sum(map(_bytes, prepared.values()))
    if isinstance(prepared, list | tuple):
        return sum(map(_bytes, prepared))
    return sys.getsizeof(prepared)
