"""Measure a method on a data set and write down everything needed to measure it again.

Chapters: *Ranking and honest evaluation*, *Reproducing the tables*.
"""

import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from subprocess import CalledProcessError, run
from typing import Any

import numpy as np

from indiret.baselines.maps import EXPORTED, empty_cache
from indiret.checkpoints import WEIGHTS, file_name, write_json
from indiret.datasets import GONE, Query, RetrievalDataset
from indiret.evaluation import (
    SETUPS,
    mean_average_precision,
    mean_precision,
    nested_bootstrap,
    select_setup,
)
from indiret.experiments.evidence_protocol import measure_evidence
from indiret.experiments.query_evaluator import HONEST, precisions
from indiret.experiments.records import DEPENDS, StoredResult, read_kept, set_aside, what_changed
from indiret.experiments.runner import Keyed, run_all
from indiret.retrieval import Hit, IndexedDatabase, Retriever, build_retriever, index_database, rank

TRAINED = "network"  # the method of a run that trains its own
TIMED = 8  # queries whose time is taken


def evaluate(
    name: str, dataset: RetrievalDataset, evidence: bool = True, device: str = "cpu"
) -> dict[str, Any]:
    """Rank a data set's queries and measure the lists, and the evidence where RoIs exist.

    ``name`` is as `indiret.retrieval.build_retriever` takes it; queries are cropped to their boxes,
    and each is its own positive. The result is what ``indiret compare`` writes:

    - ``mAP``, ``mAP@5``, ``mAP@10``, ``mAP@20`` and ``mAP_without_query`` (over the queries that
      have another positive; None if there is none), each with ``_ci`` (95 %), and ``AP`` by query;
    - ``revisited``, of a revisited benchmark, whose other figures are those of the medium setup;
    - ``ms_per_query`` and ``ms_per_pair`` of processor time, ``mb_per_image`` that is kept;
    - ``evidence`` (None if left out) and the ``regions`` of interest that it was measured on;
    - ``skipped`` pictures and queries with the reasons, ``left_out`` (how many of how many) and
      ``provenance``.

    A photo that turns out broken counts as if it had never been there. Raises ValueError if the
    method is unknown or the data set has no queries.
    """
    if not dataset.queries:
        raise ValueError(
            f"data set {dataset.name!r} has no queries to measure; `indiret search` takes folders."
        )
    method = build_retriever(name, device)
    began = time.monotonic()
    database = index_database(method, dataset)
    listed, (dataset, broken) = dataset, leave_out_broken(dataset, method, database.skipped)
    hits = rank(method, dataset.queries, dataset, database)
    milliseconds = 1000 * query_time(method, dataset, database)
    results = {
        "dataset": dataset.name,
        "method": name,
        "device": device,
        "queries": len(dataset.queries),
        "database": len(database.features),
        **ranking_measures(hits, dataset),
        "ms_per_query": milliseconds,
        "ms_per_pair": milliseconds / len(database.features),
        "mb_per_image": mean(map(kept_bytes, database.features.values())) / 1e6,
        "skipped": broken,
        "left_out": {
            "photos": [len(database.skipped), len(listed.images)],
            "queries": [len(listed.queries) - len(dataset.queries), len(listed.queries)],
        },
        "regions": dataset.regions_used,
    }
    if method.evidence_kinds or not evidence:
        results["evidence"] = measure_evidence(method, dataset, database) if evidence else None
    results["provenance"] = provenance(listed, name) | {"seconds": time.monotonic() - began}
    return results


def leave_out_broken(
    dataset: RetrievalDataset, method: Retriever, broken: Mapping[str, str] | None = None
) -> tuple[RetrievalDataset, dict[str, str]]:
    """`RetrievalDataset.without` what is broken; also what was left out, and why.

    Queries' photos are read, but for those of the database if what is ``broken`` in it is known. A
    query without features from elsewhere is left out, too. Raises ValueError if no query is left.
    """
    reasons, known = dict(broken or {}), () if broken is None else dataset.images
    lacking: dict[str, str] = {}  # of queries
    for query in dataset.queries:
        try:
            if method.precomputed:
                method.precomputed(query.name, query=True)
            elif query.image not in known:
                dataset.read_query(query)
        except GONE as error:
            if method.precomputed:
                lacking[query.name] = str(error)
            else:
                reasons[query.image] = str(error)
    left = dataset.without(reasons)
    left = replace(left, queries=tuple(one for one in left.queries if one.name not in lacking))
    reasons = dict(left.skipped[len(dataset.skipped) :]) | lacking
    if dataset.queries and not left.queries:
        first = dataset.queries[0]
        raise ValueError(f"no query of {dataset.name!r} can be measured: {reasons[first.name]}")
    return left, reasons


