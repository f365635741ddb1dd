"""One choice at a time: what views, grid, layout and aspect are worth after a short training.

Every row is the reference with one choice changed. All learn from Toytown's training landmarks in
the same steps; a row's best step is chosen on some validation queries, and its figures are those of
the others. Rows that are finished are written down at once: a table that was killed goes on.

Chapter: *Ranking and honest evaluation*.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from indiret.correlation import initial_metric_state
from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import average_precision
from indiret.experiments.audit import QUICK, Values, rounded_interval
from indiret.experiments.evaluate import keep_settings, provenance, write_json
from indiret.networks import (
    CONFIGS,
    IndicativeNetwork,
    NetworkConfig,
    build_network,
    parameter_count,
)
from indiret.ranking import rank
from indiret.sampling import Lessons, PairSampler
from indiret.training import PAPER_RECIPE, TrainingConfig, fit

PAPER = CONFIGS["paper-base"].metrics
REFERENCE = "reference"
KEPT = "aspect kept when asked"  # the reference's weights again: training needs equal grids
ROWS: dict[str, NetworkConfig] = {
    REFERENCE: QUICK,
    "architecture: planes": QUICK.replace(architecture="planes"),
    "architecture: planes+resnet18": QUICK.replace(architecture="planes+resnet18"),
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
    "views: the paper's four": QUICK.replace(metrics=PAPER),
    "views: the four, zncc, mutual": QUICK.replace(metrics=(*PAPER, "zncc", "mutual")),
    "grid 6 × 6, query 4 × 4": QUICK.replace(grid=(6, 6), query_grid=(4, 4)),
    "grid 11 × 11, query 8 × 8": QUICK.replace(grid=(11, 11), query_grid=(8, 8)),
    "layout: pivot": QUICK.replace(conv="pivot"),
    "layout: flat": QUICK.replace(conv="flat"),
    "layout: flat, width 16": QUICK.replace(conv="flat", width=16),
}
STORED = Path(__file__).parents[1] / "data" / "ablation"
Record = dict[str, Any]


def run_ablation(
    out: Path,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    rows: Mapping[str, NetworkConfig] = ROWS,
    steps: int = 200,
    seeds: int = 1,
) -> dict[str, Any]:
    """Train and measure every row that is not there yet, and sum up.

    Parameters
    ----------
    out
        Folder of a json file for each row and seed.
    train, validation
        Data sets that share no landmark.
    rows
        Configurations by name, `REFERENCE` among them.
    steps, seeds
        Of each row.

    Returns
    -------
    dict
        ``rows``: by name, ``mAP`` (the query's own photo left out) and ``gain`` over the reference
        with intervals, ``parameters`` and what `row_costs` tells, which ``paper-base`` has,
        too. Settings and provenance. Also in ``out/results.json``.

    Raises
    ------
    ValueError
        If ``out`` holds a table of other settings or data, the reference is missing, or ``seeds``
        is not at least 1.
    """
    if REFERENCE not in rows:
        raise ValueError(f"rows {', '.join(rows)} have no {REFERENCE!r} to compare with.")
    if seeds < 1:
        raise ValueError(f"seeds={seeds} is not at least 1.")
    settings: Record = {"rows": {name: asdict(config) for name, config in rows.items()}}
    settings |= {"steps": steps, "data": train.manifest_hash()}
    keep_settings(out / "ablation.json", settings)
    origin = provenance(train)
    samplers: dict[NetworkConfig, PairSampler] = {}
    todo = [(name, seed) for seed in range(seeds) for name in rows]
    for name, seed in tqdm(todo, desc="ablation", unit="row", disable=None):
        path = _record_path(out, name, seed)
        if not path.exists():
            record = _row(rows[name], train, validation, steps, seed, samplers, name == REFERENCE)
            write_json(path, record | {"provenance": origin})
    costs = out / "costs.json"
    if not costs.exists():
        write_json(costs, row_costs({**rows, "paper-base": CONFIGS["paper-base"]}, train))
    records = {
        name: [json.loads(_record_path(out, name, seed).read_text()) for seed in range(seeds)]
        for name in rows
    }
    spent: dict[str, Record] = json.loads(costs.read_text())
    table = _table(records, validation)
    for name, row in table.items():
        row |= spent[REFERENCE if name == KEPT else name]
    results = {"steps": steps, "seeds": seeds, "rows": table}
    results |= {"queries": len(records[REFERENCE][0]["AP"]), "paper-base": spent["paper-base"]}
    results |= {"provenance": records[REFERENCE][0]["provenance"]}
    write_json(out / "results.json", results)
    return results


def stored_ablation() -> dict[str, Any]:
    """The table that the book reports, as `run_ablation` returned it."""
    results: dict[str, Any] = json.loads((STORED / "results.json").read_text())
    return results


def row_costs(
    rows: Mapping[str, NetworkConfig], train: RetrievalDataset, rounds: int = 15
) -> dict[str, dict[str, float]]:
    """Milliseconds of one core that a network needs, by its row's name.

    ``ms_per_photo`` to describe one, which is done once in a training, and ``ms_per_step`` to learn
    from 16 pairs of described photos. The least of several rounds over all rows, so that what else
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
                described = network.describe(target)
                asked = network.describe(query, query=True)
                half = time.process_time()
                tensor = network.correlate(asked, [described] * PAPER_RECIPE.batch)
                F.cross_entropy(network(tensor), labels).backward()
                optimiser.step()
                spent[name].append(((half - began) / 2, time.process_time() - half))
    finally:
        torch.set_num_threads(threads)
    least = {name: 1000 * np.min(times[1:], axis=0) for name, times in spent.items()}
    return {
        name: {"ms_per_photo": round(float(photo), 1), "ms_per_step": round(float(step), 1)}
        for name, (photo, step) in least.items()
    }


def _row(
    config: NetworkConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    steps: int,
    seed: int,
    samplers: dict[NetworkConfig, PairSampler],
    keep: bool,
) -> Record:
    recipe = TrainingConfig(steps=steps, validate_every=-(-steps // 2), seed=seed)
    lessons = None
    if not initial_metric_state(config.metrics, 12):  # else patches are described by what is fitted
        alike = config.replace(
            name="", architecture=QUICK.architecture, conv=QUICK.conv, width=QUICK.width
        )
        if alike not in samplers:
            samplers.clear()  # 0.1 GB each
            samplers[alike] = PairSampler(train, build_network(alike), replace(recipe, seed=0))
        lessons = Lessons(samplers[alike], first=seed * steps)
    choosing = replace(validation, queries=validation.queries[::3])
    asked = [query for query in validation.queries if query not in choosing.queries]
    network, _ = fit(config, train, choosing, recipe, lessons=lessons)
    record: Record = {"AP": _precisions(network, asked, validation)}
    record |= {"parameters": parameter_count(network)}
    if keep:
        kept = build_network(config.replace(aspect="keep")).eval()
        kept.load_state_dict(network.state_dict())
        record["AP_kept"] = _precisions(kept, asked, validation)
    return record


def _precisions(
    network: IndicativeNetwork, asked: Sequence[Query], dataset: RetrievalDataset
) -> dict[str, float]:
    """Average precision by query, its own photo left out."""
    found = {}
    for query in asked:
        found[query.name] = query.positives - {query.image}, query.junk | {query.image}
    ranked = rank(network, asked, dataset)
    return {
        name: average_precision([hit.name for hit in ranked[name]], positives, junk)
        for name, (positives, junk) in found.items()
    }


def _table(
    records: Mapping[str, Sequence[Record]], validation: RetrievalDataset
) -> dict[str, Record]:
    landmark = {query.name: query.landmark for query in validation.queries}

    def values(name: str, kind: str = "AP") -> Values:
        return {
            (landmark[query], query, seed): value
            for seed, record in enumerate(records[name])
            for query, value in record[kind].items()
        }

    base = values(REFERENCE)
    table: dict[str, Record] = {}
    for name, of_seeds in records.items():
        own = values(name)
        table[name] = {"mAP": rounded_interval(own)}
        table[name]["gain"] = rounded_interval(own, base)
        table[name]["parameters"] = of_seeds[0]["parameters"]
    if all("AP_kept" in record for record in records[REFERENCE]):
        own = values(REFERENCE, "AP_kept")
        table[KEPT] = {
            "mAP": rounded_interval(own),
            "gain": rounded_interval(own, base),
            "parameters": table[REFERENCE]["parameters"],
        }
    return table


def _record_path(out: Path, name: str, seed: int) -> Path:
    return out / f"{re.sub('[^a-z0-9]+', '-', name)}-{seed}.json"
