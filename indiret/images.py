"""Safe reading of photographs: any common file to an array of 8-bit RGB, or one clear sentence.

Every later module assumes what is promised here: a picture is an ``(H, W, 3)`` array of
``uint8`` RGB values, upright, no side shorter than `MIN_SIDE` pixels.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

MAX_PIXELS = 60_000_000  # 180 MB once decoded; most cameras and phones stay below
MIN_SIDE = 16  # fewer pixels cannot hold a grid of patches
MAX_ASPECT = 20  # longer side over shorter: beyond, squashing to a grid leaves nothing to see
ORIENTATION = 0x0112  # EXIF tag
MIN_BOX_SIDE = 4
BOX_SLACK = 1.0  # pixels by which a rounded box may overlap the edge

# Formats a photograph comes in; others (PDF, EPS, ...) would start interpreters.
FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM")
UNREADABLE_MODES = ("F", "LAB")  # floating point has no fixed range; LAB needs a colour profile
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm"}
)


class ImageError(ValueError):
    """A file that cannot be read as a photograph; the message is one sentence naming the file."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a photograph of any common mode as upright 8-bit RGB, (H, W, 3) uint8.

    The EXIF orientation is applied, 16-bit grey is scaled to 8, CMYK, palette, grey and 1-bit
    pictures are converted, transparent pixels are laid on white, and of an animation the first
    frame is taken. Size and shape are checked before anything is decoded.

    Raises FileNotFoundError if there is no such file, and `ImageError` if it is not an image, is
    truncated, has more than `max_pixels` pixels, a side under 16 pixels, or one side more than 20
    times the other.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "grey.png"
    ...     Image.new("L", (32, 24), 200).save(path)
    ...     picture = read_image(path)
    >>> picture.shape, picture.dtype, picture[0, 0].tolist()
    ((24, 32, 3), dtype('uint8'), [200, 200, 200])
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own remarks: our checks say it in one sentence
        with _open(path, max_pixels) as image:
            try:
                image.load()
                upright = ImageOps.exif_transpose(image)
            except Exception as error:  # a decoder may raise anything on a broken file
                raise ImageError(f"{path} is truncated or damaged ({error}).") from error
            if upright.mode in UNREADABLE_MODES:
                raise ImageError(
                    f"{path} has the colour mode {upright.mode}; save it as RGB or grey, "
                    "8 or 16 bits a channel."
                )
            return np.array(_to_rgb(upright), dtype=np.uint8)


