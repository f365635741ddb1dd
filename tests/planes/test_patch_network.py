"""A network of patches that learned on Toytown, and the correspondences that it learned from."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from indiret import build_retriever
from indiret.datasets import load_dataset
from indiret.patches import patch_source
from indiret.planes.patch_network import (
    PATCH_NET,
    PatchNetwork,
    describe_cells,
    load_patch_network,
    root_cells,
)
from tools.train_patches import (
    FEWEST,
    SIDE,
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


def test_it_is_a_source_of_unit_descriptors_for_any_grid(town):
    picture = town.read(next(iter(town.images)))
    found = patch_source(PATCH_NET)(picture, (9, 14))
    assert found.shape == (9, 14, 64)
    assert_allclose(found.norm(dim=-1), 1, rtol=1e-5)


def test_contrast_changes_nothing_but_on_flat_ground():
    cells = torch.rand(1, 8, 12, 16) + 1
    assert_allclose(root_cells(cells), root_cells(100 * cells), rtol=0.02)
    assert root_cells(cells / 1e6).max() < 0.05


def test_a_map_moves_with_its_picture(town):
    """By one cell of the map, 8 pixels; borders apart."""
    picture = np.asarray(Image.fromarray(town.read(next(iter(town.images)))).resize((168, 120)))
    whole, moved = describe_cells(picture, (15, 21)), describe_cells(picture[8:, 8:], (14, 20))
    assert_allclose(moved[3:-3, 3:-3], whole[4:-3, 4:-3], atol=1e-4)


def test_a_warp_moves_points_as_it_moves_pixels():
    """A white dot on black is found where its point is moved to."""
    random = np.random.default_rng(1)
    picture = np.zeros((256, 256, 3), np.uint8)
    for y, x in random.integers(20, 236, (12, 2)):
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    here, there, points, moved = warped_windows(random, picture)
    inside = ((moved > 4) & (moved < SIDE - 4)).all(1)
    before, after = (
        window[tuple(places[inside].astype(int).T[::-1])] > 127
        for window, places in ((here, points), (there, moved))
    )
    assert before.any() and (before == after).mean() > 0.95


def test_homographies_are_near_the_identity_and_invert():
    random = np.random.default_rng(0)
    points = random.uniform(-64, 64, (20, 2))
    for homography in (random_homography(random) for _ in range(20)):
        assert_allclose(move(move(points, homography), np.linalg.inv(homography)), points)
        assert 0.5 < np.linalg.det(homography[:2, :2]) < 2


def test_pairs_are_the_same_each_time_and_their_points_lie_inside(town, pairs):
    for one, other in zip(pairs[:2], make_pairs(town, 2), strict=True):
        assert torch.equal(one.cells, other.cells) and torch.equal(one.points, other.points)
    for pair in pairs:
        assert (pair.points > 0).all() and (pair.points < SIDE).all()
        assert len(pair.points[0].unique(dim=0)) >= FEWEST / 2


def test_the_trained_network_finds_more_points_than_a_fresh_one_and_training_lowers_the_loss(pairs):
    torch.manual_seed(0)
    with torch.inference_mode():
        fresh, trained = (loss_of(one, pairs) for one in (PatchNetwork(), load_patch_network()))
    assert trained[1] > fresh[1] + 0.2
    assert loss_of(train(pairs, steps=12, batch=8), pairs)[0] < fresh[0]


def test_it_votes_beside_gradients(town):
    query = town.queries[0]
    method = build_retriever(f"planes:gradients+{PATCH_NET}")
    wrong = next(n for n in town.images if n not in query.positives | query.junk | {query.image})
    right = sorted(query.positives - {query.image})[0]
    encoded = [method.encode(town.read(name)) for name in (right, wrong)]
    scores = method.score(method.encode_query(town.read_query(query)), encoded)
    assert scores[0] > scores[1]


def test_weights_that_are_no_patch_network_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="do not fit"):
        load_patch_network("plane-net")
