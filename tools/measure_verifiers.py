"""Measure the verification networks against their starts and against the descriptor they re-rank.

    python -m tools.measure_verifiers RUNS --split validation
    python -m tools.measure_verifiers RUNS --split test --store

RUNS holds folders that `indiret train` made, each with a network.safetensors: any of siam-fv,
non-metric, deep-retrieval and verifier. ``--store`` writes what the book shows; rows
of what RUNS does not hold stay as they are, and ``commits`` says which row is of which commit.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.baselines.reranking import SHORTLIST
from indiret.baselines.verifiers import VERIFIERS
from indiret.checkpoints import load_network, write_json
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import average_precision
from indiret.experiments.comparison import VERIFIED
from indiret.experiments.evaluator import provenance
from indiret.experiments.records import interval_table, rounded_interval, show_interval
from indiret.network import Features, IndicativeNetwork, build_network
from indiret.retrieval import (
    Retriever,
    build_retriever,
    encode_query,
    index_database,
    splice_scores,
)

DESCRIPTOR = "efficientnet-lite0:rmac"  # the best on validation
Scores = dict[str, np.ndarray]  # by query


def score(method: Retriever, town: RetrievalDataset) -> Scores:
    """Every query against every photo, in the order of the photos' names."""
    features = list(index_database(method, town).features.values())
    queries = tqdm(town.queries, desc="ranking", disable=None)
    return {q.name: method.score(encode_query(method, town, q), features) for q in queries}


def precisions(scores: Scores, town: RetrievalDataset, alone: bool) -> dict:
    """AP by (landmark, query, 0), with the query's own photo or without it."""
    names, found = list(town.images), {}
    for query in town.queries:
        order = [names[place] for place in np.argsort(-scores[query.name], kind="stable")]
        own = {query.image} if alone else set()
        precision = average_precision(order, query.positives - own, query.junk | own)
        found[query.landmark, query.name, 0] = precision
    return found


def again(
    networks: dict[str, IndicativeNetwork], first: Scores, town: RetrievalDataset
) -> dict[str, Scores]:
    """As `TwoStageRetriever` ranks with networks of one shape, each tensor made once."""
    one = next(iter(networks.values()))
    found: dict[str, Scores] = {name: {} for name in networks}
    encoded: dict[int, Features] = {}
    names = list(town.images)
    for query in tqdm(town.queries, desc="re-ranking", disable=None):
        asking = one.encode(town.read_query(query), query=True)
        scores = first[query.name]
        listed = np.argsort(-scores, kind="stable")[:SHORTLIST]
        for place in set(listed) - encoded.keys():
            encoded[place] = one.encode(town.read(names[place]))
        margins: dict[str, list[Tensor]] = {name: [] for name in networks}
        for at in range(0, len(listed), 8):
            tensor = one.correlate(asking, [encoded[place] for place in listed[at : at + 8]])
            for name, network in networks.items():
                margins[name].append(network.margin(tensor))
        for name, parts in margins.items():
            merged = torch.cat(parts).double().numpy()
            found[name][query.name] = splice_scores(scores, listed, merged)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--store", action="store_true", help=f"write {VERIFIED.name} for the book")
    arguments = parser.parse_args()
    town = load_dataset("toytown", split=arguments.split)
    runs = arguments.runs
    methods: dict[str, Retriever] = {DESCRIPTOR: build_retriever(DESCRIPTOR)}
    networks: dict[str, IndicativeNetwork] = {}
    pairs = []
    for kind in VERIFIERS:
        if (runs / kind).is_dir():
            for name in ("untrained", "network"):
                methods[f"{kind}, {name}"] = build_retriever(
                    str(runs / kind / f"{name}.safetensors")
                )
            pairs.append((f"{kind}, network", f"{kind}, untrained"))
    if (runs / "verifier").is_dir():
        trained = load_network(runs / "verifier" / "network.safetensors")
        torch.manual_seed(0)
        fresh = build_network(trained.config).eval()
        networks = {"re-ranked, untrained": fresh, "re-ranked": trained}
        pairs += [("re-ranked", name) for name in ("re-ranked, untrained", DESCRIPTOR)]
    scores = {name: score(method, town) for name, method in methods.items()}
    with torch.inference_mode():
        scores |= again(networks, scores[DESCRIPTOR], town) if networks else {}
    with_photo, without = (
        {name: precisions(of, town, alone) for name, of in scores.items()}
        for alone in (False, True)
    )
    rows = {
        name: {
            "mAP": rounded_interval(with_photo[name]),
            "mAP_without_query": rounded_interval(without[name]),
        }
        for name in scores
    }
    gains = {
        f"{one} − {other}": rounded_interval(with_photo[one], with_photo[other])
        for one, other in pairs
    }
    print(interval_table(rows, ["mAP", "mAP_without_query"]))
    for name, gain in gains.items():
        print(f"{name}: {show_interval(gain, signed=True)}")
    if arguments.store:
        stored = json.loads(VERIFIED.read_text(encoding="utf-8"))
        if stored["dataset"] != town.name:
            parser.error(f"{VERIFIED.name} is of {stored['dataset']}, not of {town.name}.")
        made = provenance(town)
        merged = {
            "dataset": town.name,
            "rows": stored["rows"] | rows,
            "gains": stored["gains"] | gains,
            "commits": stored["commits"] | dict.fromkeys(rows, made["commit"]),
            "provenance": made,
        }
        write_json(VERIFIED, merged)


if __name__ == "__main__":
    main()
