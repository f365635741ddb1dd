"""Whether two checkouts compute the same: every retriever's scores, evidence, points, and training.

    PYTHONPATH=CHECKOUT python benchmarks/compare_checkouts.py record FOLDER --oxford OXFORD
    python -m benchmarks.compare_checkouts compare BEFORE AFTER

``record`` writes a file for each data set and retriever; what the same code has recorded already is
not recorded again. ``compare`` prints a line for each file, and exits with 1 if anything is missing
or differs by more than a millionth of its array's largest magnitude.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

import indiret
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.evidence import METHODS, explain
from indiret.training import TrainingConfig, fit

PACKAGE = Path(indiret.__file__).parent
TOLERANCE = 1e-6
UNJUDGED = -1e6  # `indiret.retrieval.UNJUDGED`, which an older checkout lacks
TRAINING = "training"  # stands among the retrievers: weights after 50 steps of ``base``
FORMS = (  # of names that are not listed one by one
    "colour-histogram,mutual-nn",
    "efficientnet-lite0:gem+whiten+ms",
    "efficientnet-lite0:rmac+alphaqe",
    "efficientnet-lite0:rmac+diffusion",
    "efficientnet-lite0:rmac+kreciprocal",
    "fuse:colour-histogram,thumbnail",
    "plane-net+vqe",
    "plane-net:gradients+efficientnet-lite0/16",
    "planes:gradients+efficientnet-lite0/16",
)
PAIRS = 6, 3  # explained: of relevant and of other targets
POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5], [0.25, 0.6], [0.7, 0.3]])

# What has other names in a checkout older than indiret.retrieval:
if NEW := (PACKAGE / "retrieval.py").is_file():
    from indiret.retrieval import NetworkRetriever, build_retriever, index_database, list_retrievers
else:
    from indiret.protocol import EVIDENCE
    from indiret.ranking import NetworkMethod as NetworkRetriever
    from indiret.ranking import prepare as index_database
    from indiret.ranking import prepare_query
    from indiret.reproduction import find_method as build_retriever
    from indiret.reproduction import list_methods as list_retrievers


def encode_query(retriever: Any, dataset: RetrievalDataset, query: Query) -> Any:
    if NEW:
        return retriever.encode_query(dataset.read_query(query))
    return prepare_query(retriever, dataset, query)


def explain_pair(retriever: Any, query: Any, target: Any) -> dict[str, Any]:
    """Evidence, or what there is of it, by its kind; empty where a retriever has none."""
    found: dict[str, Any] = {}
    if isinstance(retriever, NetworkRetriever):
        network, tensor = retriever.network, retriever.tensor(query, [target])
        found = {kind: explain(network, tensor, kind)[0] for kind in METHODS}
        if not NEW:
            return found | {k: explain(network, tensor, **v)[0] for k, v in EVIDENCE.items()}
    if NEW:
        kinds = retriever.evidence_kinds
        return found | {kind: retriever.explain(query, target, kind) for kind in kinds}
    maps = retriever.evidence(query, target) if hasattr(retriever, "evidence") else {}
    if hasattr(retriever, "explain"):
        return {kind: retriever.explain(query, target) for kind in maps}
    return {
        kind: SimpleNamespace(**{"pairs" if one.ndim == 4 else "target_map": one})
        for kind, one in maps.items()
    }


def transfer_points(retriever: Any, query: Any, target: Any) -> np.ndarray | None:
    if NEW:
        able, transfer = retriever.transfers_points, "transfer_points"
    else:
        able, transfer = hasattr(retriever, "carry"), "carry"
    return getattr(retriever, transfer)(query, target, POINTS) if able else None


def record_retriever(name: str, dataset: RetrievalDataset) -> dict[str, np.ndarray]:
    """All that is compared of a retriever on a data set, by names such as ``points/3``."""
    retriever = build_retriever(name)
    features = index_database(retriever, dataset).features
    queries, names, targets = {}, list(features), list(features.values())
    scores = []
    for query in tqdm(dataset.queries, desc=name, unit="query", disable=None, leave=False):
        queries[query.name] = encode_query(retriever, dataset, query)
        scores.append(retriever.score(queries[query.name], targets))
    arrays = {"scores": np.stack(scores), "scores/of": np.array([*queries, *names])}
    for number, (asked, named) in enumerate(_some_pairs(dataset.queries, names)):
        pair = queries[asked], features[named]
        for kind, evidence in explain_pair(retriever, *pair).items():
            for part in ("score", "pairs", "target_map", "query_map"):
                if (values := getattr(evidence, part, None)) is not None:
                    arrays[f"evidence/{number}/{kind}/{part}"] = np.asarray(values)
        if (points := transfer_points(retriever, *pair)) is not None:
            arrays[f"points/{number}"] = points
    for module in vars(retriever).values():
        if isinstance(module, nn.Module):
            arrays |= _weights(module)
    return arrays


def _some_pairs(queries: Sequence[Query], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names of queries and targets, spread evenly over those that match and over all others."""
    pairs: tuple[list[tuple[str, str]], ...] = ([], [])
    for query in queries:
        for name in names:
            if name != query.image:
                pairs[name not in query.positives].append((query.name, name))
    for kind, count in zip(pairs, PAIRS, strict=True):
        for place in np.linspace(0, len(kind) - 1, count).round().astype(int):
            yield kind[place]


