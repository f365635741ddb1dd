"""Re-ranking by the neighbours that pictures have in common in a graph of the whole database.

The graph is made of the cosines of any two pictures: those of their descriptors, or what is made of
the scores of a retriever of pairs.

Chapter: *Baselines*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from indiret import retrieval
from indiret.baselines.reranking import (
    Pair,
    RetrieverPair,
    reciprocal_ranks,
    rerank_option,
)
from indiret.images import Picture
from indiret.retrieval import UNJUDGED, Retriever, Scores, build_retriever

Likeness = NDArray[np.floating]  # cosines, or what stands for them
HALF_WAY = 2.0  # z-score among all pairs that counts as a cosine of one half
NEIGHBOURS = 8, 16  # numbers of them; the mean serves few answers a query and many, record 23


def _mutual(nearest: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(N, N): which two of N pictures are on each other's lists (N, k) of nearest ones."""
    listed = np.zeros((len(nearest), len(nearest)), bool)
    np.put_along_axis(listed, nearest, True, axis=1)
    return listed & listed.T


class Diffusion:
    """Ranking by diffusion on the database's graph of neighbours (Iscen et al., 2017).

    An edge joins two pictures that are among each other's k nearest, its weight A their cosine³;
    S = D^(−½) A D^(−½), D the row sums. A query puts its own cosines³ on its k nearest, y, and the
    ranking solves (I − αS) f = y; a millionth of the cosine orders what nothing reaches. The matrix
    is dense: 200 MB for 5,000 pictures. ValueError unless k ≥ 1 and 0 ≤ α < 1.

    Examples
    --------
    >>> database = np.float32([[1.0, 0.0], [0.8, 0.6], [0.28, 0.96], [-1.0, 0.0]])
    >>> cosines = database @ database.T
    >>> Diffusion(cosines, k=2).score(cosines[0]).argsort()[::-1].tolist()
    [1, 0, 2, 3]
    """

    def __init__(self, cosines: Likeness, k: int = 20, alpha: float = 0.9):
        if k < 1 or not 0 <= alpha < 1:
            raise ValueError(f"k={k}, alpha={alpha} is not allowed; give k ≥ 1 and 0 ≤ alpha < 1.")
        self.k = k
        weights = np.maximum(cosines, 0).astype(np.float64) ** 3
        np.fill_diagonal(weights, 0)
        weights[~_mutual(np.argsort(-weights, axis=1, kind="stable")[:, :k])] = 0
        degree = np.sqrt(weights.sum(axis=1))
        degree[degree == 0] = 1
        graph = weights / degree[:, None] / degree
        self.inverse = np.linalg.inv(np.eye(len(cosines)) - alpha * graph)

    def score(self, cosines: Likeness) -> Scores:
        """Scores of the database, (N,), for a query with these cosines, (N,)."""
        cosines = cosines.astype(np.float64)
        start = np.zeros_like(cosines)
        nearest = np.argsort(-cosines, kind="stable")[: self.k]
        start[nearest] = np.maximum(cosines[nearest], 0) ** 3
        return self.inverse @ start + 1e-6 * cosines


class KReciprocal:
    """Ranking by k-reciprocal encoding (Zhong et al., 2017).

    N(p, k) are p and the k pictures nearest to it. R(p, k) are those of them that have p in their
    own N(·, k). R*(p) adds R(c, k₁/2) of each c in R(p, k₁), if more than two thirds of R(c, k₁/2)
    lie in R(p, k₁). A picture's code is V(p, g) = exp(−d(p, g)) for g in R*(p), 0 elsewhere, with d
    the squared distance 2 − 2 cos; V sums to one, and is averaged over p and its k₂ − 1 nearest.
    The ranking is by (1 − λ) (1 − Σ min(V_q, V_g) / Σ max(V_q, V_g)) + λ d(q, g).

    The database is encoded as if no query were there; in the authors' program one query changes the
    list of another. ``weight`` is λ; ValueError unless k₁ ≥ k₂ ≥ 1 and 0 ≤ λ ≤ 1.

    Examples
    --------
    >>> database = np.float32([[0.0, 1.0], [-0.28, 0.96], [1.0, 0.0], [0.96, 0.28]])
    >>> query = np.float32([0.8, 0.6])
    >>> KReciprocal(database @ database.T, 1, 1).score(database @ query).argsort()[::-1].tolist()
    [3, 2, 0, 1]
    """

    def __init__(self, cosines: Likeness, k1: int = 20, k2: int = 6, weight: float = 0.3):
        if not k1 >= k2 >= 1 or not 0 <= weight <= 1:
            given = f"k1={k1}, k2={k2}, weight={weight} is not allowed"
            raise ValueError(f"{given}; give k1 ≥ k2 ≥ 1 and 0 ≤ weight ≤ 1.")
        self.k1, self.k2, self.weight = k1, k2, weight
        cosines = cosines.copy()
        np.fill_diagonal(cosines, np.inf)  # each is its own nearest
        first = np.argsort(-cosines, axis=1, kind="stable")[:, : k1 + 1]
        self.last = cosines[np.arange(len(cosines)), first[:, -1]]  # what a newcomer must reach
        if len(cosines) <= k1:
            self.last[:] = -np.inf
        self.half = _mutual(first[:, : round(k1 / 2) + 1]).astype(np.float32)
        np.fill_diagonal(cosines, 1)
        self.alone = self._encode(_mutual(first), cosines)
        self.codes = self.alone[first[:, :k2]].mean(1)

    def _encode(self, mutual: NDArray[np.bool_], cosines: Likeness) -> Likeness:
        """V (A, N) of sets R (A, N) with the cosines (A, N)."""
        inside = mutual.astype(np.float32)
        believed = mutual & (inside @ self.half.T > 2 / 3 * self.half.sum(1))
        expanded = mutual | (believed.astype(np.float32) @ self.half > 0)
        values = np.where(expanded, np.exp(2 * cosines - 2), 0)
        return (values / np.maximum(values.sum(1, keepdims=True), 1e-12)).astype(np.float32)

    def score(self, cosines: Likeness) -> Scores:
        """Negative distances of the database, (N,), to a query with these cosines, (N,)."""
        nearest = np.argsort(-cosines, kind="stable")
        mutual = np.zeros((1, len(cosines)), bool)
        first = nearest[: self.k1]
        mutual[0, first] = cosines[first] >= self.last[first]
        code = self._encode(mutual, cosines[None])
        code = np.concatenate([code, self.alone[nearest[: self.k2 - 1]]]).mean(0)
        least = np.minimum(code, self.codes).sum(1)
        most = np.maximum(code, self.codes).sum(1)
        jaccard = 1 - least / np.maximum(most, 1e-12)
        mixed = (1 - self.weight) * jaccard + self.weight * (2 - 2 * cosines)
        return -mixed.astype(np.float64)


