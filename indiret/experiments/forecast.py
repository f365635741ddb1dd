"""What a ranking or a grid of runs will cost: one photo, pair and step timed here, and multiplied.

Of a grid the processor's seconds are timed, threads included, so that what else the machine does
hardly falsifies them. Training is taken not to stop early, a version of a photo to learn from to
cost as much as a photo to rank, and what is explained to cost nothing beside it.

Chapter: *Reproducing the tables*.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple

import numpy as np
import torch

from indiret.correlation import correlate
from indiret.datasets import RetrievalDataset
from indiret.evaluation import training_data
from indiret.experiments.evaluator import kept_bytes
from indiret.experiments.query_evaluator import JUDGED_AGAIN
from indiret.experiments.records import DATA
from indiret.experiments.reproduction import TRAINED, RunConfig, validation_data
from indiret.network import build_network
from indiret.pairs import VERSIONS
from indiret.retrieval import NetworkRetriever, Retriever, build_retriever, encode_query
from indiret.training import batch_loss, build_optimiser, take_step

SECONDS = 30.0  # of measurement
STORED_FORECAST = DATA / "forecast.json"  # from benchmarks/forecast.py
_PROGRAM = 5 * 10**8  # bytes of memory of a process with torch
_START = 3.0  # processor seconds of a process or a notebook that starts
_NOTEBOOK = 10**5  # bytes of an executed notebook with its results
_BLOCK = 256  # photos that a run ranks at a time
Clock = Callable[[], float]
_clock, _busy = time.monotonic, time.process_time


class Rates(NamedTuple):
    """What the machine at hand needs, in seconds, and what it keeps, in bytes."""

    photo: float  # read and encode one photo
    pair: float  # score one pair of encoded photos
    kept: int = 0  # of one encoded photo
    step: float = 0.0  # learn from a batch of encoded photos
    weights: int = 0  # of the network


class Estimate(NamedTuple):
    """Pairs scored, hours, bytes of memory beside the program's own (0.5 GB); then of a grid."""

    pairs: int
    hours: float
    memory: int
    runs: int = 0
    processor_hours: float = 0.0
    disk: int = 0
    processes: int = 1

    def __str__(self) -> str:
        alone = f"{self.pairs:,} pairs, {in_words(self.hours)}"
        memory = f"{self.memory / 1e9:.1f} GB of memory"
        if not self.runs:
            return f"{alone}, {memory}"
        together = f"{self.runs} runs, {alone} with {self.processes} at once"
        return f"{together}, {memory}, {self.disk / 1e9:.2f} GB of disk"


