"""Measure a method on a data set and write down everything needed to measure it again.

Chapters: *Ranking and honest evaluation*, *Reproducing the tables*.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from indiret.baselines import METHODS as BASELINES
from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import (
    SETUPS,
    average_precision,
    mean_average_precision,
    mean_precision,
    nested_bootstrap,
    revisit,
)
from indiret.networks import load_network
from indiret.planevote import PlanesMethod
from indiret.protocol import measure_evidence, measure_planes
from indiret.ranking import Hit, Method, NetworkMethod, prepare, rank


def list_methods() -> dict[str, str]:
    """What ``find_method`` takes besides a weights file: descriptions by name."""
    return {"base": "the shipped 4-D ResNet"} | {
        name: baseline.description for name, baseline in BASELINES.items()
    }


def find_method(name: str) -> Method:
    """A method by its name, or a network by the path of its ``.safetensors`` file.

    Raises
    ------
    ValueError
        If the name is not known; the valid ones are listed.

    Examples
    --------
    >>> find_method("sfit")
    Traceback (most recent call last):
    ValueError: method 'sfit' is not known; choose from base, ...
    """
    if name == "base" or name.endswith(".safetensors"):
        return NetworkMethod(load_network(name))
    if name in BASELINES:
        return BASELINES[name].build()
    known = ", ".join(list_methods())
    raise ValueError(f"method {name!r} is not known; choose from {known} or a .safetensors file.")


def evaluate(name: str, dataset: RetrievalDataset) -> dict[str, Any]:
    """Rank a data set's queries and measure the lists, and the evidence where RoIs exist.

    Parameters
    ----------
    name
        As `find_method` takes it.
    dataset
        With queries; they are cropped to their boxes, and each is its own positive.

    Returns
    -------
    dict
        ``mAP``, ``mAP_ci`` (95 %, nested bootstrap over landmarks and queries), ``mAP@5``,
        ``mAP@10``, ``mAP@20``, ``mAP_without_query`` (over the queries that have another positive;
        None if there is none), ``AP`` by query, ``revisited`` (of a revisited benchmark, whose
        other figures are those of the medium setup), ``ms_per_pair`` (ranking with the database
        prepared, the query's photo not), ``evidence`` (of networks and planes), ``skipped`` and
        ``provenance``.

    Raises
    ------
    ValueError
        If the method is unknown or the data set has no queries.
    """
    if not dataset.queries:
        raise ValueError(
            f"data set {dataset.name!r} has no queries to measure; `indiret search` takes folders."
        )
    method = find_method(name)
    began = time.monotonic()
    prepared = prepare(method, dataset)
    prepared_at = time.monotonic()
    hits = rank(method, dataset.queries, dataset, prepared)
    seconds = time.monotonic() - prepared_at
    pairs = len(dataset.queries) * len(prepared.features)
    results = {"dataset": dataset.name, "method": name, "queries": len(dataset.queries)}
    results |= {"database": len(prepared.features), **ranking_measures(hits, dataset)}
    results |= {"ms_per_pair": 1000 * seconds / pairs, "skipped": prepared.skipped}
    if isinstance(method, NetworkMethod):
        results["evidence"] = measure_evidence(method, dataset, prepared)
    elif isinstance(method, PlanesMethod):
        results["evidence"] = measure_planes(method, dataset, prepared)
    wall_time = time.monotonic() - began
    return results | {"provenance": provenance(dataset) | {"seconds": wall_time}}


def ranking_measures(hits: Mapping[str, list[Hit]], dataset: RetrievalDataset) -> dict[str, Any]:
    """The figures that every table prints, from ranked lists."""
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    values = {
        query.name: average_precision(lists[query.name], query.positives, query.junk)
        for query in dataset.queries
    }
    interval = nested_bootstrap(
        {(query.landmark, query.name, 0): values[query.name] for query in dataset.queries}
    )
    at = {f"mAP@{k}": mean_average_precision(lists, dataset.queries, k=k) for k in (5, 10, 20)}
    others = [query for query in dataset.queries if query.positives - {query.image}]
    without = mean_average_precision(lists, others, exclude_query=True) if others else None
    measures: dict[str, Any] = {
        "mAP": mean_average_precision(lists, dataset.queries),
        "mAP_ci": [interval.low, interval.high],
        **at,
        "mAP_without_query": without,
        "AP": values,
    }
    if dataset.revisited:
        measures["revisited"] = {
            setup: revisited_measures(lists, revisit(dataset.queries, setup)) for setup in SETUPS
        }
    return measures


def revisited_measures(
    lists: Mapping[str, Sequence[str]], queries: Sequence[Query]
) -> dict[str, float]:
    """``mAP``, ``mP@1``, ``mP@5``, ``mP@10`` of one setup, and how many ``queries`` it has."""
    if not queries:
        return {"queries": 0}
    precisions = {f"mP@{k}": mean_precision(lists, queries, k) for k in (1, 5, 10)}
    return {"mAP": mean_average_precision(lists, queries), **precisions, "queries": len(queries)}


def provenance(dataset: RetrievalDataset) -> dict[str, str]:
    """Where a result came from: code, data, versions and machine."""
    return {
        "commit": _commit(),
        "data_manifest": dataset.manifest_hash(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("indiret", "torch", "numpy", "pillow")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str:
    """The checkout's commit, marked if it has changes; ``unknown`` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def write_json(path: Path, data: Any) -> None:
    """Write json whole or not at all, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")
    os.replace(unfinished, path)
