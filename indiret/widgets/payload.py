"""What the explorer is given, and how it is packed: pictures, and channels of patch pairs.

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
from indiret.report import Picture, jpeg, shrink

LONG_SIDE = 400  # pixels of a packed picture, as large as the explorer draws it
STEPS = 255  # a channel is packed in bytes

Channels = Mapping[str, Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class Answer:
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
        Under the picture in the strip of answers, such as its probability.
    right
        Whether it shows what the query shows; None if unknown.
    partners
        (m', n', 2) int, the true target patch of each query patch, −1 where there is none, as
        `indiret.protocol.known_partners` gives it; None if unknown.
    """

    name: str
    picture: Picture
    channels: Channels
    caption: str = ""
    right: bool | None = None
    partners: NDArray[np.int_] | None = None


def pack(query_name: str, query: Picture, answers: Sequence[Answer]) -> bytes:
    """Pictures and channels as ``explorer.js`` unpacks them.

    Deflated as a whole: the length of the header (uint32, little-endian), the header (JSON), the
    query's JPEG, and of each answer the JPEG and its channels in C order, a byte for each pair:
    ``low + (high − low) · byte / 255``. A channel's ``low`` is its minimum, but 0 if that is
    larger, so no evidence stays none.

    Raises
    ------
    ValueError
        If there is no answer, or a channel has not one grid or is not finite.
    """
    if not answers:
        raise ValueError("there is no answer to explore; give one or more.")
    names, query_grid = channel_names(answers[0].channels), grid_of(answers[0].channels)[2:]
    header: dict[str, Any] = {"query": _picture(query_name, query, query_grid), "answers": []}
    blobs = [header["query"].pop("bytes")]
    for answer in answers:
        grid = grid_of(answer.channels)
        if channel_names(answer.channels) != names or grid[2:] != query_grid:
            raise ValueError(
                f"answer {answer.name!r} has the channels {channel_names(answer.channels)} on the "
                f"query's grid {grid[2:]}; the first has {names} on {query_grid}. Give all the "
                "same."
            )
        entry = _picture(answer.name, answer.picture, grid[:2])
        blobs.append(entry.pop("bytes"))
        entry |= {"caption": answer.caption, "right": answer.right, "channels": []}
        entry["partners"] = _flat_partners(answer.partners, grid)
        for group, channels in answer.channels.items():
            for name, values in channels.items():
                low, high, steps = _quantised(_array(values), f"{group} / {name}")
                entry["channels"].append({"group": group, "name": name, "low": low, "high": high})
                blobs.append(steps.tobytes())
        header["answers"].append(entry)
    text = json.dumps(header).encode()
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *blobs]), level=9)


def _picture(name: str, picture: Picture, grid: tuple[int, ...]) -> dict[str, Any]:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture {name!r} is {picture.dtype} of shape {picture.shape}; give uint8, (H, W, 3)."
        )
    encoded = jpeg(shrink(picture, LONG_SIDE))
    size = list(picture.shape[:2])
    return {"name": name, "grid": grid, "size": size, "jpeg": len(encoded), "bytes": encoded}


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


def _flat_partners(partners: NDArray[np.int_] | None, grid: tuple[int, ...]) -> list[int] | None:
    """The number of each query patch's true target patch, row by row; −1 where there is none."""
    if partners is None:
        return None
    m, n, rows, columns = grid
    known = partners[..., 0] != NO_PARTNER
    if (
        partners.shape != (rows, columns, 2)
        or not ((partners[known] >= 0) & (partners[known] < (m, n))).all()
    ):
        raise ValueError(
            f"partners has shape {partners.shape}; give {(rows, columns, 2)}, places on the "
            f"target's grid {(m, n)}, −1 for none."
        )
    return np.where(known, partners[..., 0] * n + partners[..., 1], NO_PARTNER).ravel().tolist()
