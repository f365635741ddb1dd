"""`indiret.images`: every way a file can be odd, and boxes."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from indiret.images import (
    ImageError,
    check_image,
    crop,
    find_images,
    image_size,
    pixel_box,
    read_image,
)


@pytest.fixture
def colours():
    """A picture without symmetry: a red, a green, a blue and a grey quarter, 24 high, 32 wide."""
    picture = np.empty((24, 32, 3), np.uint8)
    picture[:12, :16], picture[:12, 16:] = (200, 0, 0), (0, 200, 0)
    picture[12:, :16], picture[12:, 16:] = (0, 0, 200), (90, 90, 90)
    return picture


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_are_read_exactly(tmp_path, noise, extension):
    path = tmp_path / f"a.{extension}"
    Image.fromarray(noise).save(path, **({"lossless": True} if extension == "webp" else {}))
    picture = read_image(str(path))
    np.testing.assert_array_equal(picture, noise)
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous and picture.flags.writeable


def stored(a, orientation):
    """What a camera in that orientation stores; the eight cases of the EXIF standard."""
    mirrored = a[:, ::-1] if orientation in (2, 4, 5, 7) else a
    return np.rot90(mirrored, {3: 2, 4: 2, 5: 1, 6: 1, 7: -1, 8: -1}.get(orientation, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "tif", "jpg"])
def test_exif_orientation_turns_the_picture_upright(tmp_path, colours, orientation, extension):
    path = tmp_path / f"a.{extension}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(colours, orientation))).save(path, exif=exif)
    picture = read_image(path)
    assert picture.shape == colours.shape
    difference = np.abs(picture.astype(int) - colours)
    assert np.median(difference) <= (3 if extension == "jpg" else 0)
    assert image_size(path) == (24, 32)


def test_damaged_exif_does_not_keep_a_photo_from_being_read(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense, not TIFF")
    assert read_image(tmp_path / "a.jpg").shape == noise.shape


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, extension):
    values = np.linspace(0, 65535, 32 * 20).reshape(20, 32).round().astype(np.uint16)
    path = tmp_path / f"a.{extension}"
    Image.fromarray(values).save(path)
    picture = read_image(path)
    np.testing.assert_array_equal(picture[..., 1], np.rint(values / 257).astype(np.uint8))
    assert picture.min() == 0 and picture.max() == 255


def chunk(kind, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_sixteen_bit_colour(tmp_path):
    """Pillow cannot write 16-bit RGB, so the PNG is put together by hand."""
    values = np.random.default_rng(1).integers(0, 65536, (16, 20, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 16, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert np.abs(read_image(tmp_path / "a.png") - values / 257).max() <= 1


def test_cmyk_is_converted(tmp_path, colours):
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), colours, atol=2)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.median(np.abs(read_image(tmp_path / "a.jpg") - colours.astype(int))) <= 4


def test_palette_grey_and_one_bit_become_rgb(tmp_path, colours):
    picture = Image.fromarray(colours)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    np.testing.assert_allclose(read_image(tmp_path / "p.png"), colours, atol=4)
    picture.convert("L").save(tmp_path / "l.png")
    grey = np.asarray(picture.convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "l.png"), np.stack([grey] * 3, axis=-1))
    picture.convert("1").save(tmp_path / "1.png")
    assert set(np.unique(read_image(tmp_path / "1.png"))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_are_laid_on_white(tmp_path, mode):
    path = tmp_path / "a.png"
    pixels = np.zeros((20, 20, 3 if mode == "P" else len(mode)), np.uint8)
    if mode in ("RGBA", "LA"):
        pixels[10:, :, -1] = 255
        Image.fromarray(pixels).save(path)
    else:  # one colour is said to be transparent
        pixels[:10] = 9
        picture = Image.fromarray(pixels)
        picture = picture.quantize(2) if mode == "P" else picture
        picture.save(path, transparency=picture.getpixel((0, 0)))
    picture = read_image(path)
    assert (picture[:10] == 255).all() and (picture[10:] == 0).all()


def test_half_transparent_is_half_white_and_an_animation_its_first_frame(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [127, 127, 127]
    first, *others = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "lime")]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=50)
    assert read_image(tmp_path / "a.gif")[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kept", [20, 200, 0.5, 0.95])
@pytest.mark.parametrize("extension", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_truncated_files(tmp_path, noise, extension, kept):
    path = tmp_path / f"cut.{extension}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(ImageError, match=r"cut\."):
        read_image(path)
    if kept == 0.95 and extension not in ("tif", "webp"):  # their headers look at the end
        check_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am not an image\n" * 20, b"%!PS-Adobe-3.0 EPSF"]
)
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    for reader in (read_image, image_size, check_image):
        with pytest.raises(ImageError, match=r"a\.jpg is not an image"):
            reader(tmp_path / "a.jpg")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    with pytest.raises(ImageError, match=r"pipe\.jpg is a pipe"):
        read_image(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [(1, 1, "1 x 1"), (1, 5000, "1 x 5000"), (15, 40, "at least 16"), (16, 321, "20 times")],
)
def test_too_small_or_too_long(tmp_path, width, height, words):
    Image.new("L", (width, height)).save(tmp_path / "odd.png")
    for reader in (read_image, check_image):
        with pytest.raises(ImageError, match=rf"odd\.png.*{words}"):
            reader(tmp_path / "odd.png")


@pytest.mark.parametrize("side", [8_100, 10_000, 30_000])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, side):
    """One bit a pixel, so that the file itself is small; none of Pillow's warnings get out."""
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError, match=r"bomb\.png.*at most 64 million"):
        read_image(tmp_path / "bomb.png")


