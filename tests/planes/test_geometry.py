import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from indiret.datasets import load_dataset
from indiret.planes import (
    Plane,
    cell_grid,
    planes_of,
    refine_plane,
    sample_plane,
    slope_patches,
    tolerate,
    vote,
    vote_in_parts,
    whiten,
)

SIDES = st.integers(1, 5)


def random_responses(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 7), st.integers(1, 7), st.integers(1, 3))
def test_votes_by_loops(K, L, rows, columns, step):
    responses = random_responses(K, L, rows, columns)
    votes = vote(responses, step)
    above, aside = step * K // 2, step * L // 2
    assert votes.shape == planes_of(responses.shape, step)
    for a in range(votes.shape[0]):
        for b in range(votes.shape[1]):
            expected = 0.0
            for k in range(K):
                for l in range(L):
                    i, j = a - above + step * k, b - aside + step * l
                    if 0 <= i < rows and 0 <= j < columns:
                        expected += responses[k, l, i, j].item() / (K * L)
            assert votes[a, b].item() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_votes_of_a_part_are_those_of_the_whole_without_the_others(
    K, L, rows, columns, step, parts
):
    responses = random_responses(K, L, rows, columns)
    votes = vote_in_parts(responses, parts, step)
    assert votes.shape == (parts, parts, *planes_of(responses.shape, step))
    for y, down in enumerate(torch.arange(K).tensor_split(parts)):
        for x, across in enumerate(torch.arange(L).tensor_split(parts)):
            alone = torch.zeros_like(responses)
            alone[down[:, None], across] = responses[down[:, None], across]
            torch.testing.assert_close(votes[y, x], vote(alone, step))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 2), st.integers(0, 99))
def test_a_planted_plane_has_most_votes(i, j, step, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(14, 14, 32, generator=generator)
    query = target[i : i + 4 * step : step, j : j + 4 * step : step]
    K, L = query.shape[:2]
    responses = torch.einsum("klc,ijc->klij", query, target).clamp_min(0)
    votes = vote(responses, step)
    a, b = divmod(int(votes.argmax()), votes.shape[1])
    assert (a - step * K // 2, b - step * L // 2) == (i, j)


def test_a_moved_target_moves_the_votes():
    responses = torch.zeros(3, 3, 12, 12)
    responses[..., 2:8, 3:8] = random_responses(3, 3, 6, 5)
    moved = responses.roll((2, 1), (2, 3))
    torch.testing.assert_close(vote(responses, 2)[:-2, :-1], vote(moved, 2)[2:, 1:])


@pytest.mark.parametrize(("shape", "step"), [((2, 2, 5), 1), ((2, 2, 5, 5), 0)])
def test_votes_of_bad_input(shape, step):
    with pytest.raises(ValueError, match=r"do not fit: give \(K, L, I, J\)"):
        vote(torch.zeros(shape), step)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (1, 1), (2, 1), (3, 3)])
def test_tolerance_by_loops(shape):
    responses = random_responses(2, *shape)
    best = tolerate(responses)
    assert best.shape == (2, (shape[0] + 1) // 2, (shape[1] + 1) // 2)
    for i in range(0, shape[0], 2):
        for j in range(0, shape[1], 2):
            near = responses[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert torch.equal(best[:, i // 2, j // 2], near.amax((1, 2)))


def test_sampling_a_plane_by_loops():
    responses = random_responses(3, 4, 6, 7)
    plane = Plane(torch.tensor([[1.3, -0.2], [0.4, 1.1]]), torch.tensor([0.7, -0.6]), 0.0)
    sampled = sample_plane(responses, plane)
    for k in range(3):
        for l in range(4):
            i, j = (plane.matrix @ torch.tensor([float(k), float(l)]) + plane.offset).tolist()
            expected = sum(
                (1 - abs(i - x)) * (1 - abs(j - y)) * responses[k, l, x, y].item()
                for x in (math.floor(i), math.floor(i) + 1)
                for y in (math.floor(j), math.floor(j) + 1)
                if 0 <= x < 6 and 0 <= y < 7
            )
            assert sampled[k, l].item() == pytest.approx(expected, abs=1e-5)


def test_refining_finds_a_sheared_plane_between_patches():
    truth = Plane(torch.tensor([[2.15, 0.1], [-0.12, 1.9]]), torch.tensor([3.3, 2.6]), 1.0)
    at = truth.places(8, 9)[:, :, None, None]
    grid = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(22.0), indexing="ij"), -1)
    responses = torch.exp(-(grid - at).square().sum(-1))
    noise = 0.2 * random_responses(*responses.shape)
    found = refine_plane(responses + noise, Plane(2 * torch.eye(2), torch.tensor([4.0, 2.0]), 0.0))
    before = (2 * torch.eye(2) - truth.matrix).abs().max()
    assert (found.matrix - truth.matrix).abs().max() < before / 2
    apart = (found.places(8, 9) - truth.places(8, 9)).abs()
    assert apart.max() < 0.5 and apart.mean() < 0.25
    assert found.votes > 0.7


def test_refining_without_an_answer_changes_nothing():
    plane = Plane(2 * torch.eye(2), torch.zeros(2), 3.0)
    found = refine_plane(torch.zeros(3, 3, 9, 9), plane)
    assert found.votes == 0 and torch.equal(found.matrix, plane.matrix)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 9, 9), (5, 1, 2, 3)])
