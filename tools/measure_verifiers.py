"""Measure the verification networks against their starts and against the descriptor they re-rank.

    python -m tools.measure_verifiers RUNS --split validation

RUNS holds folders that `indiret train` made, each with a network.safetensors: any of siam-fv,
non-metric, deep-retrieval and verifier.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import average_precision, nested_bootstrap
from indiret.networks import build_network, load_network
from indiret.ranking import Method, NetworkMethod, prepare, prepare_query
from indiret.reproduction import find_method
from indiret.reranking import SHORTLIST
from indiret.verification import VERIFIERS

DESCRIPTOR = "efficientnet-lite0:rmac"  # the best on validation
Scores = dict[str, np.ndarray]  # by query


def score(method: Method, town: RetrievalDataset) -> Scores:
    """Every query against every photo, in the order of the photos' names."""
    features = list(prepare(method, town).features.values())
    queries = tqdm(town.queries, desc="ranking", disable=None)
    return {q.name: method.score(prepare_query(method, town, q), features) for q in queries}


def precisions(scores: Scores, town: RetrievalDataset, alone: bool) -> dict:
    """AP by (landmark, query, 0), with the query's own photo or without it."""
    names, found = list(town.images), {}
    for query in town.queries:
        order = [names[place] for place in np.argsort(-scores[query.name], kind="stable")]
        own = {query.image} if alone else set()
        precision = average_precision(order, query.positives - own, query.junk | own)
        found[query.landmark, query.name, 0] = precision
    return found


def shortlist(first: Scores, second: Scores) -> Scores:
    """As `indiret.reranking.Shortlist`, from scores of both."""
    merged = {}
    for query, scores in first.items():
        listed = np.argsort(-scores, kind="stable")[:SHORTLIST]
        again = second[query][listed]
        merged[query] = scores - scores.max() + again.min() - 1
        merged[query][listed] = again
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--split", default="validation")
    arguments = parser.parse_args()
    town = load_dataset("toytown", split=arguments.split)
    runs = arguments.runs
    methods: dict[str, Method] = {DESCRIPTOR: find_method(DESCRIPTOR)}
    pairs = []
    for kind in VERIFIERS:
        if (runs / kind).is_dir():
            for name in ("untrained", "network"):
                methods[f"{kind}, {name}"] = find_method(str(runs / kind / f"{name}.safetensors"))
            pairs.append((f"{kind}, network", f"{kind}, untrained"))
    if (runs / "verifier").is_dir():
        trained = load_network(runs / "verifier" / "network.safetensors")
        torch.manual_seed(0)
        methods["verifier, untrained"] = NetworkMethod(build_network(trained.config))
        methods["verifier, network"] = NetworkMethod(trained)
        pairs += [("verifier, network", name) for name in ("verifier, untrained", DESCRIPTOR)]
        pairs.append((f"{DESCRIPTOR}, re-ranked", DESCRIPTOR))
    scores = {name: score(method, town) for name, method in methods.items()}
    if "verifier, network" in scores:
        again = shortlist(scores[DESCRIPTOR], scores["verifier, network"])
        scores[f"{DESCRIPTOR}, re-ranked"] = again
    found = {
        alone: {name: precisions(of, town, alone) for name, of in scores.items()}
        for alone in (False, True)
    }
    for name in scores:
        cells = []
        for alone in (False, True):
            interval = nested_bootstrap(found[alone][name])
            cells.append(f"{interval.mean:.3f} ({interval.low:.3f} … {interval.high:.3f})")
        print(f"| {name} | {' | '.join(cells)} |")
    for one, other in pairs:
        gain = nested_bootstrap(found[False][one], found[False][other])
        print(f"{one} − {other}: {gain.mean:+.3f} ({gain.low:+.3f} … {gain.high:+.3f})")


if __name__ == "__main__":
    main()
