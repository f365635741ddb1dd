"""`indiret.evaluation.localisation`: each measure of a map against its definition, slowly."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indiret.evaluation.localisation import (
    average_to_grid,
    centre_gaussian,
    evidence_iou,
    iou_ceilings,
    otsu_iou,
    pixel_auc,
    scale_map,
    threshold_ious,
    upsample_map,
)

maps = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 9))
rois = arrays(bool, (12, 9))


@settings(deadline=None)
@given(maps, st.integers(1, 20), st.integers(1, 20))
def test_upsampling_is_torchs(evidence, height, width):
    tensor = torch.from_numpy(evidence)[None, None]
    expected = torch.nn.functional.interpolate(tensor, (height, width), mode="bilinear")
    upsampled = upsample_map(evidence, (height, width, 3))
    np.testing.assert_allclose(upsampled, expected[0, 0].numpy(), atol=1e-6)


@settings(deadline=None)
@given(maps)
def test_averaging_keeps_the_mean_and_equals_a_fine_repeat(picture):
    grid = (3, 4)
    averaged = average_to_grid(picture, grid)
    fine = picture.repeat(grid[0], axis=0).repeat(grid[1], axis=1)
    height, width = picture.shape
    cells = fine.reshape(grid[0], height, grid[1], width).mean(axis=(1, 3))
    np.testing.assert_allclose(averaged, cells, atol=1e-9)
    assert averaged.mean() == pytest.approx(picture.mean(), abs=1e-9)


@settings(deadline=None)
@given(maps, rois)
def test_threshold_ious_by_counting_pixels(evidence, roi):
    scaled = scale_map(upsample_map(evidence, roi.shape))
    for step, value in enumerate(threshold_ious(evidence, roi)):
        mask = {
            (y, x) for y, x in itertools.product(range(12), range(9)) if scaled[y, x] >= step / 10
        }
        region = set(zip(*np.nonzero(roi), strict=True))
        assert value == pytest.approx(len(mask & region) / len(mask | region))
    assert evidence_iou(evidence, roi) == pytest.approx(threshold_ious(evidence, roi).mean())


def test_a_constant_map_is_all_ones():
    roi = np.zeros((10, 10), bool)
    roi[:3] = True
    for constant in (0.0, 5.0):
        flat = np.full((2, 2), constant)
        assert threshold_ious(flat, roi) == pytest.approx(0.3)
        assert otsu_iou(flat, roi) == pytest.approx(0.3)
        assert pixel_auc(flat, roi) == 0.5


@settings(deadline=None)
@given(
    arrays(np.float64, (12, 9), elements=st.integers(0, 9)),
    rois.filter(lambda roi: 0 < roi.sum() < roi.size),
    st.sampled_from([0.25, 0.5, 2.0, 8.0]),
    st.integers(-5, 5),
)
def test_measures_do_not_mind_scale_and_offset(evidence, roi, gain, offset):
    """Whole numbers and powers of two, so that the arithmetic itself is exact."""
    for measure in (evidence_iou, otsu_iou, pixel_auc):
        assert measure(evidence * gain + offset, roi) == measure(evidence, roi)


@settings(deadline=None)
@given(maps, rois)
def test_auc_by_comparing_all_pairs(evidence, roi):
    values = upsample_map(evidence, roi.shape)
    inside, outside = values[roi], values[~roi]
    if not len(inside) or not len(outside):
        assert np.isnan(pixel_auc(evidence, roi))
        return
    greater = (inside[:, None] > outside).sum() + 0.5 * (inside[:, None] == outside).sum()
    assert pixel_auc(evidence, roi) == pytest.approx(greater / len(inside) / len(outside))


@settings(deadline=None)
@given(arrays(np.float64, (12, 9), elements=st.floats(0, 1)), rois)
def test_otsu_by_trying_every_threshold(evidence, roi):
    scaled = scale_map(evidence)
    bins = np.minimum((scaled * 256).astype(int), 255)
    best, mask = -1.0, np.ones_like(roi)
    for level in range(255):
        low, high = bins[bins <= level], bins[bins > level]
        if len(low) and len(high):
            between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, mask = between, bins > level
    union = (mask | roi).sum()
    assert otsu_iou(evidence, roi) == pytest.approx((mask & roi).sum() / union)


def test_ceilings_and_the_centre():
    roi = np.zeros((28, 42), bool)
    roi[4:16, 9:27] = True  # whole cells of a 7 × 14 grid
    ceilings = iou_ceilings(roi, (7, 14))
    assert ceilings.roi == pytest.approx(0.9 + 0.1 * roi.mean())
    assert 0.6 < ceilings.grid < ceilings.roi
    gaussian = centre_gaussian((5, 9), 0.5)
    assert gaussian.shape == (5, 9) and gaussian[2, 4] == 1
    np.testing.assert_allclose(gaussian, gaussian[::-1, ::-1])
    assert gaussian[2, 8] == pytest.approx(np.exp(-((8 / 9) ** 2) / 0.5))
    with pytest.raises(ValueError, match="sigma=0"):
        centre_gaussian((5, 9), 0)


@pytest.mark.parametrize(
    ("evidence", "roi", "words"),
    [
        (np.ones(3), np.eye(2, dtype=bool), "two dimensions"),
        (np.full((2, 2), np.nan), np.eye(2, dtype=bool), "not finite"),
        (np.ones((2, 2)), np.ones((2, 2)), "array of bool"),
        (np.ones((2, 2)), np.ones(2, bool), "array of bool"),
    ],
)
def test_bad_maps(evidence, roi, words):
    for measure in (evidence_iou, otsu_iou, pixel_auc):
        with pytest.raises(ValueError, match=words):
            measure(evidence, roi)
