"""The study of attention and feedback: every mask, every scheme, several seeds, one command.

All networks of one seed learn side by side from the same pairs, and are measured on the same
tensors, so that they differ in nothing but their masks. Whatever is finished is written down at
once: a study that was killed goes on where it was.

Chapters: *Hypersphere attention*, *Indicative feedback*.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from safetensors.torch import save
from torch import Tensor

from indiret.attention import MASKS
from indiret.checkpoints import load_network, read_metadata, save_network
from indiret.datasets import ClickedPair, Query, RetrievalDataset, read_all
from indiret.evaluation import average_to_grid, point_match_accuracy, strongest_targets
from indiret.evidence import DEFAULT_KIND
from indiret.experiments import records
from indiret.experiments.evaluator import provenance
from indiret.experiments.evidence_protocol import EvidencePair, spread_pairs
from indiret.experiments.query_evaluator import (
    HONEST,
    Change,
    QueryEvaluator,
    precisions,
    rows_or_reason,
    skipped_queries,
)
from indiret.experiments.records import DATA, Record, Row, load_trained, long_rows, rounded_interval
from indiret.experiments.runner import Keyed, collect_rows, keep_settings, run_all
from indiret.feedback import FeedbackConfig
from indiret.images import pixel_box, read_image
from indiret.network import CONFIGS, Features, IndicativeNetwork, NetworkConfig, build_network
from indiret.pairs import BatchSampler, PairLoader
from indiret.retrieval import NetworkRetriever, index_database
from indiret.training import NetworkValidator, TrainingConfig, fit

BASE = "none"
_KINDS = ("mean", "max", "oracle", "answers")
EVIDENCE_MEASURES = ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
VARIANT_NAMES = {
    "none": "Base",
    "har": "HAR (as printed)",
    "har-normalised": "HAR, normalised",
    "predicted": "predicted centre",
    "gaussian": "full Gaussian",
    "plane": "plane",
}
Networks = Mapping[tuple[str, int], IndicativeNetwork]  # by variant and seed


@dataclass(frozen=True)
class StudyConfig:
    """What is compared, and how long each network learns."""

    variants: tuple[str, ...] = (BASE, *MASKS)
    seeds: int = 5
    steps: int = 1000  # the shipped network learns from 5000
    choosing_seeds: int = 2  # whose Base chooses the schemes on validation
    explained: int = 4  # positives of a query whose evidence is measured
    network: NetworkConfig = CONFIGS["base"]

    def __post_init__(self) -> None:
        if BASE not in self.variants or len(set(self.variants)) < len(self.variants):
            raise ValueError(
                f"variants={self.variants} is not allowed; give {BASE!r}, with which the others "
                "are compared, and each of them once."
            )
        records.check_least(self, seeds=1, choosing_seeds=1)

    def recipe(self, seed: int) -> TrainingConfig:
        """How a network of one seed is trained."""
        return TrainingConfig(steps=self.steps, validate_every=250, seed=seed)


def candidates() -> dict[str, FeedbackConfig]:
    """The second rounds among which validation chooses, by a name that starts with their kind.

    An oracle's is weighted by the true region of the query in place of feedback.
    """
    found = {
        f"{pool}, n={n}, {'each sums to 1' if even else 'raw'}, λ={strength:g}": FeedbackConfig(
            n=n, pool=pool, normalise=even, strength=strength
        )
        for pool, n, even, strength in itertools.product(
            ("mean", "max"), (3, 10), (False, True), (0.3, 0.6)
        )
    }
    found |= {f"answers, n={n}": FeedbackConfig(n=n, weight="answers") for n in (1, 2, 3, 5)}
    return found | {f"oracle, λ={x:g}": FeedbackConfig(strength=x) for x in (0.3, 0.6, 1.0)}


def run_study(
    out: Path,
    config: StudyConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    tests: Mapping[str, RetrievalDataset],
    clicked: Sequence[ClickedPair] = (),
) -> dict[str, Any]:
    """Train, choose on validation, measure on the tests once, and sum up.

    ``train`` and ``validation`` share no landmark; claims are judged by the first of ``tests``;
    ``clicked`` are photos with clicked points. What is finished in ``out`` is not done again.
    Returns what `summarise_study` says of each test, the validation table, what was learned and
    provenance, also written to ``out/results.json``. Raises ValueError if ``out`` holds a study of
    other settings, or a part failed.
    """
    settings = records.plain_settings(config)
    data = {"validation": validation.fingerprint()}
    origin = keep_settings(out / "study.json", settings | data, provenance(train))
    train_variants(out, train, validation, config)
    paths = {
        (variant, seed): weights_path(out, variant, seed)
        for seed in range(config.seeds)
        for variant in config.variants
    }
    networks = {key: load_network(path) for key, path in paths.items()}
    few = range(min(config.choosing_seeds, config.seeds))
    choosing = {(BASE, seed): networks[BASE, seed] for seed in few}
    asked = replace(validation, queries=validation.queries[::2])
    table = measure_networks(out / "validation", choosing, candidates(), asked, explained=0)
    honest = table[table["measure"] == HONEST].groupby("scheme", sort=False)["value"]
    tried = honest.mean().to_dict()
    schemes = {}
    for kind in _KINDS:
        if of_kind := [name for name in tried if name.startswith(kind)]:
            schemes[kind] = candidates()[max(of_kind, key=tried.__getitem__)]
    results: dict[str, Any] = {"config": settings, "provenance": origin | data}
    results["validation"] = tried
    results["schemes"] = {kind: asdict(scheme) for kind, scheme in schemes.items()}
    for name, dataset in tests.items():
        table = measure_networks(out / name, networks, schemes, dataset, config.explained)
        results[name] = summarise_study(table) | {"data": dataset.fingerprint()}
    if clicked:
        results |= match_clicked(networks, clicked)
    results["logs"] = {
        f"{variant}-{seed}": json.loads(read_metadata(path)["log"])
        for (variant, seed), path in paths.items()
    }
    return records.write_results(out, results)


stored_results = partial(records.read_stored, "study")  # what the book reports


def stored_networks() -> dict[str, Path]:
    """Weights of seed 0 that come with the results, by variant: none, har, and the best other."""
    files = {variant: DATA / "study" / f"{variant}-0.safetensors" for variant in VARIANT_NAMES}
    return {variant: path for variant, path in files.items() if path.is_file()}


def cells(results: Mapping[str, Any], dataset: str = "toytown") -> dict[tuple[str, str], Record]:
    """The rows of one test by (variant, scheme)."""
    return {(row["variant"], row["scheme"]): row for row in results[dataset]["rows"]}


def validation_curves(results: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Validation mAP along training by mask, mean over seeds: rows of ``step`` and ``mAP``."""
    curves = {}
    for variant in results["config"]["variants"]:
        logs = (results["logs"][f"{variant}-{n}"] for n in range(results["config"]["seeds"]))
        looks = DataFrame(itertools.chain(*logs)).groupby("step")["validation_map"].mean().dropna()
        rows = [{"step": step, "mAP": float(value)} for step, value in looks.items()]
        curves[VARIANT_NAMES[variant]] = rows
    return curves