def test_refining_in_grids_of_one_row(shape):
    found = refine_plane(random_responses(*shape), Plane(torch.eye(2), torch.zeros(2), 0.0))
    assert torch.isfinite(found.places(*shape[:2])).all()


def slope_patches_by_loops(grey: np.ndarray) -> np.ndarray:
    """Every pixel gives its slope to two directions of the cells near it, one by one."""
    height, width = grey.shape
    at = np.pad(grey, 1, mode="edge")
    sums = np.zeros((height // 4, width // 4, 8))
    for y in range(-2, height + 2):
        for x in range(-2, width + 2):
            row, column = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            right = (at[row + 1, column + 2] - at[row + 1, column]) / 2
            down = (at[row + 2, column + 1] - at[row, column + 1]) / 2
            direction = math.atan2(down, right) / math.tau * 8 % 8
            low = math.floor(direction)
            for r in range(height // 4):
                for c in range(width // 4):
                    near = max(0, 1 - abs(y - (4 * r + 1.5)) / 4) * max(
                        0, 1 - abs(x - (4 * c + 1.5)) / 4
                    )
                    steep = near * math.hypot(right, down)
                    sums[r, c, low % 8] += steep * (low + 1 - direction)
                    sums[r, c, (low + 1) % 8] += steep * (direction - low)
    patches = np.zeros((height // 4 - 3, width // 4 - 3, 128))
    for r, c in np.ndindex(patches.shape[:2]):
        values = sums[r : r + 4, c : c + 4].transpose(2, 0, 1).ravel()
        patches[r, c] = np.sqrt(values / (values.sum() + 256 * 1.6 / 255))
    return patches


def test_slopes_by_loops():
    grey = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    expected = slope_patches_by_loops(grey.astype(np.float32) / 255)
    np.testing.assert_allclose(slope_patches(picture, 24).numpy(), expected, atol=2e-5)


def test_slopes_do_not_mind_light():
    picture = np.random.default_rng(0).integers(60, 100, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((160, 120), Image.Resampling.BICUBIC))
    bright, dark = slope_patches(2 * picture, 112), slope_patches(picture, 112)
    assert torch.cosine_similarity(bright, dark, dim=-1).mean() > 0.97


def test_plain_pictures_have_no_slopes():
    assert slope_patches(np.full((40, 60, 3), 90, np.uint8), 112).abs().max() == 0


@pytest.mark.parametrize("shape", [(4, 4), (16, 320), (320, 16), (2000, 900)])
def test_grids_hold_at_least_a_patch(shape):
    rows, columns = cell_grid(*shape, 70)
    assert min(rows, columns) >= 4 and max(rows, columns) == 17
    patches = slope_patches(np.zeros((*shape, 3), np.uint8), 70)
    assert patches.shape == (rows - 3, columns - 3, 128)


def test_unrelated_patches_are_orthogonal_once_whitened():
    town = load_dataset("toytown", split="validation")
    first, second = (
        slope_patches(town.read(town.queries[number].image), 112).flatten(0, 1) for number in (0, 5)
    )
    before, after = (x @ y.T for x, y in ((first, second), (whiten(first), whiten(second))))
    assert before.mean() > 0.4 and after.mean().abs() < 0.1
    same = whiten(first)
    torch.testing.assert_close(same.norm(dim=1), first.norm(dim=1))
    flat = torch.zeros(3, 128)
    assert torch.equal(whiten(flat), torch.zeros(3, 64))
