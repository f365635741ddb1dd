"""What a ranking or a grid of runs will cost, from half a minute of measurement on this machine.

Seconds are measured on a few photos and batches, everything else is counted. Of a grid it is the
processor's seconds, threads included, that are measured, so that neither what else the machine does
nor how far one run's threads overlap falsifies them.

Chapter: *Reproducing the tables*.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from indiret.datasets import RetrievalDataset
from indiret.evaluation import training_data
from indiret.experiments.evaluate import find_method
from indiret.experiments.evidence_protocol import evidence_pairs
from indiret.experiments.reproduction import (
    EXPLAINED,
    JUDGED_AGAIN,
    TRAINED,
    Asked,
    RunConfig,
    validation_data,
)
from indiret.networks import build_network
from indiret.ranking import Method, NetworkMethod, prepare_query
from indiret.sampling import VERSIONS, Lessons, PairSampler
from indiret.training import batch_loss, build_optimiser, fitted_state, take_step

SECONDS = 30.0  # of measurement
STORED = Path(__file__).parents[1] / "data" / "forecast.json"  # from benchmarks/forecast.py
PROGRAM = 5 * 10**8  # bytes of a process with torch
NOTEBOOK = 10**5  # bytes of an executed notebook with its results, roughly
KERNEL = 25 * 10**7  # bytes of memory of a notebook's kernel, beside the process that waits for it
BLOCK = 256  # photos that a run ranks at a time
clock = time.monotonic
busy = time.process_time


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
        return f"{self.pairs:,} pairs, {in_words(self.hours)}, {self.memory / 1e9:.1f} GB of memory"


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
    278,465 pairs, 20 min, 4.1 GB of memory
    """
    pairs = photos * queries * rounds
    seconds = (photos + queries) * rates.photo + pairs * rates.pair
    return Estimate(pairs, seconds / 3600, photos * rates.kept)


class RunRates(NamedTuple):
    """What the parts of a run need, in processor seconds, and what they keep, in bytes."""

    photo: float  # read and prepare one photo of the database
    pair: float  # score one pair
    read: float = 0.0  # one photo to learn from
    target: float = 0.0  # prepare one version of it, as a target
    query: float = 0.0  # or as a query
    step: float = 0.0  # make a batch of such versions into tensors, and learn from it
    explained: float = 0.0  # measure the evidence of one pair
    kept: int = 0  # of one prepared photo
    pixels: int = 0  # of one photo to learn from
    weights: int = 0  # of the network


class RunEstimate(NamedTuple):
    """Pairs learnt from, looked at and scored; processor seconds; bytes of memory and of disk."""

    pairs: int
    seconds: float
    memory: int
    disk: int


class GridEstimate(NamedTuple):
    """The same of a grid of runs, with the hours that so many processes take on this machine."""

    runs: int
    pairs: int
    hours: float
    processor_hours: float
    memory: int
    disk: int
    processes: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.pairs:,} pairs, {in_words(self.hours)} with {self.processes} "
            f"at once, {self.memory / 1e9:.1f} GB of memory, {self.disk / 1e9:.2f} GB of disk"
        )


