"""Pictures encoded once for all tests: a part of the first of them, and all of them."""

import numpy as np
import pytest
from PIL import Image

from indiret.planes import PlaneConfig, PlaneFeatures, PlaneRetriever

SMALL = PlaneConfig(template=48, pyramid=(32, 48, 72), close=24)
RETRIEVER = PlaneRetriever(SMALL)


def scene(seed: int, height: int = 96, width: int = 120) -> np.ndarray:
    """Smooth blobs of all sizes, which look alike after small moves and resizing."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (3, 6, 12, 24, 40):
        blobs = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        picture += Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)
    return (picture / 5).astype(np.uint8)


@pytest.fixture(scope="package")
def scenes() -> list[PlaneFeatures]:
    return [RETRIEVER.encode(scene(seed)) for seed in range(45)]


@pytest.fixture(scope="package")
def views(scenes) -> tuple[PlaneFeatures, ...]:
    """A part, rows 10 to 80 and columns 20 to 110 of 96 × 120 pixels; the whole; another."""
    return RETRIEVER.encode(np.ascontiguousarray(scene(0)[10:80, 20:110])), *scenes[:2]
