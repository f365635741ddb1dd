"""How well an evidence map finds a region of interest: IoU measures, pixel AUC, their ceilings.

A map is an array (m, n) on the patch grid or (H, W) in full size, two-dimensional and finite; a
region of interest (RoI) is (H, W) of bool. Anything else is a ValueError.

Chapter: *From Grad-CAM to evidence*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLDS = np.arange(10) / 10  # 0.0 … 0.9, the paper's
OTSU_BINS = 256


def upsample_map(evidence: ArrayLike, shape: Sequence[int]) -> NDArray[np.float64]:
    """Resize a map to (H, W), the first two of ``shape``, bilinearly (align_corners=False).

    Examples
    --------
    >>> upsample_map([[0.0, 1.0]], (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    evidence = _as_map(evidence)
    if evidence.shape == tuple(shape[:2]):
        return evidence
    rows, columns = (_linear_weights(*pair) for pair in zip(evidence.shape, shape[:2], strict=True))
    return rows @ evidence @ columns.T


def average_to_grid(picture: ArrayLike, grid: Sequence[int]) -> NDArray[np.float64]:
    """Average an (H, W) map over the cells of an (m, n) grid, shared pixels in proportion."""
    picture = _as_map(picture)
    rows, columns = (_area_weights(*pair) for pair in zip(picture.shape, grid, strict=True))
    return rows @ picture @ columns.T


def scale_map(evidence: ArrayLike) -> NDArray[np.float64]:
    """Scale a map from its own least and largest value to 0 … 1; a constant map is all ones."""
    evidence = _as_map(evidence)
    least, span = evidence.min(), np.ptp(evidence)
    return (evidence - least) / span if span > 0 else np.ones_like(evidence)


def threshold_ious(evidence: ArrayLike, roi: ArrayLike) -> NDArray[np.float64]:
    """IoU of map ≥ t and RoI for the ten thresholds t = 0.0, 0.1 … 0.9.

    The map is upsampled, then scaled by `scale_map`. At t = 0 the mask is the whole picture.

    Examples
    --------
    >>> threshold_ious([[0.0, 1.0]], [[False, True]]).round(2).tolist()
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    roi = _as_roi(roi)
    scaled = scale_map(upsample_map(evidence, roi.shape))
    return np.array([mask_iou(scaled >= threshold, roi) for threshold in THRESHOLDS])


def mask_iou(mask: NDArray[np.bool_], roi: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 0 if both are empty."""
    union = np.count_nonzero(mask | roi)
    return float(np.count_nonzero(mask & roi) / union) if union else 0.0


def box_iou(box: Sequence[float], roi: ArrayLike) -> float:
    """IoU of a box (top, left, bottom, right, 0 to 1, cut to the picture) with a region's box.

    NaN where the region is empty.

    Examples
    --------
    >>> roi = np.zeros((4, 8), dtype=bool)
    >>> roi[1:3, 2:6] = True
    >>> box_iou((0.25, 0.25, 0.75, 0.5), roi), box_iou((0, 0, 1, 1), roi), box_iou((), ~roi & roi)
    (0.5, 0.25, nan)
    """
    roi = _as_roi(roi)
    if not roi.any():
        return float("nan")
    rows, columns = (np.flatnonzero(roi.any(axis)) for axis in (1, 0))
    around = np.array([[rows[0], columns[0]], [rows[-1] + 1, columns[-1] + 1]], dtype=float)
    ours = np.clip(np.reshape(box, (2, 2)), 0, 1) * roi.shape
    shared = np.minimum(ours[1], around[1]) - np.maximum(ours[0], around[0])
    common = float(np.prod(shared.clip(0)))
    return common / (float(np.prod(ours[1] - ours[0]) + np.prod(around[1] - around[0])) - common)


def evidence_iou(evidence: ArrayLike, roi: ArrayLike) -> float:
    """The paper's mIoU of one pair: the mean of `threshold_ious`.

    From 0 to 0.9 + 0.1 · the RoI's share of the picture. It rewards peaky or flat maps by
    accident, so print the all-ones map, the centre Gaussian and `iou_ceilings` beside it.
    """
    return float(threshold_ious(evidence, roi).mean())


def otsu_iou(evidence: ArrayLike, roi: ArrayLike) -> float:
    """IoU of the map cut at one threshold, Otsu's over 256 bins, and the RoI.

    The threshold parts the pixels so that the variance between the two sides is largest; of a
    constant map, all are above.
    """
    roi = _as_roi(roi)
    scaled = scale_map(upsample_map(evidence, roi.shape))
    bins = np.minimum((scaled * OTSU_BINS).astype(int), OTSU_BINS - 1)
    share = np.bincount(bins.ravel(), minlength=OTSU_BINS) / bins.size
    if share.max() == 1:
        return mask_iou(np.ones_like(roi), roi)
    below = np.cumsum(share)[:-1]
    moment = np.cumsum(share * np.arange(OTSU_BINS))
    spread = below * (1 - below)
    between = (moment[-1] * below - moment[:-1]) ** 2
    between = np.divide(between, spread, out=np.zeros_like(spread), where=spread > 0)
    return mask_iou(bins > np.argmax(between), roi)


def pixel_auc(evidence: ArrayLike, roi: ArrayLike) -> float:
    """How often a pixel of the RoI has more evidence than one outside (Mann-Whitney, half ties).

    0.5 for a constant map; NaN where the RoI is empty or the whole picture.

    Examples
    --------
    >>> pixel_auc([[0.0, 0.5, 0.5, 1.0]], [[False, False, True, True]])
    0.875
    """
    roi = _as_roi(roi)
    if roi.all() or not roi.any():
        return float("nan")
    values = upsample_map(evidence, roi.shape)
    within, without = np.sort(values[roi]), np.sort(values[~roi])
    below, up_to = (np.searchsorted(without, within, side).sum() for side in ("left", "right"))
    return float((below + up_to) / (2 * len(within) * len(without)))


class Ceilings(NamedTuple):
    """What mIoU a perfect map can reach."""

    roi: float  # with every pixel free
    grid: float  # on the patch grid


def iou_ceilings(roi: ArrayLike, grid: Sequence[int]) -> Ceilings:
    """`evidence_iou` of the RoI itself as a map, and of the RoI averaged to an (m, n) grid."""
    return Ceilings(evidence_iou(roi, roi), evidence_iou(average_to_grid(roi, grid), roi))


def centre_gaussian(shape: Sequence[int], sigma: float) -> NDArray[np.float64]:
    """The trivial map that always points at the middle, (H, W): exp(−(x² + y²) / 2σ²).

    Over height and width, x and y run from −1 to 1, (2a + 1) / L − 1 as in Eq. 6.
    """
    if not sigma > 0:
        raise ValueError(f"sigma={sigma} is not above 0.")
    y, x = (np.exp(-((((2 * np.arange(side) + 1) / side - 1) / sigma) ** 2) / 2) for side in shape)
    return np.outer(y, x)


def _as_map(evidence: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(evidence, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"A map has two dimensions, rows and columns; this has {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("The map holds values that are not finite; NaN and inf say nothing.")
    return values


def _as_roi(roi: ArrayLike) -> NDArray[np.bool_]:
    mask = np.asarray(roi)
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(
            f"An RoI is a (H, W) array of bool; this has shape {mask.shape} and {mask.dtype}."
        )
    return mask


def _linear_weights(small: int, large: int) -> NDArray[np.float64]:
    """Matrix (large, small) of bilinear interpolation along one axis, align_corners=False."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(small)), 0)


def _area_weights(large: int, small: int) -> NDArray[np.float64]:
    """Matrix (small, large) of averaging over cells along one axis; rows sum to one."""
    start = np.arange(small)[:, None] * large / small
    pixel = np.arange(large)
    shared = np.minimum(start + large / small, pixel + 1) - np.maximum(start, pixel)
    return np.maximum(shared, 0) * small / large
