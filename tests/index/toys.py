"""A retriever and a shortlist that cost nothing, and folders of small photos for them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from indiret.datasets.writing import write_atomically
from indiret.retrieval import Retriever


class Vector(Retriever):
    """A photo is its thumbnail of 3 × 3 pixels."""

    def encode(self, picture):
        small = Image.fromarray(picture).resize((3, 3), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64).ravel() / 255

    def score(self, query, database):
        return -np.array([np.abs(query - one).sum() for one in database])

    def probability(self, scores):
        return np.exp(scores)

    def fingerprint(self):
        return "vector 1"

    def pack(self, features):
        return features.tobytes()

    def unpack(self, packed):
        return np.frombuffer(packed)


class Nearest:
    """All vectors of a segment, as an archive of arrays."""

    def fingerprint(self):
        return "nearest 1"

    def describe(self, picture, features):
        return Vector().encode(picture)

    describe_query = describe

    def build(self, path, numbers, described):
        stream = io.BytesIO()
        np.savez(stream, numbers=np.array(numbers, np.int64), vectors=np.array(described))
        with write_atomically(path) as part:
            part.write_bytes(stream.getvalue())

    def merge(self, path, segments, removed):
        rows = [
            (number, vector)
            for one in segments
            for number, vector in zip(one.numbers.tolist(), one.vectors, strict=True)
            if number not in removed
        ]
        self.build(path, *zip(*sorted(rows, key=lambda row: row[0]), strict=True))

    def open(self, path):
        try:
            return NearestSegment(np.load(path))
        except Exception as error:
            raise ValueError(f"{path} is damaged") from error


class NearestSegment:
    def __init__(self, stored):
        self.numbers, self.vectors = stored["numbers"], stored["vectors"]

    def search(self, query, top, share=1.0):
        scores = -np.abs(self.vectors - query).sum(1)
        best = np.argsort(-scores, kind="stable")[:top]
        return self.numbers[best], scores[best]


def save_photo(path: Path, seed: int) -> Path:
    """A photo of noise in 3 × 3 fields."""
    colours = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.repeat(8, 0).repeat(8, 1)).save(path)
    return path


def save_photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Photos whose names are in the order of their seeds."""
    return [save_photo(folder / f"{n:05}.png", n) for n in range(first, first + count)]
