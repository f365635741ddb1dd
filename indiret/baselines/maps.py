"""Feature maps of pictures: made by a backbone once and kept, or exported by another program.

Chapter: *Baselines*.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
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
from indiret.images import Picture
from indiret.patches import Cells, register_patch_source

EXPORTED = "features="  # starts the name of a folder of exported features
_BATCH = 8  # pictures at a time
_READ = 32  # pictures read before their maps are made


def extract(
    backbone: PretrainedBackbone, pictures: Sequence[Picture], scale: float = 1.0
) -> list[Path]:
    """Make the feature maps of pictures, in batches of one size, unless the cache has them.

    One file a picture comes back, for `load_maps`. It is named by a hash of the weights and of the
    pixels, so that nothing else can stand in for it, and appears whole or not at all. Maps are kept
    in half precision, 20 KB for a picture of 320 × 240 pixels; the folder can be deleted at any
    time between two runs. Raises OSError if it cannot be written.
    """
    folder = cache_folder() / "maps"
    paths, missing = [], defaultdict[tuple[int, ...], dict[Path, Picture]](dict)
    for picture in (backbone.fit(picture, scale) for picture in pictures):
        key = sha256(f"{backbone.fingerprint} {picture.shape}".encode() + picture.tobytes())
        paths.append(folder / f"{key.hexdigest()}.npz")
        if not paths[-1].is_file():
            missing[picture.shape][paths[-1]] = picture
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for of_one_size in missing.values():
            todo = list(of_one_size.items())
            for at in range(0, len(todo), _BATCH):
                batch, given = zip(*todo[at : at + _BATCH], strict=True)
                for path, values in zip(batch, backbone.maps(given).half().numpy(), strict=True):
                    with write_atomically(path) as part, part.open("wb") as file:
                        np.savez_compressed(file, maps=values)
    except OSError as error:
        raise OSError(
            f"The cache folder {folder} cannot be written ({error}); set INDIRET_CACHE to another."
        ) from error
    return paths


def extract_by_name(
    backbone: PretrainedBackbone, names: Sequence[Any], read: Callable[[Any], Picture], bar: str
) -> list[Path]:
    """`extract` of many photos, which are read a few at a time, with a progress ``bar``."""
    paths = []
    for at in tqdm(range(0, len(names), _READ), desc=bar, unit="x32", disable=None):
        paths += extract(backbone, [read(name) for name in names[at : at + _READ]])
    return paths


def load_maps(path: Path) -> Tensor:
    """Maps (C, h, w) or a vector (D,), float32, from a file of `extract` or an exported .npy.

    Raises FileNotFoundError if the file is gone, ValueError if it is not an array of finite numbers
    of that shape.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        values = stored["maps"] if path.suffix == ".npz" else stored
    except FileNotFoundError:
        raise FileNotFoundError(f"There are no features at {path}; export them again.") from None
    except Exception as error:  # numpy and zipfile raise many kinds on a broken file
        raise ValueError(f"{path} is no file of features ({error}).") from error
    if values.ndim not in (1, 3) or 0 in values.shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} holds {values.dtype} of shape {values.shape}; features are numbers of shape "
            "(channels, rows, columns), or (values,) for a finished descriptor."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite; export the features again.")
    return torch.from_numpy(values.astype(np.float32))


def cache_folder() -> Path:
    """Where maps are kept: ``INDIRET_CACHE``, or indiret in ``XDG_CACHE_HOME`` or ~/.cache."""
    if own := os.environ.get("INDIRET_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indiret"


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
        return path


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
    maps = load_maps(extract(backbone, [squashed])[0])
    if maps.ndim != 3 or tuple(maps.shape[1:]) != (rows, columns):
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
