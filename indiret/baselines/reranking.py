"""Re-ranking: a list put in order again by its vectors and their neighbours, or by a retriever.

Vectors are rows of unit length, so that a product is a cosine.

Chapter: *Baselines*.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indiret import retrieval
from indiret.baselines.maps import EXPORTED
from indiret.checkpoints import hash_tensors
from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.retrieval import Points, Retriever, Scores, build_retriever, splice_scores

Vectors = NDArray[np.float32]
Pair = tuple[Any, Any]  # what the first and the second retriever keep of a picture
SHORTLIST = 100  # pictures that a second retriever scores
FUSE = "fuse:"  # starts the name of two methods whose ranks are fused
RANK_OFFSET = 10  # k of reciprocal ranks; results are flat from 3 to 60
# Neighbours: best on Toytown validation, with five answers a query (book/decisions/0010).
AGAIN = {"aqe": 2, "alphaqe": 3, "diffusion": 3, "kreciprocal": 10}


def expand_query(
    query: Vectors, database: Vectors, n: int = 5, alpha: float | None = None
) -> Vectors:
    """A query (D,) with its first answers of a database (N, D) added to it, (D,) of unit length.

    AQE: the mean of the query and its n nearest (Chum et al., 2007). αQE, with ``alpha``: each
    weighted by max(cosine, 0)^α (Radenović et al., 2018). ValueError if n is less than 1.

    Examples
    --------
    >>> database = np.float32([[0.8, 0.6], [0.0, 1.0]])
    >>> expand_query(np.float32([1.0, 0.0]), database, n=1).round(3)
    array([0.949, 0.316], dtype=float32)
    """
    if n < 1:
        raise ValueError(f"n={n} is not at least 1.")
    cosines = database @ query
    nearest = np.argsort(-cosines, kind="stable")[:n]
    weights = np.ones(len(nearest), np.float32)
    if alpha is not None:
        weights = np.maximum(cosines[nearest], 0) ** np.float32(alpha)
    expanded = query + weights @ database[nearest]
    return (expanded / max(float(np.linalg.norm(expanded)), 1e-6)).astype(np.float32)


def row_products(matrix: Vectors, vector: Vectors) -> Scores:
    """Of each row (N, D) with a vector (D,), in double: the same whatever rows stand beside it.

    Examples
    --------
    >>> row_products(np.float32([[0.8, 0.6], [0.0, 1.0]]), np.float32([1.0, 0.0])).round(3)
    array([0.8, 0. ])
    """
    return (matrix.astype(np.float64) * vector).sum(axis=1)


def rerank_option(option: str) -> tuple[str, int] | None:
    """The key of `AGAIN` in an option and its number of neighbours, or None.

    Examples
    --------
    >>> rerank_option("aqe5"), rerank_option("aqe"), rerank_option("whiten")
    (('aqe', 5), ('aqe', 2), None)
    """
    name = option.rstrip("0123456789")
    number = option.removeprefix(name)
    if name not in AGAIN or number.startswith("0"):
        return None
    return name, int(number) if number else AGAIN[name]


class RetrieverPair(Retriever):
    """Two retrievers of the same pictures; evidence and points are those of one of them.

    ``explaining`` and ``moving`` say of which, 0 or 1. ValueError if one is not shown pictures.
    """

    def __init__(self, first: Retriever, second: Retriever, explaining: int, moving: int):
        if first.precomputed or second.precomputed:
            raise ValueError("Exported features are no pictures; name methods that read them.")
        self.both = first, second
        self.explaining, self.moving = explaining, moving
        self.evidence_kinds = self.both[explaining].evidence_kinds
        self.transfers_points = self.both[moving].transfers_points

    def encode(self, picture: Picture) -> Pair:
        return self.both[0].encode(picture), self.both[1].encode(picture)

    def encode_query(self, picture: Picture) -> Pair:
        return self.both[0].encode_query(picture), self.both[1].encode_query(picture)

    def structure(self, features: Pair) -> float | None:
        return self.both[0].structure(features[0])

    def to(self, device: str) -> Self:
        self.both = self.both[0].to(device), self.both[1].to(device)
        return self

    def explain(self, query: Pair, target: Pair, kind: str | None = None) -> Evidence:
        at = self.explaining
        return self.both[at].explain(query[at], target[at], kind)

    def transfer_points(self, query: Pair, target: Pair, points: Points) -> Points:
        at = self.moving
        return self.both[at].transfer_points(query[at], target[at], points)


class TwoStageRetriever(RetrieverPair):
    """A retriever whose first answers are put in order by another, slower one.

    What is not on the shortlist keeps its order below it. Evidence and points are the second's.
    ValueError if a retriever is not shown pictures, or the shortlist has no place.

    Examples
    --------
    >>> quick, slow = build_retriever("colour-histogram"), build_retriever("thumbnail")
    >>> retriever = TwoStageRetriever(quick, slow, length=1)
    >>> black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    >>> database = [retriever.encode(white), retriever.encode(black)]
    >>> int(retriever.score(retriever.encode_query(black), database).argmax())
    1
    """

    def __init__(self, first: Retriever, second: Retriever, length: int = SHORTLIST):
        if length < 1:
            raise ValueError(f"length={length} is not at least 1.")
        super().__init__(first, second, explaining=1, moving=1)
        self.length = length

    def score(self, query: Pair, database: Sequence[Pair]) -> Scores:
        scores = self.both[0].score(query[0], [one for one, _ in database])
        listed = np.argsort(-scores, kind="stable")[: self.length]
        again = self.both[1].score(query[1], [database[place][1] for place in listed])
        return splice_scores(scores, listed, again)

    def probability(self, scores: Scores) -> Scores | None:
        return self.both[1].probability(scores)

    def structure(self, features: Pair) -> float | None:
        return self.both[1].structure(features[1])


def _build_shortlist(name: str) -> TwoStageRetriever:
    first, second = map(build_retriever, name.rsplit(",", 1))
    return TwoStageRetriever(first, second)


retrieval.register_family(
    "FIRST,SECOND",
    f"the {SHORTLIST} best of one method in the order of another",
    lambda name: "," in name and not (name.startswith(EXPORTED) or Path(name).is_file()),
    _build_shortlist,
)


class FusedRetriever(RetrieverPair):
    """Two retrievers whose ranks are fused: 1 / (k + rank) of both, summed, ranks from 1.

    So the score of a photo depends, through its ranks, on the photos it is ranked with; equal
    scores share their best rank. Evidence and points are of the first that has them. Ranks are no
    probabilities: `probability` is None. ValueError if a retriever is not shown pictures.

    Examples
    --------
    >>> retriever = build_retriever("fuse:colour-histogram,thumbnail")
    >>> photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    >>> database = [retriever.encode(photo) for photo in photos]
    >>> retriever.score(retriever.encode_query(photos[1]), database).round(3)
    array([0.167, 0.182])
    """

    def __init__(self, first: Retriever, second: Retriever):
        explaining, moving = int(not first.evidence_kinds), int(not first.transfers_points)
        super().__init__(first, second, explaining, moving)

    def encode_to_pack(self, picture: Picture) -> Pair:
        return self.both[0].encode_to_pack(picture), self.both[1].encode_to_pack(picture)

    def score(self, query: Pair, database: Sequence[Pair]) -> Scores:
        fused = np.zeros(len(database))
        for at, one in enumerate(self.both):
            scores = one.score(query[at], [features[at] for features in database])
            fused += reciprocal_ranks(scores)
        return fused

    def fingerprint(self) -> str:
        """Hash of both hashes."""
        return hash_tensors([one.fingerprint() for one in self.both], {})

    def pack(self, features: Pair) -> bytes:
        """Both, after the length of the first in eight bytes."""
        first, second = (one.pack(part) for one, part in zip(self.both, features, strict=True))
        return len(first).to_bytes(8, "little") + first + second

    def unpack(self, packed: bytes | memoryview) -> Pair:
        """Both again."""
        end = 8 + int.from_bytes(packed[:8], "little")
        return self.both[0].unpack(packed[8:end]), self.both[1].unpack(packed[end:])


def reciprocal_ranks(scores: Scores) -> Scores:
    """1 / (`RANK_OFFSET` + rank) of each score, the highest with rank 1, equal ones with one rank.

    Examples
    --------
    >>> (1 / reciprocal_ranks(np.array([0.5, 2.0, 0.5]))).round().tolist()
    [12.0, 11.0, 12.0]
    """
    ranks = 1 + np.searchsorted(np.sort(-scores), -scores)
    return np.asarray(1 / (RANK_OFFSET + ranks))


def _build_fusion(name: str) -> FusedRetriever:
    first, _, second = name.removeprefix(FUSE).partition(",")
    if not (first and second):
        raise ValueError(
            f"{name!r} does not name two methods; write {FUSE}FIRST,SECOND, such as "
            f"{FUSE}plane-net,efficientnet-lite0:rmac."
        )
    return FusedRetriever(build_retriever(first), build_retriever(second))


retrieval.register_family(
    f"{FUSE}FIRST,SECOND",
    "the ranks of two methods, fused",
    lambda name: name.startswith(FUSE),
    _build_fusion,
)
