"""One choice at a time: what views, grid, layout and aspect are worth after a short training.

Every row is the reference with one choice changed. All learn from Toytown's training landmarks in
the same steps; a row's best step is chosen on some validation queries, and its figures are those of
the others. Rows that are finished are written down at once: a table that was killed goes on.

Chapter: *Ranking and honest evaluation*.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from indiret.correlation import initial_metric_state
from indiret.datasets import RetrievalDataset
from indiret.experiments.audit import QUICK
from indiret.experiments.evaluator import provenance
from indiret.experiments.query_evaluator import HONEST, precisions
from indiret.experiments.records import (
    Record,
    Row,
    long_rows,
    rounded_interval,
    select_values,
    write_json,
)
from indiret.experiments.runner import collect_rows, keep_settings
from indiret.networks import (
    CONFIGS,
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
ABLATIONS: dict[str, NetworkConfig] = {
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
STORED_ABLATION = Path(__file__).parents[1] / "data" / "ablation"


def run_ablation(
    out: Path,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    rows: Mapping[str, NetworkConfig] = ABLATIONS,
    steps: int = 200,
    seeds: int = 1,
) -> dict[str, Any]:
    """Train and measure every row that is not there yet, and sum up.

    ``train`` and ``validation`` share no landmark; `REFERENCE` is among the rows; ``out`` holds a
    file of records for each row and seed.

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
    origin = keep_settings(out / "ablation.json", settings, provenance(train))
    samplers: dict[NetworkConfig, PairSampler] = {}

    def records(one: Trained) -> list[Row]:
        keep = one.name == REFERENCE
        return _records(one, rows[one.name], train, validation, steps, samplers, keep)

    todo = [Trained(name, seed) for seed in range(seeds) for name in rows]
    table = collect_rows("ablation", todo, records, out)
    costs = out / "costs.json"
    if not costs.exists():
        write_json(costs, row_costs({**rows, "paper-base": CONFIGS["paper-base"]}, train))
    spent: dict[str, Record] = json.loads(costs.read_text())
    base = select_values(table, HONEST, variant=REFERENCE)
    summary: dict[str, Record] = {}
    for name in [*rows, KEPT]:
        own = REFERENCE if name == KEPT else name
        parameters = table[(table["variant"] == own) & (table["measure"] == "parameters")]
        values = select_values(table, HONEST, variant=name)
        summary[name] = {"mAP": rounded_interval(values), "gain": rounded_interval(values, base)}
        summary[name] |= {"parameters": int(parameters["value"].iloc[0]), **spent[own]}
    asked = len({query for _, query, _ in base})
    results = {"steps": steps, "seeds": seeds, "rows": summary, "queries": asked}
    results |= {"paper-base": spent["paper-base"], "provenance": origin}
    write_json(out / "results.json", results)
    return results


def stored_ablation() -> dict[str, Any]:
    """The table that the book reports, as `run_ablation` returned it."""
    results: dict[str, Any] = json.loads((STORED_ABLATION / "results.json").read_text())
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


class Trained(NamedTuple):
    """One network of the table."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        return f"{re.sub('[^a-z0-9]+', '-', self.name)}-{self.seed}"


def _records(
    one: Trained,
    config: NetworkConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    steps: int,
    samplers: dict[NetworkConfig, PairSampler],
    keep: bool,
) -> list[Row]:
    recipe = TrainingConfig(steps=steps, validate_every=-(-steps // 2), seed=one.seed)
    lessons = None
    if not initial_metric_state(config.metrics, 12):  # else patches are described by what is fitted
        alike = config.replace(
            name="", architecture=QUICK.architecture, conv=QUICK.conv, width=QUICK.width
        )
        if alike not in samplers:
            samplers.clear()  # 0.1 GB each
            samplers[alike] = PairSampler(train, build_network(alike), replace(recipe, seed=0))
        lessons = Lessons(samplers[alike], first=one.seed * steps)
    choosing = replace(validation, queries=validation.queries[::3])
    asked = [query for query in validation.queries if query not in choosing.queries]
    network, _ = fit(config, train, choosing, recipe, lessons=lessons)
    place = {"variant": one.name, "seed": one.seed}
    rows = long_rows({"parameters": parameter_count(network)}, landmark="", query="", **place)
    networks = {one.name: network}
    if keep:
        networks[KEPT] = build_network(config.replace(aspect="keep")).eval()
        networks[KEPT].load_state_dict(network.state_dict())
    for name, trained in networks.items():
        ranked = rank(trained, asked, validation)
        for query in asked:
            value = precisions([hit.name for hit in ranked[query.name]], query)[HONEST]
            at = place | {"variant": name, "landmark": query.landmark, "query": query.name}
            rows += long_rows({HONEST: value}, **at)
    return rows
