"""What is kept of a photo: patches that vote, its templates, and those voted for, its pyramid.

Chapter: *Sphere or plane?*
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from indiret.planes.geometry import grid_places
from indiret.planes.gradients import CELL, PATCH_CELLS, cell_grid

ALIKE = 0.7  # cosine of a patch and that beside it, from which on it has no structure of its own
SMOOTH = 0.8, 0.9  # `smoothness` from which on a photo has less structure, and that without any
STEP = 2  # every second patch of a template votes, which is a quarter of all


@dataclass(frozen=True)
class PlaneConfig:
    """How large photos are made; see record 8."""

    template: int = 112  # pixels of a template's longer side: 25 patches
    pyramid: tuple[int, ...] = (70, 88, 111, 140, 176, 222, 280)  # 5/8 to 5/2 of a template
    close: int = 56  # pixels of the templates that vote in the largest size alone, for its fifth

    def __post_init__(self) -> None:
        sides = self.template, self.close, *self.pyramid
        if not self.pyramid or min(sides) < CELL * PATCH_CELLS:
            raise ValueError(
                f"{self} does not make planes: give sides of at least {CELL * PATCH_CELLS} pixels, "
                "and at least one size."
            )


PLANE_CONFIG = PlaneConfig()  # of all retrievers that have a name


class Template(NamedTuple):
    """Patches that vote."""

    patches: Tensor  # (K, L, D)
    points: Tensor  # (K, L, 2), their y and x from 0 to 1


class PlaneFeatures(NamedTuple):
    """What is kept of a photo: two templates, and the patches of its pyramid."""

    template: Template
    close: Template  # that looks for the photo in a small part of another
    pyramid: tuple[Tensor, ...]  # (rows, columns, D) half for each size
    shape: tuple[int, int]  # height and width of the photo
    background_score: float = 1.0
    structure: float | None = None  # share of patches that can be judged, if it is known
    turn: float = 0.0  # degrees anticlockwise by which the photo was turned before


@lru_cache(maxsize=256)  # photos of a collection have few shapes
def template_points(
    shape: tuple[int, int], turn: float, long_side: int, step: int = STEP
) -> tuple[Tensor, Tensor]:
    """Where a template's patches lie in a photo (height, width), and which do not look past it.

    (K, L, 2) y and x from 0 to 1, and (K, L) bool; of the photo turned anticlockwise by degrees.
    """
    longest, frame = max(shape), turned_frame(shape, turn)
    grid = cell_grid(*frame, round(long_side * max(frame) / longest))
    rows, columns = ((side - PATCH_CELLS) // step + 1 for side in grid)
    centres = step * grid_places(rows, columns) + PATCH_CELLS / 2
    points = turn_back(centres / torch.tensor(grid), shape, turn)
    reach = PATCH_CELLS * CELL / 2 / long_side * longest / torch.tensor(shape)
    inside = ((points >= reach * 0.7) & (points <= 1 - reach * 0.7)).all(-1) | (turn % 90 == 0)
    return points, inside


def turned_frame(shape: tuple[int, int], turn: float) -> tuple[int, int]:
    """Height and width of a photo (height, width) that is turned and keeps its corners."""
    return Image.new("1", shape[::-1]).rotate(turn, expand=True).size[::-1]


def turn_back(points: Tensor, shape: tuple[int, int], turn: float) -> Tensor:
    """Where points (..., 2) of a photo turned anticlockwise by degrees lie in the photo.

    All are y and x from 0 to 1 of their frames; ``shape`` is that of the photo.

    Examples
    --------
    >>> turn_back(torch.tensor([0.25, 0.0]), (300, 400), 90.0)
    tensor([0.0000, 0.7500])
    """
    frame, sides = torch.tensor((turned_frame(shape, turn), shape), dtype=torch.float32)
    back = np.deg2rad(turn)
    rotation = torch.tensor([[np.cos(back), np.sin(back)], [-np.sin(back), np.cos(back)]])
    return ((points * frame - frame / 2) @ rotation.float().mT + sides / 2) / sides


def pyramid_grid(shape: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Rows and columns of a pyramid's patches in one size of a photo (height, width)."""
    rows, columns = (side - PATCH_CELLS + 1 for side in cell_grid(*shape, long_side))
    return rows, columns


def structured_share(template: Template) -> float:
    """Share of patches that are steeper than noise, and not like both left and above them."""
    unit = F.normalize(template.patches, dim=-1)
    rows, columns = ((torch.arange(n) - STEP).clamp_min(0) for n in unit.shape[:2])
    alike = torch.minimum((unit * unit[rows]).sum(-1), (unit * unit[:, columns]).sum(-1))
    steep = template.patches.square().sum(-1) > 0.5  # gradients as large as `FLAT_GRADIENT`
    return float((steep & (alike < ALIKE)).double().mean())


def smoothness(grey: np.ndarray) -> float:
    """Squared changes of a picture (H, W) over two pixels beside four times those over one.

    1 where the light changes evenly. Photos 112 pixels long have 0.4 to 0.8; what is out of focus,
    or plain and lit from one side, has 0.87 at least: see record 18.

    Examples
    --------
    >>> smoothness(np.add.outer(np.arange(60), np.arange(80)))
    0.98...
    >>> smoothness(np.random.default_rng(0).integers(0, 256, (60, 80)))
    0.24...
    """
    signed = grey.astype(np.float64)
    one, two = (
        sum(float(np.square(side[n:] - side[:-n]).sum()) for side in (signed, signed.T))
        for n in (1, 2)
    )
    return two / max(4 * one, 1.0)


def detail(grey: np.ndarray) -> float:
    """What share of its structure a picture keeps for its smoothness, from 1 down to 0."""
    most, none = SMOOTH
    return float(np.clip((none - smoothness(grey)) / (none - most), 0, 1))
