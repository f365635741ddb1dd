"""Safe reading of photographs: any common file to an array of 8-bit RGB, or one clear sentence.

Every later module assumes what is promised here: a picture is an ``(H, W, 3)`` array of
``uint8`` sRGB values, upright, no side shorter than `MIN_SIDE` pixels.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

MAX_PIXELS = 64_000_000  # more than a camera of 61 megapixels has; 256 MB once decoded
# Times as many in formats whose decoders can read them at half size.
TIMES = {"JPEG": 4, "progressive": 2, "JPEG2000": 2.4}
AT_FULL_SIZE = {"JPEG2000": 0.6}  # times as many, up to which they are: memory
MAX_PHOTO = 500_000_000  # of a file: so many pixels take no more in any format
MAX_READINGS = 1_000_000  # of pieces of a file: Pillow takes headers, comments and junk by bytes
MAX_NUMBERS = 64_000_000  # bytes of a PNM file whose numbers are text
MIN_SIDE = 16  # fewer pixels cannot hold a grid of patches
MAX_ASPECT = 20  # longer side over shorter: beyond, squashing to a grid leaves nothing to see
MIN_BOX_SIDE = 4
BOX_SLACK = 1.0  # pixels by which a rounded box may overlap the edge

# Formats a photograph comes in; others (PDF, EPS, ...) would start interpreters.
FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000")
_NAMES = "jpg jpeg jpe jfif png gif tif tiff webp bmp ppm pgm pbm pnm avif jp2 j2k heic heif"
EXTENSIONS = frozenset(f".{name}" for name in _NAMES.split())
ORIENTATION, WIDTH, HEIGHT, PHOTOMETRIC, EXTRA_BANDS, SIGNS = 274, 256, 257, 262, 338, 339  # tags
TURNS = dict(zip(range(2, 9), map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), strict=True))
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # how their files begin
# What is worth keeping of what stands beside the pixels of a JPEG or PNG, the dearest first.
EXTRAS = (b"\xff\xe0", b"\xff\xee", b"tRNS", b"\xff\xe1", b"eXIf", b"\xff\xe2", b"iCCP")


class ImageError(ValueError):
    """A file that cannot be read as a photograph; the message is one sentence naming the file."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a photograph of any common mode as upright 8-bit RGB, (H, W, 3) uint8.

    The orientation of EXIF or XMP is applied, colour profiles are converted to sRGB, integers of
    any depth are scaled by the bits they use and so are floats, if they are not from 0 to 1,
    transparent pixels are laid on white, and of an animation the first frame is taken. A JPEG of
    more than `max_pixels`, up to four times as many, and a JPEG 2000 of 0.6 to 2.4 times as many
    are read at half their size. Odd EXIF, texts and profiles are never a fault.

    Raises FileNotFoundError if there is no such file, and `ImageError` if it is not an image, is
    truncated, has too many pixels, a side under 16 of them, or one 20 times as long as the other.

    Examples
    --------
    >>> read_image(Path(__file__).parent / "data/toytown/test/images/chapel_tower_118388.jpg").shape
    (300, 320, 3)
    """
    return _through(Path(path), max_pixels, _pixels)


def check_image(path: str | Path) -> None:
    """Check a photograph by its header alone, in a tenth of a millisecond.

    Raises as `read_image`; a file cut short after its header passes.

    Examples
    --------
    >>> check_image(Path(__file__).parent / "data/toytown/test/images/chapel_tower_118388.jpg")
    """
    _through(Path(path), MAX_PIXELS, lambda image: None)


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width in pixels of what `read_image` returns; raises as it.

    Only the header is read, but for PNG, whose orientation may stand at its end.

    Examples
    --------
    >>> image_size(Path(__file__).parent / "data/toytown/test/images/chapel_tower_118388.jpg")
    (300, 320)
    """
    return _through(Path(path), max_pixels, _size)


