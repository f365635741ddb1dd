"""One choice at a time: what views, grid, layout and aspect change after a short training.

Every row is the reference with one choice changed. All learn from Toytown's training landmarks in
the same steps; a row's best step is chosen on some validation queries, and its figures are those of
the others. Rows that are finished are written down at once: a table that was killed goes on.

Chapter: *Ranking and honest evaluation*.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch.nn import functional as F

from indiret.datasets import RetrievalDataset
from indiret.experiments import records
from indiret.experiments.audit import QUICK
from indiret.experiments.evaluator import provenance
from indiret.experiments.query_evaluator import HONEST, precisions
from indiret.experiments.records import Record, Row, long_rows, rounded_interval
from indiret.experiments.runner import Keyed, collect_rows, keep_settings
from indiret.metrics import initial_metric_state
from indiret.network import CONFIGS, NetworkConfig, build_network, parameter_count
from indiret.pairs import BatchSampler, PairLoader
from indiret.retrieval import NetworkRetriever, rank
from indiret.training import PAPER_RECIPE, TrainingConfig, fit

_PAPER = CONFIGS["paper-base"].metrics
REFERENCE = "reference"
COSTS = "costs"  # the key of what networks need
MILLISECONDS = ("ms_per_photo", "ms_per_step")
KEPT = "aspect kept when asked"  # the reference's weights again: training needs equal grids
ABLATIONS: dict[str, NetworkConfig] = {
    REFERENCE: QUICK,
    "target at two scales": QUICK.replace(scales=(0.7, 1.0)),
    "target through four places": QUICK.replace(shifts=2),
    "query at two scales": QUICK.replace(query_scales=(1.0, 1.4)),
    "query through four places": QUICK.replace(query_shifts=2),
    "views: gradients": QUICK.replace(metrics=("gradients",)),
    "views: gradients, mutual": QUICK.replace(metrics=("gradients", "mutual_gradients")),
    "views: zncc on gradients for gradients": QUICK.replace(
        metrics=("zncc_gradients", "mutual_gradients", "colour")
    ),
    "views: zncc, mutual, colour": QUICK.replace(metrics=("zncc", "mutual", "colour")),
    "views: cosine": QUICK.replace(metrics=("cosine",)),
    "views: the paper's four": QUICK.replace(metrics=_PAPER),
    "views: the four, zncc, mutual": QUICK.replace(metrics=(*_PAPER, "zncc", "mutual")),
    "grid 6 × 6, query 4 × 4": QUICK.replace(grid=(6, 6), query_grid=(4, 4)),
    "grid 11 × 11, query 8 × 8": QUICK.replace(grid=(11, 11), query_grid=(8, 8)),
    "layout: pivot": QUICK.replace(conv="pivot"),
    "layout: flat": QUICK.replace(conv="flat"),
    "layout: flat, width 16": QUICK.replace(conv="flat", width=16),
}
CNNS = {REFERENCE: QUICK}  # and what the paper says would do as well
CNNS |= {name: QUICK.replace(architecture=name) for name in ("vgg11", "inception")}


def run_ablation(
    out: Path,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    rows: Mapping[str, NetworkConfig] = ABLATIONS,
    steps: int = 200,
    seeds: int = 1,
) -> dict[str, Any]:
    """Train and measure every row that is not there yet, and sum up.

    ``train`` and ``validation`` share no landmark; ``out`` keeps records by row and seed, and
    ``results.json`` with what is returned: settings, provenance and ``rows``: by name, ``mAP`` (the
    query's own photo left out) and ``gain`` over the reference with intervals, ``parameters`` and
    `row_costs`, which ``paper-base`` has, too. Raises ValueError if ``out`` has a table of other
    settings or data, the reference is missing, or ``seeds`` < 1.
    """
    if REFERENCE not in rows:
        raise ValueError(f"rows {', '.join(rows)} have no {REFERENCE!r} to compare with.")
    if seeds < 1:
        raise ValueError(f"seeds={seeds} is not at least 1.")
    settings = {"rows": {name: asdict(config) for name, config in rows.items()}, "steps": steps}
    data = {"validation": validation.fingerprint()}
    origin = keep_settings(out / "ablation.json", settings | data, provenance(train))
    recipe = TrainingConfig(steps=steps, validate_every=-(-steps // 2))
    loader = _shared_loaders(train, recipe)
    choosing = replace(validation, queries=validation.queries[::3])
    asked = [query for query in validation.queries if query not in choosing.queries]

    def measure(one: Keyed) -> list[Row]:
        if one.key == COSTS:
            spent = row_costs({**rows, "paper-base": CONFIGS["paper-base"]}, train)
            place = {"landmark": "", "query": "", "seed": 0}
            return [r for n, cost in spent.items() for r in long_rows(cost, variant=n, **place)]
        row, seed = one.value
        config, own = rows[row], replace(recipe, seed=seed)
        network, _ = fit(config, train, choosing, own, loader=loader(config, seed))
        counts = {"parameters": parameter_count(network)}
        found = long_rows(counts, landmark="", query="", variant=row, seed=seed)
        networks = {row: network}
        if row == REFERENCE:
            networks[KEPT] = build_network(config.replace(aspect="keep")).eval()
            networks[KEPT].load_state_dict(network.state_dict())
        for name, trained in networks.items():
            ranked = rank(NetworkRetriever(trained), asked, validation)
            for query in asked:
                measures = precisions([hit.name for hit in ranked[query.name]], query)
                at = {"landmark": query.landmark, "query": query.name}
                found += long_rows({HONEST: measures[HONEST]}, variant=name, seed=seed, **at)
        return found

    todo = [
        Keyed(f"{re.sub('[^a-z0-9]+', '-', name)}-{seed}", (name, seed))
        for seed in range(seeds)
        for name in rows
    ]
    table = collect_rows("ablation", [*todo, Keyed(COSTS, None)], measure, out)
    results = {"steps": steps, "seeds": seeds, **summarise_ablation(table, list(rows))}
    return records.write_results(out, results | {"provenance": origin | data})


def _shared_loaders(
    train: RetrievalDataset, recipe: TrainingConfig
) -> Callable[[NetworkConfig, int], PairLoader | None]:
    """What makes the pairs of a row and a seed, in one order for all rows.

    None where patches are encoded by what is fitted.
    """

    @lru_cache(maxsize=1)  # 0.1 GB each
    def sampler(config: NetworkConfig) -> BatchSampler:
        return BatchSampler(train, build_network(config), recipe)

    def loader(config: NetworkConfig, seed: int) -> PairLoader | None:
        if initial_metric_state(config.metrics, 12):
            return None
        same = {name: getattr(QUICK, name) for name in ("architecture", "conv", "width")}
        return PairLoader(sampler(config.replace(name="", **same)), first=seed * recipe.steps)

    return loader


def summarise_ablation(table: DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """``rows`` and ``paper-base`` of `run_ablation`, and how many ``queries`` were asked."""
    values = records.values_by(table, "variant", "measure")

    def of_network(name: str, *measures: str) -> Record:
        return {measure: values[name, measure]["", "", 0] for measure in measures}

    base = values[REFERENCE, HONEST]
    rows: dict[str, Record] = {}
    for name in [*names, KEPT]:
        own, found = REFERENCE if name == KEPT else name, values[name, HONEST]
        rows[name] = {"mAP": rounded_interval(found), "gain": rounded_interval(found, base)}
        rows[name] |= of_network(own, "parameters", *MILLISECONDS)
        rows[name]["parameters"] = int(rows[name]["parameters"])
    asked = len({query for _, query, _ in base})
    return {"rows": rows, "queries": asked, "paper-base": of_network("paper-base", *MILLISECONDS)}


stored_ablation = partial(records.read_stored, "ablation")  # what the book reports
stored_cnns = partial(records.read_stored, "ablation/cnns")


def row_costs(
    rows: Mapping[str, NetworkConfig], train: RetrievalDataset, rounds: int = 15
) -> dict[str, dict[str, float]]:
    """Milliseconds of one core that a network needs, by its row's name.

    ``ms_per_photo`` to encode one, which is done once in a training, and ``ms_per_step`` to learn
    from 16 pairs of encoded photos. The least of several rounds over all rows, so that what else
    the machine does weighs on none of them alone.
    """
    target, query = (train.read(name) for name in list(train.images)[:2])
    labels = torch.arange(PAPER_RECIPE.batch) % 2
    networks = {name: build_network(config).train() for name, config in rows.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(1 + rounds):  # the first pays for what is made once
            for name, network in networks.items():
                optimiser = torch.optim.SGD(network.parameters(), PAPER_RECIPE.learning_rate)
                began = time.process_time()
                features = network.encode(target)
                encoded = network.encode(query, query=True)
                half = time.process_time()
                tensor = network.correlate(encoded, [features] * PAPER_RECIPE.batch)
                F.cross_entropy(network(tensor), labels).backward()
                optimiser.step()
                spent[name].append(((half - began) / 2, time.process_time() - half))
    finally:
        torch.set_num_threads(threads)
    least = {name: 1000 * np.min(times[1:], axis=0) for name, times in spent.items()}
    return {
        name: dict(zip(MILLISECONDS, both.round(1).tolist(), strict=True))
        for name, both in least.items()
    }
