"""What chooses the few photos of a collection that are worth verification, in immutable segments.

`build_shortlist` makes one of a name: ``pixels`` votes for planes from gradients alone,
``BACKBONE:POOLING`` compares descriptors.

Chapter: *From pairs to collections*.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indiret import Registry
from indiret.images import Picture


class Segment(Protocol):
    """Photos that can be searched, in one file."""

    numbers: NDArray[np.int64]

    def search(
        self, query: Any, top: int, share: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the photos most like a query, best first.

        The segment is a ``share`` of the collection, and does no more than that of the work.
        """


class Shortlist(Protocol):
    """How photos are described and found."""

    def fingerprint(self) -> str:
        """A hash of all that the descriptions depend on."""

    def describe(self, picture: Picture, features: Any) -> NDArray[Any]:
        """What is kept of a photo, of which the collection's retriever has these features."""

    def describe_query(self, picture: Picture, features: Any) -> Any:
        """What is asked for a query; of a turned one there are no features."""

    def build(self, path: Path, numbers: Sequence[int], described: Sequence[NDArray[Any]]) -> None:
        """Write a segment of photos, whole or not at all."""

    def merge(self, path: Path, segments: Sequence[Segment], removed: Collection[int]) -> None:
        """Write one segment of several, without the removed photos."""

    def open(self, path: Path) -> Segment:
        """A segment, memory-mapped; ValueError or OSError if it is not whole."""


SHORTLISTS = Registry[Callable[[str], Shortlist]]("a shortlist")  # by name, or by form of names


def build_shortlist(name: str) -> Shortlist:
    """A shortlist by its name: one of `SHORTLISTS`, or a descriptor's, ``BACKBONE:POOLING``.

    Raises ValueError if the name is not known, and what the descriptor's retriever raises.

    Examples
    --------
    >>> build_shortlist("pixel")
    Traceback (most recent call last):
    ValueError: shortlist 'pixel' is not known; choose from pixels, BACKBONE:POOLING.
    """
    form = "BACKBONE:POOLING" if ":" in name else name
    if form not in SHORTLISTS:
        known = ", ".join(SHORTLISTS)
        raise ValueError(f"shortlist {name!r} is not known; choose from {known}.")
    return SHORTLISTS[form](name)