def weights_path(out: Path, variant: str, seed: int) -> Path:
    """Where a study keeps one of its networks."""
    return out / "networks" / f"{variant}-{seed}" / "network.safetensors"


def train_variants(
    out: Path, train: RetrievalDataset, validation: RetrievalDataset, config: StudyConfig
) -> None:
    """Train every network that is not there yet, all variants of a seed side by side."""
    origin = provenance(train)

    @cache
    def shared() -> tuple[BatchSampler, NetworkValidator]:
        encoder, recipe = build_network(config.network), config.recipe(seed=0)
        look = NetworkValidator(validation, encoder, recipe, keep=True)
        return BatchSampler(train, encoder, recipe), look

    def left(seed: Keyed, out: Path) -> list[str]:
        paths = {variant: weights_path(out, variant, seed.value) for variant in config.variants}
        return [variant for variant, path in paths.items() if not load_trained(path, "log")]

    def learn(seed: Keyed, out: Path) -> None:
        sampler, validator = shared()
        recipe = config.recipe(seed.value)
        loader = PairLoader(sampler, first=seed.value * config.steps, keep=32)

        def learn_one(variant: str) -> None:
            path = weights_path(out, variant, seed.value)
            shape = config.network.replace(name=variant, attention=variant)
            network, log = fit(
                shape, train, validation, recipe, path.parent, loader=loader, validator=validator
            )
            record = {"training": asdict(recipe), "provenance": origin, "log": log}
            records.set_aside(path)
            save_network(network, path, {key: json.dumps(said) for key, said in record.items()})

        with ThreadPoolExecutor(len(left(seed, out))) as side_by_side:
            list(side_by_side.map(learn_one, left(seed, out)))

    seeds = [Keyed(f"seed{number}", number) for number in range(config.seeds)]
    run_all(seeds, out, learn, lambda seed, out: not left(seed, out), "study's seeds")


