"""How the network over samples along planes is trained."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from indiret.planes import PlaneNetwork, PlaneRetriever, training
from indiret.planes.training import (
    PLANE_TRAINING,
    BatchLoss,
    LabelledPair,
    fit_plane_network,
    landmark_pairs,
    warp,
    warped_pairs,
)
from tests.planes.conftest import RETRIEVER
from tests.planes.test_samples import few_landmarks


@pytest.mark.parametrize("number", range(4))
def test_a_warp_moves_points_where_its_matrix_says(number):
    photo = np.zeros((90, 120, 3), np.uint8)
    y, x = 40, 70
    photo[y - 2 : y + 3, x - 2 : x + 3] = 255
    random = np.random.default_rng(number)
    matrix, warped = warp(random, photo, np.zeros_like(photo))
    bright = np.argwhere(warped[..., 0] > 60).mean(0)[::-1]
    np.testing.assert_allclose(bright, matrix @ [x, y, 1], atol=1.5)


def few_pairs(monkeypatch, count: int = 12) -> list[LabelledPair]:
    for name, number in (("CANDIDATES", 3), ("HARD", 1), ("EASY", 1)):
        monkeypatch.setattr(training, name, number)
    return list(islice(landmark_pairs(RETRIEVER, few_landmarks()), count))


def test_pairs_of_landmarks_know_what_is_right(monkeypatch):
    pairs = few_pairs(monkeypatch)
    assert [pair.relevant for pair in pairs[:4]] == [True, True, False, False]
    shares = [pair.right[0].mean().item() for pair in pairs if pair.relevant]
    assert max(shares) > 0.3 and all(0 <= share <= 1 for share in shares)
    assert not any(one.any() for pair in pairs if not pair.relevant for one in pair.right)
    both = zip(pairs, few_pairs(monkeypatch), strict=True)
    assert all(torch.equal(one.samples[0].maps, other.samples[0].maps) for one, other in both)


def test_pairs_of_warped_photos_know_what_is_right(monkeypatch):
    monkeypatch.setattr(training, "WARPS", 2)
    whole = few_landmarks(landmarks=1)
    few = replace(whole, images=dict(list(whole.images.items())[:3]), queries=())
    pairs = list(warped_pairs(PlaneRetriever(), few))
    assert [pair.relevant for pair in pairs] == [True, False] * 6
    shares = [one.nanmean().item() for pair in pairs if pair.relevant for one in pair.right]
    assert np.median(shares) > 0.5  # the vote finds most of them, so most answers are right


def test_the_loss_goes_down_and_support_learns(monkeypatch):
    pairs = few_pairs(monkeypatch)
    torch.manual_seed(0)
    network = PlaneNetwork(8)
    loss = BatchLoss(network, pairs, replace(PLANE_TRAINING, batch=8))
    assert torch.equal(loss(3), loss(3)) and not torch.equal(loss(3), loss(4))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    first = np.mean([float(loss(step).detach()) for step in range(4)])
    for step in range(40):
        optimiser.zero_grad()
        loss(step).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        optimiser.step()
    assert np.mean([float(loss(step).detach()) for step in range(4)]) < 0.7 * first


def test_a_training_resumes_and_ends_with_the_same_weights(monkeypatch, tmp_path):
    pairs = few_pairs(monkeypatch)
    monkeypatch.setattr(training, "landmark_pairs", lambda *_: pairs)
    train, validation = few_landmarks("train"), few_landmarks()
    few = {"validate_every": 2, "checkpoint_every": 2, "validation_queries": 1}
    recipe = replace(PLANE_TRAINING, steps=4, batch=4, **few)
    straight, log = fit_plane_network(train, validation, recipe, tmp_path / "a", width=4)
    loss = BatchLoss.__call__

    def dies(self: BatchLoss, step: int) -> torch.Tensor:
        if step == 3:
            raise KeyboardInterrupt
        return loss(self, step)

    monkeypatch.setattr(BatchLoss, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_plane_network(train, validation, recipe, tmp_path / "b", width=4)
    monkeypatch.setattr(BatchLoss, "__call__", loss)
    resumed, again = fit_plane_network(train, validation, recipe, tmp_path / "b", width=4)
    assert [row["validation_map"] for row in log] == [row["validation_map"] for row in again]
    for name, values in straight.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match="belongs to a run with other"):
        fit_plane_network(train, validation, replace(recipe, seed=1), tmp_path / "b", width=4)
