"""Where patches landed: filled support, shares of grids, points that are carried over."""

import numpy as np
import pytest
import torch

from indiret.landing import carried, fill, spread


def test_support_speaks_for_what_is_around_it():
    support = torch.zeros(9, 9)
    support[4, 4] = 1.0
    filled = fill(support)
    assert (filled > 0).sum() == 25
    torch.testing.assert_close(filled[2:7, 2:7], torch.full((5, 5), 0.2))
    corner = torch.zeros(9, 7)
    corner[0, 0] = 1.0
    assert fill(corner)[0, 0] == pytest.approx((1 / 9) ** 0.5)  # nothing lies beyond the edge
    even = torch.full((4, 6), 0.25)
    torch.testing.assert_close(fill(even), even.sqrt())


def test_spread_keeps_what_lies_inside():
    support = torch.rand(3, 4)
    ends = torch.rand(3, 4, 2)
    pairs = spread(support, ends, (5, 6), 1 - ends, (4, 3))
    assert pairs.shape == (5, 6, 4, 3)
    assert float(pairs.sum()) == pytest.approx(float(support.sum()), rel=1e-5)
    assert spread(support, ends + 2, (5, 6), ends, (4, 3)).sum() == 0


def test_points_go_where_the_affine_map_sends_them():
    random = np.random.default_rng(0)
    matrix, offset = random.normal(size=(2, 2)), random.normal(size=2)
    here, points = random.uniform(size=(5, 4, 2)), random.uniform(-1, 2, (7, 2))
    there = here @ matrix.T + offset
    found = carried(points, torch.from_numpy(here), torch.from_numpy(there))
    np.testing.assert_allclose(found, points @ matrix.T + offset, atol=1e-9)
