"""`indiret.feedback`: pooling and the second round, against the same by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.evidence import Evidence, explain
from indiret.feedback import (
    FeedbackConfig,
    evidence_box,
    query_weights,
    refine_query,
    rerank_with_feedback,
    weight_pixels,
    weight_tensor,
)
from indiret.retrieval import NetworkRetriever, index_database, rank
from tests.test_retrieval import untrained
from tests.tiny_town import make_tiny_town


def evidences(count=3, grid=(3, 4, 2, 5), seed=0):
    random = torch.Generator().manual_seed(seed)
    return [Evidence(0.0, torch.rand(grid, generator=random) * 10**n) for n in range(count)]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_equals_a_loop(pool, normalise):
    answers = evidences()
    expected = np.zeros((2, 5))
    for k, l in np.ndindex(2, 5):
        values = []
        for answer in answers:
            value = float(answer.pairs[:, :, k, l].sum())
            values.append(value / float(answer.pairs.sum()) if normalise else value)
        expected[k, l] = np.mean(values) if pool == "mean" else max(values)
    np.testing.assert_allclose(refine_query(answers, pool, normalise).numpy(), expected, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), strength=st.floats(0, 1))
def test_weights_stay_between_0_and_1_and_only_shrink(seed, strength):
    weights = query_weights(refine_query(evidences(seed=seed), "max"))
    assert weights.min() >= 0 and weights.max() == 1
    tensor = torch.randn(2, 3, 3, 4, 2, 5, generator=torch.Generator().manual_seed(seed))
    weighted = weight_tensor(tensor, weights, strength)
    assert (weighted.abs() <= tensor.abs() + 1e-6).all()
    for k, l in np.ndindex(2, 5):
        factor = 1 - strength + strength * float(weights[k, l])
        torch.testing.assert_close(weighted[..., k, l], tensor[..., k, l] * factor)


def test_pixels_fade_where_the_weight_is_small():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    faded = weight_pixels(picture, torch.tensor([[1.0, 0.0]])).astype(float)
    assert faded[:, :5].std() == pytest.approx(picture[:, :5].std(), rel=0.01)
    assert faded[:, 35:].std() < 5
    assert np.array_equal(weight_pixels(picture, torch.ones(2, 5)), picture)


def test_no_evidence_leaves_the_query_and_warns():
    nothing = [Evidence(0.0, torch.zeros(2, 2, 3, 3))]
    with pytest.warns(UserWarning, match="left as it is"):
        assert query_weights(refine_query(nothing, normalise=True)).eq(1).all()
    assert evidence_box(torch.zeros(3, 4), (31, 45)) == (0, 0, 45, 31)


TENSOR, PICTURE = torch.rand(1, 1, 2, 2, 2, 2), np.zeros((4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: refine_query(evidences(), "median"), "mean, max"),
        (lambda: refine_query([]), "no evidence to pool"),
        (lambda: refine_query([*evidences(1), *evidences(1, (3, 4, 2, 4))]), "2 grids"),
        (lambda: weight_tensor(TENSOR, torch.rand(2, 3)), "query grid is"),
        (lambda: weight_tensor(TENSOR, torch.rand(2, 2), 2), "between 0 and 1"),
        (lambda: weight_pixels(PICTURE, torch.rand(2, 2), -1), "between 0 and 1"),
        (lambda: FeedbackConfig(n=0), "n=0"),
        (lambda: FeedbackConfig(weight="words"), "tensor, pixels"),
    ],
)
def test_bad_input_gets_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_an_evidence_box_holds_every_cell_with_much_evidence():
    random = np.random.default_rng(0)
    for _ in range(20):
        target_map = torch.from_numpy(random.random((5, 7)) ** 4)
        x1, y1, x2, y2 = evidence_box(target_map, (50, 140, 3), level=0.5)
        much = (target_map >= 0.5 * target_map.max()).numpy()
        inside = np.zeros_like(much)
        inside[y1 // 10 : y2 // 10, x1 // 20 : x2 // 20] = True
        assert (inside | ~much).all()
        assert much[y1 // 10].any() and much[y2 // 10 - 1].any()
        assert much[:, x1 // 20].any() and much[:, x2 // 20 - 1].any()


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town") / "t", "a", landmarks=3)


class Round:
    """A first round, and a query of it."""

    def __init__(self, town):
        self.town, self.method = town, NetworkRetriever(untrained())
        self.database = index_database(self.method, town)
        self.ranked = rank(self.method, town.queries, town, self.database)
        self.query = town.queries[0]
        self.encoded = self.method.encode_query(town.read_query(self.query))
        self.answers = [hit for hit in self.ranked[self.query.name] if hit.name != self.query.image]

    def again(self, oracle=None, **settings):
        config = FeedbackConfig(**settings)
        return rerank_with_feedback(
            self.method, self.town.queries, self.town, self.database, self.ranked, config, oracle
        )

    def tensor(self, name):
        return self.method.tensor(self.encoded, [self.database.features[name]])

    def evidence(self, name, method="combined"):
        return explain(self.method.network, self.tensor(name), method)[0]


@pytest.fixture(scope="module")
def first(town):
    return Round(town)


def order(ranked):
    return {query: [hit.name for hit in hits] for query, hits in ranked.items()}


@pytest.mark.parametrize("method", ["combined", "hirescam"])
def test_the_second_round_equals_one_by_hand(first, method):
    settings = {"n": 2, "pool": "mean", "normalise": False, "strength": 0.7, "evidence": method}
    again = first.again(**settings)[first.query.name]
    weights = sum(first.evidence(answer.name, method).query_map for answer in first.answers[:2])
    weights = 0.3 + 0.7 * weights / weights.max()
    for hit in again[:3]:
        with torch.no_grad():
            margin = first.method.network.margin(first.tensor(hit.name) * weights)
        assert hit.score == pytest.approx(float(margin), abs=1e-4)


@pytest.mark.parametrize("weight", ["tensor", "pixels"])
def test_without_strength_the_second_round_is_the_first(first, weight):
    assert order(first.again(strength=0.0, weight=weight)) == order(first.ranked)


def test_an_oracle_replaces_the_feedback(first):
    ones = {query: torch.ones(10, 10) for query in first.ranked}
    corner = torch.zeros(10, 10)
    corner[0, 0] = 1
    assert order(first.again(ones, strength=1.0)) == order(first.ranked)
    assert order(first.again(dict.fromkeys(ones, corner), strength=1.0)) != order(first.ranked)


def test_answers_ask_with_what_their_evidence_shows(first):
    again = first.again(n=2, weight="answers", level=0.5)[first.query.name]
    expected = {hit.name: hit.score for hit in first.ranked[first.query.name]}
    for answer in first.answers[:2]:
        picture = first.town.read(answer.name)
        target_map = first.evidence(answer.name).target_map
        x1, y1, x2, y2 = evidence_box(target_map, picture.shape, 0.5)
        crop = first.method.encode_query(picture[y1:y2, x1:x2])
        features = first.database.features
        scores = dict(zip(features, first.method.score(crop, list(features.values())), strict=True))
        del scores[answer.name]
        scores[answer.name] = max(scores.values())  # of itself it says no more than of another
        trust = first.method.probability(np.array([answer.score]))[0]
        expected = {name: score + trust * scores[name] for name, score in expected.items()}
    assert {hit.name: hit.score for hit in again} == pytest.approx(expected, abs=1e-4)
