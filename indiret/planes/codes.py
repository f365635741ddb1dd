"""Encoded photos as few bytes: of a patch's 64 numbers the signs, and its length.

Chapter: *From pairs to collections*.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from indiret.planes.features import PlaneFeatures, Template

SIZE = 64  # numbers of a patch


def pack_signs(patches: Tensor) -> NDArray[np.uint8]:
    """(..., 8): the signs of patches (..., 64), one bit each.

    Examples
    --------
    >>> pack_signs(torch.ones(2, 3, 64)).shape
    (2, 3, 8)
    """
    return np.packbits((patches > 0).numpy(), axis=-1)


def unpack_signs(signs: NDArray[np.uint8]) -> Tensor:
    """Patches (..., 64) of length 1 with the signs of `pack_signs`."""
    return (torch.from_numpy(np.unpackbits(signs, axis=-1)) * 2.0 - 1) / SIZE**0.5


def pack_features(features: PlaneFeatures) -> bytes:
    """The codes of all templates and the pyramid, the points, shape and background score."""
    tensors = {"photo": torch.tensor([*features.shape, features.background_score])}
    templates = {kind: getattr(features, kind) for kind in ("templates", "close", "coarse")}
    for kind, found in templates.items():
        for turn, template in enumerate(found):
            tensors |= _codes(f"{kind}.{turn}", template.patches)
            tensors[f"{kind}.{turn}.points"] = template.points
    for level, patches in enumerate(features.pyramid):
        tensors |= _codes(f"pyramid.{level}", patches.float())
    return save(tensors)


def unpack_features(packed: bytes | memoryview) -> PlaneFeatures:
    """Features whose patches are signs of the lengths that they had."""
    tensors = load(bytes(packed))

    def patches(name: str) -> Tensor:
        signs = unpack_signs(tensors[f"{name}.signs"].numpy())
        return signs * tensors[f"{name}.lengths"].float()[..., None] / 255

    def names(kind: str) -> list[str]:
        return [f"{kind}.{n}" for n in range(len(tensors)) if f"{kind}.{n}.signs" in tensors]

    templates, close, coarse = (
        tuple(Template(patches(name), tensors[f"{name}.points"]) for name in names(kind))
        for kind in ("templates", "close", "coarse")
    )
    pyramid = tuple(patches(name).half() for name in names("pyramid"))
    height, width, background = tensors["photo"].tolist()
    shape = int(height), int(width)
    return PlaneFeatures(templates, close, coarse, pyramid, shape, background)


def _codes(name: str, patches: Tensor) -> dict[str, Tensor]:
    lengths = (patches.norm(dim=-1) * 255).round().clamp_max(255).to(torch.uint8)
    return {f"{name}.signs": torch.from_numpy(pack_signs(patches)), f"{name}.lengths": lengths}
