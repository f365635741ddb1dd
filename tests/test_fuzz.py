"""Files broken at random: only the project's own errors get out, soon and in little memory.

``INDIRET_FUZZ=100000`` breaks so many pictures instead of 2,000; ``INDIRET_FUZZ_SEED`` is their
seed. A fault names the seed and the number of its picture, which make it again.
"""

import io
import itertools
import os
import resource
import signal
from collections import defaultdict
from contextlib import suppress
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageCms

from indiret.images import ImageError, check_image, image_size, read_image
from tests.mutation import mutate

COUNT = int(os.environ.get("INDIRET_FUZZ", 2000))
SEED = int(os.environ.get("INDIRET_FUZZ_SEED", 0))
PARTS = 4  # tests, so that several processes share the work
SECONDS, MEGABYTES = 5, 1500
PACKED = ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits", "group4")
OPTIONS = {
    "JPEG": [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}],
    "TIFF": [{"big_tiff": True}, *({"compression": packed} for packed in PACKED)],
    "WEBP": [{}, {"lossless": True}],
    "AVIF": [{"speed": 10}],
    "JPEG2000": [{}, {"no_jp2": True}, {"tile_size": (16, 16)}],
}


class TooSlow(BaseException):
    """More than the seconds allowed; no `Exception`, so that no reader takes it for damage."""


@pytest.fixture(scope="module")
def whole():
    """Small pictures in all formats and modes that Pillow writes, as bytes by format."""
    Image.init()
    rng = np.random.default_rng(1)
    colours = Image.fromarray(rng.integers(0, 256, (12, 20, 4), dtype=np.uint8).repeat(2, 0))
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    beside = {"exif": exif, "icc_profile": profile, "xmp": b'<x tiff:Orientation="6"/>'}
    files = defaultdict(set)
    for kind, mode in itertools.product(Image.SAVE, ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")):
        for options, extras in itertools.product(OPTIONS.get(kind, [{}]), ({}, beside)):
            with suppress(Exception), io.BytesIO() as file:
                picture = colours.convert("L" if mode == "I;16" else mode)
                picture = picture.convert("I").convert(mode) if mode == "I;16" else picture
                picture.save(file, kind, **options, **extras)
                files[kind].add(file.getvalue())
    digits = " ".join(map(str, range(240))).encode()
    files["PPM"] |= {b"P3 20 16 # c\n255\n" + 4 * digits + b" ", b"P2 20 16\n9000 " + digits * 2}
    files["PPM"] |= {b"P1\n20 16\n" + b"10" * 160, b"P6 20 16 100\n" + bytes(range(240)) * 4}
    return {kind: sorted(files[kind]) for kind in sorted(files)}


def test_pillow_writes_what_we_read(whole):
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000"):
        assert len(whole[kind]) >= 2, kind
    assert len(whole) > 20


@pytest.fixture
def clock():
    """A function that gives the seconds allowed anew, or takes the clock off with 0."""

    def ring(*_):
        raise TooSlow(f"over {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def memory():
    """The most megabytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@pytest.mark.parametrize("part", range(PARTS))
def test_a_broken_picture_is_read_or_refused(whole, part, clock, tmp_path):
    kinds, path, before = list(whole), tmp_path / "broken", memory()
    for number in range(part, COUNT, PARTS):
        chance = Random(f"{SEED} {number}")
        files = whole[kinds[number % len(kinds)]]
        path.write_bytes(mutate(chance.choice(files), chance, files))
        found = []
        for read in (read_image, image_size, check_image):
            clock(SECONDS)
            try:
                found.append(read(path))
            except ImageError as error:
                assert str(path) in str(error), (SEED, number)
                found.append(error)
            except (Exception, TooSlow) as error:
                raise AssertionError((SEED, number, read.__name__)) from error
            clock(0)
        picture, size, header = found
        if isinstance(picture, np.ndarray):
            assert picture.dtype == np.uint8 and picture.shape == (*size, 3), (SEED, number)
            assert header is None, (SEED, number)
        assert memory() - before < MEGABYTES, (SEED, number)
