"""What planes say of patches: which lies where, how much that counts, and where a point goes.

Places are y and x from 0 to 1 in their photos.

Chapter: *Sphere or plane?*
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

EXTENT = 5  # patches of a template, up and down and aside, that speak for each other


def fill(support: Tensor) -> Tensor:
    """(K, L) ≥ 0: the root of the mean support around each of a template's patches.

    A plane says where every patch lies, also one on blank wall that no answer speaks for: it is as
    likely to be right as the 5 × 5 patches around it are. The root brings weak parts nearer to
    strong ones.

    Examples
    --------
    >>> fill(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    tensor([[0.5774, 0.5774, 0.5774],
            [0.5774, 0.5774, 0.5774],
            [0.5774, 0.5774, 0.5774]])
    """
    around = F.avg_pool2d(support[None], EXTENT, 1, EXTENT // 2, count_include_pad=False)
    return around[0].sqrt()


def spread(
    support: Tensor,
    at: Tensor,
    target_grid: tuple[int, int],
    asked: Tensor,
    query_grid: tuple[int, int],
) -> Tensor:
    """Pairs of two grids (I, J, K, L), from support (...) with ends ``at`` and ``asked`` (..., 2).

    Each end counts for the four patches nearest to it.
    """
    there, here = _shares(at.flatten(0, -2), target_grid), _shares(asked.flatten(0, -2), query_grid)
    return torch.einsum("p,pij,pkl->ijkl", support.flatten(), there, here)


def carried(points: NDArray[np.float64], here: Tensor, there: Tensor) -> NDArray[np.float64]:
    """Points carried over by the affine map that takes places of one photo to those of another.

    Parameters
    ----------
    points
        (N, 2), y and x from 0 to 1 in the one photo.
    here, there
        (..., 2), places in the one photo and in the other, y and x from 0 to 1.

    Returns
    -------
    numpy.ndarray
        (N, 2) in the other photo; they may lie outside of it.

    Examples
    --------
    >>> here = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.5]])
    >>> carried(np.array([[0.0, 1.0]]), here, here / 2 + 0.25).round(3).tolist()
    [[0.25, 0.75]]
    """
    with_one = F.pad(here.reshape(-1, 2), (0, 1), value=1.0).double()
    affine = torch.linalg.lstsq(with_one, there.reshape(-1, 2).double(), driver="gelsd").solution
    return np.asarray(np.column_stack([points, np.ones(len(points))]) @ affine.numpy())


def _shares(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """(P, rows, columns): how places (P, 2) from 0 to 1 are shared between the nearest patches."""
    near = []
    for axis, length in enumerate(grid):
        at = places[:, axis, None] * length - 0.5
        inside = (places >= 0).all(1) & (places <= 1).all(1)
        at = at.clamp(0, length - 1)
        near.append((1 - (at - torch.arange(length)).abs()).clamp_min(0) * inside[:, None])
    return torch.einsum("pi,pj->pij", *near)
