"""Masks that follow the features, lie aslant, or are planes."""

import pytest
import torch

from indiret.attention import coordinates
from indiret.planes.attention import GaussianMask, PlaneMask, PredictedHypersphereMask, fit_plane


def test_predicted_centre_follows_the_features():
    mask = PredictedHypersphereMask(1, sigma=0.3)
    with torch.no_grad():
        mask.saliency.weight.fill_(50)
    features = torch.zeros(2, 1, 5, 5, 5, 5)
    features[0, 0, 1, 2, 3, 4] = features[1, 0, 4, 0, 2, 2] = 1
    theta = mask(features)
    assert theta[0].argmax() == features[0].argmax()
    assert theta[1].argmax() == features[1].argmax()


def test_gaussian_can_be_long_one_way():
    mask = GaussianMask()
    with torch.no_grad():
        mask.factor[0, 0] = 5
    theta = mask(torch.empty(1, 1, 5, 5, 5, 5))[0]
    assert theta[4, 2, 2, 2] < 0.01 < 0.5 < theta[2, 4, 2, 2]
    spreads = [mask.parameters_summary()[f"s_{number}"] for number in (1, 2, 3, 4)]
    assert spreads == pytest.approx([0.2, 1, 1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("a", "t"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
        ([[0.5, 0.0], [0.0, 0.5]], [0.3, -0.4]),
        ([[0.6, 0.15], [-0.1, 0.5]], [-0.2, 0.1]),
    ],
)
def test_plane_mask_finds_the_plane(a, t):
    places = coordinates((14, 14, 10, 10))
    ahead = places[..., 2:] @ torch.tensor(a).T + torch.tensor(t)
    on = (places[..., :2] - ahead).abs().amax(-1) < 0.16
    noise = torch.randn(on.shape, generator=torch.Generator().manual_seed(0))
    features = (on.float() + 0.3 * noise)[None, None]
    mask = PlaneMask(1, sigma=0.15)
    with torch.no_grad():
        mask.saliency.weight.fill_(5)
    theta = mask(features)[0]
    assert theta[on].mean() > 0.6
    assert theta[~on].mean() < 0.1


def test_fitted_plane_equals_least_squares():
    places = coordinates((4, 5, 3, 4)).double()
    weights = torch.rand(1, 4, 5, 3, 4, dtype=torch.float64)
    weights *= (places[..., :2] - places[..., 2:]).norm(dim=-1) < 0.8
    fitted = fit_plane(weights, places, torch.zeros(1, 2, 3).double())[0]
    root = weights.flatten().sqrt()[:, None]
    left = torch.cat([places[..., 2:], torch.ones(4, 5, 3, 4, 1)], -1).flatten(0, 3)
    expected = torch.linalg.lstsq(root * left, root * places[..., :2].flatten(0, 3)).solution.T
    torch.testing.assert_close(fitted, expected, atol=2e-3, rtol=0)
    nothing = fit_plane(torch.zeros_like(weights), places, torch.full((1, 2, 3), 0.5).double())
    assert (nothing == 0.5).all()
