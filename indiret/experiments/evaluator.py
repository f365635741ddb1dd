"""Measure a method on a data set and write down everything needed to measure it again.

Chapters: *Ranking and honest evaluation*, *Reproducing the tables*.
"""

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from subprocess import CalledProcessError, run
from typing import Any

import numpy as np

from indiret.baselines.maps import empty_cache
from indiret.checkpoints import write_json
from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import (
    SETUPS,
    mean_average_precision,
    mean_precision,
    nested_bootstrap,
    select_setup,
)
from indiret.experiments.evidence_protocol import measure_evidence
from indiret.experiments.records import Values
from indiret.experiments.runner import Keyed, run_all
from indiret.retrieval import Hit, IndexedDatabase, Retriever, build_retriever, index_database, rank

TIMED = 8  # queries whose time is taken


def evaluate(name: str, dataset: RetrievalDataset, evidence: bool = True) -> dict[str, Any]:
    """Rank a data set's queries and measure the lists, and the evidence where RoIs exist.

    ``name`` is as `indiret.retrieval.build_retriever` takes it; queries are cropped to their boxes,
    and each is its own positive. The result is what ``indiret compare`` writes:

    - ``mAP``, ``mAP@5``, ``mAP@10``, ``mAP@20`` and ``mAP_without_query`` (over the queries that
      have another positive; None if there is none), each with ``_ci`` (95 %), and ``AP`` by query;
    - ``revisited``, of a revisited benchmark, whose other figures are those of the medium setup;
    - ``ms_per_query`` and ``ms_per_pair`` of processor time, ``mb_per_image`` that is kept;
    - ``evidence`` (None if left out) and the ``regions`` of interest that it was measured on;
    - ``skipped`` pictures and ``provenance``.

    Raises ValueError if the method is unknown or the data set has no queries.
    """
    if not dataset.queries:
        raise ValueError(
            f"data set {dataset.name!r} has no queries to measure; `indiret search` takes folders."
        )
    method = build_retriever(name)
    began = time.monotonic()
    database = index_database(method, dataset)
    hits = rank(method, dataset.queries, dataset, database)
    milliseconds = 1000 * query_time(method, dataset, database)
    results = {
        "dataset": dataset.name,
        "method": name,
        "queries": len(dataset.queries),
        "database": len(database.features),
        **ranking_measures(hits, dataset),
        "ms_per_query": milliseconds,
        "ms_per_pair": milliseconds / len(database.features),
        "mb_per_image": mean(map(kept_bytes, database.features.values())) / 1e6,
        "skipped": database.skipped,
        "regions": dataset.regions_used,
    }
    if method.evidence_kinds or not evidence:
        results["evidence"] = measure_evidence(method, dataset, database) if evidence else None
    results["provenance"] = provenance(dataset) | {"seconds": time.monotonic() - began}
    return results


def compare(
    names: Sequence[str], dataset: RetrievalDataset, out: Path, evidence: bool = True
) -> list[dict[str, Any]]:
    """`evaluate` several methods, a json file each; what an earlier run finished is not done again.

    A file made from other data or regions or by another commit is made anew. The results are in the
    order of the names.
    """
    here = provenance(dataset)

    def path(one: Keyed) -> Path:
        return out / f"{one.key}.json"

    def done(one: Keyed, out: Path) -> bool:
        found = json.loads(path(one).read_text()) if path(one).is_file() else {}
        made = found.get("provenance", {})
        of_these = found.get("method") == one.value and found.get("regions") == dataset.regions_used
        of_these &= not evidence or found.get("evidence", {}) is not None
        return of_these and all(made.get(key) == here[key] for key in ("commit", "data_manifest"))

    def do(one: Keyed, out: Path) -> None:
        write_json(path(one), evaluate(one.value, dataset, evidence))

    compared = [
        Keyed(re.sub(r"[^A-Za-z0-9.@+-]+", "_", f"{dataset.name} {name}"), name) for name in names
    ]
    run_all(compared, out, do, done, "comparing", unit="method")
    return [json.loads(path(one).read_text()) for one in compared]


def query_time(method: Retriever, dataset: RetrievalDataset, database: IndexedDatabase) -> float:
    """Mean processor seconds to rank the database for a query, over a few of the queries.

    The query's photo is read and encoded anew; all threads are added up.
    """
    few = dataset.queries[:: -(-len(dataset.queries) // TIMED)]
    with empty_cache():
        began = time.process_time()
        rank(method, few, dataset, database)
        return (time.process_time() - began) / len(few)


def ranking_measures(hits: Mapping[str, list[Hit]], dataset: RetrievalDataset) -> dict[str, Any]:
    """The figures that every table prints, from ranked lists."""
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    others = [query for query in dataset.queries if query.positives - {query.image}]

    def precisions(queries: Sequence[Query], **settings: Any) -> Values:
        return {
            (query.landmark, query.name, 0): mean_average_precision(lists, [query], **settings)
            for query in queries
        }

    parts = {"mAP": precisions(dataset.queries)}
    parts |= {f"mAP@{k}": precisions(dataset.queries, k=k) for k in (5, 10, 20)}
    parts["mAP_without_query"] = precisions(others, exclude_query=True)
    measures: dict[str, Any] = {}
    for name, values in parts.items():
        measures[name] = float(np.mean(list(values.values()))) if values else None
        if values:
            measures[f"{name}_ci"] = list(nested_bootstrap(values)[1:])
    measures["AP"] = {name: value for (_, name, _), value in parts["mAP"].items()}
    if dataset.revisited:
        measures["revisited"] = {
            setup: _of_setup(lists, select_setup(dataset.queries, setup)) for setup in SETUPS
        }
    return measures


def _of_setup(lists: Mapping[str, Sequence[str]], queries: Sequence[Query]) -> dict[str, float]:
    if not queries:
        return {"queries": 0}
    precisions = {f"mP@{k}": mean_precision(lists, queries, k) for k in (1, 5, 10)}
    return {"mAP": mean_average_precision(lists, queries), **precisions, "queries": len(queries)}


def kept_bytes(features: Any) -> int:
    """Memory of the arrays and tensors in what a method keeps of a picture."""
    if hasattr(features, "nbytes"):
        return int(features.nbytes)
    if isinstance(features, Mapping):
        features = tuple(features.values())
    return sum(map(kept_bytes, features)) if isinstance(features, tuple) else 0


def provenance(dataset: RetrievalDataset) -> dict[str, str]:
    """Where a result came from: code, data, versions and machine."""
    pins = Path(__file__).parents[2] / "constraints.txt"  # not there outside a checkout
    return {
        "commit": _commit(),
        "lock": hashlib.sha256(pins.read_bytes()).hexdigest() if pins.is_file() else "unknown",
        "data_manifest": dataset.manifest_hash(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("indiret", "torch", "numpy", "pillow")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str:
    """The checkout's commit, marked if it has changes; ``unknown`` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, CalledProcessError):
        return "unknown"
    return found.stdout.strip()
