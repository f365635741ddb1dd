import numpy as np
import pytest
import torch
from PIL import Image

from indiret.correlation import describe_patches
from indiret.datasets import load_dataset
from indiret.evidence import explain
from indiret.feedback import evidence_box
from indiret.networks import CONFIGS, build_network
from indiret.ranking import FeedbackConfig, Hit, NetworkMethod, prepare, rank, rank_again
from tests.tiny_town import make_tiny_town


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town") / "t", "a", landmarks=3)


def untrained(**changes):
    from dataclasses import replace

    torch.manual_seed(0)
    return build_network(replace(CONFIGS["base"], width=4, **changes)).eval()


@pytest.mark.parametrize("aspect", ["squash", "keep"])
def test_scores_equal_one_pair_at_a_time(town, aspect):
    network = untrained(aspect=aspect)
    query = town.queries[0]
    config = network.config
    asked = config.cut(town.read_query(query), query=True)[None]
    hits = rank(network, [query], town)[query.name]
    with torch.no_grad():
        slow = {
            name: float(network.margin(network.tensor(config.cut(town.read(name))[None], asked)))
            for name in town.images
        }
    assert {hit.name for hit in hits} == set(slow)
    for hit in hits:
        assert hit.score == pytest.approx(slow[hit.name], abs=5e-3)
        assert 0 <= hit.probability <= 1
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_batches_do_not_matter(town):
    network = untrained()
    features = list(prepare(NetworkMethod(network), town).features.values())
    query = NetworkMethod(network).prepare_query(town.read_query(town.queries[0]))
    by_one, by_many = (NetworkMethod(network, batch).score(query, features) for batch in (1, 64))
    np.testing.assert_allclose(by_one, by_many, atol=1e-4)


def test_what_is_kept_is_what_the_metrics_compare(town):
    network = untrained()
    picture = town.read(next(iter(town.images)))
    patches = network.config.cut(picture)
    described = describe_patches(patches, network.config.metrics)
    kept = NetworkMethod(network).prepare(picture)
    assert kept.keys() == described.keys()
    for name, values in described.items():
        torch.testing.assert_close(kept[name].float(), values, atol=1e-3, rtol=1e-3)


def test_ties_are_broken_by_name(town):
    class Indifferent:
        def prepare(self, picture):
            return None

        def score(self, query, database):
            return np.zeros(len(database))

    hits = rank(Indifferent(), town.queries[:1], town)[town.queries[0].name]
    assert [hit.name for hit in hits] == sorted(town.images)
    assert hits[0] == Hit(hits[0].name, 0.0, None)


def test_pictures_are_prepared_once(town):
    class Counting:
        calls = 0

        def prepare(self, picture):
            self.calls += 1
            return picture.mean()

        def score(self, query, database):
            return -np.abs(np.array(database) - query)

    method = Counting()
    prepared = prepare(method, town)
    rank(method, town.queries, town, prepared)
    rank(method, town.queries, town, prepared)
    assert method.calls == len(town.images) + 2 * len(town.queries)


def test_a_broken_photo_is_reported_and_skipped(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 48), "teal").save(tmp_path / name)
    folder = load_dataset("folder", tmp_path)
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    prepared = prepare(NetworkMethod(untrained()), folder)
    assert list(prepared.features) == ["a.jpg"]
    assert "b.jpg" in prepared.skipped["b.jpg"]


def test_nothing_readable_is_an_error(town):
    from indiret.ranking import Prepared

    with pytest.raises(ValueError, match="no picture"):
        rank(untrained(), town.queries, town, Prepared())


@pytest.fixture(scope="module")
def first_round(town):
    method = NetworkMethod(untrained())
    prepared = prepare(method, town)
    return method, prepared, rank(method, town.queries, town, prepared)


def order(ranked):
    return {query: [hit.name for hit in hits] for query, hits in ranked.items()}


def test_the_second_round_equals_one_by_hand(town, first_round):
    method, prepared, first = first_round
    query = town.queries[0]
    config = FeedbackConfig(n=2, pool="mean", normalise=False, strength=0.7)
    again = rank_again(method, [query], town, prepared, first, config)[query.name]
    asked = method.prepare_query(town.read_query(query))
    answers = [hit.name for hit in first[query.name] if hit.name != query.image][:2]
    maps = [
        explain(method.network, method.tensor(asked, [prepared.features[name]]), "combined")[0]
        for name in answers
    ]
    weights = sum(one.query_map for one in maps)
    weights = 0.3 + 0.7 * weights / weights.max()
    for hit in again[:3]:
        tensor = method.tensor(asked, [prepared.features[hit.name]]) * weights
        with torch.no_grad():
            assert hit.score == pytest.approx(float(method.network.margin(tensor)), abs=1e-4)


def test_without_strength_the_second_round_is_the_first(town, first_round):
    method, prepared, first = first_round
    for weigh in ("tensor", "pixels"):
        config = FeedbackConfig(strength=0.0, weigh=weigh)
        again = rank_again(method, town.queries, town, prepared, first, config)
        assert order(again) == order(first)


def test_an_oracle_replaces_the_feedback(town, first_round):
    method, prepared, first = first_round
    ones = {query.name: torch.ones(10, 10) for query in town.queries}
    again = rank_again(
        method, town.queries, town, prepared, first, FeedbackConfig(strength=1.0), ones
    )
    assert order(again) == order(first)
    corner = torch.zeros(10, 10)
    corner[0, 0] = 1
    other = rank_again(
        method,
        town.queries,
        town,
        prepared,
        first,
        FeedbackConfig(strength=1.0),
        dict.fromkeys(ones, corner),
    )
    assert order(other) != order(first)


def test_feedback_settings_are_checked():
    with pytest.raises(ValueError, match="n=0"):
        FeedbackConfig(n=0)
    with pytest.raises(ValueError, match="tensor, pixels"):
        FeedbackConfig(weigh="words")


def test_answers_ask_with_what_their_evidence_shows(town, first_round):
    method, prepared, first = first_round
    query = town.queries[0]
    config = FeedbackConfig(n=2, weigh="answers", level=0.5)
    again = rank_again(method, [query], town, prepared, first, config)[query.name]

    asked = method.prepare_query(town.read_query(query))
    expected = {hit.name: hit.score for hit in first[query.name]}
    answers = [hit for hit in first[query.name] if hit.name != query.image][:2]
    for answer in answers:
        tensor = method.tensor(asked, [prepared.features[answer.name]])
        picture = town.read(answer.name)
        target_map = explain(method.network, tensor, "combined")[0].target_map
        x1, y1, x2, y2 = evidence_box(target_map, picture.shape, 0.5)
        crop = method.prepare_query(picture[y1:y2, x1:x2])
        others = [name for name in prepared.features if name != answer.name]
        said = method.score(crop, [prepared.features[name] for name in others])
        said = dict(zip(others, said.tolist(), strict=True))
        said[answer.name] = max(said.values())  # of itself it says no more than of another
        chance = method.probability(np.array([answer.score]))[0]
        expected = {name: score + chance * said[name] for name, score in expected.items()}
    assert {hit.name: hit.score for hit in again} == pytest.approx(expected, abs=1e-4)