def measure_networks(
    out: Path,
    networks: Networks,
    schemes: Mapping[str, FeedbackConfig],
    dataset: RetrievalDataset,
    explained: int,
) -> DataFrame:
    """A table of every network, ranking and explaining in one round and under every scheme.

    The networks encode pictures alike: the tensors of a query are made once for all. ``schemes``
    are second rounds by name, besides ``"none"``. ``out`` keeps records by query. Raises ValueError
    if they are of other networks, schemes or data.
    """
    made_of = {
        "networks": {f"{name}-{seed}": _hash(one) for (name, seed), one in networks.items()},
        "schemes": {name: asdict(feedback) for name, feedback in schemes.items()},
        "explained": explained,
    }
    keep_settings(out / "measurement.json", made_of, provenance(dataset))
    method = NetworkRetriever(next(iter(networks.values())))

    @cache
    def shared() -> tuple[dict[str, Features], dict[str, list[EvidencePair]]]:
        database = index_database(method, dataset).features
        return database, spread_pairs(dataset, database, explained)

    def rows(one: Keyed) -> list[Row]:
        database, pairs = shared()
        query, names, own = one.value, list(database), pairs.get(one.key, [])
        evaluator = QueryEvaluator(method, dataset, query, database.__getitem__, own, names)
        region = query_region(dataset, query, evaluator.tensor(names[:1]).shape[4:])

        def measured(key: tuple[str, int]) -> list[Row]:
            """Of one network: one round, and a second one by every scheme."""
            network, ranked = networks[key], evaluator.ranked(networks[key], names)
            measures = {"none": precisions(ranked, query) | _evidence(evaluator, network)}
            for name, feedback in schemes.items():
                oracle = region if name.startswith("oracle") else None
                if name.startswith("oracle") and oracle is None:
                    continue
                if feedback.weight == "answers" and key[0] != BASE:
                    continue  # n more rankings each
                again, change = evaluator.second_round(network, ranked, feedback, oracle)
                measures[name] = precisions(again, query)
                if change:
                    measures[name] |= _evidence(evaluator, network, change)
            place = {"landmark": query.landmark, "query": query.name}
            place |= {"variant": key[0], "seed": key[1]}
            found = [long_rows(of, scheme=name, **place) for name, of in measures.items()]
            return list(itertools.chain(*found))

        workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
        with ThreadPoolExecutor(workers) as threads:
            return list(itertools.chain(*threads.map(measured, networks)))

    queries = [Keyed(query.name, query) for query in dataset.queries]
    return collect_rows(f"measuring {out.name}", queries, partial(rows_or_reason, rows), out)


def _evidence(
    evaluator: QueryEvaluator, network: IndicativeNetwork, change: Change | None = None
) -> dict[str, float]:
    found = evaluator.evidence(network, DEFAULT_KIND, change)
    return {name: float(np.nanmean(found[name])) for name in EVIDENCE_MEASURES if name in found}


def _hash(network: IndicativeNetwork) -> str:
    """Of its weights alone: its file has the hour of its training in it, too."""
    return hashlib.sha256(save(network.state_dict())).hexdigest()[:16]


def query_region(dataset: RetrievalDataset, query: Query, grid: Sequence[int]) -> Tensor | None:
    """How much of each query patch shows the landmark, (m', n') in 0 … 1: the oracle's Q*.

    ``None`` where the data set does not tell, or knows no more than the box itself.
    """
    roi = dataset.roi(query.image) if (dataset.root / "masks").is_dir() else None
    if roi is None:
        return None
    x1, y1, x2, y2 = pixel_box(query.box, roi.shape) if query.box else (0, 0, *roi.shape[::-1])
    return torch.from_numpy(average_to_grid(roi[y1:y2, x1:x2], grid)).float()


def summarise_study(table: DataFrame) -> dict[str, Any]:
    """Means with intervals, and differences from Base and from one round, paired.

    ``rows``: for each variant and scheme, by measure, ``mean``, ``low``, ``high`` and the same of
    ``gain`` over Base in one round and of ``feedback_gain`` over the variant's own first round;
    ``AP`` lists average precision by query and, inside, seed. ``queries`` counts; ``skipped`` says
    which photos were gone.
    """
    values = records.values_by(table, "variant", "scheme", "measure")
    rows: dict[tuple[str, str], Record] = {}
    for (variant, scheme, name), known in values.items():
        row = rows.setdefault((variant, scheme), {"variant": variant, "scheme": scheme, "AP": {}})
        row[name] = dict[str, Any](rounded_interval(known))
        if (variant, scheme) != (BASE, "none"):
            row[name]["gain"] = rounded_interval(known, values[BASE, "none", name])
        if scheme != "none":
            row[name]["feedback_gain"] = rounded_interval(known, values[variant, "none", name])
        if name == "mAP":
            for (_, query, _), value in sorted(known.items()):
                row["AP"].setdefault(query, []).append(round(value, 5))
    skipped = skipped_queries(table)
    asked = table["query"].nunique() - len(skipped)
    return {"rows": list(rows.values()), "queries": asked, "skipped": skipped}


def match_clicked(networks: Networks, pairs: Sequence[ClickedPair]) -> Record:
    """Where evidence sends clicked points: shares within one and two patches, by network.

    They come back as ``clicked``; pairs whose photos are gone as ``skipped``.
    """
    named = {pair.name: pair for pair in pairs}
    both = {name: (pair.query, pair.target) for name, pair in named.items()}
    photos, gone = read_all(named, lambda name: [read_image(path) for path in both[name]])
    rows = list[Record]()
    for (variant, seed), network in networks.items():
        retriever, grid, found = NetworkRetriever(network), network.config.grid, []
        for name, (query, target) in photos.items():
            encoded = retriever.encode_query(query)
            evidence = retriever.explain(encoded, retriever.encode(target)).pairs
            points = named[name].query_points, named[name].target_points
            guess = strongest_targets(evidence, points[0], query.shape, target.shape)
            found.append(point_match_accuracy(guess, points[1], target.shape, grid))
        means = DataFrame(found).mean().to_dict()
        rows.append({"variant": variant, "seed": seed} | means)
    return {"clicked": rows, "skipped": gone}
