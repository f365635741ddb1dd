"""Feature maps of pictures: made by a backbone once and kept, or exported by another program.

Chapter: *Baselines*.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from indiret.baselines import backbones
from indiret.baselines.backbones import PretrainedBackbone, load_backbone
from indiret.checkpoints import write_atomically
from indiret.datasets.files import MAX_ARRAY, read_array, read_bytes
from indiret.datasets.folders import cache_folder
from indiret.datasets.names import composed
from indiret.images import Picture
from indiret.patches import Cells, register_patch_source

EXPORTED = "features="  # starts the name of a folder of exported features


def extract(
    backbone: PretrainedBackbone, picture: Picture, scale: float = 1.0, keep: bool = True
) -> bytes:
    """The feature maps of a picture, as `load_maps` takes them, made unless the cache has them.

    An entry is named by a hash of the weights and of the pixels, and begins with one of its name
    and content: one that is cut, damaged or another's is made again, and the folder can be deleted
    at any time. Maps are kept in half precision, 20 KB for a picture of 320 × 240 pixels, but not
    if ``keep`` is false. Pictures are not batched: maps could depend on the others. Raises OSError
    if the cache cannot be written.
    """
    picture = backbone.fit(picture, scale)
    name = sha256(f"{backbone.fingerprint} {picture.shape}".encode() + picture.tobytes())
    path = cache_folder() / "maps" / name.hexdigest()
    with suppress(OSError, ValueError):  # not there, or no file
        stored = read_bytes(path, MAX_ARRAY)
        if stored[:32] == sha256(name.digest() + stored[32:]).digest():
            return stored[32:]
    file, maps = BytesIO(), backbone.maps([picture])[0].half()
    if not maps.isfinite().all():
        raise ValueError(f"{backbone.name} gives values beyond half precision; choose another.")
    np.savez_compressed(file, maps=maps.numpy())
    made = file.getvalue()
    if not keep:
        return made
    try:
        with write_atomically(path) as part:
            part.write_bytes(sha256(name.digest() + made).digest() + made)
    except (FileNotFoundError, FileExistsError, IsADirectoryError):
        pass  # the folder was deleted meanwhile, or is none: made again next time
    except OSError as error:
        raise OSError(
            f"The cache {path.parent} cannot be written ({error}); set INDIRET_CACHE to another "
            "folder."
        ) from error
    return made


def extract_by_name(
    backbone: PretrainedBackbone, names: Sequence[Any], read: Callable[[Any], Picture], bar: str
) -> Iterator[Tensor]:
    """Maps of many photos, one after the other, with a progress ``bar``."""
    for name in tqdm(names, desc=bar, unit="photo", disable=None):
        yield load_maps(extract(backbone, read(name)))


def load_maps(source: bytes | Path) -> Tensor:
    """Maps (C, h, w) or a vector (D,), float32, of `extract` or from an exported .npy file.

    Exported ones far above or below 1 are divided by the largest. Raises FileNotFoundError if the
    file is gone, ValueError if it is not an array of finite numbers of that shape.
    """
    if isinstance(source, bytes):
        return torch.from_numpy(np.load(BytesIO(source))["maps"].astype(np.float32))
    values = read_array(source)
    if values.ndim not in (1, 3) or 0 in values.shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{source} holds {values.dtype} of shape {values.shape}; features are numbers of shape "
            "(channels, rows, columns), or (values,) for a finished descriptor."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{source} holds values that are not finite; export the features again.")
    values = values.astype(np.float64)
    largest = np.abs(values).max() or 1.0
    if not 1e-3 <= largest <= 1e6:  # else products would leave what float32 can hold
        values /= largest
    return torch.from_numpy(values.astype(np.float32))


@contextmanager
def empty_cache() -> Iterator[None]:
    """Work with a new, empty cache, as if no picture had been seen; it is deleted at the end.

    Examples
    --------
    >>> with empty_cache():
    ...     list(cache_folder().iterdir())
    []
    """
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, INDIRET_CACHE=folder):
        yield


@dataclass(frozen=True)
class ExportedFeatures:
    """A folder of features from elsewhere: ``images/NAME.npy`` and ``queries/QUERY.npy``.

    Each holds one picture's maps (C, h, w), or a finished descriptor (D,); NAME and QUERY are the
    data set's, a query already cut to its box. FileNotFoundError if a folder is missing.
    """

    folder: Path

    def __post_init__(self) -> None:
        for part in ("images", "queries"):
            if not (self.folder / part).is_dir():
                raise FileNotFoundError(
                    f"There is no folder {self.folder / part}; exported features lie in "
                    "images/NAME.npy and queries/QUERY.npy."
                )

    @cached_property
    def has_maps(self) -> bool:
        """Whether the first file holds maps, and not a finished descriptor."""
        first = next((self.folder / "images").glob("**/*.npy"), None)
        return first is not None and load_maps(first).ndim == 3

    def path(self, name: str, query: bool = False) -> Path:
        """The file of a photo, or of a query; ValueError if its name leads out of the folder."""
        inside = self.folder / ("queries" if query else "images")
        path = inside / f"{name}.npy"
        if not path.resolve().is_relative_to(inside.resolve()):
            raise ValueError(f"{name!r} leads out of the folder {inside}.")
        return self._files.get(composed(str(path)), path)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files by their names in the form in which names are compared."""
        return {composed(str(path)): path for path in self.folder.glob("**/*.npy")}


def feature_cells(backbone: PretrainedBackbone, picture: Picture, grid: tuple[int, int]) -> Tensor:
    """What a backbone sees in each cell of a grid, (m, n, C) float32, from the cache if it can.

    The picture is squashed so that the backbone's maps have a cell for each of the grid's. Raises
    ValueError if the grid is too small or too large for the backbone.

    Examples
    --------
    >>> backbone = PretrainedBackbone("toy", torch.nn.Conv2d(3, 5, 8, 8))
    >>> feature_cells(backbone, np.zeros((60, 80, 3), np.uint8), (10, 9)).shape
    torch.Size([10, 9, 5])
    """
    rows, columns = grid
    size = columns * backbone.stride, rows * backbone.stride
    squashed = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    maps = load_maps(extract(backbone, squashed))
    if tuple(maps.shape[1:]) != (rows, columns):
        raise ValueError(
            f"{backbone.name} has a cell for {backbone.stride} pixels and takes pictures of "
            f"{backbones.SHORTEST_SIDE} to {backbones.MAX_SIDE}; it gives maps of "
            f"{tuple(maps.shape[1:])} cells and not {rows} x {columns}; choose another grid or "
            "backbone."
        )
    return maps.permute(1, 2, 0)


def _feature_source(name: str) -> Cells:
    return partial(feature_cells, load_backbone(name))


register_patch_source(backbones.is_backbone_name, _feature_source)
