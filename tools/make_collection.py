"""Make a collection of any size out of Toytown: ``python -m tools.make_collection FOLDER``.

A photo is a part of one of Toytown's photos, of any split, under a random affine warp and light;
half are mirrored. Its number decides all, so 20,000 are the first of 100,000, and what is there
already is not made again. 280 pixels are the largest size that `indiret.planes` looks at.

``--check`` says whether any two are equal, byte for byte, and how alike a photo and its nearest
neighbour are (correlation of thumbnails). Relatives are many, about 73 of each of Toytown's photos
among 100,000: a collection to measure time and space with, not how well things are found.

Chapter: *From pairs to collections*.
"""

import argparse
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from indiret.checkpoints import write_atomically
from indiret.datasets import load_dataset
from indiret.datasets.toytown import SPLITS

SIDE = 280  # pixels of the longer side
FOLDER = 1000  # photos in one
SEED = 20
NEIGHBOURS = 500  # photos whose nearest neighbour is looked for


@cache
def sources() -> tuple[Path, ...]:
    """All photos of Toytown, training, validation and test."""
    parts = [load_dataset("toytown", split=split) for split in SPLITS]
    return tuple(path for part in parts for path in part.images.values())


def warp_photo(photo: Image.Image, random: np.random.Generator) -> Image.Image:
    """A parallelogram of a photo as a photo of its own, in another light."""
    aspect, angle, shear = random.uniform((0.7, -0.4, -0.25), (1.4, 0.4, 0.25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sides = turn @ np.array([[aspect, shear], [0, 1]])  # columns: its lower and its left side
    reach = np.abs(sides).sum(axis=1)  # width and height of what holds it
    sides *= min(np.array(photo.size) / reach) * random.uniform(0.6, 1)
    corner = random.uniform(0, 1, 2) * (photo.size - np.abs(sides).sum(axis=1))
    corner -= np.minimum(sides, 0).sum(axis=1)
    if random.random() < 0.5:
        corner, sides = corner + sides[:, 0], sides * (-1, 1)
    size = np.round(SIDE * np.array([aspect, 1]) / max(aspect, 1)).astype(int)
    steps = np.column_stack([sides / size, corner])
    made = photo.transform(
        (int(size[0]), int(size[1])),
        Image.Transform.AFFINE,
        steps.ravel().tolist(),
        Image.Resampling.BICUBIC,
    )
    gamma, *gains = np.exp(random.uniform(-0.35, 0.35, 4) * (1, 0.4, 0.4, 0.4))
    levels = (np.arange(256) / 255) ** gamma
    table = [np.clip(255 * gain * levels, 0, 255).round() for gain in gains]
    return made.point(np.concatenate(table).astype(int).tolist())


def photo_path(folder: Path, number: int) -> Path:
    """Where the photo of a number lies."""
    return folder / f"{number // FOLDER:03d}" / f"{number:06d}.jpg"


def make_photo(number: int) -> Image.Image:
    """The photo of a number.

    Examples
    --------
    >>> make_photo(7).tobytes() == make_photo(7).tobytes() != make_photo(8).tobytes()
    True
    """
    random = np.random.default_rng((SEED, number))
    with Image.open(sources()[number % len(sources())]) as photo:
        return warp_photo(photo.convert("RGB"), random)


def make_collection(folder: Path, photos: int) -> list[Path]:
    """Write the photos that are not there yet, and return where all of them lie."""
    paths = [photo_path(folder, number) for number in range(photos)]
    for number, path in enumerate(tqdm(paths, desc="making", unit="photo", disable=None)):
        if not path.is_file():
            with write_atomically(path) as part:
                make_photo(number).save(part, "jpeg", quality=85)
    return paths


def count_equal(paths: Sequence[Path]) -> int:
    """How many files are byte for byte one that stands before them."""
    return len(paths) - len({hashlib.blake2b(path.read_bytes()).digest() for path in paths})


def nearest_likeness(paths: Sequence[Path], asked: int = NEIGHBOURS) -> NDArray[np.float32]:
    """Of evenly spread photos: correlation with the most alike of all others, by 16 × 16 pixels."""
    thumbnails = np.empty((len(paths), 256), dtype=np.float32)
    for row, path in enumerate(tqdm(paths, desc="comparing", unit="photo", disable=None)):
        with Image.open(path) as photo:
            thumbnails[row] = np.asarray(photo.convert("L").resize((16, 16))).ravel()
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True) + 1e-6
    rows = np.linspace(0, len(paths) - 1, min(asked, len(paths))).astype(int)
    alike = thumbnails[rows] @ thumbnails.T
    alike[np.arange(len(rows)), rows] = -1
    return alike.max(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--check", action="store_true", help="say how distinct they are")
    arguments = parser.parse_args()
    paths = make_collection(arguments.folder, arguments.photos)
    size = sum(path.stat().st_size for path in paths)
    print(f"{len(paths):,} photos, {size / 1e9:.2f} GB in {arguments.folder}")
    if arguments.check:
        alike = nearest_likeness(paths)
        print(f"{count_equal(paths)} are equal to another")
        close = f"{(alike > 0.99).mean():.1%} have one above 0.99"
        print(f"correlation with the nearest neighbour: median {np.median(alike):.3f}, {close}")


if __name__ == "__main__":
    main()
