"""The shortlist's side of a collection: immutable segments, few, since small ones are merged.

A segment covers a range of numbers that its name tells, level and place: level 0 as many as a
shard, each of `LEVELS` eight times as many (a log-structured merge tree). Only the last range
still grows; it is written anew with what is added. So what lies on disk depends on the photos
alone, and not on when they came or who was killed meanwhile.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.index.cluster import Map
from indiret.index.shards import MOST_DEAD, SHARD
from indiret.index.shortlist import Segment, Shortlist

FANOUT = 8  # segments that are merged into one of the next level
LEVELS = 3  # so that a segment has at most 65,536 photos, which two bytes tell apart

Block = tuple[int, int]  # level and place


def numbers_of(block: Block) -> range:
    """The numbers that a segment covers.

    Examples
    --------
    >>> numbers_of((0, 2)), numbers_of((1, 0))
    (range(2048, 3072), range(0, 8192))
    """
    level, place = block
    width = SHARD * FANOUT**level
    return range(place * width, (place + 1) * width)


class SegmentStore:
    """All segments of a collection, in one folder."""

    def __init__(self, folder: Path, shortlist: Shortlist):
        self.folder, self.shortlist = folder, shortlist
        self._opened: dict[Block, tuple[tuple[int, ...], Segment]] = {}

    def segments(self) -> dict[Block, Segment]:
        """The segments as they are now; what is not whole is left out."""
        opened = {}
        for path in sorted(self.folder.glob("[0-9]*-[0-9]*")):
            try:
                status = path.stat()
                state = status.st_ino, status.st_mtime_ns
                kept = self._opened.get(_block(path))
                if kept is None or kept[0] != state:
                    kept = state, self.shortlist.open(path)
                opened[_block(path)] = kept
            except (OSError, ValueError):  # gone since it was listed, or damaged
                continue
        self._opened = opened
        found = {block: segment for block, (_, segment) in opened.items()}
        # Where both are there, the larger one was made of the smaller.
        return {
            one: segment
            for one, segment in found.items()
            if not any(_within(one, other) for other in found)
        }

    def numbers(self) -> set[int]:
        """The numbers of all photos that can be found."""
        return {number for one in self.segments().values() for number in one.numbers.tolist()}

    def search(
        self, query: Any, top: int, apply: Map = map
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the photos most like a query, best first, ``top`` a segment.

        With another ``apply`` than `map`, others open the segments and search them.
        """
        segments = self.segments()
        photos = sum(len(segment.numbers) for segment in segments.values())
        shares = [len(segment.numbers) / photos for segment in segments.values()]
        if apply is map:
            pairs = zip(segments.values(), shares, strict=True)
            found = [segment.search(query, top, share) for segment, share in pairs]
        else:
            paths = [self._path(block).resolve() for block in segments]
            search = partial(search_segment, self.shortlist, query, top)
            found = list(apply(search, list(zip(paths, shares, strict=True))))
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        numbers, scores = map(np.concatenate, zip(*found, strict=True))
        order = np.lexsort((numbers, -scores))
        return numbers[order], scores[order]

    def add(self, described: Mapping[int, NDArray[Any]], known: Collection[int]) -> None:
        """Write new photos; others in the same segments stay if their numbers are ``known``."""
        for place in sorted({number // SHARD for number in described}):
            block = (0, place)
            new = sorted(described.keys() & set(numbers_of(block)))
            values = [described[number] for number in new]
            path, old = self._path(block), self.segments().get(block)
            numbers = set(old.numbers.tolist()) if old else set()
            leftover = {number for number in numbers if number not in known}  # of one killed here
            if old is None or numbers == leftover:
                self.shortlist.build(path, new, values)
                continue
            if leftover:
                self.shortlist.merge(path, [old], leftover)
                old = self.shortlist.open(path)
            part = self.folder / ".added.part"  # cleared by `IndexStore.tidy` if it is left
            self.shortlist.build(part, new, values)
            self.shortlist.merge(path, [old, self.shortlist.open(part)], ())
            part.unlink()

    def compact(self, known: Collection[int], next_number: int) -> None:
        """Merge segments of full ranges, and win back the space of removed photos."""
        segments = self.segments()
        for path in self.folder.glob("[0-9]*-[0-9]*"):
            if _block(path) not in segments:  # damaged, or merged by one who was killed then
                path.unlink()
        for level in range(LEVELS - 1):
            for place in sorted({place // FANOUT for one, place in segments if one == level}):
                parent = (level + 1, place)
                if numbers_of(parent).stop <= next_number:
                    children = [one for one in segments if one[0] == level and _within(one, parent)]
                    self._merge(parent, children, segments, known)
        for block, segment in [*segments.items()]:
            alive = sum(number in known for number in segment.numbers.tolist())
            if alive < (1 - MOST_DEAD) * len(segment.numbers):
                self._merge(block, [block], segments, known)

    def _merge(
        self,
        into: Block,
        blocks: list[Block],
        segments: dict[Block, Segment],
        known: Collection[int],
    ) -> None:
        """Write several segments as one, and delete them."""
        merged = [segments.pop(block) for block in blocks]
        numbers = {number for one in merged for number in one.numbers.tolist()}
        removed = {number for number in numbers if number not in known}
        if removed < numbers:
            self.shortlist.merge(self._path(into), merged, removed)
            segments[into] = self.shortlist.open(self._path(into))
        for block in blocks:
            if block not in segments:
                self._path(block).unlink()

    def _path(self, block: Block) -> Path:
        return self.folder / f"{block[0]}-{block[1]:06}"


def search_segment(
    shortlist: Shortlist, query: Any, top: int, part: tuple[Path, float]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers and scores of one segment's photos; ``part`` is its file, and its share of all."""
    path, share = part
    return shortlist.open(path).search(query, top, share)


def _block(path: Path) -> Block:
    level, place = map(int, path.name.split("-"))
    return level, place


def _within(block: Block, other: Block) -> bool:
    """Whether a segment's range lies in another's, of a higher level."""
    return block[0] < other[0] and numbers_of(block).start in numbers_of(other)
