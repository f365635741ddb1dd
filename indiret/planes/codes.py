"""Encoded photos as few bytes: signs of the pyramid's patches, whole numbers of the templates'.

Of a patch of the pyramid the signs are kept, 64 bits, and the length in quarters, two more; the few
patches that vote keep their 64 numbers as bytes. *Coded* features are `PlaneFeatures` of a bfloat16
pyramid whose numbers are what such bytes hold: signs times length / 8, or multiples of 1 / 256. A
query is not kept, so its pyramid, too, consists of the latter; all of a retriever takes either.

Chapter: *From pairs to collections*.
"""

import struct

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

LAYOUT = 3  # of the bytes; who changes what they mean counts on
SIZE = 64  # numbers of a patch
SCALE = 256  # of numbers to bytes: half a length of 1 is the most of one number
LENGTHS = (0.0, 0.5, 0.75, 1.0)  # which two bits tell apart
BYTES = np.arange(256, dtype=np.uint8)[:, None]
SIGN_BITS = np.unpackbits(BYTES, axis=1).astype(np.int16) << 15  # of bfloat16, of each byte
FOUR_DIGITS = BYTES >> np.array([6, 4, 2, 0], np.uint8) & 3  # of two bits, of each byte
HEADER = struct.Struct("<IIff")  # height, width, structure and background score


def is_coded(features: PlaneFeatures) -> bool:
    """Whether features are coded."""
    return features.pyramid[0].dtype == torch.bfloat16


def code_query(query: PlaneFeatures, target: PlaneFeatures) -> PlaneFeatures:
    """A query, coded if the target is, and as it is otherwise."""
    if is_coded(query) or not is_coded(target):
        return query
    voting = query.template, query.close
    large, close = (one._replace(patches=round_patches(one.patches)) for one in voting)
    pyramid = tuple(round_patches(size).bfloat16() for size in query.pyramid)
    return query._replace(template=large, close=close, pyramid=pyramid)


def pack_codes(features: PlaneFeatures) -> bytes:
    """A photo's shape, structure, background score, and codes.

    Examples
    --------
    >>> from indiret.planes import PLANE_CONFIG, PlaneRetriever
    >>> photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    >>> packed = pack_codes(PlaneRetriever().encode_query(photo))
    >>> len(packed), unpack_codes(packed, PLANE_CONFIG).shape
    (75205, (300, 400))
    """
    structure = features.structure
    if structure is None:
        structure = structured_share(features.template)
    header = HEADER.pack(*features.shape, structure, features.background_score)
    voting = torch.cat([one.patches.flatten() for one in (features.template, features.close)])
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
    points = [template_points(shape, 0.0, side)[0] for side in (config.template, config.close)]
    grids = [tuple(one.shape[:2]) for one in points]
    counts = [rows * columns * SIZE for rows, columns in grids]
    sizes = [pyramid_grid(shape, side) for side in config.pyramid]
    areas = [rows * columns for rows, columns in sizes]
    stored = np.frombuffer(packed, np.uint8, offset=HEADER.size)
    numbers, signs, rest = np.split(stored, np.cumsum([sum(counts), sum(areas) * SIZE // 8]))
    rounded = torch.from_numpy(numbers.view(np.int8).astype(np.float32)) / SCALE
    parts = zip(rounded.split(counts), grids, points, strict=True)
    large, close = (Template(part.view(*grid, SIZE), at) for part, grid, at in parts)
    lengths = (torch.tensor(LENGTHS, dtype=torch.bfloat16) / SIZE**0.5).view(torch.int16).numpy()
    signed = SIGN_BITS.take(~signs, axis=0).reshape(-1, SIZE)
    signed |= lengths[FOUR_DIGITS[rest].ravel()[: sum(areas)], None]
    patches = torch.from_numpy(signed).view(torch.bfloat16).split(areas)
    pyramid = tuple(part.view(*size, SIZE) for part, size in zip(patches, sizes, strict=True))
    return PlaneFeatures(large, close, pyramid, shape, background, structure)


def round_patches(patches: Tensor) -> Tensor:
    """Patches as multiples of 1 / `SCALE` that a byte holds."""
    return (patches.float() * SCALE).round().clamp(-127, 127) / SCALE
