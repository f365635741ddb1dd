"""What a run will cost, from half a minute of measurement on the machine at hand.

Chapter: *Reproducing the tables*.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from indiret.datasets import RetrievalDataset
from indiret.networks import NetworkConfig, build_network
from indiret.ranking import Method
from indiret.sampling import VERSIONS, Lessons, PairSampler
from indiret.training import TrainingConfig

SECONDS = 30.0  # of measurement
clock = time.monotonic  # tests on a busy machine measure processor time instead


class Rates(NamedTuple):
    """What the machine at hand needs, in seconds, and what it keeps, in bytes."""

    photo: float  # read and prepare one photo of the database
    pair: float  # score one pair of prepared photos
    kept: int  # of one prepared photo
    step: float = 0.0  # learn from one batch whose views are described


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes
    ----------
    photos, queries : int
        Of the database that is ranked.
    rankings : int
        How often every query is ranked against the whole: a fold's test queries count once in all,
        a second round of feedback once more.
    trainings : int
        Networks that learn, one a fold and seed.
    training_photos : int
        Photos each of them learns from.
    looks : int
        Pairs of a training that are ranked to choose its best step.
    """

    photos: int
    queries: int
    rankings: int = 1
    trainings: int = 0
    training_photos: int = 0
    looks: int = 0


class Estimate(NamedTuple):
    """Pairs scored, hours of this machine, and bytes: of memory, beside the program's own (about
    0.5 GB with torch), and of disk, beside the data set.
    """

    pairs: int
    hours: float
    memory: int
    disk: int

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs, {self.hours:.2f} hours, {self.memory / 1e9:.1f} GB of memory, "
            f"{self.disk / 1e9:.2f} GB of disk"
        )


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
        Without ``step``.

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
    prepare_query = getattr(method, "prepare_query", method.prepare)
    query = prepare_query(dataset.read_query(dataset.queries[0]))
    method.score(query, prepared[:8])
    part = prepared[: 8 * (len(prepared) // 8) or len(prepared)]
    rounds = _time_each(lambda _: method.score(query, part), 0, 10**6, seconds / 2)
    return Rates(photo, rounds / len(part), _bytes(prepared[0]))


def measure_step(
    network: NetworkConfig | str,
    train: RetrievalDataset,
    config: TrainingConfig,
    seconds: float = SECONDS,
) -> float:
    """Time one training step, with pairs made ahead by threads as in `indiret.training.fit`.

    Parameters
    ----------
    network : NetworkConfig or str
        What learns.
    train : RetrievalDataset
        Three of its landmarks are enough.
    config : TrainingConfig
        The recipe.
    seconds : float
        About how long; the first half, in which views are described, does not count.

    Returns
    -------
    float
        Seconds a step.

    Raises
    ------
    ValueError
        As `indiret.sampling.PairSampler`.
    """
    model = build_network(network).train()
    few = train.landmarks[:3]
    queries = tuple(query for query in train.queries if query.landmark in few)
    shown = set().union(*(query.positives | {query.image} for query in queries))
    images = {name: path for name, path in train.images.items() if name in shown}
    lessons = Lessons(PairSampler(replace(train, images=images, queries=queries), model, config))
    optimiser = torch.optim.AdamW(model.parameters())  # which one hardly matters for the time

    def learn(step: int) -> None:
        tensor, labels = lessons(step)
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(tensor), labels).backward()
        optimiser.step()

    warm = 0
    began = clock()
    while not warm or clock() - began < seconds / 2:
        learn(warm)
        warm += 1
    return _time_each(learn, warm, 10**9, seconds / 2)


def estimate(
    rates: Rates, plan: Plan, config: TrainingConfig | None = None, parameters: int = 0
) -> Estimate:
    """What a run will need on the machine where the rates were measured.

    Parameters
    ----------
    rates : Rates
        From `measure_rates`, with ``step`` from `measure_step` where something learns.
    plan : Plan
        What is to be done.
    config : TrainingConfig, optional
        The recipe of its trainings; patience may end them earlier.
    parameters : int
        Of the network, for the disk: its weights, and a checkpoint of four times as much.

    Returns
    -------
    Estimate
        For one process.

    Examples
    --------
    >>> oxford = Plan(photos=5063, queries=55)
    >>> print(estimate(Rates(photo=0.012, pair=0.004, kept=800_000), oxford))
    278,465 pairs, 0.33 hours, 4.1 GB of memory, 0.00 GB of disk
    """
    config = config or TrainingConfig()
    ranked = plan.photos * plan.queries * plan.rankings
    pairs = ranked + plan.trainings * (plan.looks + config.steps * config.batch)
    views = 2 * VERSIONS * plan.training_photos
    drawn = 2 * config.batch * config.steps
    described = views * -math.expm1(-drawn / views) if views else 0  # those drawn at least once
    training = (
        config.steps * rates.step + (described + plan.training_photos) * rates.photo
        + plan.looks * rates.pair
    )  # fmt: skip
    seconds = (plan.photos + plan.queries) * rates.photo + ranked * rates.pair
    seconds += plan.trainings * training
    kept = max(plan.photos, described if plan.trainings else 0) * rates.kept
    disk = plan.trainings * 4 * parameters * 5
    return Estimate(pairs, seconds / 3600, int(kept), disk)


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
