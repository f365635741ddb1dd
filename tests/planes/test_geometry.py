"""T read along a plane beside a loop, and planes that are fitted to it."""

import math
from itertools import product

import pytest
import torch

from indiret.planes.geometry import Plane, grid_places, refine_plane, sample_plane
from tests.planes.test_voting import random_responses


def test_sampling_a_plane_by_loops():
    responses = random_responses(6, 7, 3, 4)
    plane = Plane(torch.tensor([[1.3, -0.2], [0.4, 1.1]]), torch.tensor([0.7, -0.6]), 0.0)
    sampled = sample_plane(responses, plane)
    for k, l in product(range(3), range(4)):
        i, j = (plane.matrix @ torch.tensor([float(k), float(l)]) + plane.offset).tolist()
        expected = sum(
            (1 - abs(i - x)) * (1 - abs(j - y)) * responses[x, y, k, l].item()
            for x in (math.floor(i), math.floor(i) + 1)
            for y in (math.floor(j), math.floor(j) + 1)
            if 0 <= x < 6 and 0 <= y < 7
        )
        assert sampled[k, l].item() == pytest.approx(expected, abs=1e-5)


def test_refining_finds_a_sheared_plane_between_patches():
    truth = Plane(torch.tensor([[2.15, 0.1], [-0.12, 1.9]]), torch.tensor([3.3, 2.6]), 1.0)
    grid = grid_places(24, 22)[:, :, None, None]
    responses = torch.exp(-(grid - truth.places(8, 9)).square().sum(-1))
    noise = 0.2 * random_responses(*responses.shape)
    found = refine_plane(responses + noise, Plane(2 * torch.eye(2), torch.tensor([4.0, 2.0]), 0.0))
    before = (2 * torch.eye(2) - truth.matrix).abs().max()
    assert (found.matrix - truth.matrix).abs().max() < before / 2
    apart = (found.places(8, 9) - truth.places(8, 9)).abs()
    assert apart.max() < 0.5 and apart.mean() < 0.25
    assert found.votes > 0.7


def test_refining_without_an_answer_changes_nothing():
    plane = Plane(2 * torch.eye(2), torch.zeros(2), 3.0)
    found = refine_plane(torch.zeros(9, 9, 3, 3), plane)
    assert found.votes == 0 and torch.equal(found.matrix, plane.matrix)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (9, 9, 1, 5), (2, 3, 5, 1)])
def test_refining_in_grids_of_one_row(shape):
    found = refine_plane(random_responses(*shape), Plane(torch.eye(2), torch.zeros(2), 0.0))
    assert torch.isfinite(found.places(*shape[2:])).all()
