"""A network of patches that learned on Toytown, and the correspondences that it learned from."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from indiret import build_retriever
from indiret.datasets import load_dataset
from indiret.planes.gradients import root_patches
from indiret.planes.patch_network import (
    PATCH_NET,
    PatchNetwork,
    load_patch_network,
    surrounded_patches,
)
from tools.train_patches import (
    POINTS,
    SIDE,
    TRAINING,
    loss_of,
    make_pairs,
    move,
    random_homography,
    train,
    warped_windows,
)


@pytest.fixture(scope="module")
def town():
    return load_dataset("toytown", split="train")


@pytest.fixture(scope="module")
def pairs(town):
    return make_pairs(town, 8)


def test_surroundings_are_the_patches_of_cells_twice_as_wide():
    cells = torch.rand(8, 12, 14)
    found = surrounded_patches(cells)
    assert torch.equal(found[..., :128], root_patches(cells))
    assert found.shape == (9, 11, 256)
    wide = 4 * torch.nn.functional.avg_pool2d(cells, 2)  # its first 4 × 4 surround patch (2, 2)
    around, expected = found[2, 2, 128:], root_patches(wide)[0, 0]
    assert_allclose(around / around.norm(), expected / expected.norm(), rtol=1e-5)


def test_descriptors_are_of_length_one():
    assert_allclose(load_patch_network()(torch.rand(3, 256)).norm(dim=-1), 1, rtol=1e-5)


def test_a_warp_moves_points_as_it_moves_pixels():
    """What is white in a picture of large squares is white where its point is moved to."""
    random = np.random.default_rng(1)
    squares = random.integers(0, 2, (8, 8, 1), np.uint8) * 255
    picture = np.ascontiguousarray(np.kron(squares, np.ones((32, 32, 3), np.uint8)))
    here, there, points, moved = warped_windows(random, picture)
    inside = ((moved > 4) & (moved < SIDE - 4)).all(1)
    before, after = (
        window[tuple(places[inside].astype(int).T[::-1])] > 127
        for window, places in ((here, points), (there, moved))
    )
    assert 0 < before.mean() < 1 and (before == after).mean() > 0.9


def test_homographies_invert_and_keep_sizes():
    random = np.random.default_rng(0)
    points = random.uniform(-64, 64, (20, 2))
    for homography in (random_homography(random) for _ in range(20)):
        assert_allclose(move(move(points, homography), np.linalg.inv(homography)), points)
        assert 0.5 < np.linalg.det(homography[:2, :2]) < 2


def test_pairs_are_the_same_each_time_and_their_points_lie_inside(town, pairs):
    for one, other in zip(pairs[:2], make_pairs(town, 2), strict=True):
        assert torch.equal(one.patches, other.patches) and torch.equal(one.points, other.points)
    for pair in pairs:
        assert pair.patches.shape == (2, POINTS, 256)
        assert (pair.points > 0).all() and (pair.points < SIDE).all()


def test_training_lowers_the_loss_and_the_shipped_network_has_learned(pairs):
    torch.manual_seed(0)
    fresh = loss_of(PatchNetwork(), pairs)
    assert loss_of(load_patch_network(), pairs)[1] > fresh[1] + 0.1
    network, log = train(pairs, TRAINING | {"steps": 30, "batch": 8})
    assert loss_of(network, pairs)[0] < fresh[0] and log[-1]["step"] == 30


def test_it_votes_by_name_beside_gradients(town):
    query = town.queries[0]
    method = build_retriever(f"plane-net:gradients+{PATCH_NET}")
    wrong = next(n for n in town.images if n not in query.positives | query.junk | {query.image})
    right = sorted(query.positives - {query.image})[0]
    encoded = [method.encode(town.read(name)) for name in (right, wrong)]
    scores = method.score(method.encode_query(town.read_query(query)), encoded)
    assert scores[0] > scores[1]


def test_weights_of_something_else_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="do not fit"):
        load_patch_network("plane-net")
