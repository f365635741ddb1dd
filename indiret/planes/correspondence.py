"""What a plane says of patches: which lies where, how much that counts, and where a point goes.

Places are y and x from 0 to 1 in their photos. Evidence M*[i, j, k, l] sums, over the patches of
both templates, their support s · b_ij(place in the target) · b_kl(place in the query) with bilinear
weights b.

Chapter: *Sphere or plane?*
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.patches import patch_grid

EVIDENCE_GRID = 14  # patches along the longer side of an evidence map, as networks have them
EXTENT = 5  # patches of a template, up and down and aside, over which support is averaged


class PlaneCorrespondence(NamedTuple):
    """Where a template's patches lie in the other photo, to a fraction of a patch.

    ``template_points`` and ``matched_points`` are (K, L, 2), y and x from 0 to 1 in their photos;
    ``support`` (K, L) ≥ 0 are the responses there.
    """

    template_points: Tensor
    matched_points: Tensor
    support: Tensor

    # SHIM
    @property
    def places(self) -> Tensor:
        return self.matched_points

    # END SHIM


def smooth_support(support: Tensor) -> Tensor:
    """(K, L) ≥ 0: the root of the mean support around each of a template's patches.

    A plane says where every patch lies, also one on blank wall without a response: it is as
    likely to be right as the 5 × 5 patches around it are. The root brings weak parts nearer to
    strong ones.

    Examples
    --------
    >>> smooth_support(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    tensor([[0.5774, 0.5774, 0.5774],
            [0.5774, 0.5774, 0.5774],
            [0.5774, 0.5774, 0.5774]])
    """
    around = F.avg_pool2d(support[None], EXTENT, 1, EXTENT // 2, count_include_pad=False)
    return around[0].sqrt()


def splat(
    parts: Iterable[tuple[Tensor, Tensor, Tensor]],
    target_shape: tuple[int, int],
    query_shape: tuple[int, int],
) -> Tensor:
    """Evidence M* (I, J, K, L) of two photos (height, width), 14 patches along the longer sides.

    Each part is support (...) between target points and query points (..., 2); each point counts
    for the four patches nearest to it.

    Examples
    --------
    >>> target, query = torch.tensor([[0.5, 0.25]]), torch.tensor([[0.5, 0.5]])
    >>> pairs = splat([(torch.ones(1), target, query)], (140, 280), (20, 20))
    >>> pairs.shape, float(pairs.sum()), float(pairs[3, 3, 6, 6])
    (torch.Size([7, 14, 14, 14]), 1.0, 0.25)
    """
    target_grid, query_grid = (
        patch_grid(*shape, (EVIDENCE_GRID, EVIDENCE_GRID), "keep")
        for shape in (target_shape, query_shape)
    )
    pairs = torch.zeros(*target_grid, *query_grid)
    for support, target_points, query_points in parts:
        target = _bilinear_weights(target_points.flatten(0, -2), target_grid)
        query = _bilinear_weights(query_points.flatten(0, -2), query_grid)
        pairs += torch.einsum("p,pij,pkl->ijkl", support.flatten(), target, query)
    return pairs


def transfer_points(
    points: NDArray[np.float64], source: Tensor, destination: Tensor
) -> NDArray[np.float64]:
    """Points moved by the affine map that takes places of one photo to those of another.

    Parameters
    ----------
    points
        (N, 2), y and x from 0 to 1 in the one photo.
    source, destination
        (..., 2), places in the one photo and in the other, y and x from 0 to 1.

    Returns
    -------
    numpy.ndarray
        (N, 2) in the other photo; they may lie outside of it.

    Examples
    --------
    >>> source = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.5]])
    >>> transfer_points(np.array([[0.0, 1.0]]), source, source / 2 + 0.25).round(3).tolist()
    [[0.25, 0.75]]
    """
    with_one = F.pad(source.reshape(-1, 2), (0, 1), value=1.0).double()
    wanted = destination.reshape(-1, 2).double()
    affine = torch.linalg.lstsq(with_one, wanted, driver="gelsd").solution
    return np.asarray(np.column_stack([points, np.ones(len(points))]) @ affine.numpy())


def _bilinear_weights(places: Tensor, grid: Sequence[int]) -> Tensor:
    """(P, rows, columns): weights of the patches nearest to places (P, 2), 0 for those outside."""
    inside = (places >= 0).all(1) & (places <= 1).all(1)
    near = []
    for axis, length in enumerate(grid):
        at = (places[:, axis, None] * length - 0.5).clamp(0, length - 1)
        near.append((1 - (at - torch.arange(length)).abs()).clamp_min(0) * inside[:, None])
    return torch.einsum("pi,pj->pij", *near)
