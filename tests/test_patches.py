import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from indiret.patches import SCHEMES, extract_patches, patch_boxes, patch_grid, propose_boxes


def picture(height=60, width=90, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def naive_patch(image, box, size):
    """A box of the picture as size × size pixels, in a loop: resized, then read between pixels."""
    x1, y1, x2, y2 = box
    height, width = image.shape[:2]
    across, down = (
        max(1, round(float(side))) for side in (width * size / (x2 - x1), height * size / (y2 - y1))
    )
    small = np.array(Image.fromarray(image).resize((across, down), 2)).astype(float)
    patch = np.empty((size, size, 3))
    for u in range(size):
        for v in range(size):
            y = (y1 + y2) / 2 * down / height + u - size / 2
            x = (x1 + x2) / 2 * across / width + v - size / 2
            y, x = min(max(y, 0), down - 1), min(max(x, 0), across - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, down - 1), min(left + 1, across - 1)
            upper = (1 - x + left) * small[top, left] + (x - left) * small[top, right]
            lower = (1 - x + left) * small[bottom, left] + (x - left) * small[bottom, right]
            patch[u, v] = (1 - y + top) * upper + (y - top) * lower
    return patch.ravel() / 255


@pytest.mark.parametrize(("scheme", "widths"), [("grid", [1]), ("dense", [2]), ("pyramid", [3, 5])])
@pytest.mark.parametrize("aspect", ["squash", "keep"])
@pytest.mark.parametrize("scale", [1, 0.7])
def test_windows_equal_a_naive_loop(scheme, widths, aspect, scale):
    image, size = picture(), 8
    patches = extract_patches(image, (4, 5), size, scheme, aspect, scale)
    m, n = patch_grid(60, 90, (4, 5), aspect)
    assert patches.shape == (m, n, len(widths) * size * size * 3)
    cell = np.array([90 / n, 60 / m])
    side = np.full(2, np.sqrt(cell.prod())) if scheme == "pyramid" else cell
    for i in range(m):
        for j in range(n):
            centre = (np.array([j, i]) + 0.5) * cell
            halves = [scale * width * side / 2 for width in widths]
            boxes = [(*(centre - half), *(centre + half)) for half in halves]
            expected = np.concatenate([naive_patch(image, box, size) for box in boxes])
            np.testing.assert_allclose(patches[i, j].numpy(), expected, atol=1e-5)


def test_proposed_windows_can_be_wider():
    image = picture()
    corners = propose_boxes(image, 2, 2)[1, 1].reshape(2, 2)
    centre, half = corners.mean(0), (corners[1] - corners[0]) / 2
    inside = np.clip([*(centre - 2 * half), *(centre + 2 * half)], 0, [90, 60, 90, 60])
    expected = np.array(Image.fromarray(image).resize((8, 8), 2, tuple(inside))).ravel() / 255
    wide = extract_patches(image, (2, 2), 8, "proposals", scale=2)
    np.testing.assert_allclose(wide[1, 1].numpy(), expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    scheme=st.sampled_from(sorted(SCHEMES)),
    aspect=st.sampled_from(["squash", "keep"]),
)
def test_any_picture_any_grid(shape, grid, scheme, aspect):
    image = picture(*shape)
    patches = extract_patches(image, grid, 8, scheme, aspect)
    boxes = patch_boxes(image, grid, scheme, aspect)
    assert patches.shape[:2] == boxes.shape[:2] == patch_grid(*shape, grid, aspect)
    assert patches.dtype == torch.float32
    assert 0 <= patches.min() and patches.max() <= 1
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    if scheme == "grid":  # cells tile the picture
        assert (boxes[..., 2:] - boxes[..., :2]).prod(-1).sum() == pytest.approx(np.prod(shape))


def test_proposals_find_what_stands_out_and_read_left_to_right():
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[60:80, 10:30] = picture(20, 20)
    best = propose_boxes(image, 1, 1)[0, 0]
    assert best[0] < 30 and best[2] > 10 and best[1] < 80 and best[3] > 60
    boxes = propose_boxes(picture(), 3, 4)
    centres = boxes[..., :2] + boxes[..., 2:]
    assert (np.diff(centres[..., 0], axis=1) >= 0).all()
    assert (centres[:-1, :, 1].max(1) <= centres[1:, :, 1].min(1)).all()
    blank = propose_boxes(np.zeros((40, 40, 3), dtype=np.uint8), 5, 5).reshape(-1, 4)
    assert len(np.unique(blank, axis=0)) == 25


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"grid": (0, 3)}, ValueError, "grid"),
        ({"grid": (3,)}, ValueError, "grid"),
        ({"size": 0}, ValueError, "size"),
        ({"scale": 0}, ValueError, "scale=0 is not above 0"),
        ({"scheme": "sift"}, ValueError, "grid, dense, pyramid, proposals"),
        ({"aspect": "crop"}, ValueError, "squash, keep"),
        ({"image": np.zeros((9, 9), dtype=np.uint8)}, ValueError, "height, width, 3"),
        ({"image": np.zeros((9, 9, 3))}, TypeError, "uint8"),
        ({"image": [[1]]}, TypeError, "uint8"),
    ],
)
def test_bad_input_gets_a_sentence(settings, kind, words):
    with pytest.raises(kind, match=words):
        extract_patches(**{"image": picture(), **settings})
