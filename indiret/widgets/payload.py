"""What the explorers are given, and how it is packed: pictures, and channels of patch pairs.

Two photos and two dozen channels become a few hundred kilobytes, which a page holds as text.

Chapter: *From Grad-CAM to evidence*.
"""

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from indiret.evaluation import NO_MATCH
from indiret.figures import jpeg, plain_array, shrink_picture
from indiret.images import Picture

_LONG_SIDE = 400  # pixels of a packed picture, as large as the explorers draw it
_STEPS = 255  # a channel is packed in bytes

Channels = Mapping[str, Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class Candidate:
    """A picture beside the query, and what is known of all their patch pairs.

    ``channels`` are by group and name: (m, n, m', n') finite numbers, target first, of evidence
    (≥ 0) or of a view of the tensor, of which only what is positive is shown.
    """

    name: str
    picture: Picture
    channels: Channels
    caption: str = ""  # in the strip of candidates, such as a probability
    relevant: bool | None = None  # whether it shows what the query shows; None if unknown
    true_matches: NDArray[np.int_] | None = None  # (m', n', 2) of `pair_matches`; None if unknown


def pack_channels(query_name: str, query: Picture, candidates: Sequence[Candidate]) -> bytes:
    """Pictures and channels as ``explorer_channels.js`` unpacks them.

    After the header come the query's JPEG, and of each candidate the JPEG and its channels in C
    order, a byte for each pair: ``low + (high − low) · byte / 255``, where ``low`` is 0 at most, so
    no evidence stays none. ValueError if there is no candidate, their channels differ in names or
    the query's grid, or one has not one grid or is not finite.
    """
    if not candidates:
        raise ValueError("there is no candidate to explore; give one or more.")
    first = candidates[0]
    names, query_grid = channel_names(first.channels), grid_of(first.channels)[2:]
    entry, encoded = pack_picture(query_name, query)
    header: dict[str, Any] = {"query": entry | {"grid": query_grid}, "candidates": []}
    parts = [encoded]
    for candidate in candidates:
        grid = grid_of(candidate.channels)
        if channel_names(candidate.channels) != names or grid[2:] != query_grid:
            raise ValueError(
                f"candidate {candidate.name!r} differs from the first in the names of its channels "
                f"or the query's grid {grid[2:]}. Give all the same: {names} on {query_grid}."
            )
        entry, encoded = pack_picture(candidate.name, candidate.picture)
        parts.append(encoded)
        entry |= {"grid": grid[:2], "caption": candidate.caption, "relevant": candidate.relevant}
        entry |= {"channels": [], "true_matches": flat_matches(candidate.true_matches, grid)}
        for group, channels in candidate.channels.items():
            for name, values in channels.items():
                low, high, steps = _quantised(plain_array(values), f"{group} / {name}")
                entry["channels"].append({"group": group, "name": name, "low": low, "high": high})
                parts.append(steps.tobytes())
        header["candidates"].append(entry)
    return pack(header, parts)


def pack(header: dict[str, Any], parts: Sequence[bytes]) -> bytes:
    """Deflated, as ``shared.js`` unpacks it: length (uint32) and JSON of the header, the parts."""
    text = json.dumps(header, allow_nan=False).encode()
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *parts]), level=9)


def pack_picture(name: str, picture: Picture) -> tuple[dict[str, Any], bytes]:
    """What a header says of a picture, and its JPEG; ValueError unless it is uint8, (H, W, 3)."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture {name!r} is {picture.dtype} of shape {picture.shape}; give uint8, (H, W, 3)."
        )
    encoded = jpeg(shrink_picture(picture, _LONG_SIDE))
    return {"name": name, "size": picture.shape[:2], "jpeg": len(encoded)}, encoded


def pack_small_picture(name: str, picture: Picture, side: int) -> tuple[dict[str, Any], bytes]:
    """As `pack_picture`, for a page of few bytes: at most ``side`` pixels long, as WebP."""
    small, buffer = shrink_picture(picture, side), io.BytesIO()
    Image.fromarray(small).save(buffer, "WEBP", quality=60, method=6)
    encoded = buffer.getvalue()
    return {"name": name, "size": small.shape[:2], "bytes": len(encoded)}, encoded


def pack_both(
    query_name: str, query: Picture, target_name: str, target: Picture, side: int | None = None
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Two pictures by `pack_picture`, or by `pack_small_picture` if a ``side`` is given."""
    named = (query_name, query), (target_name, target)
    packed = [pack_small_picture(*one, side) if side else pack_picture(*one) for one in named]
    return [entry for entry, _ in packed], [encoded for _, encoded in packed]


def quantise(
    values: NDArray[np.float64], levels: int, label: str
) -> tuple[float, NDArray[np.uint8]]:
    """The highest value, and of each value 0 … ``levels``, where what is negative is 0."""
    if not np.isfinite(values).all():
        raise ValueError(f"{label} holds NaN or infinity; give finite numbers.")
    high = max(float(values.max()), 0.0)
    return high, np.rint(values.clip(0) / (high or 1.0) * levels).astype(np.uint8)


def channel_names(channels: Channels) -> list[tuple[str, str]]:
    """(group, name) of every channel, in order."""
    return [(group, name) for group, values in channels.items() for name in values]


def grid_of(channels: Channels) -> tuple[int, ...]:
    """(m, n, m', n') of all channels."""
    shapes = {plain_array(values).shape for group in channels.values() for values in group.values()}
    grid = min(shapes, default=())
    if len(shapes) != 1 or len(grid) != 4 or 0 in grid:
        raise ValueError(
            f"the channels have the shapes {sorted(shapes)}; give one channel or more, all of one "
            "shape (m, n, m', n')."
        )
    return grid


def _quantised(values: NDArray[np.float64], label: str) -> tuple[float, float, NDArray[np.uint8]]:
    if not np.isfinite(values).all():
        raise ValueError(f"channel {label} holds NaN or infinity; give finite numbers.")
    low, high = min(float(values.min()), 0.0), float(values.max())
    if high <= low:
        return low, high, np.zeros(values.shape, np.uint8)
    return low, high, np.rint((values - low) / (high - low) * _STEPS).astype(np.uint8)


def flat_matches(matches: NDArray[np.int_] | None, grid: tuple[int, ...]) -> list[int] | None:
    """The number of each query patch's true target patch, row by row; −1 where there is none."""
    if matches is None:
        return None
    m, n, rows, columns = grid
    known = matches[..., 0] != NO_MATCH
    inside = ((matches[known] >= 0) & (matches[known] < (m, n))).all()
    if matches.shape != (rows, columns, 2) or not inside:
        raise ValueError(
            f"true_matches has shape {matches.shape}; give {(rows, columns, 2)}, places on the "
            f"target's grid {(m, n)}, −1 for none."
        )
    return np.where(known, matches[..., 0] * n + matches[..., 1], NO_MATCH).ravel().tolist()
