"""Votes for planes of features beside gradients, or in their place."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from indiret import build_retriever
from indiret.patches import PATCH_SOURCES, extract_patches, patch_source, register_patch_source
from indiret.planes import PlaneRetriever
from indiret.planes.gradients import PATCH_CELLS, cell_grid
from indiret.planes.sources import FINENESS, GRADIENTS, FeaturePlaneRetriever


@pytest.fixture
def colours():
    """A source of 3 × 3 pixels a cell, as numbers."""
    register_patch_source(
        lambda name: name == "colours",
        lambda name: lambda picture, grid: extract_patches(picture, grid, size=3).flatten(2),
    )
    yield "colours"
    PATCH_SOURCES.pop()
    patch_source.cache_clear()


@pytest.fixture(scope="module")
def pictures():
    """A poster, the same moved and smaller, another poster, and paper."""
    random = np.random.default_rng(0)
    posters = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).resize((240, 180))
        )
        for _ in range(2)
    ]
    moved = np.asarray(Image.fromarray(posters[0][10:170, 20:220]).resize((240, 192)))
    return posters[0], moved, posters[1], np.full((180, 240, 3), 240, np.uint8)


def scores(retriever, pictures):
    query, *others = pictures
    return retriever.score(retriever.encode_query(query), [retriever.encode(o) for o in others])


def test_gradients_by_name_are_the_planes(pictures):
    """A slow twin: the fast one has its impostors' patches shipped."""
    named, shipped = FeaturePlaneRetriever([GRADIENTS]), PlaneRetriever()
    np.testing.assert_allclose(scores(named, pictures), scores(shipped, pictures), rtol=1e-4)


def test_the_network_judges_votes_of_gradients_by_name_as_its_own(pictures):
    named, shipped = build_retriever("plane-net:gradients"), build_retriever("plane-net")
    found = scores(named, pictures)
    np.testing.assert_allclose(found, scores(shipped, pictures), rtol=1e-3, atol=1e-3)
    assert named.probability(found) is None and named.evidence_kinds == ("support", "verified")


@pytest.mark.parametrize("name", ["planes:colours", "planes:gradients+colours"])
def test_another_view_is_first_and_paper_last(colours, pictures, name):
    found = scores(build_retriever(name), pictures)
    assert found[0] > 2 * found[1] > 2 * found[2]


def test_a_map_is_read_at_the_centres_of_patches(pictures):
    """On a map that is a ramp, each patch reads its own place."""

    def ramp(picture, grid):
        y, x = ((torch.arange(n) + 0.5) / n for n in grid)
        places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)
        return torch.cat([places, (2 - places.square().sum(-1, keepdim=True)).sqrt()], -1)

    retriever = FeaturePlaneRetriever([GRADIENTS])
    retriever.maps["ramp"] = ramp
    cells = cell_grid(*pictures[0].shape[:2], 112)
    read = retriever.map_patches("ramp", pictures[0], 112) * 2**0.5
    assert tuple(read.shape[:2]) == tuple(side - PATCH_CELLS + 1 for side in cells)
    centres = [(k + PATCH_CELLS / 2) / cells[0] for k in range(read.shape[0])]
    inner = slice(FINENESS, -FINENESS)  # past the map's outermost centres it is padded
    np.testing.assert_allclose(read[inner, 8, 0], centres[inner], atol=0.01)


def test_patches_are_as_long_as_those_of_gradients(colours, pictures):
    made = FeaturePlaneRetriever([GRADIENTS, colours]).patches(pictures[0], 112)
    known = PlaneRetriever().patches(pictures[0], 112)
    torch.testing.assert_close(made.norm(dim=-1), known.norm(dim=-1))
    assert made.shape[-1] > known.shape[-1]


def test_evidence_and_points_are_of_the_same_planes(colours, pictures):
    retriever = build_retriever("planes:colours")
    query, target = (retriever.encode(picture) for picture in pictures[:2])
    assert retriever.explain(query, target).pairs.ndim == 4
    middle = retriever.transfer_points(query, target, np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(middle, 0.5, atol=0.04)


def test_what_is_no_source_is_refused_and_features_are_not_kept(pictures):
    for name in ("planes:nothing", "plane-net:gradients+nothing", "planes:"):
        with pytest.raises(ValueError, match=f"{re.escape(name)}.*choose gradients"):
            build_retriever(name)
    retriever = FeaturePlaneRetriever([GRADIENTS])
    with pytest.raises(ValueError, match="disk"):
        retriever.pack(retriever.encode_query(pictures[0]))
