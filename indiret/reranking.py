"""Second looks at a ranked list that need only its vectors: query expansion and diffusion.

Vectors are rows of unit length, so that a product is a cosine.

Chapter: *Baselines*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


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
