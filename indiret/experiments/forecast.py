"""What a ranking or a grid of runs will cost: one photo, pair and step timed here, and multiplied.

Of a grid the processor's seconds are timed, threads included, so that what else the machine does
hardly falsifies them. Training is taken not to stop early, a version of a photo to learn from to
cost as much as a photo to rank, and the evidence of a pair as much as four pairs to learn from.

Chapter: *Reproducing the tables*.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from indiret.datasets import RetrievalDataset
from indiret.evaluation import training_data
from indiret.experiments.evaluator import kept_bytes
from indiret.experiments.query_evaluator import EXPLAINED, JUDGED_AGAIN
from indiret.experiments.records import DATA
from indiret.experiments.reproduction import TRAINED, RunConfig, validation_data
from indiret.network import build_network
from indiret.pairs import VERSIONS, BatchSampler, PairLoader
from indiret.retrieval import NetworkRetriever, Retriever, build_retriever, encode_query
from indiret.training import batch_loss, build_optimiser, fitted_state, take_step

SECONDS = 30.0  # of measurement
STORED_FORECAST = DATA / "forecast.json"  # from benchmarks/forecast.py
_PROGRAM = 5 * 10**8  # bytes of memory of a process with torch
_START = 3.0  # processor seconds of a process or a notebook that starts
_NOTEBOOK = 10**5  # bytes of an executed notebook with its results
_BLOCK = 256  # photos that a run ranks at a time
_clock, _busy = time.monotonic, time.process_time


class Rates(NamedTuple):
    """What the machine at hand needs, in seconds, and what it keeps, in bytes."""

    photo: float  # read and encode one photo
    pair: float  # score one pair of encoded photos
    kept: int = 0  # of one encoded photo
    step: float = 0.0  # learn from a batch of encoded photos
    weights: int = 0  # of the network


class Estimate(NamedTuple):
    """Pairs scored, hours, and bytes of memory beside the program's own (0.5 GB with torch)."""

    pairs: int
    hours: float
    memory: int

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs, {in_words(self.hours)}, {self.memory / 1e9:.1f} GB of memory"


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


