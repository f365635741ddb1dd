import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.evidence import Evidence
from indiret.feedback import evidence_box, query_weights, refine_query, weight_pixels, weight_tensor


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


def test_raw_lets_the_largest_gradient_rule_and_normalised_does_not():
    answers = evidences()
    largest = answers[-1].query_map
    raw, normal = refine_query(answers), refine_query(answers, normalise=True)
    together = torch.corrcoef(torch.stack([raw.flatten(), largest.flatten()]))[0, 1]
    assert together > 0.99
    assert torch.corrcoef(torch.stack([normal.flatten(), largest.flatten()]))[0, 1] < together


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


def test_no_strength_changes_nothing():
    tensor, weights = torch.randn(1, 2, 3, 3, 2, 5), torch.rand(2, 5)
    assert torch.equal(weight_tensor(tensor, weights, 0.0), tensor)
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    assert np.array_equal(weight_pixels(picture, weights, 0.0), picture)
    assert np.array_equal(weight_pixels(picture, torch.ones(2, 5)), picture)


def test_pixels_fade_where_the_weight_is_small():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    faded = weight_pixels(picture, torch.tensor([[1.0, 0.0]])).astype(float)
    assert faded[:, :5].std() == pytest.approx(picture[:, :5].std(), rel=0.01)
    assert faded[:, 35:].std() < 5


def test_no_evidence_leaves_the_query_and_warns():
    nothing = [Evidence(0.0, torch.zeros(2, 2, 3, 3))]
    with pytest.warns(UserWarning, match="left as it is"):
        assert query_weights(refine_query(nothing, normalise=True)).eq(1).all()


def test_hard_weights_are_0_or_1():
    weights = query_weights(torch.tensor([[1.0, 2.0, 4.0]]), hard=0.5)
    assert weights.tolist() == [[0, 1, 1]]


def test_bad_input_gets_a_sentence():
    with pytest.raises(ValueError, match="mean, max"):
        refine_query(evidences(), "median")
    with pytest.raises(ValueError, match="no evidence to pool"):
        refine_query([])
    with pytest.raises(ValueError, match="2 grids"):
        refine_query([*evidences(1), *evidences(1, (3, 4, 2, 4))])
    with pytest.raises(ValueError, match="query grid is"):
        weight_tensor(torch.rand(1, 1, 2, 2, 2, 2), torch.rand(2, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        weight_tensor(torch.rand(1, 1, 2, 2, 2, 2), torch.rand(2, 2), 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        weight_pixels(np.zeros((4, 4, 3), dtype=np.uint8), torch.rand(2, 2), -1)


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


def test_without_evidence_the_box_is_the_picture():
    assert evidence_box(torch.zeros(3, 4), (31, 45)) == (0, 0, 45, 31)
