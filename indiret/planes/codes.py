"""Encoded photos as few bytes: of a patch's 64 numbers the signs, and its length in quarters.

The cosine of two patches' signs tells that of the patches: 2 / π times its arcsine, on average.
Coded features are `PlaneFeatures` whose patches are signs times length / 8, in bfloat16 in the
pyramid, which is how one knows them; all of a retriever takes them.

Chapter: *From pairs to collections*.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indiret.planes.features import (
    PlaneConfig,
    PlaneFeatures,
    Template,
    pyramid_grid,
    template_points,
)

SIZE = 64  # numbers of a patch
LENGTHS = (0.0, 0.5, 0.75, 1.0)  # which two bits tell apart
HEADER = struct.Struct("<IIf")  # height, width and background score


def cosine_of_signs(cosine: float) -> float:
    """The cosine that signs of patches of this cosine have on average.

    Examples
    --------
    >>> round(cosine_of_signs(0.7), 2), cosine_of_signs(1.0)
    (0.49, 1.0)
    """
    return math.asin(cosine) * 2 / math.pi


def is_coded(features: PlaneFeatures) -> bool:
    """Whether patches are signs, as `quantise` leaves them."""
    return features.pyramid[0].dtype == torch.bfloat16


def quantise(features: PlaneFeatures) -> PlaneFeatures:
    """The same photo with coded patches.

    Examples
    --------
    >>> from indiret.planes import PlaneRetriever
    >>> photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    >>> coded = quantise(PlaneRetriever().encode_query(photo))
    >>> coded.pyramid[0].shape, coded.pyramid[0].dtype
    (torch.Size([10, 14, 64]), torch.bfloat16)
    """
    return _with_patches(features, [_decode(*_encode(one)) for one in _patches(features)])


def quantise_like(query: PlaneFeatures, target: PlaneFeatures) -> PlaneFeatures:
    """A query coded if the target is."""
    return quantise(query) if is_coded(target) and not is_coded(query) else query


def pack_codes(features: PlaneFeatures) -> bytes:
    """A photo's shape, background score, and 66 bits a patch, coded or not.

    Examples
    --------
    >>> from indiret.planes import PLANE_CONFIGS, PlaneRetriever
    >>> photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    >>> packed = pack_codes(PlaneRetriever().encode_query(photo))
    >>> len(packed), unpack_codes(packed, PLANE_CONFIGS["planes"]).shape
    (65971, (300, 400))
    """
    signs, digits = zip(*(_encode(one.flatten(0, 1)) for one in _patches(features)), strict=True)
    header = HEADER.pack(*features.shape, features.background_score)
    two_bits = np.unpackbits(np.concatenate(digits)[:, None], axis=1)[:, 6:]
    return header + np.concatenate(signs).tobytes() + np.packbits(two_bits).tobytes()


def unpack_codes(packed: bytes | memoryview, config: PlaneConfig) -> PlaneFeatures:
    """The coded features of bytes of `pack_codes`, with the points of their templates."""
    height, width, background = HEADER.unpack_from(packed)
    shape = height, width
    turns = [360 * turn / config.turns for turn in range(config.turns)]
    templates, close, coarse = (
        tuple(Template(torch.empty(0), template_points(shape, turn, side)[0]) for turn in turns)
        for side in config.template_sides
    )
    grids = [tuple(one.points.shape[:2]) for one in (*templates, *close, *coarse)]
    grids += [pyramid_grid(shape, side) for side in config.pyramid]
    counts = [rows * columns for rows, columns in grids]
    stored = np.frombuffer(packed, np.uint8, offset=HEADER.size)
    signs, rest = np.split(stored, [sum(counts) * SIZE // 8])
    two_bits = np.unpackbits(rest, count=2 * sum(counts)).reshape(-1, 2)
    patches = _decode(signs.reshape(-1, SIZE // 8), two_bits @ np.array([2, 1], np.uint8))
    parts = [one.view(*grid, SIZE) for one, grid in zip(patches.split(counts), grids, strict=True)]
    return _with_patches(PlaneFeatures(templates, close, coarse, (), shape, background), parts)


def _patches(features: PlaneFeatures) -> list[Tensor]:
    """(K, L, D) of all templates, then (I, J, D) of the pyramid."""
    kinds = (*features.templates, *features.close, *features.coarse)
    return [one.patches for one in kinds] + [size.float() for size in features.pyramid]


def _with_patches(features: PlaneFeatures, patches: Sequence[Tensor]) -> PlaneFeatures:
    """Features with the patches of `_patches`, the pyramid's in bfloat16."""
    rest = iter(patches)
    templates, close, coarse = (
        tuple(one._replace(patches=next(rest)) for one in kind)
        for kind in (features.templates, features.close, features.coarse)
    )
    pyramid = tuple(size.bfloat16() for size in rest)
    return features._replace(templates=templates, close=close, coarse=coarse, pyramid=pyramid)


def _encode(patches: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Signs as bits, (..., 8), and which of `LENGTHS` is nearest, (...)."""
    middles = torch.tensor(LENGTHS, dtype=torch.float32).unfold(0, 2, 1).mean(1)
    digits = torch.bucketize(patches.norm(dim=-1), middles)
    return np.packbits((patches > 0).numpy(), axis=-1), digits.byte().numpy()


def _decode(signs: NDArray[np.uint8], digits: NDArray[np.uint8]) -> Tensor:
    """(..., 64) float32 patches of `_encode`."""
    bits = torch.from_numpy(np.unpackbits(signs, axis=-1)).float()
    lengths = torch.tensor(LENGTHS, dtype=torch.float32)[torch.from_numpy(digits).long()]
    return bits.mul_(2).sub_(1).mul_(lengths[..., None] / SIZE**0.5)