def measure_rates(
    method: Retriever,
    dataset: RetrievalDataset,
    seconds: float = SECONDS,
    by: Callable[[], float] | None = None,
) -> Rates:
    """Time a method on photos and pairs of a data set, for about so many seconds by a clock.

    Raises ValueError if the data set has no query.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> rates = measure_rates(build_retriever("thumbnail"), load_dataset("toytown"), seconds=0.2)
    >>> 0 < rates.pair < rates.photo < 1
    True
    """
    if not dataset.queries:
        raise ValueError(f"data set {dataset.name!r} has no query to measure a pair with.")
    by = by or _clock
    names = np.random.default_rng(0).permutation(list(dataset.images)).tolist()
    encoded: list[Any] = [method.encode(dataset.read(names[0]))]  # not timed: caches fill
    began, since = by(), _clock()
    for name in names[1:]:
        encoded.append(method.encode(dataset.read(name)))
        if _clock() - since >= seconds / 2:
            break
    photo = (by() - began) / (len(encoded) - 1)
    query = encode_query(method, dataset, dataset.queries[0])
    part = encoded[: 8 * (len(encoded) // 8) or len(encoded)]
    method.score(query, part)
    began, since, rounds = by(), _clock(), 0
    while rounds == 0 or _clock() - since < seconds / 2:
        method.score(query, part)
        rounds += 1
    return Rates(photo, (by() - began) / rounds / len(part), kept_bytes(encoded[0]))


def estimate(rates: Rates, photos: int, queries: int, rounds: int = 1) -> Estimate:
    """What one process needs to rank all photos for each query, in 2 rounds with feedback.

    Examples
    --------
    >>> print(estimate(Rates(photo=0.012, pair=0.004, kept=800_000), photos=5063, queries=55))
    278,465 pairs, 20 min, 4.1 GB of memory
    """
    pairs = photos * queries * rounds
    seconds = (photos + queries) * rates.photo + pairs * rates.pair
    return Estimate(pairs, seconds / 3600, photos * rates.kept)


def measure_run_rates(config: RunConfig, dataset: RetrievalDataset, seconds: float) -> Rates:
    """Time the parts of a run on some photos, pairs and batches, for about so many seconds."""
    if config.method != TRAINED:
        return measure_rates(build_retriever(config.method), dataset, seconds, _busy)
    train = _few_photos(training_data(dataset, config.part(dataset), config.by))
    network = build_network(config.shape).to(config.device)
    network.set_metric_state(fitted_state(config.shape, train))
    rates = measure_rates(NetworkRetriever(network), dataset, seconds / 2, _busy)
    sampler = BatchSampler(train, network, config.recipe)
    optimiser = build_optimiser(network.train(), config.recipe)
    loss = batch_loss(network, PairLoader(sampler, keep=1).make)
    spent, since = list[float](), _clock()
    while len(spent) < 4 or _clock() - since < seconds / 2:
        sampler.batch(len(spent))  # not timed: its photos are encoded
        began = _busy()
        take_step(network, optimiser, loss, len(spent), config.recipe)
        spent.append(_busy() - began)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return rates._replace(step=float(np.median(spent[1:])), weights=weights)


def _few_photos(train: RetrievalDataset) -> RetrievalDataset:
    """A part of the training data that is read within seconds whatever the whole is."""
    first = {query.landmark: query for query in reversed(train.queries)}
    queries = []
    for query in list(first.values())[:3]:
        good = frozenset(sorted(query.positives)[:8]) | {query.image}
        queries.append(replace(query, good=good, ok=frozenset(), junk=frozenset()))
    shown = set().union(*(query.good for query in queries))
    images = {name: path for name, path in train.images.items() if name in shown}
    return replace(train, images=images, queries=tuple(queries))


def count_run(rates: Rates, config: RunConfig, dataset: RetrievalDataset) -> tuple[int, float]:
    """Pairs and seconds of a run."""
    fold, photos = config.part(dataset), len(dataset.images)
    test, recipe = len(fold.test), config.recipe
    pairs, encoded, learnt = test * photos, float(photos + test), 0
    if config.method == TRAINED:
        train, look = (
            training_data(dataset, fold, config.by),
            validation_data(config, dataset, fold),
        )
        learnt = recipe.steps * recipe.batch
        shown = len({name for query in train.queries for name in query.positives | {query.image}})
        again = test * min(JUDGED_AGAIN, photos)
        validations = -(-recipe.steps // recipe.validate_every) + 1  # one more calibrates
        pairs += validations * len(look.images) * min(recipe.validation_queries, len(look.queries))
        pairs += again * len(config.feedback)
        encoded += 2 * distinct(VERSIONS * shown, learnt)  # as targets and as queries
        encoded += len(look.images) + again * bool(config.feedback)
        explained = sum(min(EXPLAINED, len(query.positives) - 1) for query in fold.test)
        learnt += 4 * explained * (1 + len(config.feedback))
    seconds = encoded * rates.photo + pairs * rates.pair + learnt / recipe.batch * rates.step
    return pairs + learnt, seconds


def estimate_grid(
    configs: Sequence[RunConfig],
    processes: int = 1,
    seconds: float = SECONDS,
    notebooks: bool = True,
) -> GridEstimate:
    """What a grid needs on this machine, its runs shared by processes.

    ``seconds`` of measurement are shared by all kinds of runs; more processes than processors do
    not make it faster.
    """
    loaded: dict[tuple[str, str], RetrievalDataset] = {}
    kinds: dict[RunConfig, Rates] = {}
    alike = {config: replace(config, fold=0, seed=0, by="query", steps=0) for config in configs}
    each = seconds / max(1, len(set(alike.values())))
    pairs, spent, memory, disk = 0, 0.0, 0, 0
    for config, kind in alike.items():
        where = config.dataset, config.root
        if where not in loaded:
            loaded[where] = config.load()
        if kind not in kinds:
            kinds[kind] = measure_run_rates(config, loaded[where], each)
        more, needed = count_run(kinds[kind], config, loaded[where])
        pairs, spent = pairs + more, spent + needed
        encoded = min(len(loaded[where].images), _BLOCK)
        memory = max(memory, _PROGRAM + encoded * (1 + VERSIONS) * kinds[kind].kept)
        disk += _NOTEBOOK + 5 * kinds[kind].weights
    workers = min(processes, len(configs))
    hours = (spent + _START * (workers + notebooks * len(configs))) / 3600
    shared = hours / min(workers, os.cpu_count() or 1)
    memory = workers * (memory + notebooks * _PROGRAM // 2)
    return GridEstimate(len(configs), pairs, shared, hours, memory, disk, workers)


def in_words(hours: float) -> str:
    """Hours in the unit in which a person would say them."""
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def distinct(kinds: int, draws: float) -> float:
    """How many different ones to expect in so many draws from so many."""
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds else 0.0
