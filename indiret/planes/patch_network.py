"""A small network in the place of whitening, learned from Toytown's correspondences alone.

It reads a patch of 4 × 4 cells of gradients and, twice as coarse, the 8 × 8 cells around it, and
says what stays alike when light and viewpoint change. Made by ``python -m tools.train_patches``.

Chapter: *Sphere or plane?*
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.checkpoints import find_weights, load_tensors, restore
from indiret.metrics import DIRECTIONS
from indiret.planes.gradients import PATCH_CELLS, root_patches

PATCH_NET = "patch-net"
RING = 2  # cells that the surroundings reach past a patch


class PatchNetwork(nn.Module):
    """Patches (..., 256) of `surrounded_patches` → unit descriptors (..., 64).

    Examples
    --------
    >>> PatchNetwork()(torch.rand(5, 256)).shape
    torch.Size([5, 64])
    """

    def __init__(self, hidden: int = 128, directions: int = 64):
        super().__init__()
        read = 2 * DIRECTIONS * PATCH_CELLS**2
        self.direct = nn.Linear(read, directions)
        self.hidden = nn.Sequential(
            nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, directions, bias=False)
        )

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.direct(patches) + self.hidden(patches), dim=-1)


def surrounded_patches(cells: Tensor) -> Tensor:
    """RootSIFT of every patch of `gradient_cells` (8, H, W) and of its surroundings.

    The latter are 4 × 4 cells, each the sum of 2 × 2, zero past the picture's edge.
    (H - 3, W - 3, 256) come back, the patch's own 128 numbers first.

    Examples
    --------
    >>> surrounded_patches(torch.rand(8, 20, 28)).shape
    torch.Size([17, 25, 256])
    """
    sums = 4 * F.avg_pool2d(F.pad(cells, (RING,) * 4), 2, 1)
    return torch.cat([root_patches(cells), root_patches(sums, apart=2)], -1)


@cache
def load_patch_network(path: str | Path = PATCH_NET) -> PatchNetwork:
    """The shipped network, or that of a file; FileNotFoundError or ValueError if it is not whole.

    Examples
    --------
    >>> sum(one.numel() for one in load_patch_network().parameters())
    57536
    """
    found = find_weights(path)
    network = PatchNetwork()
    restore(network, load_tensors(found)[1], found)
    return network.requires_grad_(False)