def pixel_box(box: Sequence[float], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Check a box against its picture and round it to whole pixels.

    A box is ``(x1, y1, x2, y2)`` in pixels from the top left corner; the one returned holds
    ``picture[y1:y2, x1:x2]``. It may overlap the edge by one pixel of rounding and is then clipped.

    Raises ValueError if it is not four finite numbers, is upside down, reaches outside the picture,
    or is less than 4 pixels wide or high.

    Examples
    --------
    >>> pixel_box((10.4, -0.5, 30.6, 48), shape=(48, 64))
    (10, 0, 31, 48)
    """
    height, width = shape[:2]
    shown = f"The box ({', '.join(f'{value:g}' for value in box)})"
    if len(box) != 4 or not np.isfinite(np.asarray(box, dtype=float)).all():
        raise ValueError(f"{shown} must be four finite numbers: x1 y1 x2 y2, in pixels.")
    x1, y1, x2, y2 = (float(value) for value in box)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"{shown} is upside down or empty; give x1 < x2 and y1 < y2.")
    if min(x1, y1) < -BOX_SLACK or x2 > width + BOX_SLACK or y2 > height + BOX_SLACK:
        raise ValueError(
            f"{shown} reaches outside the picture, which is {width} pixels wide and {height} high; "
            f"give x from 0 to {width} and y from 0 to {height}."
        )
    left, right = (min(max(round(x), 0), width) for x in (x1, x2))
    top, bottom = (min(max(round(y), 0), height) for y in (y1, y2))
    if right - left < MIN_BOX_SIDE or bottom - top < MIN_BOX_SIDE:
        least = f"give one of at least {MIN_BOX_SIDE} x {MIN_BOX_SIDE}"
        raise ValueError(f"{shown} holds {right - left} x {bottom - top} pixels; {least}.")
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


def printable(path: str | Path) -> str:
    """A path on one line: controls, marks of direction and bytes that are no UTF-8 are escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(path))


class _File(io.BufferedReader):
    """A file that is given up after so many readings: junk has no other end."""

    readings = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.readings += 1
        if self.readings > MAX_READINGS:
            raise ImageError("has a header that does not end.")
        return super().read(size)


