"""A shortlist by descriptors: one vector a photo, as bytes, compared with all others by its cosine.

A product of bytes is quick: a hundred thousand photos of 1,280 numbers take a tenth of a second.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.baselines.descriptors import build_descriptor
from indiret.images import Picture
from indiret.index.arrays import create_arrays, open_arrays, release
from indiret.index.shortlist import SHORTLISTS, Segment

VECTORS_AT_ONCE = 4096  # vectors that are made numbers again at a time


def quantise_vector(vector: NDArray[np.floating]) -> NDArray[np.int8]:
    """A vector as whole numbers from −127 to 127: its direction is kept, its length is not.

    Examples
    --------
    >>> quantise_vector(np.array([0.25, -0.5, 0.0])).tolist()
    [64, -127, 0]
    """
    return np.rint(vector * (127 / max(np.abs(vector).max(), 1e-12))).astype(np.int8)


class VectorSegment:
    """Photos whose vectors are all compared with a query's."""

    def __init__(self, path: Path):
        arrays = open_arrays(path)
        if set(arrays) != {"numbers", "vectors"} or len(arrays["vectors"]) != len(
            arrays["numbers"]
        ):
            raise ValueError(f"{path} holds no vectors of photos; delete it, and it is made again.")
        self.numbers: NDArray[np.int64] = np.asarray(arrays["numbers"])
        self.vectors: NDArray[np.int8] = arrays["vectors"]

    def search(
        self, query: NDArray[np.float32], top: int, share: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and cosines of the photos whose vectors are most like a query's."""
        cosines = np.empty(len(self.numbers))
        for at in range(0, len(cosines), VECTORS_AT_ONCE):
            block = self.vectors[at : at + VECTORS_AT_ONCE].astype(np.float32)
            release(self.vectors)
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
            cosines[at : at + VECTORS_AT_ONCE] = block @ query / np.maximum(lengths, 1)
        best = np.lexsort((self.numbers, -cosines))[:top]
        return self.numbers[best], cosines[best]


class VectorShortlist:
    """A shortlist by a descriptor's name, such as ``efficientnet-lite0:rmac``.

    Raises what `indiret.baselines.descriptors.build_descriptor` raises, and ValueError for one that
    compares more than two photos at a time.
    """

    open = VectorSegment

    def __init__(self, name: str):
        self.retriever = build_descriptor(name)
        if self.retriever.again or self.retriever.precomputed:
            raise ValueError(f"{name!r} compares more than two photos; name a plain descriptor.")

    def fingerprint(self) -> str:
        """That of the descriptor."""
        return self.retriever.fingerprint()

    def describe(self, picture: Picture, features: Any) -> NDArray[np.int8]:
        """The vector as bytes, 1.3 KB of EfficientNet-lite0."""
        return quantise_vector(self.retriever.encode_to_pack(picture).vector)

    def describe_query(self, picture: Picture, features: Any) -> NDArray[np.float32]:
        """The unit vector of a query."""
        return self.retriever.encode_to_pack(picture).vector

    def build(
        self, path: Path, numbers: Sequence[int], described: Sequence[NDArray[np.int8]]
    ) -> None:
        """Write vectors in the order of their numbers."""
        order = np.argsort(numbers)
        _write(path, np.asarray(numbers)[order], np.stack(described)[order])

    def merge(self, path: Path, segments: Sequence[Segment], removed: Collection[int]) -> None:
        """The same of vectors that are there already."""
        numbers = np.concatenate([one.numbers for one in segments])
        vectors = np.concatenate([one.vectors for one in segments])  # type: ignore[attr-defined]
        kept = np.flatnonzero(~np.isin(numbers, [*removed]))
        kept = kept[np.argsort(numbers[kept])]
        _write(path, numbers[kept], vectors[kept])


def _write(path: Path, numbers: NDArray[np.int64], vectors: NDArray[np.int8]) -> None:
    layout = {"numbers": ("I64", numbers.shape), "vectors": ("I8", vectors.shape)}
    with create_arrays(path, layout) as arrays:
        arrays["numbers"][:], arrays["vectors"][:] = numbers, vectors


SHORTLISTS["BACKBONE:POOLING"] = VectorShortlist
