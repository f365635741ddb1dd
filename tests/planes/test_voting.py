"""Votes beside loops over all planes, and what is done to T before them."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from indiret.planes.geometry import Plane, sample_plane
from indiret.planes.voting import (
    ScratchBuffer,
    hough_votes,
    hough_votes_by_quarter,
    max_pool_stride2,
    normalise_by_popularity_,
    responses,
    sample_pooled,
    threshold_relu_,
    translation_grid,
)

SIDES = st.integers(1, 5)


def random_responses(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_votes_by_loops(K, L, rows, columns, step, parts):
    responses = random_responses(rows, columns, K, L)
    expected = np.zeros((parts, parts, *translation_grid(responses.shape, step)))
    above, aside = step * K // 2, step * L // 2
    for y, down in enumerate(np.array_split(range(K), parts)):
        for x, across in enumerate(np.array_split(range(L), parts)):
            for a, b, k, l in product(*map(range, expected.shape[2:]), down, across):
                i, j = a - above + step * k, b - aside + step * l
                if 0 <= i < rows and 0 <= j < columns:
                    expected[y, x, a, b] += responses[i, j, k, l].item() / (K * L)
    np.testing.assert_allclose(hough_votes_by_quarter(responses, step, parts), expected, atol=1e-5)
    np.testing.assert_allclose(hough_votes(responses, step), expected.sum((0, 1)), atol=1e-5)


def test_votes_of_many_templates_are_those_of_each():
    target, templates = torch.rand(9, 12, 8), torch.rand(5, 4, 3, 8)
    whole = normalise_by_popularity_(threshold_relu_(responses(target, templates)))
    together = hough_votes(whole, 2), hough_votes_by_quarter(whole, 2).movedim(2, 0)
    for template, votes, quarters in zip(templates, *together, strict=True):
        one = normalise_by_popularity_(threshold_relu_(responses(target, template)))
        torch.testing.assert_close(votes, hough_votes(one, 2))
        torch.testing.assert_close(quarters, hough_votes_by_quarter(one, 2))


@pytest.mark.parametrize(("shape", "step"), [((2, 2, 5), 1), ((2, 2, 5, 5), 0)])
def test_votes_of_bad_input(shape, step):
    with pytest.raises(ValueError, match=r"give \(I, J, K, L\)"):
        hough_votes(torch.zeros(shape), step)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (1, 1), (2, 1), (3, 3)])
def test_pooling_by_loops(shape):
    responses = random_responses(*shape, 2, 1)
    pooled = max_pool_stride2(responses)
    assert pooled.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2, 2, 1)
    for i in range(0, shape[0], 2):
        for j in range(0, shape[1], 2):
            near = responses[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert torch.equal(pooled[i // 2, j // 2], near.amax((0, 1)))


def test_only_functions_with_an_underscore_change_what_they_are_given():
    cosines = 2 * random_responses(6, 7, 3, 2) - 1
    before = cosines.clone()
    plane = Plane(torch.eye(2), torch.tensor([1.5, 2.0]), 0.0)
    max_pool_stride2(cosines), hough_votes(cosines), sample_pooled(cosines, plane)
    assert torch.equal(cosines, before)
    threshold_relu_(cosines)
    torch.testing.assert_close(cosines, (before - 0.3).clamp_min(0))
    popular = cosines.mean((2, 3), keepdim=True)
    wanted = cosines / (popular + 0.001).sqrt()
    torch.testing.assert_close(normalise_by_popularity_(cosines), wanted)


@pytest.mark.parametrize("offset", [(3.3, 2.7), (-1.2, -0.6), (20.0, 15.5), (4.0, 4.0)])
def test_the_best_near_a_place_is_that_of_a_pooled_tensor(offset):
    cosines = 2 * random_responses(11, 12, 4, 5) - 1
    plane = Plane(torch.tensor([[2.1, 0.1], [-0.1, 1.9]]), torch.tensor(offset), 0.0)
    query_first = threshold_relu_(cosines.clone()).permute(2, 3, 0, 1)
    pooled = sample_plane(F.max_pool2d(query_first, 3, 1, 1).permute(2, 3, 0, 1), plane)
    found = sample_pooled(cosines, plane)
    torch.testing.assert_close(found, (pooled, sample_plane(cosines, plane)))


def test_scratch_memory_is_of_a_thread_and_changes_no_product():
    target, template = torch.rand(5, 6, 8), torch.rand(3, 2, 8)
    buffer = ScratchBuffer()
    fresh = responses(target, template)
    assert torch.equal(responses(target, template, buffer), fresh)
    held = buffer.view(4)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(buffer.view, 4).result()
    assert held.data_ptr() == buffer.view(4).data_ptr() != other.data_ptr()
    with torch.inference_mode():
        larger = buffer.view(2 * buffer.numbers.numel() + 1)
    larger.zero_()  # also outside of it
