"""`indiret.reranking`: against loops, and on a chain that only diffusion can follow."""

import numpy as np
import pytest

from indiret.reranking import Diffusion, expand_query


def units(count, values, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, values)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [None, 0.0, 3.0])
def test_expansion_by_a_loop(alpha):
    database, query = units(30, 6), units(1, 6, seed=1)[0]
    cosines = [float(row @ query) for row in database]
    total = query.astype(float)
    for at in sorted(range(30), key=lambda at: -cosines[at])[:4]:
        weight = 1.0 if alpha is None else max(cosines[at], 0.0) ** alpha
        total = total + weight * database[at]
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(expand_query(query, database, 4, alpha), expected, atol=1e-5)


def test_expansion_takes_all_of_a_small_database_and_refuses_none():
    assert expand_query(units(1, 4)[0], units(2, 4), n=5).shape == (4,)
    with pytest.raises(ValueError, match="n=0 is not at least 1"):
        expand_query(units(1, 4)[0], units(2, 4), n=0)


def test_diffusion_by_iteration():
    database, query = units(25, 4), units(1, 4, seed=1)[0]
    k, alpha = 5, 0.8
    weights = np.zeros((25, 25))
    cosines = database @ database.T
    order = [sorted(set(range(25)) - {i}, key=lambda j, i=i: -cosines[i, j]) for i in range(25)]
    for i in range(25):
        for j in range(25):
            if j in order[i][:k] and i in order[j][:k]:
                weights[i, j] = max(float(database[i] @ database[j]), 0) ** 3
    degree = weights.sum(1)
    start = np.zeros(25)
    for at in np.argsort(-(database @ query))[:k]:
        start[at] = max(float(database[at] @ query), 0) ** 3
    scores = start
    for _ in range(300):  # f = αSf + y
        scores = start + alpha * np.array(
            [
                sum(
                    weights[i, j] / np.sqrt(degree[i] * degree[j]) * scores[j]
                    for j in range(25)
                    if weights[i, j] > 0
                )
                for i in range(25)
            ]
        )
    np.testing.assert_allclose(Diffusion(database, k, alpha).score(query), scores, atol=1e-4)


def test_diffusion_follows_a_chain_around_a_corner():
    angles = np.radians([0, 20, 40, 60, 80, 100, 120, 250, -75])
    database = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    scores = Diffusion(database, k=2).score(database[0])
    assert database[0] @ database[6] < database[0] @ database[8]  # the cosine prefers the stranger
    assert scores[6] > scores[8]


def test_diffusion_refuses_what_does_not_converge():
    with pytest.raises(ValueError, match="0 ≤ alpha < 1"):
        Diffusion(units(3, 2), alpha=1.0)
