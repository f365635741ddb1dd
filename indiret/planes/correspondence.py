"""What a plane says of patches: which lies where, how much that counts, and where a point goes.

Places are y and x from 0 to 1 in their photos. Evidence M*[i, j, k, l] sums, over the patches of
both templates, their support s · b_ij(place in the target) · b_kl(place in the query) with bilinear
weights b.

Chapter: *Sphere or plane?*
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.patches import patch_grid
from indiret.retrieval import Points

EVIDENCE_GRID = 14, 14  # patches of an evidence map at most, as networks have them
EXTENT = 5  # patches of a template, up and down and aside, over which support is averaged


class PlaneCorrespondence(NamedTuple):
    """Where a template's patches lie in the other photo, to a fraction of a patch."""

    template_points: Tensor  # (K, L, 2)
    matched_points: Tensor  # (K, L, 2), in the other photo
    support: Tensor  # (K, L) ≥ 0, the responses there


def smooth_support(support: Tensor) -> Tensor:
    """(K, L) ≥ 0: the root of the mean support around each of a template's patches.

    A patch on blank wall is as likely to be right as the 5 × 5 patches around it.
    """
    around = F.avg_pool2d(support[None], EXTENT, 1, EXTENT // 2, count_include_pad=False)
    return around[0].sqrt()


def splat(
    directions: Sequence[PlaneCorrespondence],
    target_shape: tuple[int, int],
    query_shape: tuple[int, int],
) -> Tensor:
    """Evidence M* (I, J, K, L) of two photos (height, width), 14 patches along the longer sides.

    The first direction is of the query's template in the target, a second one the reverse.

    Examples
    --------
    >>> query, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.5, 0.25]]])
    >>> forward = PlaneCorrespondence(query, target, torch.ones(1, 1))
    >>> pairs = splat([forward], (140, 280), (20, 20))
    >>> pairs.shape, float(pairs.sum()), float(pairs[3, 3, 6, 6])
    (torch.Size([7, 14, 14, 14]), 1.0, 0.25)
    """
    target_grid = patch_grid(*target_shape, EVIDENCE_GRID, "keep")
    query_grid = patch_grid(*query_shape, EVIDENCE_GRID, "keep")
    pairs = torch.zeros(*target_grid, *query_grid, dtype=torch.float32)
    for backward, (*points, support) in enumerate(directions):
        query_points, target_points = points[::-1] if backward else points
        target = _bilinear_weights(target_points.flatten(0, 1), target_grid)
        query = _bilinear_weights(query_points.flatten(0, 1), query_grid)
        pairs += torch.einsum("p,pij,pkl->ijkl", support.flatten(), target, query)
    return pairs


def _bilinear_weights(places: Tensor, grid: Sequence[int]) -> Tensor:
    """(P, rows, columns): weights of the patches nearest to places (P, 2), 0 for those outside."""
    inside = (places >= 0).all(1) & (places <= 1).all(1)
    near = []
    for axis, length in enumerate(grid):
        at = (places[:, axis, None] * length - 0.5).clamp(0, length - 1)
        near.append((1 - (at - torch.arange(length)).abs()).clamp_min(0) * inside[:, None])
    return torch.einsum("pi,pj->pij", *near)


def move_points(points: Points, source: Tensor, destination: Tensor) -> Points:
    """Points (N, 2) moved by the affine map that fits ``source`` to ``destination``, (..., 2)."""
    affine = fit_affine(source, destination)
    return np.asarray(np.column_stack([points, np.ones(len(points))]) @ affine.numpy())


def fit_affine(source: Tensor, destination: Tensor, weights: Tensor | None = None) -> Tensor:
    """(3, 2) double: the map of places (y, x, 1) that fits best, all alike or by weights (N,)."""
    with_one = F.pad(source.reshape(-1, 2), (0, 1), value=1.0).double()
    wanted = destination.reshape(-1, 2).double()
    if weights is not None:
        root = weights.double().sqrt()[:, None]
        with_one, wanted = root * with_one, root * wanted
    return torch.linalg.lstsq(with_one, wanted, driver="gelsd").solution


def move_places(places: Tensor, affine: Tensor) -> Tensor:
    """Places (..., 2) moved by an affine map of `fit_affine`."""
    return places @ affine[:2] + affine[2]
