"""A second round of the shortlist: the best answers ask, too.

A query that shows a small part of a photo has few words, and in another light it has others. An
answer shows more of the same thing, in one more light. What it finds is scored against the query
like all else, so an answer that is wrong lists no photo high that the query would not.

Chapter: *From pairs to collections*.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from indiret.images import ImageError, read_image
from indiret.index.cluster import Map
from indiret.index.segments import SegmentStore
from indiret.retrieval import Scores

MOST_ASKING = 2  # the best, of which one may be a copy of the query


def best_answers(numbers: Sequence[int], scores: Scores) -> list[int]:
    """The best of some scored photos, `MOST_ASKING` at most.

    Examples
    --------
    >>> best_answers([7, 8, 9], np.array([6.0, -6.0, 9.0]))
    [9, 7]
    """
    return [numbers[place] for place in np.argsort(-scores, kind="stable")[:MOST_ASKING].tolist()]


def ask_again(segments: SegmentStore, answers: Iterable[Path], top: int, apply: Map) -> list[int]:
    """The numbers of the ``top`` photos of each answer's list, by the best of their ranks.

    ``answers`` are files; one that is gone since the update does not ask.
    """
    ranks: dict[int, int] = {}
    for path in answers:
        with suppress(ImageError, OSError):
            query = segments.shortlist.describe_query(read_image(path), None)
            found = segments.search(query, top, apply)[0][:top].tolist()
            for rank, number in enumerate(found):
                ranks[number] = min(rank, ranks.get(number, rank))
    return sorted(ranks, key=lambda number: (ranks[number], number))
