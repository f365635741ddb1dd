"""An inverted file on disk: for each cell, the postings of the patches that fell into it.

A posting is a photo, the place and size of a patch, and a code of it. Those of a cell lie side by
side, in the order of photos, so that a query reads only the cells it asks for.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indiret.index.arrays import create_arrays, open_arrays

#: What is kept of a patch before it is filed: 20 bytes.
POSTING = np.dtype([("cell", "<u2"), ("place", "<u2"), ("code", "<u8", 2)])
ARRAYS = {"numbers": "I64", "starts": "U32", "photos": "U32", "places": "U16", "codes": "U64"}
CELLS_AT_ONCE = 256  # that are merged in memory
PIECE = 1 << 18  # postings that are read at a time, which stay in a processor's cache


class Postings(NamedTuple):
    """N postings; a photo is its row among the segment's numbers."""

    cells: NDArray[Any]  # (N,)
    photos: NDArray[Any]  # (N,)
    places: NDArray[Any]  # (N,) uint16
    codes: NDArray[Any]  # (N, 2) uint64

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
            self.photos, self.places, self.codes = (
                arrays[name] for name in ("photos", "places", "codes")
            )
            ends = {int(self.starts[-1]), sizes["photos"], sizes["places"], sizes["codes"] // 2}
            whole = len(ends) == 1 and bool((np.diff(self.starts) >= 0).all())
        if not whole:
            raise ValueError(f"{path} holds no postings of patches; delete it, it is made again.")

    def positions(
        self, cells: NDArray[np.integer], most: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Where the postings of cells (M,) lie, and which of the cells each is of, in pieces.

        Cells are read in their order until there are ``most`` postings.
        """
        starts = self.starts[cells]
        lengths = self.starts[cells + 1] - starts
        ends = np.cumsum(lengths)
        last = int(np.searchsorted(ends, most, side="right"))
        at = 0
        while at < last:
            to = max(at + 1, int(np.searchsorted(ends, ends[at] + PIECE)))
            to = min(to, last)
            part = lengths[at:to]
            first = np.repeat(starts[at:to] - (np.cumsum(part) - part), part)
            yield first + np.arange(part.sum()), np.repeat(np.arange(at, to), part)
            at = to


def write_segment(
    path: Path, numbers: Sequence[int], described: Sequence[NDArray[np.void]], cells: int
) -> None:
    """File the postings of photos under so many cells; see `POSTING`."""
    order = np.argsort(numbers)
    photos = np.repeat(np.arange(len(order)), [len(described[at]) for at in order])
    all_of_them = np.concatenate([described[at] for at in order])
    found = Postings(all_of_them["cell"], photos, all_of_them["place"], all_of_them["code"])
    _write(path, np.asarray(numbers, np.int64)[order], cells, len(photos), iter([found]))


def merge_segments(path: Path, segments: Sequence[InvertedFile], removed: Collection[int]) -> None:
    """One segment of several without the removed photos, some cells at a time."""
    numbers = np.concatenate([one.numbers for one in segments])
    kept = np.sort(numbers[~np.isin(numbers, [*removed])])
    rows = [  # of each segment's photos in the new one, or -1
        np.where(np.isin(one.numbers, kept), np.searchsorted(kept, one.numbers), -1)
        for one in segments
    ]
    cells = len(segments[0].starts) - 1

    def merged() -> Iterator[Postings]:
        for at in range(0, cells, CELLS_AT_ONCE):
            some = np.arange(at, min(at + CELLS_AT_ONCE, cells))
            parts = []
            for one, row in zip(segments, rows, strict=True):
                span = slice(one.starts[some[0]], one.starts[some[-1] + 1])
                of_cells = np.repeat(some, np.diff(one.starts[some[0] : some[-1] + 2]))
                part = Postings(of_cells, row[one.photos[span]], one.places[span], one.codes[span])
                parts.append(part.take(part.photos >= 0))
            yield Postings(*map(np.concatenate, zip(*parts, strict=True)))

    total = sum(int((row >= 0)[one.photos].sum()) for one, row in zip(segments, rows, strict=True))
    _write(path, kept, cells, total, merged())


def _write(
    path: Path, numbers: NDArray[np.int64], cells: int, total: int, parts: Iterator[Postings]
) -> None:
    """Write postings that come in parts of ascending cells, sorted by cell and photo."""
    sizes = dict.fromkeys(ARRAYS, total) | {"numbers": len(numbers), "starts": cells + 1}
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}
    shapes["codes"] = total, 2
    layout = {name: (kind, shapes[name]) for name, kind in ARRAYS.items()}
    counts, at = np.zeros(cells, np.int64), 0
    with create_arrays(path, layout) as arrays:
        arrays["numbers"][:] = numbers
        for part in parts:
            part = part.take(np.lexsort((part.photos, part.cells)))
            span = slice(at, at := at + len(part.photos))
            arrays["photos"][span], arrays["places"][span] = part.photos, part.places
            arrays["codes"][span] = part.codes
            counts += np.bincount(part.cells, minlength=cells)
        arrays["starts"][0] = 0
        arrays["starts"][1:] = np.cumsum(counts)