def record_training() -> dict[str, np.ndarray]:
    """Weights of ``base`` after 50 steps on Toytown."""
    train, validation = (load_dataset("toytown", split=part) for part in ("train", "validation"))
    config = TrainingConfig(steps=50, validation_queries=4, seed=0)
    return _weights(fit("base", train, validation, config)[0])


def _weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {f"weights/{name}": values.numpy() for name, values in module.state_dict().items()}


def record(folder: Path, datasets: Sequence[RetrievalDataset], names: Sequence[str] = ()) -> None:
    """Write FOLDER/DATASET/NAME.npz for each retriever, whole or not at all."""
    files = sorted(PACKAGE.rglob("*.py"))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    todo = [(name, data) for data in datasets for name in names or [*list_retrievers(), *FORMS]]
    if TRAINING in names or not names:
        todo = [(TRAINING, datasets[0])] + [work for work in todo if work[0] != TRAINING]
    for name, dataset in tqdm(todo, desc="recording", unit="file", disable=None):
        path = folder / dataset.name / f"{quote(name, safe='')}.npz"
        if path.is_file() and str(_read(path)["code"]) == code:
            continue
        arrays = record_training() if name == TRAINING else record_retriever(name, dataset)
        _check_one_checkout()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".part").open("wb") as unfinished:
            np.savez_compressed(unfinished, code=np.array(code), **arrays)
        os.replace(unfinished.name, path)


def _check_one_checkout() -> None:
    """An editable install fills in modules that the checkout at hand does not have."""
    for name, module in sys.modules.items():
        file = module.__file__ if name.startswith("indiret.") else None
        if file and not Path(file).is_relative_to(PACKAGE):
            raise ImportError(f"{name} is {file}, of another checkout than {PACKAGE}.")


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def compare(before: Path, after: Path) -> bool:
    """Print a line for each file of ``before``; whether ``after`` has all of it, and the same."""
    files = sorted(file.relative_to(before) for file in before.rglob("*.npz"))
    if not files:
        raise FileNotFoundError(f"{before} has no DATASET/NAME.npz; record it first.")
    return all([_compare_file(file, before, after) for file in files])


def _compare_file(file: Path, before: Path, after: Path) -> bool:
    label = f"{file.parent!s:12} {unquote(file.stem):36}"
    if not (after / file).is_file():
        print(label, "MISSING")
        return False
    olds, news = _read(before / file), _read(after / file)
    del olds["code"]
    wrong, largest, equal = list[str](), dict[str, float](), True
    for name, old in olds.items():
        new = news.get(name)
        if new is None or new.shape != old.shape:
            wrong.append(f"{name} is {'missing' if new is None else 'of another shape'}")
            continue
        if name == "scores":  # of whom a later stage did not judge only the order is compared
            unjudged = new <= UNJUDGED
            old, new = (np.where(unjudged, _places(side), side) for side in (old, new))
        difference, limit = _difference(old, new)
        if difference > limit:
            wrong.append(f"{name} differs by {difference:.2g}")
        kind, equal = name.split("/")[0], equal and difference == 0
        largest[kind] = max(largest.get(kind, 0.0), difference)
    differences = ", ".join(f"{kind} {value:.2g}" for kind, value in largest.items())
    verdict = "bit-equal" if equal and not wrong else "DIFFERENT" if wrong else "equal"
    print(label, f"{verdict:9}", differences, "; ".join(wrong[:3]), "…" if wrong[3:] else "")
    return not wrong


def _places(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)


def _difference(old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """The largest absolute one, infinite where just one side is NaN, and how large it may be."""
    if old.dtype.kind not in "fiu":
        return (0.0 if np.array_equal(old, new) else np.inf), 0.0
    old, new = np.atleast_1d(old), np.atleast_1d(new)
    apart = np.abs(old.astype(float) - new)
    apart[(old == new) | (np.isnan(old) & np.isnan(new))] = 0.0
    scale = np.abs(old[np.isfinite(old)]).max(initial=0.0)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)), TOLERANCE * (scale or 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="write down what this code computes")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--methods", nargs="+", default=(), help=f"or {TRAINING}; otherwise all")
    recording.add_argument("--oxford", type=Path, help="folder of Oxford-5k, or of a sample")
    comparing = commands.add_parser("compare", help="exit with 1 if two recordings differ")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.command == "compare":
        return 0 if compare(chosen.before, chosen.after) else 1
    datasets = [load_dataset("toytown")]
    if chosen.oxford:
        datasets.append(load_dataset("oxford5k", chosen.oxford))
    torch.set_num_threads(1)
    with threadpool_limits(1):
        record(chosen.folder, datasets, chosen.methods)
    return 0


if __name__ == "__main__":
    sys.exit(main())
