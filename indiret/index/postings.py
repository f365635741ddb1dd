"""An inverted file on disk: for each word, the postings of the patches that have it.

A posting is a photo, and the place and size of a patch. Those of a word lie side by side, in the
order of photos, so that a query reads only the words it asks for. A word's first 16 bits are its
*cell*, and a table tells where each cell begins; its last 8 bits lie with the postings.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indiret.index.arrays import create_arrays, open_arrays, release

#: What is kept of a patch before it is filed: 6 bytes, and 5 afterwards.
POSTING = np.dtype([("word", "<u4"), ("place", "<u2")])
ARRAYS = {"numbers": "I64", "starts": "U32", "photos": "U16", "places": "U16", "tails": "U8"}
CELLS, TAIL = 1 << 16, 8  # cells, and bits of a word that tell those of a cell apart
SHORT_RUN = 4  # postings that most words have at most, in a segment of a few thousand photos
CELLS_AT_ONCE = 256  # that are merged in memory
PIECE = 1 << 17  # postings that are read at a time, which stay in a processor's cache


class Postings(NamedTuple):
    """N postings; a photo is its row among the segment's numbers."""

    words: NDArray[Any]  # (N,) of 24 bits
    photos: NDArray[Any]  # (N,)
    places: NDArray[Any]  # (N,) uint16

    def take(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> "Postings":
        """Some of them."""
        return Postings(*(one[chosen] for one in self))


class InvertedFile:
    """A segment of postings, memory-mapped; ValueError if it is damaged."""

    def __init__(self, path: Path):
        arrays = open_arrays(path)
        sizes = {name: one.size for name, one in arrays.items()}
        whole = sizes.keys() == ARRAYS.keys()
        if whole:
            self.numbers: NDArray[np.int64] = np.asarray(arrays["numbers"])
            self.starts: NDArray[np.int64] = arrays["starts"].astype(np.int64)
            self.photos, self.places, self.tails = (
                np.asarray(arrays[name]) for name in ("photos", "places", "tails")
            )
            ends = {int(self.starts[-1]), sizes["photos"], sizes["places"], sizes["tails"]}
            whole = len(ends) == 1 and bool((np.diff(self.starts) >= 0).all())
        if not whole:
            raise ValueError(f"{path} holds no postings of patches; delete it, it is made again.")

    def find(self, words: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the postings of words (M,) begin, and how many there are."""
        cells, tails = words >> TAIL, (words & ((1 << TAIL) - 1)).astype(np.int16)
        stop = self.starts[cells + 1]
        first = self._bisect(self.starts[cells], stop, tails)
        lengths = np.zeros_like(first)
        left = np.arange(len(first))  # words that may have more postings than were counted
        for _ in range(SHORT_RUN):
            at = first[left] + lengths[left]
            left, at = (one[at < stop[left]] for one in (left, at))
            left = left[self.tails[at] == tails[left]]
            lengths[left] += 1
        lengths[left] = self._bisect(first[left], stop[left], tails[left] + 1) - first[left]
        release(self.tails)
        return first, lengths

    def _bisect(
        self, low: NDArray[np.int64], high: NDArray[np.int64], tails: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """The first positions from ``low`` to ``high`` whose tails are not lower, or ``high``."""
        found, step = low, 1 << int((high - low).max(initial=0)).bit_length()
        while step := step // 2:
            at = np.minimum(found + step, high)
            found = np.where(self.tails[at - 1] < tails, at, found)
        return found

    def read(
        self, first: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]]:
        """Photos and places of all postings of runs (M,), and which run each is of.

        They come in pieces in the order of the file, so that little of it is in memory at a time.
        """
        runs = np.flatnonzero(lengths)
        runs = runs[np.argsort(first[runs])]
        ends = np.cumsum(lengths[runs])
        at = 0
        while at < len(runs):
            to = max(at + 1, int(np.searchsorted(ends, ends[at] + PIECE)))
            part = runs[at:to]
            counts = lengths[part]
            begin = np.repeat(first[part] - (np.cumsum(counts) - counts), counts)
            positions = begin + np.arange(counts.sum())
            photos, places = (one[positions].astype(np.int64) for one in (self.photos, self.places))
            release(self.photos, self.places)
            yield photos, places, np.repeat(part, counts)
            at = to


def write_segment(
    path: Path, numbers: Sequence[int], described: Sequence[NDArray[np.void]]
) -> None:
    """File the postings of photos; see `POSTING`."""
    order = np.argsort(numbers)
    photos = np.repeat(np.arange(len(order)), [len(described[at]) for at in order])
    all_of_them = np.concatenate([described[at] for at in order])
    found = Postings(all_of_them["word"], photos, all_of_them["place"])
    _write(path, np.asarray(numbers, np.int64)[order], len(photos), iter([found]))


def merge_segments(path: Path, segments: Sequence[InvertedFile], removed: Collection[int]) -> None:
    """One segment of several without the removed photos, some cells at a time."""
    numbers = np.concatenate([one.numbers for one in segments])
    kept = np.sort(numbers[~np.isin(numbers, [*removed])])
    rows = [  # of each segment's photos in the new one, or -1
        np.where(np.isin(one.numbers, kept), np.searchsorted(kept, one.numbers), -1)
        for one in segments
    ]

    def merged() -> Iterator[Postings]:
        for at in range(0, CELLS, CELLS_AT_ONCE):
            some = np.arange(at, at + CELLS_AT_ONCE)
            parts = []
            for one, row in zip(segments, rows, strict=True):
                span = slice(one.starts[some[0]], one.starts[some[-1] + 1])
                of_cells = np.repeat(some, np.diff(one.starts[some[0] : some[-1] + 2]))
                words = (of_cells << TAIL) + one.tails[span]
                part = Postings(words, row[one.photos[span]], one.places[span])
                parts.append(part.take(part.photos >= 0))
            yield Postings(*map(np.concatenate, zip(*parts, strict=True)))

    total = sum(int((row >= 0)[one.photos].sum()) for one, row in zip(segments, rows, strict=True))
    _write(path, kept, total, merged())


def _write(path: Path, numbers: NDArray[np.int64], total: int, parts: Iterator[Postings]) -> None:
    """Write postings that come in parts of ascending words, sorted by word and photo."""
    sizes = dict.fromkeys(ARRAYS, total) | {"numbers": len(numbers), "starts": CELLS + 1}
    layout = {name: (kind, (sizes[name],)) for name, kind in ARRAYS.items()}
    counts, at = np.zeros(CELLS, np.int64), 0
    with create_arrays(path, layout) as arrays:
        arrays["numbers"][:] = numbers
        for part in parts:
            keys = (part.words.astype(np.int64) << 32) + part.photos
            part = part.take(np.argsort(keys, kind="stable"))  # quick: runs in order are merged
            span = slice(at, at := at + len(part.photos))
            arrays["photos"][span], arrays["places"][span] = part.photos, part.places
            arrays["tails"][span] = part.words & ((1 << TAIL) - 1)
            counts += np.bincount(part.words >> TAIL, minlength=CELLS)
        arrays["starts"][0] = 0
        arrays["starts"][1:] = np.cumsum(counts)
