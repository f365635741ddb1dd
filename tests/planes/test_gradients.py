"""Dense RootSIFT beside a loop over pixels, and its whitening."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.datasets import load_dataset
from indiret.planes.gradients import cell_grid, dense_rootsift, whiten


def dense_rootsift_by_loops(grey: np.ndarray) -> np.ndarray:
    """Every pixel gives its gradient to two directions of the cells near it, one by one."""
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
            for r, c in np.ndindex(*sums.shape[:2]):
                away = abs(y - (4 * r + 1.5)), abs(x - (4 * c + 1.5))
                near = max(0, 1 - away[0] / 4) * max(0, 1 - away[1] / 4)
                steep = near * math.hypot(right, down)
                sums[r, c, low % 8] += steep * (low + 1 - direction)
                sums[r, c, (low + 1) % 8] += steep * (direction - low)
    patches = np.zeros((height // 4 - 3, width // 4 - 3, 128))
    for r, c in np.ndindex(patches.shape[:2]):
        values = sums[r : r + 4, c : c + 4].transpose(2, 0, 1).ravel()
        patches[r, c] = np.sqrt(values / (values.sum() + 256 * 1.6 / 255))
    return patches


def test_gradients_by_loops():
    grey = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    expected = dense_rootsift_by_loops(grey.astype(np.float32) / 255)
    np.testing.assert_allclose(dense_rootsift(picture, 24).numpy(), expected, atol=2e-5)


def test_gradients_do_not_mind_light():
    picture = np.random.default_rng(0).integers(60, 100, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((160, 120), Image.Resampling.BICUBIC))
    bright, dark = dense_rootsift(2 * picture, 112), dense_rootsift(picture, 112)
    assert torch.cosine_similarity(bright, dark, dim=-1).mean() > 0.97


def test_plain_pictures_have_no_gradients():
    assert dense_rootsift(np.full((40, 60, 3), 90, np.uint8), 112).abs().max() == 0


@pytest.mark.parametrize("shape", [(4, 4), (16, 320), (320, 16), (2000, 900)])
def test_grids_hold_at_least_a_patch(shape):
    rows, columns = cell_grid(*shape, 70)
    assert min(rows, columns) >= 4 and max(rows, columns) == 17
    patches = dense_rootsift(np.zeros((*shape, 3), np.uint8), 70)
    assert patches.shape == (rows - 3, columns - 3, 128)


def test_unrelated_patches_are_orthogonal_once_whitened():
    town = load_dataset("toytown", split="validation")
    pictures = [town.read(town.queries[number].image) for number in (0, 5)]
    first, second = (dense_rootsift(one, 112).flatten(0, 1) for one in pictures)
    before, after = (x @ y.T for x, y in ((first, second), (whiten(first), whiten(second))))
    assert before.mean() > 0.4 and after.mean().abs() < 0.1
    torch.testing.assert_close(whiten(first).norm(dim=1), first.norm(dim=1))
    assert torch.equal(whiten(torch.zeros(3, 128)), torch.zeros(3, 64))
