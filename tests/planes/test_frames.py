"""Photos with little structure, and screenshots of one app that share nothing but its frame."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from indiret.datasets import load_dataset
from indiret.images import Picture
from indiret.pairs import relit
from indiret.planes import PlaneRetriever
from indiret.planes.features import detail
from indiret.planes.gradients import shrink
from indiret.retrieval import LITTLE_STRUCTURE, Retriever, build_retriever

METHODS = ("planes", "plane-net", "plane-net packed", "plane-net-turned")
TOWN = load_dataset("toytown", split="validation")
PHOTOS = [TOWN.read(name) for name in list(TOWN.images)[:40:4]]


def smooth(kind: str, seed: int, noise: float, quality: int = 90) -> Picture:
    """What is plain, lit unevenly, or far out of focus, as a camera gives it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:1:480j, :1:640j]
    middle, turn = random.uniform(0.3, 0.7, 2), random.uniform(0, np.pi)
    if kind == "fog":
        small = Image.fromarray(random.integers(0, 40, (5, 5), dtype=np.uint8))
        grey = 190.0 + np.asarray(small.resize((640, 480), Image.Resampling.BICUBIC))
    else:
        grey = {
            "paper": 245 - 90 * ((x - middle[0]) ** 2 + (y - middle[1]) ** 2),
            "wall": 100 + random.uniform(40, 110) * (np.cos(turn) * x + np.sin(turn) * y),
            "sky": 120 + random.uniform(60, 120) * y**2,
            "colour": np.full(x.shape, random.uniform(20, 235)),
            "spot": 20 + 220 * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / 0.05),
            "vignette": 230 - 360 * ((x - 0.5) ** 2 + (y - 0.5) ** 2),
            "lamps": 30 + 200 * lamps(random, x, y),
        }[kind]
    pixels = grey[..., None] + random.normal(0, 1, (480, 640, 3)) * noise
    stored = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))


def lamps(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Discs of light with soft edges, from 0 to 1."""
    places = random.uniform(0, 1, (12, 2))
    far = np.stack([np.hypot(x - across, y - down) for across, down in places])
    return (1 / (1 + np.exp((far - 0.12) / 0.02))).max(0)


def screenshot(app: int, photo: Picture, quality: int = 90) -> Picture:
    """An app's bars and buttons around a photo."""
    random = np.random.default_rng(app)
    page = Image.new("RGB", (640, 480), tuple(random.integers(0, 80, 3).tolist()))
    page.paste(Image.fromarray(photo).resize((460, 360)), (90, 50))
    draw = ImageDraw.Draw(page)
    for row, column in ((24, 0), (445, 0), *((0, at) for at in (40, 600))):
        for at in range(40, 640 if row else 440, 55):
            x, y = (at, row) if row else (column, at)
            wide, high = random.integers(6, 18, 2).tolist()
            shape = (draw.ellipse, draw.rectangle)[int(random.integers(2))]
            shape([x - wide, y - high, x + wide, y + high], fill=tuple(random.integers(90, 256, 3)))
            draw.rectangle([x - 3, y - 2, x + 4, y + 5], fill="white")
    stored = BytesIO()
    page.save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))


def build(name: str) -> tuple[Retriever, Callable[[Picture], Any]]:
    """A retriever, and what it keeps of a picture, in memory or on disk."""
    retriever = build_retriever(name.removesuffix(" packed"))
    if " packed" in name:
        return retriever, lambda picture: retriever.unpack(
            retriever.pack(retriever.encode_to_pack(picture))
        )
    return retriever, retriever.encode


@pytest.mark.parametrize("name", METHODS)
def test_photos_with_little_structure_come_last(name):
    retriever, encode = build(name)
    kinds = ("paper", "wall", "sky", "fog", "colour", "spot", "vignette", "lamps")
    plain = [
        smooth(kind, at, noise=2 * at % 5, quality=95 - 10 * at) for at, kind in enumerate(kinds)
    ]
    database = [encode(one) for one in plain]
    assert max(map(retriever.structure, database)) < LITTLE_STRUCTURE
    for query in TOWN.queries[::16]:
        right = min(query.good - {query.image})
        target = encode(TOWN.read(right))
        assert retriever.structure(target) > 2 * LITTLE_STRUCTURE
        scores = retriever.score(
            retriever.encode_query(TOWN.read_query(query)), [target, *database]
        )
        assert scores.argmax() == 0
        likely = retriever.probability(scores)
        assert likely is None or likely[1:].max() < 0.05


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["spot", "vignette", "lamps"])
def test_smooth_photos_of_large_contrast_are_no_match(name, kind):
    retriever, encode = build(name)
    database = [encode(smooth(other, 1, noise=2)) for other in ("spot", "vignette", "lamps")]
    scores = retriever.score(retriever.encode_query(smooth(kind, 2, noise=3)), database)
    assert retriever.probability(scores).max() < 0.1  # at first 0.998


@pytest.mark.parametrize("longest", [48, 64, 96])
def test_small_photos_are_not_smooth(longest):
    """Made 112 pixels long they are: so they are looked at as they are."""
    for photo in PHOTOS:
        small = Image.fromarray(photo)
        small.thumbnail((longest, longest))
        assert detail(shrink(np.asarray(small), longest)) == 1
        assert PlaneRetriever().encode_query(np.asarray(small)).structure > 2 * LITTLE_STRUCTURE


def test_photos_of_a_few_pixels_are_encoded():
    for shape in ((1, 1), (3, 5), (1, 400), (16, 9)):
        few = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert 0 <= PlaneRetriever().encode_query(few).structure <= 1


def test_walls_lit_alike_from_the_middle_are_no_match():
    y, x = np.mgrid[-0.5:0.5:480j, -0.5:0.5:640j]
    noise = np.random.default_rng(0).normal(0, 1, (2, 480, 640, 3))
    walls = np.array([190, 230])[:, None, None, None] - 150 * (x**2 + y**2)[..., None] + noise
    retriever = build_retriever("plane-net")
    first, second = (retriever.encode(one.astype(np.uint8)) for one in walls)
    assert retriever.probability(retriever.score(first, [first, second])).max() < 0.05


@pytest.mark.parametrize("name", METHODS)
def test_a_frame_is_not_what_a_photo_shows(name):
    retriever, encode = build(name)
    random = np.random.default_rng(0)
    for app in range(2):
        pages = [screenshot(app, PHOTOS[5 * app + number], 95 - 10 * number) for number in range(3)]
        again = relit(random, pages[0])
        features = [encode(one) for one in (*pages[1:], again)]
        scores = retriever.score(retriever.encode_query(pages[0]), features)
        assert scores[2] > 3 * scores[:2].max()
        likely = retriever.probability(scores)
        assert likely is None or (likely[:2].max() < 0.1 and likely[2] > 0.9)
