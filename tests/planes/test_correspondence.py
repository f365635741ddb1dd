"""Smoothed support, evidence of grids, points that are transferred."""

import numpy as np
import pytest
import torch

from indiret.planes.correspondence import PlaneCorrespondence, move_points, smooth_support, splat


def test_support_speaks_for_what_is_around_it():
    support = torch.zeros(9, 9)
    support[4, 4] = 1.0
    smooth = smooth_support(support)
    assert (smooth > 0).sum() == 25
    torch.testing.assert_close(smooth[2:7, 2:7], torch.full((5, 5), 0.2))
    corner = torch.zeros(9, 7)
    corner[0, 0] = 1.0
    assert smooth_support(corner)[0, 0] == pytest.approx((1 / 9) ** 0.5)  # nothing is beyond it
    even = torch.full((4, 6), 0.25)
    torch.testing.assert_close(smooth_support(even), even.sqrt())


def test_evidence_keeps_what_lies_inside():
    support, points = torch.rand(3, 4), torch.rand(3, 4, 2)
    forward = PlaneCorrespondence(points, 1 - points, support)
    backward = PlaneCorrespondence(1 - points, points, support)
    pairs = splat([forward, backward], (100, 140), (40, 20))
    assert pairs.shape == (10, 14, 14, 7)
    torch.testing.assert_close(pairs, 2 * splat([forward], (100, 140), (40, 20)))
    assert float(pairs.sum()) == pytest.approx(2 * float(support.sum()), rel=1e-5)
    outside = forward._replace(matched_points=points + 2)
    assert splat([outside], (100, 140), (40, 20)).sum() == 0


def test_points_go_where_the_affine_map_sends_them():
    random = np.random.default_rng(0)
    matrix, offset = random.normal(size=(2, 2)), random.normal(size=2)
    here, points = random.uniform(size=(5, 4, 2)), random.uniform(-1, 2, (7, 2))
    there = here @ matrix.T + offset
    found = move_points(points, torch.from_numpy(here), torch.from_numpy(there))
    np.testing.assert_allclose(found, points @ matrix.T + offset, atol=1e-9)
