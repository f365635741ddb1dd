"""`indiret.baselines.pooling`: every descriptor against loops over cells, and properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.baselines.pooling import (
    aggregate,
    cam_crow,
    class_maps,
    contributions,
    crow,
    fit_whitening,
    gem,
    mac,
    mean_pool,
    regional_maxima,
    rmac_regions,
    saliency,
    spoc,
)

POOLINGS = [mean_pool, mac, spoc, crow, regional_maxima, gem]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_maps(pictures=2, channels=5, height=4, width=6, seed=0):
    """Sparse and not negative, as after a ReLU."""
    return normal(pictures, channels, height, width, seed=seed).relu()


def by_loop(maps, function):
    """What a function gives of each channel, its values by (row, column), picture and number."""
    found = np.empty(maps.shape[:2])
    for b, c in np.ndindex(found.shape):
        found[b, c] = function(dict(np.ndenumerate(maps[b, c].double().numpy())), b, c)
    return found


def centred(values, b, c):
    sigma = min(4, 6) / 2 / 3
    return sum(
        value * math.exp(-((i + 0.5 - 2) ** 2 + (j + 0.5 - 3) ** 2) / (2 * sigma**2))
        for (i, j), value in values.items()
    )


@pytest.mark.parametrize(
    ("function", "of_cells"),
    [
        (mean_pool, lambda v, b, c: sum(v.values()) / len(v)),
        (mac, lambda v, b, c: max(v.values())),
        (gem, lambda v, b, c: (sum(max(x, 1e-6) ** 3 for x in v.values()) / len(v)) ** (1 / 3)),
        (spoc, centred),
    ],
)
def test_mean_mac_gem_and_spoc_by_a_loop(function, of_cells):
    maps = random_maps()
    np.testing.assert_allclose(function(maps), by_loop(maps, of_cells), rtol=1e-5)


def crow_by_loop(maps):
    """Weights of places by cell, and of channels."""
    places, channels = [], []
    for picture in maps.double().numpy():
        summed = sum(picture)
        places.append(np.sqrt(summed / math.sqrt(sum(value**2 for value in summed.ravel()))))
        shares = [np.count_nonzero(channel) / channel.size for channel in picture]
        total = len(shares) * 1e-6 + sum(shares)
        channels.append([math.log(total / (1e-6 + q)) if q else 0.0 for q in shares])
    return places, channels


def test_crow_by_a_loop():
    maps = random_maps()
    maps[0, 2] = 0  # a channel that is nowhere has no weight, not the largest
    places, channels = crow_by_loop(maps)

    def weighted(values, b, c):
        return channels[b][c] * sum(places[b][at] * value for at, value in values.items())

    np.testing.assert_allclose(crow(maps), by_loop(maps, weighted), rtol=1e-4, atol=1e-6)


def test_class_maps_and_cam_crow_by_a_loop():
    maps, weights = random_maps(), normal(3, 5, seed=1)
    weights[2] = -1.0  # a class that is nowhere
    _, channels = crow_by_loop(maps)
    expected = np.zeros((2, 3, 5))
    for b, n in np.ndindex(2, 3):
        cam = sum(weights[n, c].double() * maps[b, c].double() for c in range(5)).clamp_min(0)
        cam = cam / cam.max() if cam.max() > 0 else cam
        np.testing.assert_allclose(class_maps(maps, weights)[b, n], cam, atol=1e-5)
        for c in range(5):
            expected[b, n, c] = channels[b][c] * (cam * maps[b, c].double()).sum()
    np.testing.assert_allclose(cam_crow(maps, weights), expected, rtol=1e-4, atol=1e-5)
    assert not expected[:, 2].any()


# Worked out by hand from section 3.2 of Tolias et al. (2016).
@pytest.mark.parametrize(
    ("shape", "sides", "counts"),
    [
        ((6, 6), (6, 4, 3), (1, 4, 9)),  # square: l × l regions of 2 · 6 / (l + 1) cells
        ((6, 9), (6, 4, 3), (2, 6, 12)),  # two squares overlap by half, nearer 40 % than three
        ((12, 6), (6, 4, 3), (3, 8, 15)),  # two would not overlap at all, three do by half
    ],
)
def test_rmac_regions_are_those_of_the_paper(shape, sides, counts):
    regions = rmac_regions(*shape)
    for side, count in zip(sides, counts, strict=True):
        assert sum(region[2] == side for region in regions) == count
    assert len(regions) == sum(counts)


@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_rmac_regions_lie_inside_and_reach_both_ends(height, width, levels):
    regions = rmac_regions(height, width, levels)
    for top, left, side in regions:
        assert 0 <= top <= height - side and 0 <= left <= width - side and side >= 1
    assert min(region[:2] for region in regions) == (0, 0)
    assert max(top + side for top, _, side in regions) == height
    assert max(left + side for _, left, side in regions) == width


def test_regional_maxima_by_a_loop():
    maps = random_maps(height=5, width=8)
    found = regional_maxima(maps)
    for r, (top, left, side) in enumerate(rmac_regions(5, 8)):
        inside = {(i, j) for i in range(top, top + side) for j in range(left, left + side)}
        expected = by_loop(maps, lambda v, b, c, inside=inside: max(v[at] for at in inside))
        np.testing.assert_allclose(found[:, r], expected, rtol=1e-6)


def test_maps_too_small_for_rmac_are_refused():
    with pytest.raises(ValueError, match="1 x 7 cells are too small for R-MAC with 3 levels"):
        regional_maxima(torch.rand(1, 3, 1, 7))
    assert regional_maxima(torch.rand(1, 3, 1, 7), levels=1).shape[2] == 3


def test_gem_lies_between_mean_and_maximum():
    maps = random_maps() + 0.1
    torch.testing.assert_close(gem(maps, 1.0), mean_pool(maps))
    assert (gem(maps, 40.0) / mac(maps) - 1).abs().max() < 0.1


def test_aggregate_by_a_loop():
    parts, whitening = normal(2, 3, 4).double(), fit_whitening(normal(50, 4, seed=1), 3)
    for b, vector in enumerate(aggregate(parts.float(), whitening)):
        total = np.zeros(3)
        for part in parts[b].numpy():
            unit = part / np.linalg.norm(part)
            white = whitening.projection.double().numpy() @ (unit - whitening.mean.double().numpy())
            total += white / np.linalg.norm(white)
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)


@pytest.mark.parametrize(("power", "is_centred"), [(1, True), (0, True), (0.5, False)])
def test_whitening_is_that_of_a_singular_value_decomposition(power, is_centred):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 3
    moved = vectors - vectors.mean(0) * is_centred
    _, spread, axes = np.linalg.svd(moved, full_matrices=False)
    expected = moved @ (axes[:4] / (spread[:4, None] / math.sqrt(199)) ** power).T
    given = torch.from_numpy(vectors).float()
    found = fit_whitening(given, 4, power, is_centred)(given).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=2e-3)
    with pytest.raises(ValueError, match="give 1 to 6 whitened dimensions, not 7"):
        fit_whitening(given, 7)


@pytest.mark.parametrize("pool", POOLINGS)
def test_contributions_add_up_to_the_cosine(pool):
    maps, query = (
        random_maps(1, seed=1).requires_grad_(),
        aggregate(pool(random_maps(1, seed=2)))[0],
    )
    shares = contributions(maps, pool(maps), query)
    cosine = aggregate(pool(maps))[0] @ query
    assert shares.shape == (1, 4, 6)
    assert shares.sum().item() == pytest.approx(cosine.item(), abs=1e-3)


def test_contributions_of_a_mean_are_products_of_cells():
    target, query = random_maps(1, seed=1), aggregate(mean_pool(random_maps(1, seed=2)))[0]
    whitening = fit_whitening(normal(40, 5, seed=3), 3)
    white_query = aggregate(mean_pool(random_maps(1, seed=2)), whitening)[0]
    norm = mean_pool(target).norm()
    maps = target.clone().requires_grad_()
    expected = torch.einsum("bchw,c->bhw", target, query) / 24 / norm
    torch.testing.assert_close(contributions(maps, mean_pool(maps), query), expected)
    white = whitening(mean_pool(target) / norm)
    seen = torch.einsum("bchw,dc,d->bhw", target, whitening.projection, white_query)
    found = contributions(maps, mean_pool(maps), white_query, whitening)
    torch.testing.assert_close(found, seen / 24 / norm / white.norm())


def test_saliency_is_what_each_method_sums():
    maps = random_maps(1).requires_grad_()
    values = maps.detach()
    torch.testing.assert_close(saliency(maps, mean_pool(maps)), values.mean(1) * 5 / 24)
    largest = values == values.amax((2, 3), keepdim=True)
    torch.testing.assert_close(saliency(maps, mac(maps)), (values * largest).sum(1))


def test_maps_of_another_shape_are_refused():
    for shape in [(5, 4, 3), (1, 5, 0, 3)]:
        with pytest.raises(ValueError, match=r"Feature maps have shape .*this has \("):
            mac(torch.zeros(shape))