def test_the_limits_themselves_are_read(tmp_path):
    Image.new("RGB", (16, 320)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=5120).shape == (320, 16, 3)
    with pytest.raises(ImageError, match="16 x 320"):
        read_image(tmp_path / "a.png", max_pixels=5119)


def test_modes_without_a_fixed_range_are_named(tmp_path):
    Image.new("F", (20, 20), 0.5).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match="colour mode F"):
        read_image(tmp_path / "f.tif")
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.new("RGB", (20, 20)), *profiles, outputMode="LAB")
    lab.save(tmp_path / "lab.tif")
    with pytest.raises(ImageError, match="colour mode LAB"):
        read_image(tmp_path / "lab.tif")


def test_find_images_is_recursive_sorted_and_skips_the_hidden(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.webp", ".cache/x.jpg", "b/.x.jpg", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.webp", "b/1.png", "b/2.JPG"]


def test_find_images_names_what_is_wrong(tmp_path):
    (tmp_path / "a.txt").touch()
    for name, words in (("", "no image"), ("none", "does not exist"), ("a.txt", "is a file")):
        with pytest.raises(FileNotFoundError, match=words):
            find_images(tmp_path / name)


@settings(deadline=None)
@given(*[st.integers(low, high) for low, high in ((0, 59), (0, 43), (4, 64), (4, 48))])
def test_crop_holds_the_pixels_of_the_box(x, y, width, height):
    right, bottom = min(x + width, 64), min(y + height, 48)
    picture = np.arange(48 * 64 * 3).reshape(48, 64, 3)
    cut = crop(picture, (x, y, right, bottom))
    np.testing.assert_array_equal(cut, picture[y:bottom, x:right])
    assert crop(picture, (-1, -0.3, 65, 48.9)).shape == (48, 64, 3)  # one pixel of rounding


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((-1.1, 0, 20, 20), "outside"),
        ((0, 0, 65.1, 20), "outside.*64 pixels wide and 48 high"),
        ((100, 100, 120, 120), "outside"),
        ((20, 0, 10, 20), "upside down"),
        ((0, 20, 10, 20), "upside down"),
        ((0, 0, 3, 20), "3 x 20.*at least 4 x 4"),
        ((0, 0, float("nan"), 20), "finite"),
        ((0, 0, float("inf"), 20), "finite"),
        ((0, 0, 20), "four"),
    ],
)
def test_bad_boxes(box, words):
    with pytest.raises(ValueError, match=words):
        pixel_box(box, (48, 64, 3))
