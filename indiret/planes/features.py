"""What is kept of a photo: patches that vote, its templates, and those voted for, its pyramid.

Chapter: *Sphere or plane?*
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from indiret.planes.gradients import CELL, PATCH_CELLS


@dataclass(frozen=True)
class PlaneConfig:
    """How large photos are made, and which turns are tried; see record 8."""

    template: int = 112  # pixels of a template's longer side: 25 patches
    pyramid: tuple[int, ...] = (70, 88, 111, 140, 176, 222, 280)  # 5/8 to 5/2 of a template
    close: int = 56  # pixels of the templates that vote in the largest size alone, for its fifth
    turns: int = 1  # evenly round the circle; 1 is upright alone
    coarse: int = 70  # pixels of the templates that choose the turn
    coarse_levels: int = 5  # sizes of the pyramid, from the smallest, in which those vote

    def __post_init__(self) -> None:
        sides = (self.template, self.close, self.coarse, *self.pyramid)
        fewest = min(len(self.pyramid), self.turns, self.coarse_levels)
        if fewest < 1 or min(sides) < CELL * PATCH_CELLS:
            raise ValueError(
                f"{self} does not make planes: give sides of at least {CELL * PATCH_CELLS} pixels, "
                "and at least one size and one turn."
            )


PLANE_CONFIGS = {"planes": PlaneConfig(), "planes-turned": PlaneConfig(turns=12)}  # by name


class Template(NamedTuple):
    """Patches that vote."""

    patches: Tensor  # (K, L, D)
    points: Tensor  # (K, L, 2), their y and x from 0 to 1


class PlaneFeatures(NamedTuple):
    """What is kept of a photo: templates for each turn, and the patches of its pyramid."""

    templates: tuple[Template, ...]
    close: tuple[Template, ...]  # that look for the photo in a small part of another
    coarse: tuple[Template, ...]
    pyramid: tuple[Tensor, ...]  # (rows, columns, D) half for each size
    shape: tuple[int, int]  # height and width of the photo
    background_score: float = 1.0