def check_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
    """Check a photograph by its header alone, in a tenth of a millisecond.

    Raises FileNotFoundError or ImageError as `read_image`; a file cut short after its header
    passes.

    Examples
    --------
    >>> check_image(__file__)
    Traceback (most recent call last):
        ...
    indiret.images.ImageError: ... is not an image that can be read; ...
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _open(Path(path), max_pixels).close()


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of a photograph in pixels, the EXIF orientation applied.

    Only the header is read, but for PNG, whose orientation may stand at its end. Raises as
    `read_image`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "photo.jpg"
    ...     Image.new("RGB", (320, 240)).save(path)
    ...     image_size(path)
    (240, 320)
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path, max_pixels) as image:
            try:
                sideways = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            except Exception as error:
                raise ImageError(f"{path} is truncated or damaged ({error}).") from error
            if sideways and image.format != "TIFF":  # Pillow gives TIFF's size upright
                return image.size
            return image.height, image.width


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, by extension, in the order of their paths.

    Hidden files and folders (a name that begins with a dot) are left out, links to folders are not
    followed. Raises FileNotFoundError if the folder is missing, is a file, or holds no image.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.jpg", "a.PNG", ".hidden.jpg", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [path.name for path in find_images(folder)]
    ['a.PNG', 'b.jpg']
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"The folder {folder} {problem}; give a folder of photos.")
    found = []
    for where, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [
            Path(where, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    if not found:
        raise FileNotFoundError(
            f"The folder {folder} holds no image; files ending in "
            f"{', '.join(sorted(EXTENSIONS))} are looked for, in subfolders too."
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def pixel_box(box: Sequence[float], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Check a box against its picture and round it to whole pixels.

    A box is its left, top, right and bottom edge ``(x1, y1, x2, y2)`` in pixels, the origin at the
    top left corner. It may overlap the picture's edge by one pixel of rounding and is then clipped.
    ``picture[y1:y2, x1:x2]`` is what the returned box holds; of ``shape``, height and width come
    first.

    Raises ValueError if the box is not four finite numbers, is upside down, reaches outside the
    picture, or is less than 4 pixels wide or high.

    Examples
    --------
    >>> pixel_box((10.4, -0.5, 30.6, 48), shape=(48, 64))
    (10, 0, 31, 48)
    """
    height, width = shape[:2]
    if len(box) != 4 or not np.isfinite(np.asarray(box, dtype=float)).all():
        raise ValueError(
            f"The box {_show(box)} must be four finite numbers: x1 y1 x2 y2, in pixels."
        )
    x1, y1, x2, y2 = (float(value) for value in box)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"The box {_show(box)} is upside down or empty; give x1 y1 x2 y2 with x1 < x2 and "
            "y1 < y2, in pixels from the top left corner."
        )
    if min(x1, y1) < -BOX_SLACK or x2 > width + BOX_SLACK or y2 > height + BOX_SLACK:
        raise ValueError(
            f"The box {_show(box)} reaches outside the picture, which is {width} pixels wide and "
            f"{height} high; give x from 0 to {width} and y from 0 to {height}."
        )
    left, right = (min(max(round(x), 0), width) for x in (x1, x2))
    top, bottom = (min(max(round(y), 0), height) for y in (y1, y2))
    if right - left < MIN_BOX_SIDE or bottom - top < MIN_BOX_SIDE:
        raise ValueError(
            f"The box {_show(box)} holds {right - left} x {bottom - top} pixels; "
            f"give one of at least {MIN_BOX_SIDE} x {MIN_BOX_SIDE}."
        )
    return left, top, right, bottom


def crop(image: Picture, box: Sequence[float]) -> Picture:
    """Cut a box ``(x1, y1, x2, y2)`` out of a picture, as a copy; see `pixel_box`.

    Examples
    --------
    >>> crop(np.zeros((48, 64, 3), np.uint8), (10, 20, 30, 48)).shape
    (28, 20, 3)
    """
    x1, y1, x2, y2 = pixel_box(box, image.shape)
    return image[y1:y2, x1:x2].copy()


def _open(path: Path, max_pixels: int) -> Image.Image:
    """Open a file's header and check its size, or say in one sentence what is wrong."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give the path of a photo.")
    if path.is_dir():
        raise ImageError(f"{path} is a folder; give the path of a photo.")
    if not path.is_file():
        raise ImageError(f"{path} is a pipe or a device; give the path of a photo.")
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(f"{path} has far too many pixels", max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image that can be read; {', '.join(FORMATS)} files can."
        ) from error
    except Exception as error:  # a parser may raise anything on a broken header
        raise ImageError(f"{path} cannot be opened as an image ({error}).") from error
    width, height = image.size
    problem, size = None, f"{path} is {width} x {height} pixels"
    if width * height > max_pixels:
        problem = _too_large(size, max_pixels)
    elif min(width, height) < MIN_SIDE:
        problem = f"{size}; each side must have at least {MIN_SIDE}."
    elif max(width, height) > MAX_ASPECT * min(width, height):
        problem = f"{size}; one side may be at most {MAX_ASPECT} times the other."
    if problem:
        image.close()
        raise ImageError(problem)
    return image


def _too_large(size: str, max_pixels: int) -> str:
    return f"{size}; at most {max_pixels / 1e6:g} million are read, so make it smaller."


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: 16 bits scaled by 1/257, transparency laid on white."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, dtype=np.float64), 0, 65535) / 257
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _show(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
