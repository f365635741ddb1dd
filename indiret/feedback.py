"""Pseudo relevance feedback by evidence (Eq. 10): the first answers say what of a query matters.

The query maps of the first few targets are pooled into Q*, and every target is judged again with
the tensor weighted by it along k and l. Or, past the paper, the first few targets are cut to where
their own evidence lies, and ask too.

Chapter: *Indicative feedback*.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from indiret.evidence import Evidence

POOLS = ("mean", "max")


def refine_query(
    evidences: Sequence[Evidence], pool: str = "mean", normalise: bool = False
) -> Tensor:
    """Q*, what of the query its first answers agree on (Eq. 10).

    Parameters
    ----------
    evidences
        Of the n targets that were ranked first. Leave the query's own photo out: it agrees with
        everything.
    pool
        ``"mean"`` or ``"max"`` over their query maps.
    normalise
        Let each map sum to one first; raw, as printed, the target with the largest gradient rules.

    Returns
    -------
    Tensor
        (m', n') float ≥ 0.

    Raises
    ------
    ValueError
        If there is no evidence, the maps are not of one grid, or the pool is unknown.

    Examples
    --------
    >>> pairs = torch.zeros(2, 3, 3, 2, 2)
    >>> pairs[0, 1, 1, 0, 0], pairs[1, 1, 1, 1, 1] = 1.0, 3.0
    >>> evidences = [Evidence(0.0, one) for one in pairs]
    >>> refine_query(evidences).tolist()
    [[0.5, 0.0], [0.0, 1.5]]
    >>> refine_query(evidences, "max", normalise=True).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r} is not known; choose from {', '.join(POOLS)}.")
    if not evidences:
        raise ValueError("there is no evidence to pool; give that of one target or more.")
    grids = {tuple(evidence.query_map.shape) for evidence in evidences}
    if len(grids) > 1:
        raise ValueError(
            f"the query maps have {len(grids)} grids, {sorted(grids)}; give one query's."
        )
    maps = torch.stack([evidence.query_map for evidence in evidences])
    if normalise:
        maps = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
    return maps.mean(0) if pool == "mean" else maps.amax(0)


def query_weights(refined: Tensor, hard: float | None = None) -> Tensor:
    """w = Q* / max Q*, (m', n') in 0 … 1; where Q* is zero everywhere, ones, with a warning.

    With ``hard`` given, 1 where w is at least so much and 0 elsewhere.

    Examples
    --------
    >>> refined = torch.tensor([[1.0, 4.0]])
    >>> query_weights(refined).tolist(), query_weights(refined, hard=0.5).tolist()
    ([[0.25, 1.0]], [[0.0, 1.0]])
    """
    peak = refined.max()
    if not peak > 0:
        warnings.warn(
            "the first answers give no evidence; the query is left as it is", stacklevel=2
        )
        return torch.ones_like(refined)
    weights = refined / peak
    return weights if hard is None else (weights >= hard).to(weights)


def weight_tensor(tensor: Tensor, weights: Tensor, strength: float = 1.0) -> Tensor:
    """The standardised T times (1 − λ) + λ · w along k, l: what does not matter is set to the mean.

    Parameters
    ----------
    tensor
        (B, V, m, n, m', n').
    weights
        w, (m', n') in 0 … 1, from `query_weights`.
    strength
        λ in 0 … 1; 0 leaves T as it is.

    Raises
    ------
    ValueError
        If the grids differ or λ is out of range.

    Examples
    --------
    >>> tensor = torch.ones(1, 1, 2, 2, 1, 2)
    >>> weight_tensor(tensor, torch.tensor([[0.0, 1.0]]), strength=0.5)[0, 0, 0, 0].tolist()
    [[0.5, 1.0]]
    """
    if tensor.shape[-2:] != weights.shape:
        raise ValueError(
            f"the weights have shape {tuple(weights.shape)}; the tensor's query grid is "
            f"{tuple(tensor.shape[-2:])}."
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} is not between 0 and 1.")
    return tensor * ((1 - strength) + strength * weights)


def evidence_box(
    target_map: Tensor, shape: Sequence[int], level: float = 0.25
) -> tuple[int, int, int, int]:
    """The box around the cells with much evidence, (x1, y1, x2, y2) in pixels of the target.

    Parameters
    ----------
    target_map
        P, (m, n) ≥ 0, from `indiret.evidence.Evidence`.
    shape
        The target picture's shape; height and width come first.
    level
        Share of the map's maximum from which a cell counts, 0 … 1.

    Returns
    -------
    tuple of int
        The whole picture where there is no evidence.

    Examples
    --------
    >>> evidence_box(torch.tensor([[0.0, 0.1], [0.0, 1.0]]), (40, 60))
    (30, 20, 60, 40)
    """
    m, n = target_map.shape
    height, width = shape[:2]
    cells = (target_map >= level * target_map.max()).nonzero()
    (top, left), (bottom, right) = cells.amin(0).tolist(), (cells.amax(0) + 1).tolist()
    return left * width // n, top * height // m, -(-right * width // n), -(-bottom * height // m)


def weight_pixels(picture: np.ndarray, weights: Tensor, strength: float = 1.0) -> np.ndarray:
    """The query picture faded to its mean colour where w is small: the same idea before the tensor.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    weights, strength
        As for `weight_tensor`; w is laid over the picture, bilinear between cell centres.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.

    Examples
    --------
    >>> picture = np.zeros((4, 4, 3), dtype=np.uint8)
    >>> picture[:, 2:] = 200
    >>> weight_pixels(picture, torch.zeros(2, 2))[0, :, 0].tolist()
    [100, 100, 100, 100]
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} is not between 0 and 1.")
    height, width = picture.shape[:2]
    small = Image.fromarray(weights.detach().cpu().numpy().astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    keep = (1 - strength) + strength * large
    mean = picture.mean((0, 1))
    return (mean + keep * (picture - mean)).round().clip(0, 255).astype(np.uint8)
