"""A small network that describes patches, learned from Toytown's correspondences alone.

It reads the same cells of gradients as dense RootSIFT, 4 pixels wide, but 10 × 10 of them around
each place, and says what stays alike when light and viewpoint change. ``patch-net`` is a patch
source: it votes by name, beside gradients or alone (`indiret.planes.sources`).

Chapter: *Sphere or plane?*
"""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.checkpoints import find_weights, load_tensors, restore
from indiret.metrics import DIRECTIONS, FLAT_GRADIENT
from indiret.patches import Grid, register_patch_source
from indiret.planes.gradients import CELL, PATCH_CELLS, gradient_cells

PATCH_NET = "patch-net"
STRIDE = 2  # cells of gradients along a cell of the map


class PatchNetwork(nn.Module):
    """Cells of gradients (B, 8, H, W) → unit descriptors (B, 64, H / 2, W / 2).

    Examples
    --------
    >>> PatchNetwork()(torch.rand(1, 8, 20, 28)).shape
    torch.Size([1, 64, 10, 14])
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(DIRECTIONS, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 4, stride=STRIDE, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        return F.normalize(self.layers(root_cells(cells)), dim=1)


def root_cells(cells: Tensor) -> Tensor:
    """Cells (B, 8, H, W) over the sum of the 4 × 4 or so around each, and the roots of that.

    Examples
    --------
    >>> float(root_cells(torch.ones(1, 8, 9, 9)).max()) < 1
    True
    """
    around = F.avg_pool2d(cells.sum(1, keepdim=True), 5, 1, 2, count_include_pad=False)
    flat = FLAT_GRADIENT * CELL**2
    return (cells / (PATCH_CELLS * (around + flat))).sqrt()


@cache
def load_patch_network(path: str = PATCH_NET) -> PatchNetwork:
    """The shipped network, or that of a file; FileNotFoundError or ValueError if it is not whole.

    Examples
    --------
    >>> sum(one.numel() for one in load_patch_network().parameters())
    56080
    """
    found = find_weights(path)
    network = PatchNetwork()
    restore(network, load_tensors(found)[1], found)
    return network


@torch.inference_mode()
def describe_cells(picture: np.ndarray, grid: Grid) -> Tensor:
    """(rows, columns, 64) descriptors of a picture made 8 pixels long for each row and column."""
    rows, columns = grid
    size = (CELL * STRIDE * columns, CELL * STRIDE * rows)
    small = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BILINEAR)
    cells = gradient_cells(torch.from_numpy(np.asarray(small, dtype=np.float32) / 255))
    return load_patch_network()(cells[None])[0].permute(1, 2, 0)


register_patch_source(lambda name: name == PATCH_NET, lambda name: describe_cells)
