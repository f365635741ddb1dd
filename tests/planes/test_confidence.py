"""Probabilities of places: a part in its whole, what is covered, and the pair alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indiret.planes.confidence import line_probability, load_line, measure_points, patch_probability
from indiret.planes.matching import PlaneRetriever
from tests.planes.conftest import scene

SHAPE, WHOLE = (160, 200), scene(3, 160, 200)
TRAIT = st.floats(0, 100)


@pytest.fixture(scope="module")
def retriever():
    return PlaneRetriever()


@given(TRAIT, TRAIT, TRAIT, TRAIT)
def test_more_support_and_a_shorter_cycle_are_never_less_probable(one, other, cycle, longer):
    traits = torch.tensor([sorted([one, other]), sorted([cycle, longer], reverse=True)]).T
    worse, better = line_probability(traits, torch.tensor(load_line())).tolist()
    assert 0 <= worse <= better <= 1


def test_what_is_covered_is_less_probable_and_nothing_else_counts(retriever):
    covered = WHOLE.copy()
    covered[:, 100:] = scene(8, 160, 100)
    query, target = retriever.encode(WHOLE), retriever.encode(covered)
    evidence = retriever.explain(query, target)
    left, right = evidence.probability[2:-2, 1:5], evidence.probability[2:-2, -5:-1]
    assert left.min() > 0.5 > right.max()
    retriever.explain(target, query)
    assert torch.equal(retriever.explain(query, target).probability, evidence.probability)
    known = evidence.probability[evidence.probability.isfinite()]
    assert ((known >= 0) & (known <= 1)).all()


def test_numbers_by_loops_and_places_outside(retriever):
    query, target = retriever.encode(WHOLE), retriever.encode(WHOLE[30:130, 40:160])
    best = retriever.verified(query, target)
    found = patch_probability(best, SHAPE, (100, 120))
    k, l = 5, 6
    point = torch.tensor([(k + 0.5) / 11, (l + 0.5) / 14])
    place, traits = measure_points(best, point, SHAPE, (100, 120))
    back = torch.linalg.inv(torch.cat([best.plane, torch.eye(3)[:, 2:]], 1))[:, :2]
    sides, grids = [], ((11, 14), (12, 14))
    ways = zip(
        (best.forward, best.backward), (best.plane, back), (point, place), grids, strict=True
    )
    for way, plane, at, grid in ways:
        total, summed = 0.0, torch.zeros(3)
        for row, column in np.ndindex(*way.support.shape):
            own, matched = way.template_points[row, column], way.matched_points[row, column]
            away = ((own - at) * torch.tensor(grid)).norm() / 0.75
            weight = float(torch.exp(-away.square() / 2))
            move = matched - own @ plane[:2] - plane[2]
            summed += weight * torch.cat([way.support[row, column, None], move])
            total += weight
        sides.append(summed / total)
    mean = (best.forward.support.mean() + best.backward.support.mean()) / 2
    cycle = ((sides[0][1:] @ back[:2] + sides[1][1:]) * torch.tensor(grids[0])).norm()
    wanted = torch.stack([torch.minimum(sides[0][0], sides[1][0]) / mean, cycle])
    torch.testing.assert_close(traits, wanted, rtol=1e-3, atol=1e-3)
    assert found.shape == (11, 14) and found[0].isnan().all() and found[k, l] > 0.5
