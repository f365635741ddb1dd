"""Measure a method on a data set and write down everything needed to measure it again.

Chapters: *Ranking and honest evaluation*, *Reproducing the tables*.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from indiret.backbones import FINER, empty_cache
from indiret.baselines import METHODS as BASELINES
from indiret.baselines import build_method
from indiret.cascade import PLANE_METHODS, load_plane_method
from indiret.datasets import Query, RetrievalDataset
from indiret.descriptor_methods import EXPORTED, is_descriptor_name
from indiret.evaluation import (
    SETUPS,
    mean_average_precision,
    mean_precision,
    nested_bootstrap,
    revisit,
)
from indiret.experiments.evidence_protocol import measure_evidence, measure_maps
from indiret.experiments.records import write_json
from indiret.experiments.runner import run_all
from indiret.networks import VERIFIER, load_network, read_metadata
from indiret.planenet import is_plane_network
from indiret.ranking import Hit, Method, NetworkMethod, Prepared, prepare, rank
from indiret.reranking import Shortlist
from indiret.verification import build_verifier_method

TIMED = 8  # queries whose time is taken


def list_methods() -> dict[str, str]:
    """What ``find_method`` takes besides a weights file: descriptions by name."""
    return (
        {
            "base": "the shipped 4-D ResNet",
            FINER + VERIFIER: "the same over the correlations of features (extra: baselines)",
        }
        | {name: description for name, (_, description) in PLANE_METHODS.items()}
        | {name: baseline.description for name, baseline in BASELINES.items()}
    )


def find_method(name: str) -> Method:
    """A method by its name, or a network by the path of its ``.safetensors`` file.

    ``FIRST,SECOND`` is `indiret.reranking.Shortlist` of two methods.

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
    first, comma, second = name.rpartition(",")
    if comma and not name.startswith(EXPORTED) and not Path(name).is_file():
        return Shortlist(find_method(first), find_method(second))
    if name == "base" or name.endswith(VERIFIER):
        return NetworkMethod(load_network(name))
    if name in PLANE_METHODS or is_plane_network(name):
        return load_plane_method(name)
    if name.endswith(".safetensors"):
        if "verifier" in read_metadata(name):
            return build_verifier_method(name)
        return NetworkMethod(load_network(name))
    if name in BASELINES or is_descriptor_name(name):
        return build_method(name)
    known = ", ".join(list_methods())
    raise ValueError(f"method {name!r} is not known; choose from {known} or a .safetensors file.")


