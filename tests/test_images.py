"""`indiret.images`: every way a file can be odd, and boxes."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from indiret import images
from indiret.datasets import find_images
from indiret.images import ImageError, check_image, crop, image_size, pixel_box, read_image


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


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp", "jp2"])
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


def tiff_entries(*entries):
    """Tags (number, type, count, four bytes) of a TIFF file or of EXIF."""
    packed = b"".join(struct.pack("<HHL4s", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.parametrize(
    "odd",
    [
        (0x11A, 2, 3, b"72\0\0"),  # a resolution as text
        (0x103, 9, 1, struct.pack("<l", -3)),
        (0x103, 7, 3, b"abc\0"),
        (0x103, 11, 1, struct.pack("<f", 1.5)),
        (0x8769, 4, 1, b"\xff\xff\xff\x7f"),  # more tags beyond the end
    ],
)
def test_odd_exif_is_no_damage(tmp_path, colours, odd):
    exif = b"Exif\0\0" + tiff_entries((0x112, 3, 1, b"\6\0\0\0"), odd)
    Image.fromarray(colours).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (32, 24, 3)
    assert image_size(tmp_path / "a.jpg") == (32, 24)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "avif"])
def test_exif_that_is_none_is_passed_over(tmp_path, colours, extension):
    exif = Image.Exif()
    exif[0x10F] = "a camera"
    Image.fromarray(colours).save(tmp_path / f"a.{extension}", exif=exif)
    broken = (tmp_path / f"a.{extension}").read_bytes().replace(b"MM\0*", b"what")
    (tmp_path / f"a.{extension}").write_bytes(broken)
    assert read_image(tmp_path / f"a.{extension}").shape == (24, 32, 3)
    assert image_size(tmp_path / f"a.{extension}") == (24, 32)


@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "webp", "avif"])
def test_xmp_turns_a_picture_as_exif_does(tmp_path, colours, extension):
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    beside = {"tiffinfo": {700: xmp}} if extension == "tif" else {"xmp": xmp}
    if extension == "png":
        beside = {"pnginfo": PngInfo()}
        beside["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.fromarray(colours).save(tmp_path / f"a.{extension}", **beside)
    assert read_image(tmp_path / f"a.{extension}").shape == (32, 24, 3)
    assert image_size(tmp_path / f"a.{extension}") == (32, 24)


def chunk(kind, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


long = zlib.compress(b"x" * 2_000_000)


@pytest.mark.parametrize(
    ("extra", "behind"),
    [
        (chunk(b"zTXt", b"workflow\0\0" + long), False),
        (chunk(b"iTXt", b"workflow\0\1\0\0\0" + long), True),
        (chunk(b"iCCP", b"p\0\0" + long), False),
        (chunk(b"tEXt", b"a\0b")[:-1] + b"?", False),  # a wrong checksum
    ],
)
def test_long_or_broken_texts_of_a_png_are_left_out(tmp_path, colours, extra, behind):
    with io.BytesIO() as file:
        exif = Image.Exif()
        exif[0x112] = 6
        Image.fromarray(colours).save(file, "PNG", exif=exif)
        png = file.getvalue()
    at = png.index(b"IEND" if behind else b"eXIf") - 4
    (tmp_path / "a.png").write_bytes(png[:at] + extra + png[at:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(colours, -1))
    assert image_size(tmp_path / "a.png") == (32, 24)


def test_a_profile_is_converted_and_a_broken_one_ignored(tmp_path, colours):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")
    for profile, wanted in (
        (swapped, colours[..., [1, 0, 2]]),
        (srgb, colours),
        (srgb[:200], colours),
        (b"", colours),
    ):
        Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_allclose(read_image(tmp_path / "a.png"), wanted, atol=3)
    Image.fromarray(colours).save(tmp_path / "a.jpg", icc_profile=swapped, quality=95)
    jpeg = (tmp_path / "a.jpg").read_bytes().replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\0")
    (tmp_path / "a.jpg").write_bytes(jpeg)
    assert np.median(np.abs(read_image(tmp_path / "a.jpg") - colours.astype(int))) <= 4


def test_a_profile_of_greys_is_converted_at_any_depth(tmp_path):
    """A minimal profile: what the file says is linear light."""
    curve = b"curv\0\0\0\0\0\0\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 12)
    kind = b"\2\x10\0\0mntrGRAYXYZ "
    head = struct.pack(">I4s", 188, b"lcms") + kind + bytes(12) + b"acsp" + bytes(28)
    profile = (head + white[8:] + bytes(48) + tags + white + curve).ljust(188, b"\0")
    grey = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    light = grey / 255
    wanted = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light) * 255
    for values in (grey, grey.astype(np.uint16) * 257, np.dstack([grey, np.full_like(grey, 255)])):
        for name in ("a.png", "a.tif"):
            Image.fromarray(values).save(tmp_path / name, icc_profile=profile)
            off = read_image(tmp_path / name) - wanted[..., None]
            assert np.abs(off).max() <= 13, (values.shape, name)  # a step of the darkest greys


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, extension):
    values = np.linspace(0, 65535, 32 * 20).reshape(20, 32).round().astype(np.uint16)
    path = tmp_path / f"a.{extension}"
    Image.fromarray(values).save(path)
    picture = read_image(path)
    np.testing.assert_array_equal(picture[..., 1], np.rint(values / 257).astype(np.uint8))
    assert picture.min() == 0 and picture.max() == 255


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_integers_are_as_deep_as_their_used_bits(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 32 * 20).round().reshape(20, 32)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a.png")
    wanted = np.rint(values * (255 / (2**bits - 1)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 2], wanted)
    signed = (values - 2 ** (bits - 2)).astype(np.int32)  # as tomographs do
    Image.fromarray(signed).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], wanted)
    if bits == 8:
        signed = (values - 128).round().astype(np.int8).view(np.uint8)
        Image.fromarray(signed).save(tmp_path / "a.tif", tiffinfo={339: 2})
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], wanted)


def change_tag(path, tag, new, value):
    """Another number and value for one tag of a TIFF."""
    data = path.read_bytes()
    at = data.index(struct.pack("<HHL", tag, 3, 1))
    path.write_bytes(data[:at] + struct.pack("<HHLL", new, 3, 1, value) + data[at + 12 :])


def test_a_tiff_whose_zero_is_white_or_whose_fourth_band_has_no_name(tmp_path, colours):
    grey = np.linspace(0, 4095, 20 * 32).astype(np.uint16).reshape(20, 32)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    change_tag(tmp_path / "a.tif", 262, 262, 0)
    assert read_image(tmp_path / "a.tif")[[0, -1], [0, -1], 0].tolist() == [255, 0]
    infrared = np.dstack([colours, colours[..., :1] // 2])
    Image.fromarray(infrared).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() != [200, 0, 0]
    change_tag(tmp_path / "a.tif", 338, 65000, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colours)


def test_alpha_that_is_zero_everywhere_is_none(tmp_path, colours):
    alpha = np.dstack([colours, np.zeros((24, 32), np.uint8)])
    for extension in ("png", "bmp"):
        Image.fromarray(alpha).save(tmp_path / f"a.{extension}")
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{extension}"), colours)


@pytest.mark.parametrize(
    ("magic", "most"), [(1, 1), (2, 255), (2, 4095), (3, 100), (5, 4095), (6, 99)]
)
def test_pnm_of_any_depth_as_text_or_binary(tmp_path, magic, most):
    values = np.random.default_rng(most).integers(0, most + 1, (20, 32, 3 if magic % 3 == 0 else 1))
    text = ("" if magic == 1 else " ").join(map(str, values.ravel()))
    body = text.encode() if magic < 4 else values.astype(">u2" if most > 255 else "u1").tobytes()
    head = f"P{magic} # by hand\n32 20\n" + (f"{most}\n" if most > 1 else "")
    (tmp_path / "a.pnm").write_bytes(head.encode() + body)
    wanted = 255 * (1 - values) if magic == 1 else np.rint(values * (255 / most))
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.pnm"), np.broadcast_to(wanted, (20, 32, 3))
    )
    (tmp_path / "a.pnm").write_bytes(head.encode() + body[: len(body) // 2])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.pnm")


def test_files_that_would_take_for_ever_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_READINGS", 1000)
    monkeypatch.setattr(images, "MAX_NUMBERS", 9000)
    monkeypatch.setattr(images, "MAX_PHOTO", 50_000)
    for content, words in (
        (b"P6 20 16 #" + b"x" * 2000 + b"\n255\n" + bytes(960), "header that does not end"),
        (b"\xff\xd8\xff\xe0\0\2" + bytes(3000), "header that does not end"),
        (b"P3 60 60 255\n" + b"1 " * 10_800, "numbers as text.*at most 0.009 million"),
        (bytes(60_000), "0 million bytes; at most 0.05 million"),
    ):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / "a.jpg")


def test_a_large_jpeg_is_read_at_half_its_size(tmp_path, noise):
    large = noise.repeat(2, 0).repeat(2, 1)  # 96 x 128
    for progressive, most in ((False, 4), (True, 2)):
        Image.fromarray(large).save(tmp_path / "a.jpg", quality=95, progressive=progressive)
        for limit, shape in ((12288, (128, 96)), (12288 // most, (64, 48))):
            assert read_image(tmp_path / "a.jpg", limit).shape == (*shape, 3)
            assert image_size(tmp_path / "a.jpg", limit) == shape
        with pytest.raises(ImageError, match=r"96 x 128 pixels; at most"):
            read_image(tmp_path / "a.jpg", 12288 // most - 1)
    Image.new("L", (16320, 12240)).save(tmp_path / "a.jpg")
    assert image_size(tmp_path / "a.jpg") == (6120, 8160)  # of 200 million pixels
    Image.new("1", (9504, 6336)).save(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == (6336, 9504)


def test_heic_needs_its_extra(tmp_path, colours, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with monkeypatch.context() as patched, pytest.raises(ImageError, match=r"indiret\[heic\]"):
        patched.setitem(sys.modules, "pillow_heif", None)
        read_image(tmp_path / "a.heic")
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(tmp_path / "a.heic")
    pillow_heif.from_pillow(Image.fromarray(colours)).save(tmp_path / "a.heic", quality=95)
    assert np.median(np.abs(read_image(tmp_path / "a.heic") - colours.astype(int))) <= 4


def test_avif_and_jfif(tmp_path, colours):
    for name, options in (("a.avif", {"format": "AVIF"}), ("a.jfif", {"format": "JPEG"})):
        Image.fromarray(colours).save(tmp_path / name, quality=95, **options)
        assert np.median(np.abs(read_image(tmp_path / name) - colours.astype(int))) <= 4
    assert [path.name for path in find_images(tmp_path)] == ["a.avif", "a.jfif"]


def test_a_name_that_is_not_utf_8_or_has_a_line_break(tmp_path, noise):
    path = tmp_path / os.fsdecode(b"caf\xe9\n.png")
    Image.fromarray(noise).save(path)
    assert find_images(tmp_path) == [path] and read_image(path).shape == noise.shape
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"caf\\udce9\\n\.png is not an image"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_colours_of_more_than_eight_bits(tmp_path, bits, name):
    """Pillow reads the upper 8 of 16 bits, and cannot write them."""
    cv2 = pytest.importorskip("cv2", reason="the extra baselines is not installed")
    values = np.random.default_rng(1).integers(0, 2**bits, (16, 20, 4), dtype=np.uint16)
    for bands, alpha in ((3, 0), (4, 2**bits - 1), (4, 65535), (4, 0)):
        values[..., 3] = alpha
        cv2.imwrite(str(tmp_path / name), values[..., [2, 1, 0, 3][:bands]])
        off = read_image(tmp_path / name) - values[..., :3] * (255 / (2**bits - 1))
        assert np.abs(off).max() <= (1 if bits != 16 else 2), (bands, alpha)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_sixteen_bits_with_alpha(tmp_path, bits):
    """Which neither Pillow nor OpenCV writes."""
    grey = np.random.default_rng(1).integers(0, 2**bits, (16, 20), dtype=np.uint16)
    rows = np.stack([grey, np.full_like(grey, 65535)], axis=-1).astype(">u2").reshape(16, -1)
    header = struct.pack(">IIBBBBB", 20, 16, 16, 4, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(b"".join(b"\0" + bytes(r) for r in rows))}
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in (chunks | {b"IEND": b""}).items():
        png += (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )
    (tmp_path / "a.png").write_bytes(png)
    off = read_image(tmp_path / "a.png") - grey[..., None] * (255 / (2**bits - 1))
    assert np.abs(off).max() <= (1 if bits != 16 else 2)


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


@pytest.mark.parametrize("side", [8_100, 20_000])
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


@pytest.mark.parametrize("name", ["a.tif", "a.pfm"])
def test_floats_are_from_0_to_1_or_as_deep_as_their_used_bits(tmp_path, name):
    ramp = np.linspace(0, 1, 20 * 32, dtype=np.float32).reshape(20, 32)
    half, odd = np.full_like(ramp, 0.5), np.where(ramp > 0.5, np.float32(1.02), -0.01)
    odd[0, :3] = np.nan, np.inf, -np.inf
    for values, wanted in (
        *((ramp, 255 * ramp), (half, half * 255), (odd, 255 * (odd > 1))),
        *((ramp * 200, ramp * 200), (ramp * 4095, ramp * 255), (ramp * 4095 - 1023.5, ramp * 255)),
    ):
        Image.fromarray(values.astype(np.float32)).save(tmp_path / name)
        picture = read_image(tmp_path / name)
        finite = np.isfinite(values)
        assert np.abs(picture[finite, 1] - np.rint(wanted)[finite]).max() <= 1
        assert not picture[~finite].any()
    assert image_size(tmp_path / name) == (20, 32)


def test_lab_is_converted(tmp_path, colours):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(colours // 2 + 64), *profiles, outputMode="LAB")
    lab.save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), colours // 2 + 64, atol=4)


@pytest.mark.parametrize("bands", [1, 3])
def test_colours_that_are_multiplied_by_alpha_already(tmp_path, colours, bands):
    """A TIFF's associated alpha: Pillow would divide by it, and zero leaves nothing."""
    picture = colours[..., 1:2] if bands == 1 else colours
    shown = picture if bands == 3 else picture.repeat(3, 2)
    for alpha in (0, 128, 255):
        multiplied = np.dstack([picture * (alpha / 255 or 1), np.full((24, 32), alpha)])
        file = Image.fromarray(multiplied.round().astype(np.uint8))
        file.save(tmp_path / "a.tif")
        change_tag(tmp_path / "a.tif", 338, 338, 1)
        on_white = shown * (alpha / 255) + 255 - alpha if alpha else shown
        np.testing.assert_allclose(read_image(tmp_path / "a.tif"), on_white, atol=1)


def test_a_large_jpeg_2000_is_read_at_half_its_size(tmp_path, noise):
    Image.fromarray(noise.repeat(2, 0)[:127]).save(tmp_path / "a.jp2")  # 48 x 127
    for limit, shape in ((10_160, (127, 48)), (10_159, (64, 24)), (2540, (64, 24))):
        assert read_image(tmp_path / "a.jp2", limit).shape == (*shape, 3)
        assert image_size(tmp_path / "a.jp2", limit) == shape
    with pytest.raises(ImageError, match="48 x 127 pixels; at most"):
        read_image(tmp_path / "a.jp2", 2539)


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
