"""Oriented gradients of a whole picture at once, dense RootSIFT, and their whitening.

Each patch of 4 × 4 cells of 4 pixels holds a histogram of eight directions for every cell, 128
numbers r. Its whitened form is ‖r‖ · u / ‖u‖ with u = (r − mean) matrix, 64 numbers.

Chapter: *Sphere or plane?*
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from indiret.metrics import DIRECTIONS, FLAT_GRADIENT
from indiret.patches import patch_grid

CELL = 4  # pixels along a cell of gradients
PATCH_CELLS = 4  # cells along a patch
_KEPT = 64  # of whitened patches
_FLOOR = 0.05  # of the mean variance, added to each direction's before it is divided by
FITTED = Path(__file__).parents[1] / "data" / "weights" / "planes.safetensors"


@cache
def fitted_tensors() -> dict[str, Tensor]:
    """``mean`` (128,), ``matrix`` (128, 64) and impostors' patches, made by `tools.fit_planes`."""
    return load_file(FITTED)


def cell_grid(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Rows and columns of 4-pixel cells of a picture made ``long_side`` pixels long.

    Proportions are kept, but for a picture so long that its short side would not hold a patch.

    Examples
    --------
    >>> cell_grid(300, 400, 112)
    (21, 28)
    """
    most = max(long_side // CELL, 1)
    rows, columns = patch_grid(height, width, (most, most), aspect="keep")
    return max(rows, PATCH_CELLS), max(columns, PATCH_CELLS)


def dense_rootsift(picture: np.ndarray, long_side: int) -> Tensor:
    """Oriented gradients of every patch of 4 × 4 cells, one patch a cell (RootSIFT).

    As `indiret.metrics.oriented_gradients`, but a gradient counts in neighbouring cells, too, so
    that sums change smoothly when the picture moves. The (H, W, 3) uint8 picture is made
    ``long_side`` pixels long and grey first, if it is not; see `cell_grid`. (rows, columns, 128)
    float32 ≥ 0 come back, each of length 1 at most, less on flat ground.

    Examples
    --------
    >>> dense_rootsift(np.zeros((300, 400, 3), dtype=np.uint8), 112).shape
    torch.Size([18, 25, 128])
    """
    return root_patches(picture_cells(picture, long_side))


def picture_cells(picture: np.ndarray, long_side: int) -> Tensor:
    """`gradient_cells` of a picture made grey and ``long_side`` pixels long; see `cell_grid`."""
    return gradient_cells(torch.from_numpy(shrink(picture, long_side).astype(np.float32) / 255))


def shrink(picture: np.ndarray, long_side: int) -> np.ndarray:
    """A picture made grey and ``long_side`` pixels long, (H, W) uint8; see `cell_grid`."""
    height, width = picture.shape[:2]
    rows, columns = cell_grid(height, width, long_side)
    size = (CELL * columns, CELL * rows)
    small = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BILINEAR)
    return np.asarray(small)


def root_patches(cells: Tensor, apart: int = 1) -> Tensor:
    """RootSIFT (rows, columns, 128) of all 4 × 4 cells of (8, H, W), every ``apart``-th of them."""
    patches = F.unfold(cells[None], PATCH_CELLS, dilation=apart)[0].T
    # what noise alone sums to is no structure
    flat = FLAT_GRADIENT * (PATCH_CELLS * CELL * apart) ** 2
    roots = (patches / (patches.sum(1, keepdim=True) + flat)).sqrt()
    rows, columns = (side - apart * (PATCH_CELLS - 1) for side in cells.shape[1:])
    return roots.view(rows, columns, -1)


def gradient_cells(grey: Tensor) -> Tensor:
    """Histograms (8, H / 4, W / 4) of directions in each cell of a grey picture (H, W) in 0 … 1.

    Examples
    --------
    >>> gradient_cells(torch.rand(80, 112)).shape
    torch.Size([8, 20, 28])
    """
    wide = F.pad(grey[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    right = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
    down = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2
    angle = torch.atan2(down, right) * (DIRECTIONS / math.tau)
    distance = (angle - torch.arange(DIRECTIONS).view(-1, 1, 1)).remainder(DIRECTIONS)
    weight = (1 - torch.minimum(distance, DIRECTIONS - distance)).clamp_min(0)
    gradients = weight * torch.hypot(down, right)
    return _cell_sums(gradients)


def whiten(patches: Tensor) -> Tensor:
    """(..., 128) from `dense_rootsift` as (..., 64), without what most patches share.

    Each of 64 principal directions is divided by its standard deviation, so that unrelated patches
    are nearly orthogonal; a patch stays as long as it was.
    """
    fitted = fitted_tensors()
    whitened = F.normalize((patches - fitted["mean"]) @ fitted["matrix"], dim=-1)
    return whitened * patches.norm(dim=-1, keepdim=True)


def fit_directions(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) of patches (N, D), and matrix (D, ≤ 64) onto their whitened principal directions.

    Examples
    --------
    >>> mean, matrix = fit_directions(torch.tensor([[-3.0, 1], [3, 1], [0, 2], [0, 0]]))
    >>> mean, matrix.abs().round(decimals=1)
    (tensor([0., 1.]), tensor([[0.4000, 0.0000],
            [0.0000, 1.1000]]))
    """
    patches = patches.double()
    variances, directions = torch.linalg.eigh(patches.T.cov())
    scale = (variances.flip(0) + _FLOOR * variances.mean())[:_KEPT].rsqrt()
    return patches.mean(0).float(), (directions.flip(1)[:, :_KEPT] * scale).float()


def _cell_sums(gradients: Tensor) -> Tensor:
    """(8, H, W) → (8, H / 4, W / 4): sums over cells, weights falling off to their neighbours'."""
    ramp = torch.arange(0.5, CELL, dtype=torch.float32) / CELL  # over one cell: 1/8, 3/8, 5/8, 7/8
    weights = torch.cat([ramp, ramp.flip(0)])
    edges = (CELL // 2,) * 4
    sums = F.pad(gradients[:, None], edges, mode="replicate")
    sums = F.conv2d(sums, weights.view(1, 1, -1, 1), stride=(CELL, 1))
    return F.conv2d(sums, weights.view(1, 1, 1, -1), stride=(1, CELL))[:, 0]