def measure_rates(
    method: Retriever, dataset: RetrievalDataset, seconds: float = SECONDS, by: Clock | None = None
) -> Rates:
    """Time a method on photos and pairs, for so many seconds; ValueError if there is no query.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> rates = measure_rates(build_retriever("thumbnail"), load_dataset("toytown"), seconds=0.2)
    >>> 0 < rates.pair < rates.photo < 1
    True
    """
    if not dataset.queries:
        raise ValueError(f"data set {dataset.name!r} has no query to measure a pair with.")
    encoded: list[Any] = []
    names = np.random.default_rng(0).permutation(list(dataset.images)).tolist()
    reading = (lambda n=n: encoded.append(method.encode(dataset.read(n))) for n in names)
    photo = _mean_time(reading, seconds / 2, by)
    query = encode_query(method, dataset, dataset.queries[0])
    part = encoded[: 8 * (len(encoded) // 8) or len(encoded)]
    pair = _mean_time(repeat(partial(method.score, query, part)), seconds / 2, by)
    return Rates(photo, pair / len(part), kept_bytes(encoded[0]))


def _mean_time(calls: Iterator[Callable[[], object]], seconds: float, by: Clock | None) -> float:
    """Mean time of calls, over about so many seconds; the first, when caches fill, is not timed."""
    next(calls)()
    by = by or _clock
    began, since, done = by(), _clock(), 0
    for call in calls:
        call()
        done += 1
        if _clock() - since >= seconds:
            break
    return (by() - began) / max(done, 1)


def estimate(rates: Rates, photos: int, queries: int) -> Estimate:
    """What one process needs to rank all photos for each query.

    Examples
    --------
    >>> print(estimate(Rates(photo=0.012, pair=0.004, kept=800_000), photos=5063, queries=55))
    278,465 pairs, 20 min, 4.1 GB of memory
    """
    pairs = photos * queries
    seconds = (photos + queries) * rates.photo + pairs * rates.pair
    return Estimate(pairs, seconds / 3600, photos * rates.kept)


def measure_run_rates(config: RunConfig, dataset: RetrievalDataset, seconds: float) -> Rates:
    """Time the parts of a run on some photos, pairs and batches, for about so many seconds."""
    if config.method != TRAINED:
        return measure_rates(build_retriever(config.method), dataset, seconds, _busy)
    network, recipe = build_network(config.shape).to(config.device), config.recipe
    rates = measure_rates(NetworkRetriever(network), dataset, seconds / 2, _busy)
    picture = dataset.read(next(iter(dataset.images)))
    target, query = (
        {name: torch.stack([values] * recipe.batch) for name, values in side.items()}
        for side in (network.encode(picture), network.encode(picture, query=True))
    )
    labels = torch.arange(recipe.batch, device=config.device) % 2
    loss = batch_loss(network, lambda _: (correlate(target, query, config.shape.metrics), labels))
    optimiser = build_optimiser(network, recipe)
    steps = (partial(take_step, network, optimiser, loss, n, recipe) for n in count())
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return rates._replace(step=_mean_time(steps, seconds / 2, _busy), weights=weights)


def count_run(rates: Rates, config: RunConfig, dataset: RetrievalDataset) -> tuple[int, float]:
    """Pairs and seconds of a run."""
    fold, photos, recipe = config.part(dataset), len(dataset.images), config.recipe
    pairs, encoded, steps = len(fold.test) * photos, float(photos + len(fold.test)), 0
    if config.method == TRAINED:
        train = training_data(dataset, fold, config.by)
        look = validation_data(config, dataset, fold)
        steps, looks = recipe.steps, -(-recipe.steps // recipe.validate_every) + 1  # one calibrates
        pairs += looks * len(look.images) * min(recipe.validation_queries, len(look.queries))
        pairs += len(fold.test) * len(config.feedback) * min(JUDGED_AGAIN, photos)
        shown = len(set().union(*(query.positives for query in train.queries)))
        encoded += len(look.images) + 2 * distinct(VERSIONS * shown, steps * recipe.batch)
    seconds = encoded * rates.photo + pairs * rates.pair + steps * rates.step
    return pairs + steps * recipe.batch, seconds


def estimate_grid(
    configs: Sequence[RunConfig],
    processes: int = 1,
    seconds: float = SECONDS,
    notebooks: bool = True,
) -> Estimate:
    """What a grid needs, its runs shared by processes of this machine; measured in ``seconds``."""
    alike = {config: replace(config, fold=0, seed=0, by="query", steps=0) for config in configs}
    each = seconds / max(1, len(set(alike.values())))
    loaded = {where: one.load() for where, one in {(c.dataset, c.root): c for c in configs}.items()}
    measured: dict[RunConfig, Rates] = {}
    pairs, spent, memory, disk = 0, 0.0, 0, 0
    for config, kind in alike.items():
        dataset = loaded[config.dataset, config.root]
        if kind not in measured:
            measured[kind] = measure_run_rates(kind, dataset, each)
        more, needed = count_run(measured[kind], config, dataset)
        pairs, spent = pairs + more, spent + needed
        kept = min(len(dataset.images), _BLOCK) * (1 + VERSIONS) * measured[kind].kept
        memory, disk = max(memory, kept), disk + _NOTEBOOK + 5 * measured[kind].weights
    workers = min(processes, len(configs))
    hours = (spent + _START * (workers + notebooks * len(configs))) / 3600
    shared = hours / min(workers, os.cpu_count() or 1)
    memory = workers * (_PROGRAM + memory + notebooks * _PROGRAM // 2)
    return Estimate(pairs, shared, memory, len(configs), hours, disk, workers)


def in_words(hours: float) -> str:
    """Hours in the unit in which a person would say them."""
    if hours < 2:
        return f"{3600 * hours:.0f} s" if hours < 1 / 30 else f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def distinct(kinds: int, draws: float) -> float:
    """How many different ones to expect in so many draws from so many."""
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds else 0.0
