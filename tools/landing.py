"""The pair of photos on the landing page, chosen by a rule, under the evidence of two methods."""

from __future__ import annotations

import json
from typing import Any

from indiret.conv4d import resize4d
from indiret.datasets import load_dataset
from indiret.experiments.evidence_protocol import pair_matches
from indiret.retrieval import build_retriever, sort_hits
from indiret.widgets import Candidate, Explorer
from tools.measure_lines import OUT

METHODS = {"base": "the paper", "plane-net": "planes"}  # as the explorer calls them
RULE = "base: combined"  # the evidence by which the queries are sorted


def middle_pair() -> tuple[str, list[str]]:
    """The query in the middle of all by how far its first right answer's lines spread; its answers.

    The right and the wrong answer that came first, by the names of the photos.
    """
    pairs = json.loads(OUT.read_text("utf-8"))["methods"][RULE]["pairs"]
    order = sorted(pairs, key=lambda query: (pairs[query]["right"]["spread"], query))
    query = order[(len(order) - 1) // 2]
    return query, [pairs[query][answer]["name"] for answer in ("right", "wrong")]


def landing_explorer() -> Explorer:
    """The middle pair's right and wrong answer, each under the evidence of `METHODS`.

    The planes' evidence is resized to the grid of the network, so that a patch stays the same one
    when the method is switched.
    """
    town = load_dataset("toytown", split="validation")
    chosen, names = middle_pair()
    query = next(query for query in town.queries if query.name == chosen)
    picture = town.read_query(query)
    channels: list[dict[str, dict[str, Any]]] = [{} for _ in names]
    told: list[list[str]] = [[] for _ in names]
    grid: tuple[int, ...] = ()
    for method, title in METHODS.items():
        retriever = build_retriever(method)
        asked = retriever.encode_query(picture)
        for found, says, name in zip(channels, told, names, strict=True):
            features = retriever.encode(town.read(name))
            pairs = retriever.explain(asked, features).pairs
            grid = grid or tuple(pairs.shape)
            found[title] = {"evidence": resize4d(pairs[None, None].float(), grid)[0, 0]}
            (hit,) = sort_hits(retriever, [name], retriever.score(asked, [features]))
            says.append(f"{title} {hit.probability:.0%}")
    titles = ("same building", "other building")
    candidates = [
        Candidate(
            title,
            town.read(name),
            found,
            "\n".join(says),
            relevant=name in query.positives,
            true_matches=pair_matches(town, query, name, grid),
        )
        for title, name, found, says in zip(titles, names, channels, told, strict=True)
    ]
    return Explorer(query.landmark.replace("_", " ").title(), picture, candidates)
