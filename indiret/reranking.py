"""Second looks at a ranked list: by its vectors and their neighbours, or by another method.

Vectors are rows of unit length, so that a product is a cosine.

Chapter: *Baselines*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.images import Picture
from indiret.ranking import Method

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]
SHORTLIST = 100  # pictures that a second method looks at
LEAST = 20  # pictures that a share of the database has, however few that is of it


def expand_query(
    query: Vectors, database: Vectors, n: int = 5, alpha: float | None = None
) -> Vectors:
    """Add a query's first answers to it: average query expansion, or α-weighted.

    AQE: the mean of the query and its n nearest (Chum et al., 2007). αQE: each answer weighted
    by its cosine to the power α, negative ones by 0 (Radenović et al., 2018).

    Parameters
    ----------
    query
        (D,).
    database
        (N, D).
    n
        How many answers; all if there are fewer.
    alpha
        None for AQE.

    Returns
    -------
    numpy.ndarray
        (D,), unit length.

    Raises
    ------
    ValueError
        If n is less than 1.

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


class Diffusion:
    """Ranking by diffusion on the database's graph of neighbours (Iscen et al., 2017).

    An edge joins two pictures that are among each other's k nearest, its weight A their cosine³;
    S = D^(−½) A D^(−½), D the row sums. A query puts its own cosines³ on its k nearest, y, and the
    ranking solves (I − αS) f = y. A millionth of the cosine orders the pictures that nothing
    reaches.

    The matrix is dense, 8 N² bytes: 200 MB for 5,000 pictures.

    Parameters
    ----------
    database
        (N, D).
    k
        Neighbours, of a picture and of a query.
    alpha
        Share that is passed on, below 1.

    Examples
    --------
    >>> database = np.float32([[1.0, 0.0], [0.8, 0.6], [0.28, 0.96], [-1.0, 0.0]])
    >>> Diffusion(database, k=2).score(database[0]).argsort()[::-1].tolist()
    [1, 0, 2, 3]
    """

    def __init__(self, database: Vectors, k: int = 20, alpha: float = 0.9):
        if k < 1 or not 0 <= alpha < 1:
            raise ValueError(f"k={k}, alpha={alpha} is not allowed; give k ≥ 1 and 0 ≤ alpha < 1.")
        self.database, self.k = database, k
        weights = np.maximum(database @ database.T, 0).astype(np.float64) ** 3
        np.fill_diagonal(weights, 0)
        nearest = np.zeros(weights.shape, dtype=bool)
        first = np.argsort(-weights, axis=1, kind="stable")[:, :k]
        np.put_along_axis(nearest, first, True, axis=1)
        weights[~(nearest & nearest.T)] = 0
        degree = np.sqrt(weights.sum(axis=1))
        degree[degree == 0] = 1
        graph = weights / degree[:, None] / degree
        self.inverse = np.linalg.inv(np.eye(len(database)) - alpha * graph)

    def score(self, query: Vectors) -> NDArray[np.float64]:
        """Scores of the database, (N,), for a query (D,)."""
        cosines = (self.database @ query).astype(np.float64)
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

    The database is encoded once, as if no query were there; the authors' program puts all queries
    among the pictures, where one query changes the list of another. The matrices are dense.

    Parameters
    ----------
    database
        (N, D).
    k1, k2
        Neighbours of the encoding, and of its mean.
    weight
        λ, the share of the plain distance.

    Examples
    --------
    >>> database = np.float32([[0.0, 1.0], [-0.28, 0.96], [1.0, 0.0], [0.96, 0.28]])
    >>> KReciprocal(database, k1=1, k2=1).score(np.float32([0.8, 0.6])).argsort()[::-1].tolist()
    [3, 2, 0, 1]
    """

    def __init__(self, database: Vectors, k1: int = 20, k2: int = 6, weight: float = 0.3):
        if not k1 >= k2 >= 1 or not 0 <= weight <= 1:
            raise ValueError(
                f"k1={k1}, k2={k2}, weight={weight} is not allowed; give k1 ≥ k2 ≥ 1 and "
                "0 ≤ weight ≤ 1."
            )
        self.database, self.k1, self.k2, self.weight = database, k1, k2, weight
        cosines = database @ database.T
        np.fill_diagonal(cosines, np.inf)  # each is its own nearest
        first = np.argsort(-cosines, axis=1, kind="stable")[:, : k1 + 1]
        self.last = cosines[np.arange(len(database)), first[:, -1]]  # what a newcomer must reach
        if len(database) <= k1:
            self.last[:] = -np.inf
        nearest = np.zeros(cosines.shape, bool)
        np.put_along_axis(nearest, first, True, axis=1)
        mutual = nearest & nearest.T
        nearest[:] = False
        np.put_along_axis(nearest, first[:, : round(k1 / 2) + 1], True, axis=1)
        self.half = (nearest & nearest.T).astype(np.float32)
        np.fill_diagonal(cosines, 1)
        self.alone = self._encode(mutual, cosines)
        self.codes = self.alone[first[:, :k2]].mean(1)

    def _encode(self, mutual: NDArray[np.bool_], cosines: Vectors) -> Vectors:
        """V (A, N) of sets R (A, N) with the cosines (A, N)."""
        inside = mutual.astype(np.float32)
        believed = mutual & (inside @ self.half.T > 2 / 3 * self.half.sum(1))
        expanded = mutual | (believed.astype(np.float32) @ self.half > 0)
        values = np.where(expanded, np.exp(2 * cosines - 2), 0)
        return (values / np.maximum(values.sum(1, keepdims=True), 1e-12)).astype(np.float32)

    def score(self, query: Vectors) -> NDArray[np.float64]:
        """Negative distances of the database, (N,), to a query (D,)."""
        cosines = self.database @ query
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


def best(scores: Scores, share: float) -> NDArray[np.intp]:
    """The places of the largest scores, a share of all and `LEAST` at least.

    Examples
    --------
    >>> best(np.arange(100.0), 0.25).size, best(np.array([1.0, 3.0, 2.0]), 0.1).tolist()
    (25, [1, 2, 0])
    """
    return np.argsort(-scores, kind="stable")[: max(round(share * scores.size), LEAST)]


def lift(scores: Scores, places: NDArray[np.intp], again: Sequence[float] | Scores) -> Scores:
    """New scores of some places, which come before all others; those keep their order.

    Examples
    --------
    >>> lift(np.array([5.0, 4.0, 3.0]), np.array([1, 2]), [0.5, 0.75]).tolist()
    [-0.5, 0.5, 0.75]
    """
    lifted = scores - scores.max() + min(again) - 1
    lifted[places] = again
    return lifted


class Shortlist:
    """A method whose first answers are put in order by another, slower one.

    What the first leaves out of its shortlist keeps its order, below the shortlist.

    Parameters
    ----------
    first, second
        Methods that take pictures.
    length
        Of the shortlist.

    Raises
    ------
    ValueError
        If a method takes no pictures, or the shortlist has no place.

    Examples
    --------
    >>> from indiret.baselines import build_method
    >>> method = Shortlist(build_method("colour-histogram"), build_method("thumbnail"), length=1)
    >>> black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    >>> database = [method.prepare(white), method.prepare(black)]
    >>> int(method.score(method.prepare_query(black), database).argmax())
    1
    """

    def __init__(self, first: Method, second: Method, length: int = SHORTLIST):
        if length < 1:
            raise ValueError(f"length={length} is not at least 1.")
        if hasattr(first, "look_up") or hasattr(second, "look_up"):
            raise ValueError("Exported features are no pictures; a shortlist needs two methods.")
        self.first, self.second, self.length = first, second, length
        self._database: Sequence[tuple[Any, Any]] = ()
        self._firsts: list[Any] = []

    def prepare(self, picture: Picture) -> tuple[Any, Any]:
        """What either method keeps of a picture."""
        return self.first.prepare(picture), self.second.prepare(picture)

    def prepare_query(self, picture: Picture) -> tuple[Any, Any]:
        """What either method keeps of a query."""
        methods = (self.first, self.second)
        one, two = (getattr(m, "prepare_query", m.prepare)(picture) for m in methods)
        return one, two

    def score(
        self, query: tuple[Any, Any], database: Sequence[tuple[Any, Any]]
    ) -> NDArray[np.float64]:
        """The second method's scores of the shortlist, and lower ones of the rest."""
        if database is not self._database:  # one list, for methods that keep what they make of it
            self._database, self._firsts = database, [one for one, _ in database]
        scores = self.first.score(query[0], self._firsts)
        listed = np.argsort(-scores, kind="stable")[: self.length]
        again = self.second.score(query[1], [database[place][1] for place in listed])
        return lift(scores, listed, again)
