"""The leak audit: what a network's figures owe to having met the test landmarks in training.

Each fold's test queries are asked of networks that differ only in what they learned from:

================ ================================================================================
query folds      the other folds' queries: every landmark is in train and test (the paper's way)
landmark folds   the other folds' landmarks
without          other landmarks only, some of which lend a few photos
other photos     the test landmarks lend as many instead, but none that is looked for in the test
same photos      the test landmarks lend the very photos that the test looks for
shuffled labels  as *same photos*, with all training photos dealt to landmarks at random
================ ================================================================================

The last four have equal numbers of landmarks, photos and pairs, so their differences are the leak.
No photo that asks in the test is ever learned from. A training that is finished is written down at
once: an audit that was killed goes on with the next one.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame

from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import (
    Fold,
    check_fold,
    folds,
    held_out_images,
    sign_flip_test,
    training_data,
)
from indiret.experiments import records
from indiret.experiments.evaluator import provenance
from indiret.experiments.query_evaluator import HONEST, QueryEvaluator, precisions
from indiret.experiments.records import long_rows, rounded_interval
from indiret.experiments.runner import collect_rows, keep_settings
from indiret.network import CONFIGS, IndicativeNetwork, NetworkConfig, build_network
from indiret.pairs import BatchSampler, PairLoader
from indiret.retrieval import NetworkRetriever, index_database
from indiret.training import NetworkValidator, TrainingConfig, fit

# Learns on one core within seconds; as `base`, but with fewer and coarser patches.
QUICK = CONFIGS["base"].replace(
    name="quick", grid=(8, 8), query_grid=(6, 6), scales=(1.0,), shifts=1
)
AUDIT_MEASURES = ("mAP", "mAP_without_query", "fold_mAP", "fold_mAP_without_query")
BEST_EPOCH = "best_epoch"
COMPARISONS = {
    "query folds instead of landmark folds": ("query folds", "landmark folds"),
    "the whole leak": ("same photos", "without"),
    "of it, knowing the landmark": ("other photos", "without"),
    "of it, knowing the photos": ("same photos", "other photos"),
    "knowing photos under wrong labels": ("shuffled labels", "without"),
}
PROTOCOL = {  # what a habit adds to the measure without the query's own photo
    "own photo counted": "mAP",
    "fold-only database": "fold_mAP_without_query",
    "epoch chosen on the test": BEST_EPOCH,
}


@dataclass(frozen=True)
class AuditConfig:
    """How many networks learn, and for how long; without augmentation, as the authors' did."""

    folds: int = 3
    seeds: int = 1
    steps: int = 300  # of one batch each
    looks: int = 2  # at validation and test during a training, evenly spread
    network: NetworkConfig = QUICK

    def __post_init__(self) -> None:
        records.check_least(self, folds=2, seeds=1, steps=1, looks=1)

    def recipe(self, seed: int) -> TrainingConfig:
        """How each network is trained; the step is chosen on validation landmarks."""
        every = -(-self.steps // self.looks)
        return TrainingConfig(
            steps=self.steps, validate_every=every, patience=self.looks, augment=False, seed=seed
        )


FULL_AUDIT = AuditConfig(folds=11, seeds=5, steps=1000, network=CONFIGS["base"])


class Training(NamedTuple):
    """One network to train: what it learns from and what it is tested on."""

    arrangement: str
    seed: int
    number: int  # of its fold
    train: RetrievalDataset
    test: tuple[Query, ...]
    nearby: frozenset[str]  # the photos of the fold's own database

    @property
    def key(self) -> str:
        return f"{self.arrangement.replace(' ', '-')}-{self.seed}-{self.number}"


def arrange(dataset: RetrievalDataset, n: int, seed: int) -> Iterator[Training]:
    """Every training of one seed, arrangement by arrangement in each of ``n`` folds.

    The seed is that of the folds, of which landmarks are replaced, and of which photos are lent.
    Raises ValueError if landmarks or photos are too few, or a photo that asks is in training.
    """
    for by in ("query", "landmark"):
        for number, fold in enumerate(folds(dataset.queries, by, n, seed)):
            train = training_data(dataset, fold, by)
            nearby = _fold_database(dataset, fold.test, n, number, seed)
            yield Training(f"{by} folds", seed, number, train, fold.test, nearby)
    for number, fold in enumerate(folds(dataset.queries, "landmark", n, seed)):
        yield from _controlled(dataset, fold, n, number, seed)


def _controlled(
    dataset: RetrievalDataset, fold: Fold, n: int, number: int, seed: int
) -> Iterator[Training]:
    random = np.random.default_rng((seed, number))
    tested, others = (sorted({q.landmark for q in part}) for part in (fold.test, fold.train))
    if len(others) <= len(tested):
        raise ValueError(f"{len(tested)} of {len(dataset.landmarks)} in a fold; make more folds.")
    replaced = random.choice(others, len(tested), replace=False).tolist()
    lent = {landmark: _halves(dataset, landmark, random) for landmark in (*tested, *replaced)}
    size = min(len(half) for pair in lent.values() for half in pair)
    if size < 2:
        raise ValueError(f"A landmark of {dataset.name} has fewer than 4 photos that do not ask.")
    looked_for = {landmark: frozenset(lent[landmark][0][:size]) for landmark in tested}
    asked = tuple(_narrowed(query, looked_for[query.landmark]) for query in fold.test)
    nearby = _fold_database(dataset, fold.test, n, number, seed)
    whole = tuple(query for query in fold.train if query.landmark not in replaced)
    away = tuple(query for query in dataset.queries if query not in whole)
    rest = training_data(dataset, Fold(whole, away), "landmark")
    for arrangement, landmarks, half in (
        ("without", replaced, 0),
        ("other photos", tested, 1),
        ("same photos", tested, 0),
        ("shuffled labels", tested, 0),
    ):
        train = _lend(rest, dataset, {name: lent[name][half][:size] for name in landmarks})
        if arrangement == "shuffled labels":
            train = _shuffled(train, random)
        check_fold(Fold(train.queries, asked), "query")
        if {query.image for query in asked} & train.images.keys():
            raise ValueError(f"A photo that asks in fold {number} is in training; it would leak.")
        yield Training(arrangement, seed, number, train, asked, nearby)


def _halves(
    dataset: RetrievalDataset, landmark: str, random: np.random.Generator
) -> tuple[list[str], list[str]]:
    """The landmark's own photos that do not ask, dealt into two parts at random."""
    own, others = set[str](), {query.image for query in dataset.queries}
    for query in dataset.queries:
        (own if query.landmark == landmark else others).update(query.positives)
    photos = random.permutation(sorted(own - others)).tolist()
    return photos[::2], photos[1::2]


def _narrowed(query: Query, looked_for: frozenset[str]) -> Query:
    """The query with these answers and its own photo; its other answers neither help nor harm."""
    good = looked_for | ({query.image} & query.positives)
    return replace(query, good=good, ok=frozenset(), junk=query.junk | query.positives - good)


def _lend(
    data: RetrievalDataset, whole: RetrievalDataset, photos: Mapping[str, Sequence[str]]
) -> RetrievalDataset:
    """The data with more landmarks: a query for each, its first photo, which all of them answer."""
    more = (Query(f"{k}_lent", names[0], None, k, frozenset(names)) for k, names in photos.items())
    images = {name: whole.path(name) for names in photos.values() for name in names}
    return replace(data, queries=(*data.queries, *more), images={**data.images, **images})


def _shuffled(train: RetrievalDataset, random: np.random.Generator) -> RetrievalDataset:
    """All photos of landmarks dealt anew at random: a label says nothing of what is shown."""
    shown: dict[str, set[str]] = {}
    for query in train.queries:
        shown.setdefault(query.landmark, set()).update(query.positives, {query.image})
    dealt = iter(random.permutation(sorted(set().union(*shown.values()))).tolist())
    photos = {landmark: list(islice(dealt, len(names))) for landmark, names in shown.items()}
    return _lend(replace(train, queries=()), train, photos)


def _fold_database(
    dataset: RetrievalDataset, asked: Sequence[Query], n: int, number: int, seed: int
) -> frozenset[str]:
    """The photos that the fold's queries name, and one n-th of all others."""
    named = held_out_images(asked, "landmark")
    rest = np.random.default_rng(seed).permutation(sorted(dataset.images.keys() - named))
    return frozenset(named | set(rest[number::n].tolist()))


def fold_precisions(
    ranked: Sequence[str], query: Query, nearby: frozenset[str]
) -> dict[str, float]:
    """`AUDIT_MEASURES` of a query; those of the fold rank only ``nearby`` photos."""
    lists = {"": ranked, "fold_": [name for name in ranked if name in nearby]}
    values = {prefix: precisions(names, query) for prefix, names in lists.items()}
    return {p + m: round(found[m], 5) for p, found in values.items() for m in ("mAP", HONEST)}


class _WatchingValidator(NetworkValidator):
    """Chooses by validation, and notes how the test queries stand at the same steps."""

    measure: Callable[[IndicativeNetwork], DataFrame]
    looks: list[tuple[float, DataFrame]]  # validation mAP, and the test's measures by query

    def mean_average_precision(self, model: IndicativeNetwork) -> float:
        validation = super().mean_average_precision(model)
        self.looks.append((validation, self.measure(model)))
        return validation

    def calibration(self, model: IndicativeNetwork) -> tuple[float, float]:
        return 1.0, 0.0  # only ranks count here


class _Shared(NamedTuple):
    """What all trainings have in common, since their networks encode pictures alike."""

    sampler: BatchSampler
    validator: _WatchingValidator
    evaluators: dict[str, QueryEvaluator]
    names: list[str]  # of the database
    validation: RetrievalDataset

    @classmethod
    def of(
        cls, config: AuditConfig, dataset: RetrievalDataset, validation: RetrievalDataset
    ) -> "_Shared":
        encoder, recipe = build_network(config.network), config.recipe(seed=0)
        retriever = NetworkRetriever(encoder)
        database = index_database(retriever, dataset).features
        evaluators = {
            query.name: QueryEvaluator(retriever, dataset, query, database.__getitem__)
            for query in dataset.queries
        }
        validator = _WatchingValidator(validation, encoder, recipe, keep=True)
        sampler = BatchSampler(dataset, encoder, recipe)
        return cls(sampler, validator, evaluators, list(database), validation)


def _train_and_measure(
    training: Training, config: AuditConfig, shared: _Shared
) -> list[records.Row]:
    """Rows of the step that validation chooses, of the best on the test, and what it took."""
    validator = shared.validator

    def measure(network: IndicativeNetwork) -> DataFrame:
        found = {}
        for query in training.test:
            ranked = shared.evaluators[query.name].ranked(network, shared.names)
            found[query.name] = fold_precisions(ranked, query, training.nearby)
        return DataFrame(found).T

    validator.measure, validator.looks = measure, []
    loader = PairLoader(shared.sampler.only(training.train), first=training.seed * config.steps)
    data, recipe = (training.train, shared.validation), config.recipe(training.seed)
    _, log = fit(config.network, *data, recipe, loader=loader, validator=validator)
    _, chosen = max(validator.looks, key=lambda look: look[0])
    _, best = max(validator.looks, key=lambda look: look[1][HONEST].mean())
    place = {"variant": training.arrangement, "seed": training.seed}
    shown = loader.sampler.landmarks
    photos, seconds = sum(map(len, shown)), log[-1]["seconds"]
    counts = {"landmarks": len(shown), "photos": photos, "seconds": seconds}
    found = long_rows(counts, landmark="", query="", **place)
    for query in training.test:
        measures = chosen.loc[query.name].to_dict() | {BEST_EPOCH: best[HONEST][query.name]}
        found += long_rows(measures, landmark=query.landmark, query=query.name, **place)
    return found


def run_audit(
    out: Path, config: AuditConfig, dataset: RetrievalDataset, validation: RetrievalDataset
) -> dict[str, Any]:
    """Train every network that is not there yet, and sum up.

    The queries of ``dataset`` are asked, and from its photos the networks learn; by ``validation``,
    other landmarks, every network's best step is chosen. ``out`` keeps records by training, and
    ``results.json`` with what is returned: `summarise_audit`, settings, provenance and what was
    ``skipped``. Raises ValueError if ``out`` has an audit of other settings or data.
    """
    dataset = dataset.readable()
    trainings = [
        one for seed in range(config.seeds) for one in arrange(dataset, config.folds, seed)
    ]
    settings = records.plain_settings(config)
    data = {"validation": validation.fingerprint()}
    origin = keep_settings(out / "audit.json", settings | data, provenance(dataset))

    @cache
    def shared() -> _Shared:
        return _Shared.of(config, dataset, validation)

    def rows(training: Training) -> list[records.Row]:
        return _train_and_measure(training, config, shared())

    table = collect_rows("audit", trainings, rows, out)
    results = {"config": settings, "provenance": origin | data, **summarise_audit(table)}
    return records.write_results(out, results | {"skipped": dict(dataset.skipped)})


def summarise_audit(table: DataFrame) -> dict[str, Any]:
    """Means with intervals, and paired differences.

    - ``arrangements``: by name, each of `AUDIT_MEASURES` and ``best_epoch`` (of `HONEST`, at the
      look that is best on the fold's own test) with mean, low, high; mean ``landmarks`` and
      ``photos`` learned from;
    - ``comparisons``: those of `COMPARISONS`, with ``p`` (`sign_flip_test`) and by landmark;
    - ``protocol``: what each of `PROTOCOL` adds in query folds and in landmark folds;
    - ``trainings`` and their ``seconds``.
    """
    values = records.values_by(table, "variant", "measure")
    counts = table[table["query"] == ""].groupby(["variant", "measure"])["value"]
    means, seconds = counts.mean(), table.loc[table["measure"] == "seconds", "value"]
    arrangements = {
        name: {m: rounded_interval(values[name, m]) for m in (*AUDIT_MEASURES, BEST_EPOCH)}
        | {what: float(means[name, what]) for what in ("landmarks", "photos")}
        for name in table["variant"].unique()
    }
    comparisons = {}
    for text, (one, other) in COMPARISONS.items():
        pair = values[one, HONEST], values[other, HONEST]
        apart = records.mean_by_landmark(*pair)
        p = sign_flip_test(list(apart.values()))
        comparisons[text] = rounded_interval(*pair) | {"p": p, "landmarks": apart}
    protocol = {
        by: {
            habit: rounded_interval(values[by, measure], values[by, HONEST])
            for habit, measure in PROTOCOL.items()
        }
        for by in ("query folds", "landmark folds")
    }
    found = {"arrangements": arrangements, "comparisons": comparisons, "protocol": protocol}
    return found | {"trainings": len(seconds), "seconds": round(seconds.sum())}


stored_audit = partial(records.read_stored, "audit")  # what the book reports


def audit_summary(results: Mapping[str, Any]) -> str:
    """The comparisons and the protocol's effects as a Markdown table."""
    rows = dict(results["comparisons"])
    for by, effects in results["protocol"].items():
        rows |= {f"{by}: {name}": figures for name, figures in effects.items()}
    cells = [[name, records.show_interval(one, signed=True)] for name, one in rows.items()]
    return records.markdown_table(["", "difference"], cells)
