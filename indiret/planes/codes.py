"""Encoded photos as few bytes: signs of the pyramid's patches, whole numbers of the templates'.

Of a patch of the pyramid the signs are kept, 64 bits, and the length in quarters, two more; the few
patches that vote keep their 64 numbers as bytes. *Coded* features are `PlaneFeatures` of a bfloat16
pyramid whose numbers are what such bytes hold: signs times length / 8, or multiples of 1 / 256. A
query is not kept, so its pyramid, too, consists of the latter; all of a retriever takes either.

Chapter: *From pairs to collections*.
"""

import struct
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from indiret.planes.features import (
    PlaneConfig,
    PlaneFeatures,
    Template,
    pyramid_grid,
    structured_share,
    template_points,
)

LAYOUT = 1  # of the bytes; who changes what they mean counts on
SIZE = 64  # numbers of a patch
SCALE = 256  # of numbers to bytes: half a length of 1 is the most of one number
LENGTHS = (0.0, 0.5, 0.75, 1.0)  # which two bits tell apart
HEADER = struct.Struct("<IIff")  # height, width, structure and background score


def is_coded(features: PlaneFeatures) -> bool:
    """Whether features are coded."""
    return features.pyramid[0].dtype == torch.bfloat16


def code_query(query: PlaneFeatures, target: PlaneFeatures) -> PlaneFeatures:
    """A query, coded if the target is, and as it is otherwise."""
    if is_coded(query) or not is_coded(target):
        return query
    pyramid = tuple(round_patches(size).bfloat16() for size in query.pyramid)
    return _with_templates(query, map(round_patches, _template_patches(query)))._replace(
        pyramid=pyramid
    )


def pack_codes(features: PlaneFeatures) -> bytes:
    """A photo's shape, structure, background score, and codes.

    Examples
    --------
    >>> from indiret.planes import PLANE_CONFIGS, PlaneRetriever
    >>> photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    >>> packed = pack_codes(PlaneRetriever().encode_query(photo))
    >>> len(packed), unpack_codes(packed, PLANE_CONFIGS["planes"]).shape
    (77445, (300, 400))
    """
    header = HEADER.pack(*features.shape, _structure(features), features.background_score)
    voting = torch.cat([one.flatten() for one in _template_patches(features)])
    numbers = (round_patches(voting) * SCALE).to(torch.int8).numpy()
    patches = torch.cat([size.flatten(0, 1) for size in features.pyramid]).float()
    middles = torch.tensor(LENGTHS, dtype=torch.float32).unfold(0, 2, 1).mean(1)
    digits = torch.bucketize(patches.norm(dim=1), middles).byte().numpy()
    two_bits = np.unpackbits(digits[:, None], axis=1)[:, 6:]
    signs = np.packbits((patches > 0).numpy())
    return header + numbers.tobytes() + signs.tobytes() + np.packbits(two_bits).tobytes()


def with_background(packed: bytes, background_score: float) -> bytes:
    """Bytes of `pack_codes` with another background score."""
    header = (*HEADER.unpack_from(packed)[:-1], background_score)
    return HEADER.pack(*header) + packed[HEADER.size :]


def unpack_codes(packed: bytes | memoryview, config: PlaneConfig) -> PlaneFeatures:
    """The coded features of bytes of `pack_codes`, with the points of their templates."""
    height, width, structure, background = HEADER.unpack_from(packed)
    shape = height, width
    turns = [360 * turn / config.turns for turn in range(config.turns)]
    templates, close, coarse = (
        tuple(Template(torch.empty(0), template_points(shape, turn, side)[0]) for turn in turns)
        for side in config.template_sides
    )
    grids = [tuple(one.points.shape[:2]) for one in (*templates, *close, *coarse)]
    counts = [rows * columns * SIZE for rows, columns in grids]
    sizes = [pyramid_grid(shape, side) for side in config.pyramid]
    areas = [rows * columns for rows, columns in sizes]
    stored = np.frombuffer(packed, np.uint8, offset=HEADER.size)
    numbers, signs, rest = np.split(stored, np.cumsum([sum(counts), sum(areas) * SIZE // 8]))
    rounded = torch.from_numpy(numbers.view(np.int8).astype(np.float32)) / SCALE
    voting = (
        part.view(*grid, SIZE) for part, grid in zip(rounded.split(counts), grids, strict=True)
    )
    digits = np.unpackbits(rest, count=2 * sum(areas)).reshape(-1, 2) @ np.array([2, 1])
    lengths = torch.tensor(LENGTHS, dtype=torch.bfloat16)[torch.from_numpy(digits)] / SIZE**0.5
    bits = torch.from_numpy(np.unpackbits(signs).reshape(-1, SIZE)).bfloat16()
    patches = bits.mul_(2).sub_(1).mul_(lengths[:, None]).split(areas)
    pyramid = tuple(part.view(*size, SIZE) for part, size in zip(patches, sizes, strict=True))
    features = PlaneFeatures(templates, close, coarse, pyramid, shape, background, structure)
    return _with_templates(
        features, (part.view(*grid, SIZE) for part, grid in zip(voting, grids, strict=True))
    )


def round_patches(patches: Tensor) -> Tensor:
    """Patches as multiples of 1 / `SCALE` that a byte holds."""
    return (patches.float() * SCALE).round().clamp(-127, 127) / SCALE


def _template_patches(features: PlaneFeatures) -> list[Tensor]:
    """(K, L, D) of all templates."""
    return [one.patches for one in (*features.templates, *features.close, *features.coarse)]


def _with_templates(features: PlaneFeatures, patches: Iterable[Tensor]) -> PlaneFeatures:
    """Features with other patches of `_template_patches`."""
    rest = iter(patches)
    templates, close, coarse = (
        tuple(one._replace(patches=next(rest)) for one in kind)
        for kind in (features.templates, features.close, features.coarse)
    )
    return features._replace(templates=templates, close=close, coarse=coarse)


def _structure(features: PlaneFeatures) -> float:
    return (
        structured_share(features.templates[0])
        if features.structure is None
        else features.structure
    )
