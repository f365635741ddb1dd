"""Frames that two photos share: an app's bars and buttons, borders, time stamps, watermarks.

Such a frame lies in the same places of both photos and is the same there, while their middles
differ; it says nothing of what the photos show (Weyand et al., *Fixing WTFs*, 2015).

Chapter: *Sphere or plane?*
"""

from functools import cache

import torch
from torch import Tensor

from indiret.planes.geometry import grid_places

SAME = 0.7  # least cosine of patches that are the same, where both are equally long
LEAST_FRAME = 0.1  # of the patches around the middle, the share that makes a frame
MIDDLE = 0.5  # of a photo's height and width
STRUCTURE = 0.3  # square of a patch's length below which it is too flat to be part of a frame


def same_patches(template: Tensor, other: Tensor) -> Tensor:
    """(K, L) bool: which patches of two photos, (K, L, D), are the same in the same place."""
    longer = torch.maximum(template.square().sum(-1), other.square().sum(-1))
    return (template * other).sum(-1) > SAME * longer.clamp_min(STRUCTURE)


def cut_same(template: Tensor, other: Tensor) -> Tensor:
    """A template without the patches that are the same in the other photo's."""
    if template.shape != other.shape:
        return template
    return template * ~same_patches(template, other)[..., None]


def share_frame(template: Tensor, other: Tensor) -> bool:
    """Whether two photos are the same around their middles, and less than half as often in them.

    Examples
    --------
    >>> bars, pages = torch.eye(64)[:60].view(10, 6, 64), torch.eye(64)[60:62]
    >>> first, second = bars.clone(), bars.clone()
    >>> first[2:8], second[2:8] = pages[0], pages[1]
    >>> share_frame(first, second), share_frame(first, first), share_frame(first, bars.flip(1))
    (True, False, False)
    """
    if template.shape != other.shape:
        return False
    alike = same_patches(template, other)
    if alike.float().mean() < LEAST_FRAME / 2:  # nearly always
        return False
    longer = torch.maximum(template.square().sum(-1), other.square().sum(-1)) > STRUCTURE
    middle = _middle(*alike.shape)
    around, inside = ((alike & part).sum() / (longer & part).sum() for part in (~middle, middle))
    return bool(around > LEAST_FRAME and inside < around / 2)  # not if nothing is inside, NaN


@cache
def _middle(rows: int, columns: int) -> Tensor:
    """(rows, columns) bool: the patches in the middle of a photo."""
    places = (grid_places(rows, columns) + 0.5) / torch.tensor([rows, columns])
    return ((places - 0.5).abs() < MIDDLE / 2).all(-1)
