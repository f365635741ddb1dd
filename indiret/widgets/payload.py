"""What the explorers are given, and how it is packed: pictures, and channels of patch pairs.

Two photos and two dozen channels become a few hundred kilobytes, which a page holds as text.

Chapter: *From Grad-CAM to evidence*.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from indiret.correspondence import NO_PARTNER
from indiret.figures import Picture, jpeg, shrink

LONG_SIDE = 400  # pixels of a packed picture, as large as the explorers draw it
STEPS = 255  # a channel is packed in bytes

Channels = Mapping[str, Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class Candidate:
    """A picture beside the query, and what is known of all their patch pairs.

    Attributes
    ----------
    name
        Shown as text, never as markup.
    picture
        (H, W, 3) uint8 RGB.
    channels
        Group → name → (m, n, m', n') finite numbers, target first: evidence (≥ 0), or a view of the
        tensor (with negative values, of which only the positive ones are shown). The explorer
        switches between groups, and between the names of a group.
    caption
        Under the picture in the strip of candidates, such as its probability.
    relevant
        Whether it shows what the query shows; None if unknown.
    true_matches
        (m', n', 2) int, the true target patch of each query patch, −1 where there is none, as
        `indiret.protocol.known_partners` gives it; None if unknown.
    """

    name: str
    picture: Picture
    channels: Channels
    caption: str = ""
    relevant: bool | None = None
    true_matches: NDArray[np.int_] | None = None


def pack_channels(query_name: str, query: Picture, candidates: Sequence[Candidate]) -> bytes:
    """Pictures and channels as ``explorer_channels.js`` unpacks them.

    After the header come the query's JPEG, and of each candidate the JPEG and its channels in C
    order, a byte for each pair: ``low + (high − low) · byte / 255``. A channel's ``low`` is its
    minimum, but 0 if that is larger, so no evidence stays none.

    Raises
    ------
    ValueError
        If there is no candidate, or a channel has not one grid or is not finite.
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
                f"candidate {candidate.name!r} has the channels "
                f"{channel_names(candidate.channels)} on the query's grid {grid[2:]}; the first "
                f"has {names} on {query_grid}. Give all the same."
            )
        entry, encoded = pack_picture(candidate.name, candidate.picture)
        parts.append(encoded)
        entry |= {"grid": grid[:2], "caption": candidate.caption, "relevant": candidate.relevant}
        entry |= {"channels": [], "true_matches": _flat_matches(candidate.true_matches, grid)}
        for group, channels in candidate.channels.items():
            for name, values in channels.items():
                low, high, steps = _quantised(_array(values), f"{group} / {name}")
                entry["channels"].append({"group": group, "name": name, "low": low, "high": high})
                parts.append(steps.tobytes())
        header["candidates"].append(entry)
    return pack(header, parts)


def pack(header: dict[str, Any], parts: Sequence[bytes]) -> bytes:
    """A header and what follows it as ``shared.js`` unpacks them.

    Deflated as a whole: the length of the header (uint32, little-endian), the header (JSON), and
    the parts.
    """
    text = json.dumps(header, allow_nan=False).encode()
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *parts]), level=9)


def pack_picture(name: str, picture: Picture) -> tuple[dict[str, Any], bytes]:
    """What a header says of a picture, and its JPEG.

    Raises
    ------
    ValueError
        If the picture is not uint8, (H, W, 3).
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture {name!r} is {picture.dtype} of shape {picture.shape}; give uint8, (H, W, 3)."
        )
    encoded = jpeg(shrink(picture, LONG_SIDE))
    return {"name": name, "size": picture.shape[:2], "jpeg": len(encoded)}, encoded


def _array(values: Any) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def channel_names(channels: Channels) -> list[tuple[str, str]]:
    """(group, name) of every channel, in order."""
    return [(group, name) for group, ofgroup in channels.items() for name in ofgroup]


def grid_of(channels: Channels) -> tuple[int, ...]:
    """(m, n, m', n') of all channels."""
    shapes = {_array(values).shape for ofgroup in channels.values() for values in ofgroup.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4 or 0 in next(iter(shapes)):
        raise ValueError(
            f"the channels have the shapes {sorted(shapes)}; give one channel or more, all of one "
            "shape (m, n, m', n')."
        )
    return next(iter(shapes))


def _quantised(values: NDArray[np.float64], label: str) -> tuple[float, float, NDArray[np.uint8]]:
    if not np.isfinite(values).all():
        raise ValueError(f"channel {label} holds NaN or infinity; give finite numbers.")
    low, high = min(float(values.min()), 0.0), float(values.max())
    if high <= low:
        return low, high, np.zeros(values.shape, np.uint8)
    return low, high, np.rint((values - low) / (high - low) * STEPS).astype(np.uint8)


def _flat_matches(matches: NDArray[np.int_] | None, grid: tuple[int, ...]) -> list[int] | None:
    """The number of each query patch's true target patch, row by row; −1 where there is none."""
    if matches is None:
        return None
    m, n, rows, columns = grid
    known = matches[..., 0] != NO_PARTNER
    if (
        matches.shape != (rows, columns, 2)
        or not ((matches[known] >= 0) & (matches[known] < (m, n))).all()
    ):
        raise ValueError(
            f"true_matches has shape {matches.shape}; give {(rows, columns, 2)}, places on the "
            f"target's grid {(m, n)}, −1 for none."
        )
    return np.where(known, matches[..., 0] * n + matches[..., 1], NO_PARTNER).ravel().tolist()