def compare(
    names: Sequence[str], dataset: RetrievalDataset, out: Path, evidence: bool = True,
    device: str = "cpu",
) -> list[dict[str, Any]]:  # fmt: skip
    """`evaluate` several methods, a json file each; what an earlier run finished is not done again.

    What is broken, or was made from other data or weights or by another commit, is made anew, and
    what has changed is said. What runs on the processor alone is measured there. The results are in
    the order of the names.
    """
    devices = {name: usable_device(name, device) for name in names}

    def path(one: Keyed) -> Path:
        return out / f"{one.key}.json"

    def other(one: Keyed) -> str | None:
        """What a stored result is not of; None if there is none that can be read."""
        if (found := read_kept(path(one), StoredResult)) is None:
            return None
        here = provenance(dataset, one.value)
        here = {name: here[name] for name in ("commit", *DEPENDS)}
        here |= {"method": one.value, "device": devices[one.value]}
        lacks = evidence and found.get("evidence", {}) is None
        return what_changed(found | found["provenance"], here) or "evidence" * lacks

    def do(one: Keyed, out: Path) -> None:
        if changed := other(one):
            print(f"{one.value} is measured anew: what differs is {changed}.", file=sys.stderr)
        elif changed is None:
            set_aside(path(one))
        write_json(path(one), evaluate(one.value, dataset, evidence, devices[one.value]))

    compared = [
        Keyed(re.sub(r"[^A-Za-z0-9.@+-]+", "_", f"{dataset.name} {name}"), name) for name in names
    ]
    run_all(compared, out, do, lambda one, out: other(one) == "", "comparing", unit="method")
    return [json.loads(path(one).read_text()) for one in compared]


def usable_device(method: str, device: str) -> str:
    """The device, or ``cpu`` for a method that runs on the processor alone, which is said."""
    if device != "cpu":
        retriever = build_retriever(method)
        try:
            retriever.to(device)
        except ValueError as error:
            print(f"{method} is measured on the processor: {error}", file=sys.stderr)
            return "cpu"
    return device


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
    found = {(q.landmark, q.name, 0): precisions(lists[q.name], q) for q in dataset.queries}
    measures: dict[str, Any] = {}
    for name in ("mAP", "mAP@5", "mAP@10", "mAP@20", HONEST):
        values = {key: row[name] for key, row in found.items() if name in row}
        measures[name] = float(np.mean(list(values.values()))) if values else None
        if values:
            measures[f"{name}_ci"] = list(nested_bootstrap(values)[1:])
    measures["AP"] = {name: row["mAP"] for (_, name, _), row in found.items()}
    if dataset.revisited:
        measures["revisited"] = {
            setup: _of_setup(lists, select_setup(dataset.queries, setup)) for setup in SETUPS
        }
    return measures


def _of_setup(lists: Mapping[str, Sequence[str]], queries: Sequence[Query]) -> dict[str, float]:
    if not queries:
        return {"queries": 0}
    first = {f"mP@{k}": mean_precision(lists, queries, k) for k in (1, 5, 10)}
    return {"mAP": mean_average_precision(lists, queries), **first, "queries": len(queries)}


def kept_bytes(features: Any) -> int:
    """Memory of the arrays and tensors in what a method keeps of a picture."""
    if hasattr(features, "nbytes"):
        return int(features.nbytes)
    if isinstance(features, Mapping):
        features = tuple(features.values())
    return sum(map(kept_bytes, features)) if isinstance(features, tuple) else 0


def provenance(dataset: RetrievalDataset, *methods: str) -> dict[str, str]:
    """Where a result came from: code, data, files of the methods, versions and machine."""
    pins = Path(__file__).parents[2] / "constraints.txt"  # not there outside a checkout
    return {
        "commit": _commit(),
        "lock": hashlib.sha256(pins.read_bytes()).hexdigest() if pins.is_file() else "unknown",
        "data_manifest": dataset.manifest_hash(),
        **dataset.fingerprint(),
        "weights": _hash_files(methods),
        "python": platform.python_version(),
        **{package: version(package) for package in ("indiret", "torch", "numpy", "pillow")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _hash_files(methods: Iterable[str]) -> str:
    """A hash of the files that methods' names name: weights, shipped or not, or features."""
    digest = hashlib.sha256()
    for method in methods:
        whole = method.startswith(EXPORTED) or Path(method).is_file()
        for name in [method] if whole else method.split(","):
            shipped, given = WEIGHTS / file_name(name), name.removeprefix(EXPORTED)
            files = [shipped if shipped.is_file() else Path(given)]
            if given != name:  # a folder, and perhaps how it is pooled
                folder = files[0] if files[0].is_dir() else Path(given.rpartition(":")[0] or given)
                files = sorted(folder.rglob("*.npy"))
            for file in filter(Path.is_file, files):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str:
    """The checkout's commit, marked if it has changes; ``unknown`` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, CalledProcessError):
        return "unknown"
    return found.stdout.strip()