def evaluate(name: str, dataset: RetrievalDataset, evidence: bool = True) -> dict[str, Any]:
    """Rank a data set's queries and measure the lists, and the evidence where RoIs exist.

    Parameters
    ----------
    name
        As `find_method` takes it.
    dataset
        With queries; they are cropped to their boxes, and each is its own positive.
    evidence
        Whether to measure it, which takes most of the time of a quick method.

    Returns
    -------
    dict
        ``mAP``, ``mAP@5``, ``mAP@10``, ``mAP@20``, ``mAP_without_query`` (over the queries that
        have another positive; None if there is none), each with ``_ci`` (95 %, nested bootstrap
        over landmarks and queries), ``AP`` by query, ``revisited`` (of a revisited benchmark, whose
        other figures are those of the medium setup), ``ms_per_query`` and ``ms_per_pair`` (see
        `query_time`), ``mb_per_image`` (what is kept of a picture to rank it), ``evidence`` (of
        methods that give it; None if left out), ``regions`` (which regions of interest it was
        measured on), ``skipped`` and ``provenance``.

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
    hits = rank(method, dataset.queries, dataset, prepared)
    milliseconds = 1000 * query_time(method, dataset, prepared)
    results = {"dataset": dataset.name, "method": name, "queries": len(dataset.queries)}
    results |= {"database": len(prepared.features), **ranking_measures(hits, dataset)}
    results |= {"ms_per_query": milliseconds}
    results |= {"ms_per_pair": milliseconds / len(prepared.features)}
    results |= {"mb_per_image": mean(map(kept_bytes, prepared.features.values())) / 1e6}
    results |= {"skipped": prepared.skipped, "regions": dataset.regions_used}
    if not evidence:
        results["evidence"] = None
    elif isinstance(method, NetworkMethod):
        results["evidence"] = measure_evidence(method, dataset, prepared)
    elif hasattr(method, "evidence"):
        results["evidence"] = measure_maps(method, dataset, prepared)
    wall_time = time.monotonic() - began
    return results | {"provenance": provenance(dataset) | {"seconds": wall_time}}


class Compared(NamedTuple):
    """A method by its name, on a data set."""

    name: str
    dataset: str

    @property
    def key(self) -> str:
        return re.sub(r"[^A-Za-z0-9.@+-]+", "_", f"{self.dataset} {self.name}")


def compare(
    names: Sequence[str], dataset: RetrievalDataset, out: Path, evidence: bool = True
) -> list[dict[str, Any]]:
    """`evaluate` several methods, a json file each; what an earlier run finished is not done again.

    A file made from other data or regions or by another commit is made anew. The results are in the
    order of the names.
    """
    here = provenance(dataset)

    def done(one: Compared, out: Path) -> bool:
        path = out / f"{one.key}.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
        made = found.get("provenance", {})
        of_these = found.get("method") == one.name and found.get("regions") == dataset.regions_used
        of_these &= not evidence or found.get("evidence", {}) is not None
        return of_these and all(made.get(key) == here[key] for key in ("commit", "data_manifest"))

    def do(one: Compared, out: Path) -> None:
        write_json(out / f"{one.key}.json", evaluate(one.name, dataset, evidence))

    compared = [Compared(name, dataset.name) for name in names]
    run_all(compared, out, do, done, "comparing", unit="method")
    return [json.loads((out / f"{one.key}.json").read_text()) for one in compared]


def query_time(method: Method, dataset: RetrievalDataset, prepared: Prepared) -> float:
    """Mean seconds of processor time to rank the database for a query, over a few of the queries.

    The database is prepared, the query's photo is not: it is read and described anew. Processor
    time, all threads added up, is hardly touched by what else the machine does.
    """
    few = dataset.queries[:: -(-len(dataset.queries) // TIMED)]
    with empty_cache():
        began = time.process_time()
        rank(method, few, dataset, prepared)
        return (time.process_time() - began) / len(few)


def ranking_measures(hits: Mapping[str, list[Hit]], dataset: RetrievalDataset) -> dict[str, Any]:
    """The figures that every table prints, from ranked lists."""
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    values = _values(lists, dataset.queries)
    measures = _with_interval("mAP", values)
    for k in (5, 10, 20):
        measures |= _with_interval(f"mAP@{k}", _values(lists, dataset.queries, k=k))
    others = [query for query in dataset.queries if query.positives - {query.image}]
    alone = _values(lists, others, exclude_query=True)
    measures |= _with_interval("mAP_without_query", alone) if alone else {"mAP_without_query": None}
    measures["AP"] = {name: value for (_, name, _), value in values.items()}
    if dataset.revisited:
        measures["revisited"] = {
            setup: revisited_measures(lists, revisit(dataset.queries, setup)) for setup in SETUPS
        }
    return measures


def _values(
    lists: Mapping[str, Sequence[str]], queries: Sequence[Query], **settings: Any
) -> dict[tuple[str, str, int], float]:
    """Average precision of each query, as `nested_bootstrap` takes it."""
    return {
        (query.landmark, query.name, 0): mean_average_precision(lists, [query], **settings)
        for query in queries
    }


def _with_interval(name: str, values: Mapping[tuple[str, str, int], float]) -> dict[str, Any]:
    _, low, high = nested_bootstrap(values)
    return {name: float(np.mean(list(values.values()))), f"{name}_ci": [low, high]}


def revisited_measures(
    lists: Mapping[str, Sequence[str]], queries: Sequence[Query]
) -> dict[str, float]:
    """``mAP``, ``mP@1``, ``mP@5``, ``mP@10`` of one setup, and how many ``queries`` it has."""
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
    return {
        "commit": _commit(),
        "lock": _lock(),
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


def _lock() -> str:
    """A SHA-256 of the pinned versions; ``unknown`` outside a checkout."""
    pins = Path(__file__).parents[2] / "constraints.txt"
    return hashlib.sha256(pins.read_bytes()).hexdigest() if pins.is_file() else "unknown"