def _through(path: Path, max_pixels: int, use: Callable[[Image.Image], Any]) -> Any:
    """What ``use`` makes of the opened file, or one sentence that says what is wrong."""
    name = printable(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {name}; give the path of a photo.")
    try:
        if not os.path.isfile(path):
            kind = "folder" if os.path.isdir(path) else "pipe or a device"
            raise ImageError(f"is a {kind}; give the path of a photo.")
        if (size := os.path.getsize(path)) > MAX_PHOTO:
            raise ImageError(_too_large(f"has {size / 1e6:.0f} million bytes", MAX_PHOTO))
        with warnings.catch_warnings(), _File(io.FileIO(path)) as file:
            warnings.simplefilter("ignore")  # Pillow's own remarks: our checks say it
            return _without_extras(file, lambda source: use(_open(source, max_pixels)))
    except Exception as error:  # a decoder may raise anything on a broken file
        if isinstance(error, ImageError):
            problem = str(error)
        elif isinstance(error, UnidentifiedImageError):
            problem = f"is not an image that can be read; {', '.join(FORMATS)} files can."
        elif isinstance(error, Image.DecompressionBombError):
            problem = _too_large("has far too many pixels", max_pixels)
        else:
            locked = isinstance(error, PermissionError)
            problem = f"{'cannot be opened' if locked else 'is truncated or damaged'} ({error})."
        raise ImageError(f"{name} {problem}") from error


def _without_extras(file: IO[bytes], read: Callable[[IO[bytes]], Any]) -> Any:
    """Read a file; if Pillow stumbles (over texts of 1 MB, say), with ever less of the extras."""
    try:
        return read(file)
    except Exception as error:
        if type(error) not in (ImageError, OSError):  # neither refused by us nor cut short
            file.seek(0)
            data = file.read()
            for kept in range(len(EXTRAS), 2, -2):
                before, data = data, _drop(data, EXTRAS[:kept])
                if data != before:
                    with suppress(Exception):
                        return read(io.BytesIO(data))
        raise


def _drop(data: bytes, kept: Sequence[bytes]) -> bytes:
    """A JPEG or PNG file without what stands beside the pixels, but for some kinds."""
    if not (png := data.startswith(PNG)) and not data.startswith(JPEG):
        return data.replace(b"Exif", b"free")  # a kind that decoders of AVIF and HEIC pass over
    at, view = 8 if png else 2, memoryview(data)
    parts = [view[:at]]
    while at < len(data):
        if png:
            size, kind = 12 + int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
            extra, last = kind[:1].islower(), not kind.isalpha()
        else:
            size, kind = 2 + int.from_bytes(data[at + 2 : at + 4]), data[at : at + 2]
            extra = b"\xff\xe0" <= kind <= b"\xff\xef" or kind == b"\xff\xfe"
            last = kind == b"\xff\xda" or kind[0] != 0xFF  # pixels, or junk
        end = len(data) if last else at + size
        if not extra or kind in kept:
            parts.append(view[at:end])
        at = end
    return b"".join(parts)


def _open(file: IO[bytes], max_pixels: int) -> ImageFile.ImageFile:
    """Open a file's header and check its size."""
    head = file.read(64)
    file.seek(0)
    image: ImageFile.ImageFile
    if head.startswith(JPEG):
        image = JpegImageFile(file)  # `Image.open` refuses large ones
    elif head[4:11] in (b"ftyphei", b"ftyphev", b"ftypmif") and b"avif" not in head:
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise ImageError("is HEIC, which needs an extra: pip install indiret[heic].") from error
        image = HeifImageFile(file)
    else:
        image = Image.open(file, formats=FORMATS)
    width, height = image.size
    size = f"is {width} x {height} pixels"
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{size}; each side must have at least {MIN_SIDE}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{size}; one side may be at most {MAX_ASPECT} times the other.")
    kind = "progressive" if "progressive" in image.info else str(image.format)
    if width * height > (most := int(max_pixels * TIMES.get(kind, 1))):
        raise ImageError(_too_large(size, most))
    if width * height > max_pixels * AT_FULL_SIZE.get(kind, 1):
        if kind == "JPEG2000":
            image.reduce = 1  # type: ignore[method-assign, assignment]
        image.draft("", (width // 2, height // 2))
    if image.format == "PPM" and image.tile[0][0] in ("ppm", "ppm_plain"):
        codec, *_, depth = image.tile[0]
        numbers = codec == "ppm_plain", depth[-1] if isinstance(depth, tuple) else 1
        image.tile = [image.tile[0]._replace(codec_name="pnm_numbers", args=numbers)]
    return image


def _too_large(size: str, limit: int) -> str:
    return f"{size}; at most {limit / 1e6:g} million are read, so make it smaller."


class _PnmNumbers(ImageFile.PyDecoder):
    """The numbers of a PNM file by numpy: Pillow takes them one by one, minutes for a photo."""

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        (text, most), file = self.args, self.fd
        assert file is not None
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        if not text:
            kind = np.dtype("u1" if most < 256 else ">u2")
            values = np.frombuffer(file.read(count * kind.itemsize), kind)
        elif len(data := file.read(MAX_NUMBERS + 1)) > MAX_NUMBERS:
            raise ImageError(_too_large("writes its numbers as text, in many bytes", MAX_NUMBERS))
        else:
            if 0 < data.count(b"#") < 1000:
                data = re.sub(rb"#[^\r\n]*", b"", data)
            if self.mode == "1":  # no space is needed between digits
                data = data.translate(None, b" \t\r\n\v\f")[:count].replace(b"", b" ")
            values = np.fromstring(data, np.int64, sep=" ")
        if values.size < count:
            raise OSError("image file is truncated")
        scale, mode = {"1": (255, "1;8"), "I": (65535, "I;32")}.get(self.mode, (255, self.mode))
        table = np.rint(np.arange(most + 1) * (scale / most)).astype("<i4" if scale > 255 else "u1")
        table = table[::-1] if self.mode == "1" else table  # one is black
        parts = (values[at : at + 2**20] for at in range(0, count, 2**20))
        self.set_as_raw(
            b"".join(np.take(table, part, mode="clip").tobytes() for part in parts), mode
        )
        return -1, 0


Image.register_decoder("pnm_numbers", _PnmNumbers)


def _orientation(image: Image.Image, tags: Any) -> int:
    """What EXIF or XMP tells, 1 to 8; trouble with either is no damage."""
    if image.format == "PNG":
        image.load()  # they may stand behind the pixels
    with suppress(Exception):
        told = tags.get(ORIENTATION) or image.getexif().get(ORIENTATION)
        return told if told in TURNS else 1
    return 1


def _size(image: Image.Image) -> tuple[int, int]:
    """Height and width, upright."""
    tags = getattr(image, "tag_v2", {})  # Pillow turns a TIFF's size by EXIF, but not by XMP
    sideways = _orientation(image, tags) >= 5
    width, height = (tags[WIDTH], tags[HEIGHT]) if tags else image.size
    if image.reduce == 1:  # JPEG 2000 that `_open` has halved
        width, height = (width + 1) // 2, (height + 1) // 2
    return (width, height) if sideways else (height, width)


def _pixels(image: Any) -> Picture:
    """Decode a picture: upright, 8 bits, sRGB."""
    tags, file = getattr(image, "tag_v2", {}), getattr(image, "fp", None)
    if associated := "a" in image.mode or "RGBa" in str(getattr(image, "tile", "")):
        image._mode = image.mode.replace("a", "A")  # or it divides by alpha, which may be zero
        image.tile = [_with_raw_mode(tile, _unassociated) for tile in image.tile]
    deep = re.search("(RGB[AX]?|LA);16", str(getattr(image, "tile", "")))
    turn = TURNS.get(_orientation(image, tags))
    image.getexif = Image.Exif  # or a TIFF turns by itself
    image.load()
    if deep and np.max(image.getextrema()[:3]) < 64:  # at most 14 of the 16 bits
        image = _all_bits(image, file)
    image = image if turn is None else image.transpose(turn)
    profile, signed = image.info.get("icc_profile"), 2 in tags.get(SIGNS, ())
    if image.mode[0] in "IF" or (signed and image.mode == "L"):
        values = np.asarray(image)  # of eight bits, Pillow forgets the sign
        grey = _eight_bits(values.view(np.int8) if image.mode == "L" else values, signed)
        image = Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == 0 else grey)
    if image.mode == "LAB":
        return np.array(_lab_to_srgb(image), dtype=np.uint8)
    if image.has_transparency_data:
        ignored = tags and EXTRA_BANDS not in tags  # infrared, say
        image = _on_white(image, ignored, associated)
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile and profile[16:20] == b"GRAY":
        image = image.convert("L")
    if change := _to_srgb(profile, image.mode) if profile else None:
        image = change.apply(image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _all_bits(image: Image.Image, file: Any) -> Image.Image:
    """Colours of 16 bits: Pillow keeps the upper eight, so the lower are read in their place."""
    file.seek(0)
    low: Any = Image.open(file, formats=[str(image.format)])
    low.getexif = Image.Exif
    bands = [1, 1, 1, 3] if "LA;" in str(low.tile) else [*range(len(image.mode))]
    low.tile = [_with_raw_mode(tile, _swapped) for tile in low.tile]
    values = np.array(image)
    deep = values.astype(np.uint16) << 8 | np.asarray(low)[..., bands]
    for part in [slice(3), slice(3, 4)][: len(bands) - 2]:  # colours, and alpha
        values[..., part] = _eight_bits(deep[..., part], signed=False)
    return Image.fromarray(values, image.mode)


def _with_raw_mode(tile: Any, change: Callable[[str], str]) -> Any:
    """A part of a file, with a change to what its decoder takes the bytes for."""
    args = tile.args
    args = (change(args[0]), *args[1:]) if isinstance(args, tuple) else change(args)
    return tile._replace(args=args)


def _unassociated(mode: str) -> str:
    """The raw mode of colours that are taken as they are, not divided by alpha."""
    return mode.replace("a", "A")


def _swapped(mode: str) -> str:
    """The same, in the other order of bytes."""
    if mode.startswith("LA"):
        return "RGBA"  # both bytes of the grey, then of alpha
    return _unassociated(mode[:-1]) + {"B": "L", "L": "B", "N": "B"}[mode[-1]]


def _eight_bits(values: NDArray[Any], signed: bool) -> Picture:
    """Integers as 8 bits, by the even number of bits they use: 12 of 16 if none is over 4095.

    Floats that stay near 0 to 1 are cut to that and take all bits; others are as integers.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        values = 255 * values.clip(0, 1) if values.max() <= 2 else values
    if values.dtype == np.int32 and not signed:
        values = values.view(np.uint32)
    low = min(math.floor(values.min()), 0)
    bits = (int(values.max()) - low).bit_length()
    scaled = np.subtract(values, low, dtype=np.float32)
    scaled *= 255 / (2 ** max(8, bits + bits % 2) - 1)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _on_white(image: Image.Image, ignored: Any, associated: bool) -> Image.Image:
    """A transparent picture laid on white, unless that is ignored or all of it is transparent.

    Where alpha is ``associated``, colours are multiplied by it already.
    """
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = image.getchannel("A")
    if ignored or alpha.getextrema() in ((0, 0), (255, 255)):
        return image.convert("RGB")
    if associated:
        return ImageChops.add(image.convert("RGB"), ImageChops.invert(alpha).convert("RGB"))
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _lab_to_srgb(image: Image.Image) -> Any:
    """CIELAB colours, of the white D50, as sRGB."""
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> Any:
    """What changes a profile's colours to sRGB; None if they are, or it is broken, or of others."""
    from PIL import ImageCms

    with suppress(Exception):
        colours = ImageCms.getOpenProfile(io.BytesIO(profile))
        change = ImageCms.buildTransform(colours, ImageCms.createProfile("sRGB"), mode, "RGB")
        grid = 51 * np.indices((6, 6, 6), np.uint8).reshape(3, 36, 6).transpose(1, 2, 0)
        off = np.abs(change.apply(Image.fromarray(grid)) - grid.astype(int)) if mode == "RGB" else 9
        return change if np.max(off) > 2 else None
    return None
