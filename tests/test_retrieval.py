"""`indiret.retrieval`: every pair scored as if alone, every picture encoded once, one registry."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

from indiret import Registry
from indiret.baselines.reranking import TwoStageRetriever
from indiret.datasets import load_dataset
from indiret.evidence import KINDS
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
    rank_in_blocks,
    register_family,
    register_retriever,
    sort_hits,
    splice_scores,
)
from tests.callers import SETTINGS
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


@pytest.mark.parametrize("several_stages", [False, True])
def test_blocks_of_a_database_change_no_list(town, several_stages):
    retriever = NetworkRetriever(untrained())
    if several_stages:
        retriever = TwoStageRetriever(build_retriever("colour-histogram"), retriever, length=3)
    lists, skipped = rank_in_blocks(retriever, town.queries, town, block=5)
    assert lists == rank(retriever, town.queries, town) and not skipped


SMALL = {"grid": (6, 6), "query_grid": (5, 5), "size": 8}
BUILDS = {
    "base": lambda: build_retriever("base"),
    "flat": lambda: NetworkRetriever(untrained(conv="flat", metrics=("cosine", "zncc"), **SMALL)),
    "pivot": lambda: NetworkRetriever(
        untrained(conv="pivot", attention="har", query_shifts=2, **SMALL)
    ),
    "vgg11": lambda: NetworkRetriever(
        untrained(architecture="vgg11", aspect="keep", norm="group", **SMALL)
    ),
}


@pytest.fixture(scope="module", params=BUILDS)
def judged(request, town):
    """A retriever's name, itself, a query's and pictures' features, and what it says of them."""
    retriever = BUILDS[request.param]()
    query = retriever.encode_query(town.read_query(town.queries[0]))
    database = [retriever.encode(town.read(name)) for name in list(town.images)[:5]]
    return request.param, retriever, query, database, verdicts(retriever, query, database)


def verdicts(retriever, query, database):
    """Scores, probabilities, and one pair's score and evidence of every kind."""
    scores = retriever.score(query, database)
    explained = [retriever.explain(query, database[0], kind) for kind in KINDS]
    pairs = torch.stack([evidence.pairs for evidence in explained]).numpy()
    own = np.array([evidence.score for evidence in explained])
    return [scores, retriever.probability(scores), own, pairs]


def assert_equal(found, expected, exact):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("state", SETTINGS)
def test_a_pairs_score_does_not_depend_on_the_state_of_torch(judged, town, state):
    name, retriever, query, database, expected = judged
    with SETTINGS[state]():
        again = retriever.encode_query(town.read_query(town.queries[0]))
        assert all(torch.equal(again[key], query[key]) for key in query)
        if name == "base":  # of which a second one has the same weights
            retriever = BUILDS[name]()
        assert_equal(verdicts(retriever, again, database), expected, exact=True)


def test_a_pairs_score_does_not_depend_on_its_neighbours(judged):
    """Nor on order, earlier calls, or whether it is searched for or explained."""
    name, retriever, query, database, (scores, probabilities, own, _) = judged
    alone = [retriever.score(query, [target])[0] for target in database]
    backwards = retriever.score(query, database[::-1])[::-1]
    twice = retriever.score(query, database + database)
    same = [probability for s in scores for probability in retriever.probability(np.array([s]))]
    found = [alone, backwards, twice[:5], twice[5:]]
    assert_equal(found, [scores] * 4, exact=name == "base")
    assert_equal([same, own], [probabilities, [scores[0]] * len(own)], exact=name == "base")


@pytest.mark.parametrize("judged", ["pivot"], indirect=True)
def test_threads_may_ask_one_retriever_at_once(judged):
    _, retriever, query, database, expected = judged
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: verdicts(retriever, query, database), range(6)):
            assert_equal(found, expected, exact=False)


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


def test_a_photo_that_is_broken_or_gone_is_reported_and_skipped(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (64, 48), "teal").save(tmp_path / name)
    folder = load_dataset("folder", tmp_path)
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").unlink()
    database = index_database(Indifferent(), folder)
    assert list(database.features) == ["a.jpg"]
    assert all(name in database.skipped[name] for name in ("b.jpg", "c.jpg"))


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


@pytest.mark.parametrize("forms", [*permutations(["twice:A,B", "twice:once:A", "A:B"])])
def test_families_are_asked_in_one_order_whichever_was_imported_first(monkeypatch, forms):
    asked = []
    monkeypatch.setattr("indiret.retrieval.FAMILIES", Registry("a family"))
    for form in forms:
        register_family(form, "", lambda name, form=form: asked.append(form), None)
    with pytest.raises(ValueError, match="is not known"):
        build_retriever("twice:once:this")
    assert asked == ["twice:once:A", "twice:A,B", "A:B"]


def test_what_a_network_keeps_of_a_photo_survives_a_disk(judged):
    _, retriever, query, database, (scores, *_) = judged
    kept = [retriever.unpack(memoryview(retriever.pack(one))) for one in database]
    np.testing.assert_array_equal(retriever.score(query, kept), scores)
    kept[0] = dict(reversed(kept[0].items()))  # as safetensors may return it
    np.testing.assert_array_equal(retriever.score(query, kept), scores)
    again = NetworkRetriever(untrained())
    assert again.fingerprint() == NetworkRetriever(untrained()).fingerprint()
    next(again.network.parameters()).data.flatten()[0] += 1
    assert again.fingerprint() != NetworkRetriever(untrained()).fingerprint()


@pytest.mark.parametrize("what", ["fingerprint", "pack", "unpack"])
def test_a_retriever_that_cannot_be_kept_on_disk_says_so(what):
    class Plain(Retriever):
        pass

    with pytest.raises(ValueError, match="what Plain encodes cannot be kept on disk; choose"):
        getattr(Plain(), what)(*[b""] * (what != "fingerprint"))
