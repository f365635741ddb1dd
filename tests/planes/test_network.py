"""Samples along planes beside slow ones, the network over them, and how it is taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from indiret import planenet_training
from indiret.datasets import load_dataset
from indiret.planenet import (
    CHANNELS,
    NAME,
    PlaneNetMethod,
    PlaneNetwork,
    Sample,
    is_plane_network,
    load_plane_network,
    sample_near,
    sample_pair,
    save_plane_network,
    stack,
)
from indiret.planenet_training import (
    RECIPE,
    Lesson,
    Pair,
    fit_plane_network,
    landmark_pairs,
    warp,
    warped_pairs,
)
from indiret.planes import Plane, sample_plane
from indiret.planevote import PlanesMethod, floats, weigh
from indiret.protocol import measure_maps
from indiret.ranking import prepare, rank
from tests.test_planevote import SMALL, scene

METHOD = PlanesMethod(SMALL)


@pytest.fixture(scope="module")
def views():
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    return METHOD.prepare(part), METHOD.prepare(whole), METHOD.prepare(scene(1))


def town(split: str = "validation", landmarks: int = 2):
    """A few landmarks of Toytown with their photos, and no others."""
    whole = load_dataset("toytown", split=split)
    names = sorted({query.landmark for query in whole.queries})[:landmarks]
    queries = tuple(query for query in whole.queries if query.landmark in names)
    shown = {name for query in queries for name in query.positives}
    images = {name: path for name, path in whole.images.items() if name in shown}
    return replace(whole, images=images, queries=queries)


@pytest.mark.parametrize("offset", [(3.3, 2.7), (-1.2, -0.6), (20.0, 15.5), (4.0, 4.0)])
def test_the_best_near_a_place_is_that_of_a_pooled_tensor(offset):
    cosines = 2 * torch.rand(4, 5, 11, 12, generator=torch.Generator().manual_seed(0)) - 1
    plane = Plane(torch.tensor([[2.1, 0.1], [-0.1, 1.9]]), torch.tensor(offset), 0.0)
    pooled = sample_plane(F.max_pool2d(weigh(cosines.clone()), 3, 1, 1), plane)
    torch.testing.assert_close(sample_near(cosines, plane), (pooled, sample_plane(cosines, plane)))


def test_channels_are_what_their_names_say(views):
    query, target, _ = map(floats, views)
    agreed = METHOD.agree(query, target)
    one = sample_pair(METHOD, query, target)[0]
    landed = METHOD.land(query.templates[0], target, agreed.there)
    maps = dict(zip(CHANNELS, one.maps, strict=True))
    torch.testing.assert_close(one.places, landed.places)
    torch.testing.assert_close(maps["answer"], landed.values, atol=1e-5, rtol=1e-5)
    patches = target.pyramid[agreed.there.size]
    cosines = torch.einsum("klc,ijc->klij", query.templates[0].patches, patches)
    inside = maps["inside"] > 0
    assert inside.any()
    best = (cosines.amax((2, 3)) - maps["cosine"])[inside]
    torch.testing.assert_close(maps["lost"][inside], best, atol=1e-4, rtol=1e-4)
    k, l = inside.nonzero()[0].tolist()
    better = int((cosines[k, l] > maps["cosine"][k, l]).sum())
    wanted = 1 - np.log(better + 1) / np.log(cosines[k, l].numel() + 1)
    assert float(maps["rank"][k, l]) == pytest.approx(wanted, abs=1e-4)
    assert (one.maps[:6, ~inside] == 0).all()


def test_padding_changes_nothing(views):
    query, target, stranger = views
    torch.manual_seed(0)
    network = PlaneNetwork().eval()
    pairs = [sample_pair(METHOD, query, target), sample_pair(METHOD, stranger, query)]
    assert pairs[0][0].maps.shape != pairs[1][0].maps.shape
    together = network.margin(*stack(pairs))
    alone = torch.cat([network.margin(*stack([pair])) for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_file_is_the_network_and_nothing_else_is(tmp_path, views):
    torch.manual_seed(0)
    network, path = PlaneNetwork(width=6).eval(), tmp_path / "one.safetensors"
    network.calibration.copy_(torch.tensor([2.0, -1.0]))
    save_plane_network(network, path, {"seed": "0"})
    maps = stack([sample_pair(METHOD, *views[:2])])
    loaded = load_plane_network(path)
    assert torch.equal(loaded.margin(*maps), network.margin(*maps))
    assert loaded.calibration.tolist() == [2.0, -1.0]
    assert is_plane_network(str(path)) and not is_plane_network(str(tmp_path / "none.safetensors"))
    (tmp_path / "bad.safetensors").write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is no file of plane-net"):
        load_plane_network(tmp_path / "bad.safetensors")
    assert not is_plane_network(str(tmp_path / "bad.safetensors"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_plane_network(tmp_path / "none.safetensors")
    with torch.no_grad():
        network.support.weight[0, 0] = torch.nan
    save_plane_network(network, path)
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_plane_network(path)


def test_the_shipped_network_tells_a_part_from_a_stranger(views):
    method = PlaneNetMethod(load_plane_network(), SMALL)
    query, target, stranger = views
    margins = method.score(query, [target, stranger])
    assert margins[0] > margins[1]
    likely = method.probability(margins)
    assert (0 <= likely).all() and (likely <= 1).all() and likely[0] > likely[1]
    evidence = method.explain(query, target)
    assert evidence.score == pytest.approx(margins[0], abs=1e-4)
    assert evidence.pairs.min() >= 0
    # maps are roots of what supports them
    assert evidence.pairs.sum() > 2 * method.explain(query, stranger).pairs.sum()
    assert torch.equal(method.evidence(query, target)["support"], evidence.pairs)


def test_the_network_carries_points_as_the_vote_does(views):
    query, target, _ = views
    method, points = PlaneNetMethod(load_plane_network(), SMALL), np.array([[0.1, 0.2], [0.9, 0.5]])
    carried = method.carry(query, target, points)
    np.testing.assert_array_equal(carried, METHOD.carry(query, target, points))


def test_it_ranks_and_its_evidence_can_be_measured():
    few = town(landmarks=1)
    method = PlaneNetMethod(load_plane_network())
    prepared = prepare(method, few)
    hits = rank(method, few.queries[:1], few, prepared)
    assert {hit.name for hit in hits[few.queries[0].name]} == set(few.images)
    measured = measure_maps(method, replace(few, queries=few.queries[:1]), prepared)
    assert measured["support"]["pixel_auc"] > 0.75
    assert measured["support"]["box_iou"] > measured["all ones"]["box_iou"]
    assert measured["support"]["patch_match"] > 5 * measured["support"]["chance"]


@pytest.mark.parametrize("number", range(4))
def test_a_warp_moves_points_where_its_matrix_says(number):
    photo = np.zeros((90, 120, 3), np.uint8)
    y, x = 40, 70
    photo[y - 2 : y + 3, x - 2 : x + 3] = 255
    random = np.random.default_rng(number)
    matrix, warped = warp(random, photo, np.zeros_like(photo))
    bright = np.argwhere(warped[..., 0] > 60).mean(0)[::-1]
    np.testing.assert_allclose(bright, matrix @ [x, y, 1], atol=1.5)


def few_pairs(monkeypatch, count: int = 12) -> list[Pair]:
    monkeypatch.setattr(planenet_training, "CANDIDATES", 3)
    monkeypatch.setattr(planenet_training, "HARD", 1)
    monkeypatch.setattr(planenet_training, "EASY", 1)
    return [pair for pair, _ in zip(landmark_pairs(METHOD, town()), range(count), strict=False)]


def test_pairs_of_landmarks_know_what_is_right(monkeypatch):
    pairs = few_pairs(monkeypatch)
    assert [pair.relevant for pair in pairs[:4]] == [True, True, False, False]
    shares = [pair.right[0].mean().item() for pair in pairs if pair.relevant]
    assert max(shares) > 0.3 and all(0 <= share <= 1 for share in shares)
    assert not any(one.any() for pair in pairs if not pair.relevant for one in pair.right)
    both = zip(pairs, few_pairs(monkeypatch), strict=True)
    assert all(torch.equal(one.samples[0].maps, other.samples[0].maps) for one, other in both)


def test_pairs_of_warped_photos_know_what_is_right(monkeypatch):
    monkeypatch.setattr(planenet_training, "WARPS", 2)
    whole = town(landmarks=1)
    few = replace(whole, images=dict(list(whole.images.items())[:3]), queries=())
    pairs = list(warped_pairs(PlanesMethod(), few))
    assert [pair.relevant for pair in pairs] == [True, False] * 6
    shares = [one.nanmean().item() for pair in pairs if pair.relevant for one in pair.right]
    assert np.median(shares) > 0.5  # the vote finds most of them, so most answers are right


def test_the_lesson_goes_down_and_support_learns(monkeypatch):
    pairs = few_pairs(monkeypatch)
    torch.manual_seed(0)
    network = PlaneNetwork(8)
    lesson = Lesson(network, pairs, replace(RECIPE, batch=8))
    assert torch.equal(lesson(3), lesson(3)) and not torch.equal(lesson(3), lesson(4))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    first = np.mean([float(lesson(step).detach()) for step in range(4)])
    for step in range(40):
        optimiser.zero_grad()
        lesson(step).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        optimiser.step()
    assert np.mean([float(lesson(step).detach()) for step in range(4)]) < 0.7 * first


def test_a_training_resumes_and_ends_with_the_same_weights(monkeypatch, tmp_path):
    pairs = few_pairs(monkeypatch)
    monkeypatch.setattr(planenet_training, "landmark_pairs", lambda *_: pairs)
    train, validation = town("train"), town()
    recipe = replace(
        RECIPE, steps=4, batch=4, validate_every=2, checkpoint_every=2, validation_queries=1
    )
    straight, log = fit_plane_network(train, validation, recipe, tmp_path / "a", width=4)
    lesson = Lesson.__call__

    def dies(self: Lesson, step: int) -> torch.Tensor:
        if step == 3:
            raise KeyboardInterrupt
        return lesson(self, step)

    monkeypatch.setattr(Lesson, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_plane_network(train, validation, recipe, tmp_path / "b", width=4)
    monkeypatch.setattr(Lesson, "__call__", lesson)
    resumed, again = fit_plane_network(train, validation, recipe, tmp_path / "b", width=4)
    assert [row["validation_map"] for row in log] == [row["validation_map"] for row in again]
    for name, values in straight.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match="belongs to a run with other data or settings"):
        fit_plane_network(train, validation, replace(recipe, seed=1), tmp_path / "b", width=4)


def test_shipped_weights_are_small():
    folder = Path(planenet_training.__file__).parent / "data" / "weights"
    assert (folder / f"{NAME}.safetensors").stat().st_size < 100_000
    assert (folder / f"{NAME}.log.json").is_file()


def test_a_sample_is_a_plain_tuple_of_tensors(views):
    one = sample_pair(METHOD, *views[:2])[0]
    assert isinstance(one, Sample) and all(isinstance(part, torch.Tensor) for part in one)


def test_it_judges_the_better_part_of_the_vote():
    whole = scene(0)
    query = METHOD.prepare(np.ascontiguousarray(whole[10:80, 20:110]))
    database = [METHOD.prepare(scene(seed)) for seed in range(30)]
    network = load_plane_network()
    votes = METHOD.score(query, database)
    margins = PlaneNetMethod(network, SMALL, judged=1).score(query, database)
    scores = PlaneNetMethod(network, SMALL, judged=0.8).score(query, database)
    voted = sorted(range(30), key=lambda place: -votes[place])
    judged = sorted(voted[:24], key=lambda place: -margins[place])
    assert np.argsort(-scores).tolist() == judged + voted[24:] != voted
    np.testing.assert_allclose(scores[judged], margins[judged], atol=1e-4)
    assert PlaneNetMethod(network, SMALL).score(query, []).shape == (0,)
    with pytest.raises(ValueError, match="no share of the database"):
        PlaneNetMethod(network, judged=1.5)