def k_reciprocal(cosines: Likeness, n: int) -> KReciprocal:
    """With n neighbours, and means over three tenths as many: 6 of 20, as the authors have it."""
    return KReciprocal(cosines, n, k2=-(-3 * n // 10))


GRAPHS: dict[str, Callable[[Likeness, int], Diffusion | KReciprocal]] = {
    "diffusion": Diffusion,
    "kreciprocal": k_reciprocal,
}


class NeighbourRetriever(RetrieverPair):
    """Any retriever, its list put in order again by `KReciprocal` of what it says of all pairs.

    Every picture of a database asks for all others, once. A pair has its mean score in both
    directions, and for a cosine the sigmoid of that score's z-score among all pairs, less
    `HALF_WAY`; what was not judged counts as the lowest score. Distances with each of ``numbers``
    of neighbours are averaged. So the score of a picture depends on those that it is ranked with,
    and is no probability. Evidence and points are the retriever's.

    Examples
    --------
    >>> retriever = build_retriever("kreciprocal:thumbnail")
    >>> photos = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3), dtype=np.uint8)
    >>> database = [retriever.encode(photo) for photo in photos]
    >>> int(retriever.score(retriever.encode_query(photos[1]), database).argmax())
    1
    """

    def __init__(self, retriever: Retriever, numbers: Sequence[int] = NEIGHBOURS):
        super().__init__(retriever, retriever, explaining=0, moving=0)
        self.numbers = numbers
        self._kept: tuple[Sequence[Pair], Any] = ((), None)  # a database and what is made of it

    def encode(self, picture: Picture) -> Pair:
        """What the retriever keeps of a target, and of the same picture as a query."""
        return self.both[0].encode(picture), self.both[0].encode_query(picture)

    def score(self, query: Pair, database: Sequence[Pair]) -> Scores:
        """Negative distances, (len(database),)."""
        if not database:
            return np.empty(0)
        if [*map(id, self._kept[0])] != [*map(id, database)]:  # alive, so no others have these ids
            self._kept = [*database], self._compare_all(database)
        likeness, graphs = self._kept[1]
        scores = self._ask(query, database)
        found = np.mean([graph.score(likeness(scores)) for graph in graphs], axis=0)
        return np.asarray(found + 1e-6 * reciprocal_ranks(scores))  # for what nothing reaches

    def _ask(self, query: Pair, database: Sequence[Pair]) -> Scores:
        return self.both[0].score(query[1], [target for target, _ in database])

    def _compare_all(
        self, database: Sequence[Pair]
    ) -> tuple[Callable[[Scores], Likeness], list[KReciprocal]]:
        asking = tqdm(database, desc="comparing all pairs", unit="photo", disable=None)
        scores = np.array([self._ask(one, database) for one in asking])
        lowest = scores[scores > UNJUDGED].min()
        scores = np.maximum(scores, lowest)
        mean, deviation = scores.mean(), scores.std() + 1e-9

        def likeness(scores: Scores) -> Likeness:
            z_scores = (np.maximum(scores, lowest) - mean) / deviation
            return np.asarray(1 / (1 + np.exp(HALF_WAY - z_scores)))

        return likeness, [k_reciprocal(likeness((scores + scores.T) / 2), n) for n in self.numbers]


def _build(name: str) -> NeighbourRetriever:
    option, _, method = name.partition(":")
    _, n = rerank_option(option) or ("", 0)
    if not n:
        raise ValueError(f"{option!r} is not known; write kreciprocal, or kreciprocal20 for 20.")
    retriever = build_retriever(method)
    if retriever.precomputed:
        raise ValueError(f"For exported features write it behind: features=FOLDER:mean+{option}.")
    return NeighbourRetriever(retriever, NEIGHBOURS if option == "kreciprocal" else [n])


retrieval.register_family(
    "kreciprocal[N]:METHOD",
    "any method, its list in order again by neighbours in common; compares all pairs once",
    lambda name: name.startswith("kreciprocal") and ":" in name,
    _build,
)
