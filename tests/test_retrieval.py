"""`indiret.retrieval`: every pair scored as if alone, every picture encoded once, one registry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.datasets import load_dataset
from indiret.network import CONFIGS, build_network, cut_patches
from indiret.retrieval import (
    UNJUDGED,
    Hit,
    IndexedDatabase,
    NetworkRetriever,
    Retriever,
    build_retriever,
    index_database,
    rank,
    register_retriever,
    sort_hits,
    splice_scores,
)
from tests.tiny_town import make_tiny_town


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town") / "t", "a", landmarks=3)


def untrained(**changes):
    torch.manual_seed(0)
    return build_network(replace(CONFIGS["base"], width=4, **changes)).eval()


@pytest.mark.parametrize("aspect", ["squash", "keep"])
def test_scores_equal_one_pair_at_a_time(town, aspect):
    """Of patches as they are; what a retriever keeps is of half the precision."""
    network, query = untrained(aspect=aspect), town.queries[0]
    patches = cut_patches(network.config, town.read_query(query), query=True)[None]
    hits = rank(NetworkRetriever(network), [query], town)[query.name]
    with torch.no_grad():
        slow = {
            name: float(network.margin(network.tensor(target[None], patches)))
            for name in town.images
            for target in [cut_patches(network.config, town.read(name))]
        }
    assert {hit.name: hit.score for hit in hits} == pytest.approx(slow, abs=5e-3)
    assert all(0 <= hit.probability <= 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


class Indifferent(Retriever):
    """Finds every picture as alike as any other, and counts those that it is shown."""

    def __init__(self):
        self.encoded = 0

    def encode(self, picture):
        self.encoded += 1

    def score(self, query, database):
        return np.zeros(len(database))


def test_ties_are_broken_by_name_and_pictures_encoded_once(town):
    retriever = Indifferent()
    database = index_database(retriever, town)
    for _ in range(2):
        ranked = rank(retriever, town.queries, town, database)
    assert retriever.encoded == len(town.images) + 2 * len(town.queries)
    for hits in ranked.values():
        assert hits == [Hit(name, 0.0, None) for name in sorted(town.images)]


def test_whom_no_later_stage_judged_has_no_probability():
    """In two stages, of which the second left out some of its own."""
    first, names = np.array([5.0, 4.0, 3.0, 2.0, 2.0]), [*"abcde"]
    inner = splice_scores(first[:3], np.array([1]), [0.25])
    scores = splice_scores(first, np.arange(3), inner)
    hits = sort_hits(NetworkRetriever(untrained()), names, scores)
    assert [hit.name for hit in hits] == [*"bacde"]
    assert [hit.judged for hit in hits] == [True] + [False] * 4
    assert [hit.probability is None for hit in hits] == [False] + [True] * 4
    assert max(hit.score for hit in hits[1:]) <= UNJUDGED and hits[3].score == hits[4].score


def test_a_broken_photo_is_reported_and_skipped(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 48), "teal").save(tmp_path / name)
    folder = load_dataset("folder", tmp_path)
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    database = index_database(Indifferent(), folder)
    assert list(database.features) == ["a.jpg"]
    assert "b.jpg" in database.skipped["b.jpg"]


def test_what_cannot_be_gets_a_sentence(town):
    retriever = Indifferent()
    for refused, words in (
        (lambda: rank(retriever, town.queries, town, IndexedDatabase()), "no picture"),
        (lambda: retriever.explain(None, None), "choose a method that explains"),
        (lambda: retriever.transfer_points(None, None, np.zeros((1, 2))), "does not say where"),
        (lambda: build_retriever("sfit"), "choose from base"),
        (lambda: build_retriever("thumbnail", "cuda"), "on the processor alone"),
        (lambda: register_retriever("thumbnail", "", Indifferent), "choose another name"),
    ):
        with pytest.raises(ValueError, match=words):
            refused()