def measure_run_rates(
    config: RunConfig, dataset: RetrievalDataset, seconds: float = SECONDS
) -> RunRates:
    """Time the parts of a run on some photos, batches and pairs.

    Parameters
    ----------
    config
        Of the run.
    dataset
        Its data set.
    seconds
        About how long; a fifth for each part, at least one of each.

    Returns
    -------
    RunRates
        For `estimate_run`.
    """
    share, fold = seconds / 5, config.part(dataset)
    if config.method != TRAINED:
        rates = measure_rates(find_method(config.method), dataset, seconds)
        return RunRates(rates.photo, rates.pair, kept=rates.kept)
    train = _few_landmarks(training_data(dataset, fold, config.by))
    network = build_network(config.shape).to(config.device)
    network.set_metric_state(fitted_state(config.shape, train))
    began = busy()
    sampler = PairSampler(train, network, config.recipe)
    read = (busy() - began) / len(sampler.pictures)
    names = list(sampler.pictures)
    views = [(name, version) for version in range(VERSIONS) for name in names]
    shown = [(name, v) for name, v in views if name in sampler.boxes]
    sampler._view(*views[0])  # not timed: caches fill
    target = _time_each(lambda i: sampler._view(*views[i]), 1, len(views), share / 2, busy)
    query = _time_each(lambda i: sampler._view(*shown[i], True), 0, len(shown), share / 2, busy)
    lessons, steps = Lessons(sampler, keep=1), list[float]()
    network.train()
    optimiser = build_optimiser(network, config.recipe)
    loss = batch_loss(network, lessons.make)
    since = clock()
    while len(steps) < 5 or clock() - since < 2 * share:
        sampler.batch(len(steps))  # not timed: its photos are described
        began = busy()
        take_step(network, optimiser, loss, len(steps), config.recipe)
        steps.append(busy() - began)
    method = NetworkMethod(network)
    pictures = list(dataset.images)[:: max(1, len(dataset.images) // 64)]
    prepared = [method.prepare(dataset.read(pictures[0]))]
    photo = _time_each(
        lambda i: prepared.append(method.prepare(dataset.read(pictures[i]))),
        0, len(pictures), share / 2, busy,
    )  # fmt: skip
    asked = prepare_query(method, dataset, fold.test[0])
    part = prepared[: 8 * (len(prepared) // 8) or len(prepared)]
    pair = _time_each(lambda _: method.score(asked, part), 0, 10**6, share / 2, busy) / len(part)
    pairs = list(evidence_pairs(replace(dataset, queries=fold.test)))[:EXPLAINED]
    explained = 0.0
    if pairs:
        one = Asked(
            method, dataset, pairs[0].query, [p for p in pairs if p.query == pairs[0].query]
        )
        explained = _time_each(lambda _: one.evidence(), 0, 10**6, share, busy) / len(one.pairs)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    pixels = max(picture.nbytes for picture in sampler.pictures.values())
    kept = _bytes(prepared[0])
    middle = median(steps[2:])  # the first ones fill caches
    return RunRates(
        photo, pair, read, target, query, middle, explained, kept, pixels, weights
    )  # fmt: skip


def estimate_run(rates: RunRates, config: RunConfig, dataset: RetrievalDataset) -> RunEstimate:
    """What one run needs, if its training does not stop early."""
    fold, photos = config.part(dataset), len(dataset.images)
    test = len(fold.test)
    pairs, seconds = test * photos, (photos + test) * rates.photo + test * photos * rates.pair
    if config.method != TRAINED:
        return RunEstimate(pairs, seconds, PROGRAM + min(photos, BLOCK) * rates.kept, NOTEBOOK)
    train, recipe = training_data(dataset, fold, config.by), config.recipe
    answers = {name for query in dataset.queries for name in query.positives | query.junk}
    shown = len({name for query in train.queries for name in query.positives | {query.image}})
    others = len(set(train.images) - answers)
    drawn, far = recipe.steps * recipe.batch, recipe.distractors * bool(others)
    strange = drawn * (1 - recipe.positives) * far
    targets = distinct(VERSIONS * shown, drawn - strange) + distinct(VERSIONS * others, strange)
    queries = distinct(VERSIONS * shown, drawn)
    seconds += (shown + others) * rates.read + recipe.steps * rates.step
    seconds += targets * rates.target + queries * rates.query
    look = validation_data(config, dataset, fold)
    looks = -(-recipe.steps // recipe.validate_every) + 1  # one more calibrates
    seen = looks * len(look.images) * min(recipe.validation_queries, len(look.queries))
    seconds += len(look.images) * rates.photo + seen * rates.pair
    explained = sum(min(EXPLAINED, len(query.positives) - 1) for query in fold.test)
    again = test * min(JUDGED_AGAIN, photos) * len(config.feedback)
    described = test * (min(JUDGED_AGAIN, photos) if config.feedback else 0) + explained
    seconds += explained * (1 + len(config.feedback)) * rates.explained
    seconds += described * rates.photo + again * rates.pair
    memory = PROGRAM + (shown + others) * rates.pixels
    memory += round((targets + len(look.images) + min(photos, BLOCK)) * rates.kept)
    return RunEstimate(
        round(drawn + seen + pairs + again), seconds, memory, NOTEBOOK + 5 * rates.weights
    )


def estimate_grid(
    configs: Sequence[RunConfig],
    processes: int = 1,
    seconds: float = SECONDS,
    notebooks: bool = True,
) -> GridEstimate:
    """What a grid needs on this machine.

    Parameters
    ----------
    configs
        From `indiret.experiments.runner.read_grid`.
    processes
        That share the runs; more than there are processors do not make it faster.
    seconds
        Of measurement, shared by all kinds of runs.
    notebooks
        Whether each run executes its notebook.

    Returns
    -------
    GridEstimate
        Hours are the processor's, shared evenly; a single process whose threads find a processor
        idle is quicker.
    """
    data: dict[tuple[str, str], RetrievalDataset] = {}
    kinds: dict[RunConfig, RunRates] = {}
    alike = {config: replace(config, fold=0, seed=0, by="query", steps=0) for config in configs}
    each = seconds / max(1, len(set(alike.values())))
    total, start = list[RunEstimate](), _start_seconds()
    for config in configs:
        where = config.dataset, config.root
        if where not in data:
            data[where] = config.load()
        kind = alike[config]
        if kind not in kinds:
            kinds[kind] = measure_run_rates(config, data[where], each)
        total.append(estimate_run(kinds[kind], config, data[where]))
    workers = min(processes, len(configs))
    spent = sum(one.seconds for one in total) + start * (workers + notebooks * len(configs))
    return GridEstimate(
        runs=len(configs),
        pairs=sum(one.pairs for one in total),
        hours=spent / min(workers, os.cpu_count() or 1) / 3600,
        processor_hours=spent / 3600,
        memory=workers * (max(one.memory for one in total) + notebooks * KERNEL),
        disk=sum(one.disk for one in total),
        processes=workers,
    )


def in_words(hours: float) -> str:
    """Hours in the unit in which a person would say them.

    Examples
    --------
    >>> in_words(0.005), in_words(0.4), in_words(7.25), in_words(100)
    ('18 s', '24 min', '7.2 h', '4.2 days')
    """
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def distinct(kinds: int, draws: float) -> float:
    """How many different ones to expect in so many draws from so many.

    Examples
    --------
    >>> round(distinct(6, 6), 2), distinct(0, 5)
    (3.99, 0.0)
    """
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds else 0.0


def _few_landmarks(train: RetrievalDataset) -> RetrievalDataset:
    """A part of the training data that is read within seconds whatever the whole is."""
    names = train.landmarks[:3]
    queries = tuple(query for query in train.queries if query.landmark in names)
    shown = {n for query in queries for n in sorted(query.positives)[:8]} | {
        query.image for query in queries
    }
    answers = {n for query in train.queries for n in query.positives | query.junk}
    shown |= set([name for name in train.images if name not in answers][:16])
    kept = []
    for query in queries:
        good, ok = query.good & shown, query.ok & shown
        kept.append(replace(query, good=good, ok=ok, junk=query.junk & shown))
    images = {name: path for name, path in train.images.items() if name in shown}
    return replace(train, images=images, queries=tuple(kept))


def _start_seconds() -> float:
    """Processor seconds of a fresh process that loads the library, as a notebook's kernel does."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import indiret"], check=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def _time_each(
    call: Callable[[int], object],
    first: int,
    last: int,
    seconds: float,
    by: Callable[[], float] | None = None,
) -> float:
    """Mean seconds of one call by a clock, over as many calls as fit."""
    by = by or clock
    began, since, number = by(), clock(), first
    while number == first or (number < last and clock() - since < seconds):
        call(number)
        number += 1
    return (by() - began) / (number - first)


def _bytes(prepared: Any) -> int:
    """What a prepared picture holds, in tensors, arrays and numbers."""
    if isinstance(prepared, torch.Tensor | np.ndarray):
        return int(prepared.nbytes)
    if isinstance(prepared, dict):
        return sum(map(_bytes, prepared.values()))
    if isinstance(prepared, list | tuple):
        return sum(map(_bytes, prepared))
    return sys.getsizeof(prepared)
