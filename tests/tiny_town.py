"""A data set small enough to train on in a test: noise posters photographed twice or more."""

from pathlib import Path

import numpy as np
from PIL import Image

from indiret.datasets import RetrievalDataset, load_dataset


def make_tiny_town(
    folder: Path,
    prefix: str,
    landmarks: int = 6,
    views: int = 3,
    distractors: int = 4,
    seed: int = 0,
) -> RetrievalDataset:
    """Write the official layout into ``folder`` and load it; every first view asks."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "groundtruth").mkdir()
    for number in range(landmarks):
        poster = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        names = [f"{prefix}_{number}_{view:06d}" for view in range(views)]
        for name in names:
            picture = random.integers(90, 160, (60, 80, 3), dtype=np.uint8)
            y, x = random.integers(0, 12), random.integers(0, 32)
            picture[y : y + 48, x : x + 48] = np.kron(poster, np.ones((8, 8, 1), dtype=np.uint8))
            Image.fromarray(picture).save(folder / "images" / f"{name}.jpg", quality=90)
            if name == names[0]:
                box = (x, y, x + 48, y + 48)
        query = f"{prefix}_{number}_1"
        line = " ".join([names[0], *map(str, box)])
        texts = {"query": line, "good": "\n".join(names), "ok": "", "junk": ""}
        for kind, text in texts.items():
            (folder / "groundtruth" / f"{query}_{kind}.txt").write_text(text + "\n")
    for number in range(distractors):
        picture = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{prefix}town_{number:06d}.jpg")
    return load_dataset("oxford5k", folder)
