"""Toytown, the embedded rendered set: where it lies, its parts, and the geometry of its photos.

Chapter: *The correlation tensor*.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOYTOWN = Path(__file__).parents[1] / "data" / "toytown"
SPLITS = ("train", "validation", "test")
NOT_LANDMARK = 65535  # in geometry.npz, all three coordinates of a cell


@dataclass(frozen=True)
class Geometry:
    """Where each coarse cell of a Toytown picture lies on its landmark.

    ``positions`` (rows, columns, 3) are the surface points seen at the cells' centres, in
    coordinates of the landmark, the same in every view; NaN where it is not seen. ``camera`` is the
    (3, 4) matrix P with ``[u * w, v * w, w] = P @ [x, y, z, 1]``, u and v in pixels.
    """

    positions: NDArray[np.float64]
    camera: NDArray[np.float64]
    cell: int = 10  # its side in pixels


def read_geometry(archive: Path, name: str) -> Geometry | None:
    """The geometry of a photo out of ``geometry.npz``; None for a photo without a landmark."""
    with np.load(archive, allow_pickle=False) as stored:
        if f"positions/{name}" not in stored:
            return None
        steps = stored[f"positions/{name}"]
        low, high = stored["lo"], stored["hi"]
        camera = stored[f"cameras/{name}"]
    positions = low + steps / (NOT_LANDMARK - 1) * (high - low)
    positions[(steps == NOT_LANDMARK).all(axis=-1)] = np.nan
    return Geometry(positions, camera)
