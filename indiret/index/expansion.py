"""A second round of the shortlist: answers that are believed ask, too.

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
from indiret.retrieval import Retriever, Scores

MOST_ASKING = 2  # the best, of which one may be a copy of the query
BELIEVED = 0.5  # probability above which an answer asks


def believed_answers(retriever: Retriever, numbers: Sequence[int], scores: Scores) -> list[int]:
    """The best of some scored photos, `MOST_ASKING` at most, that are more probable than not.

    Examples
    --------
    >>> from indiret.retrieval import build_retriever
    >>> believed_answers(build_retriever("plane-net"), [7, 8, 9], np.array([60.0, -60.0, 90.0]))
    [9, 7]
    """
    probabilities = retriever.probability(scores)
    if probabilities is None:
        return []
    best = np.argsort(-scores, kind="stable")[:MOST_ASKING].tolist()
    return [numbers[place] for place in best if probabilities[place] > BELIEVED]


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
