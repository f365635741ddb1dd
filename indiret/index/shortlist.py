"""What chooses the few photos of a collection that are worth verification, in immutable segments.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indiret import Registry
from indiret.images import Picture


class Segment(Protocol):
    """Photos that can be searched, in one place on disk."""

    numbers: NDArray[np.int64]

    def search(self, query: Any, top: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the photos most like a query, best first."""


class Shortlist(Protocol):
    """How photos are described and found."""

    def fingerprint(self) -> str:
        """A hash of all that the descriptions depend on."""

    def describe(self, picture: Picture, features: Any) -> NDArray[Any]:
        """What is kept of a photo."""

    def describe_query(self, picture: Picture, features: Any) -> Any:
        """The same of a query."""

    def build(self, path: Path, numbers: Sequence[int], described: Sequence[NDArray[Any]]) -> None:
        """Write a segment, whole or not at all."""

    def merge(self, path: Path, segments: Sequence[Segment], removed: Collection[int]) -> None:
        """Write one segment of several, without the removed photos."""

    def open(self, path: Path) -> Segment:
        """A segment; ValueError or OSError if it is not whole."""


SHORTLISTS = Registry[Any]("a shortlist")
