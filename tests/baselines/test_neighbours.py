"""`indiret.baselines.neighbours`: against loops and sets, and for any method's scores."""

import numpy as np
import pytest

from indiret.baselines.neighbours import NEIGHBOURS, Diffusion, KReciprocal, NeighbourRetriever
from indiret.retrieval import UNJUDGED, Retriever, build_retriever
from tests.baselines.toys import units


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda cosines: Diffusion(cosines, alpha=1.0), "0 ≤ alpha < 1"),
        (lambda cosines: Diffusion(cosines, k=0), "k ≥ 1"),
        (lambda cosines: KReciprocal(cosines, k1=2, k2=3), "k1 ≥ k2 ≥ 1"),
    ],
)
def test_what_has_no_meaning_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(np.eye(3))


def test_diffusion_by_iteration():
    database, query = units(25, 4), units(1, 4, seed=1)[0]
    k, alpha = 5, 0.8
    cosines = database @ database.T
    order = [sorted(set(range(25)) - {i}, key=lambda j, i=i: -cosines[i, j]) for i in range(25)]
    weights = np.zeros((25, 25))
    for i, j in np.ndindex(25, 25):
        if j in order[i][:k] and i in order[j][:k]:
            weights[i, j] = max(float(cosines[i, j]), 0) ** 3
    start = np.zeros(25)
    for at in np.argsort(-(database @ query))[:k]:
        start[at] = max(float(database[at] @ query), 0) ** 3
    degree = np.maximum(weights.sum(1), 1e-12)
    scores = start
    for _ in range(300):  # f = αSf + y
        scores = start + alpha * (weights / np.sqrt(np.outer(degree, degree))) @ scores
    np.testing.assert_allclose(
        Diffusion(database @ database.T, k, alpha).score(database @ query), scores, atol=1e-4
    )


def reciprocal(near, half, p):
    """R*(p) by sets: ``near`` and ``half`` are N(·, k1) and N(·, k1/2)."""
    members = {g for g in near[p] if p in near[g]}
    grown = set(members)
    for c in members - {"q"}:
        others = {g for g in half[c] if c in half[g]}
        if len(others & members) > 2 / 3 * len(others):
            grown |= others
    return grown - {"q"}


@pytest.mark.parametrize(("k1", "k2", "weight"), [(6, 3, 0.3), (4, 1, 0.0), (40, 4, 0.5)])
def test_k_reciprocal_encoding_by_sets(k1, k2, weight):
    centres = units(5, 6)
    database = centres.repeat(6, axis=0) + 0.25 * units(30, 6, seed=1)
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    query = database[8] + 0.2 * units(1, 6, seed=2)[0]
    query /= np.linalg.norm(query)
    rows = {**dict(enumerate(database)), "q": query}

    def neighbours(p, k, among):
        return [p, *sorted(among - {p}, key=lambda g: -float(rows[p] @ rows[g]))[:k]]

    alone = set(range(30))
    near = {p: neighbours(p, k1, alone) for p in alone}
    half = {p: neighbours(p, round(k1 / 2), alone) for p in alone}

    def code(p):
        values = np.zeros(30)
        if p == "q":  # a newcomer to the lists of the database
            lists = {g: neighbours(g, k1, alone | {"q"}) for g in alone}
            members = reciprocal({**lists, "q": neighbours("q", k1, alone)}, half, "q")
        else:
            members = reciprocal(near, half, p)
        for g in members:
            values[g] = np.exp(-np.square(rows[p] - rows[g]).sum())
        return values / values.sum()

    codes = {p: code(p) for p in rows}
    means = {p: np.mean([codes[g] for g in neighbours(p, k2 - 1, alone)], 0) for p in rows}
    expected = []
    for g in range(30):
        pairs = list(zip(means["q"], means[g], strict=True))
        jaccard = 1 - sum(map(min, pairs)) / sum(map(max, pairs))
        distance = np.square(query - database[g]).sum()
        expected.append(-((1 - weight) * jaccard + weight * distance))
    scores = KReciprocal(database @ database.T, k1, k2, weight).score(database @ query)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert weight or scores.argsort()[::-1][:6].min() >= 6  # the query's own group of six


class Rows(Retriever):
    """Pictures as rows and columns of a matrix of scores."""

    def __init__(self, scores):
        self.scores, self.asked = scores, 0

    def encode(self, picture):
        return int(picture[0, 0, 0])

    def score(self, query, database):
        self.asked += 1
        return self.scores[query, database]


def numbered(count):
    return [np.full((1, 1, 3), number, np.uint8) for number in range(count)]


def ask_last(scores, *numbers):
    """The last row asks for the others: the method, its database and its scores."""
    method = NeighbourRetriever(Rows(scores), numbers)
    *photos, query = numbered(len(scores))
    database = [method.encode(photo) for photo in photos]
    return method, database, method.score(method.encode_query(query), database)


@pytest.mark.parametrize(("photos", "numbers"), [(30, [6]), (30, [4, 9]), (12, [20]), (1, [10])])
def test_any_list_in_order_again_by_the_graph_of_mean_scores(photos, numbers):
    scores = np.random.default_rng(4).normal(3, 5, (photos + 1, photos + 1))
    method, database, found = ask_last(scores, *numbers)
    among = scores[:photos, :photos]

    def likeness(values):
        return 1 / (1 + np.exp(2 - (values - among.mean()) / (among.std() + 1e-9)))

    row = np.maximum(scores[photos, :photos], among.min())  # as if it were the lowest judged
    cosines, of_query = likeness((among + among.T) / 2), likeness(row)
    each = [KReciprocal(cosines, n, -(-3 * n // 10)).score(of_query) for n in numbers]
    np.testing.assert_allclose(found, sum(each) / len(each), atol=1e-6)
    assert method.both[0].asked == photos + 1
    method.score((0, 0), database)
    assert method.both[0].asked == photos + 2  # the graph of a database is made once
    assert len(method.score((0, 0), database[1:])) == photos - 1
    assert method.both[0].asked == (2 * photos + 2 if photos > 1 else 3)


def test_neighbours_in_common_find_the_side_that_the_query_does_not_match():
    """Three photos match each other, the query the first two."""
    scores = np.zeros((13, 13))
    scores[:3, :3] = 9
    scores[12, :2], scores[12, 3] = 9, 1  # of another thing is a little more like the query
    _, _, found = ask_last(scores, 2)
    assert {*np.argsort(-found)[:3]} == {0, 1, 2}
    assert np.argsort(-scores[12, :12], kind="stable")[2] == 3


def test_photos_that_were_not_judged_keep_their_order():
    scores = np.random.default_rng(5).normal(size=(21, 21))
    scores[:, 10:] = UNJUDGED - np.arange(11.0)
    _, _, found = ask_last(scores, 3)
    assert np.isfinite(found).all()
    assert np.diff(found[10:]).max() < 0 and found[10:].max() <= found[:10].max()


def test_names_of_methods_with_neighbours_in_common():
    method = build_retriever("kreciprocal20:planes:gradients")
    assert isinstance(method, NeighbourRetriever) and method.numbers == [20]
    assert build_retriever("kreciprocal:planes").numbers == NEIGHBOURS
    assert method.evidence_kinds == build_retriever("planes:gradients").evidence_kinds
    assert method.probability(np.zeros(2)) is None
    for name in ("kreciprocal0:planes", "kreciprocalx:planes", "kreciprocal:nothing"):
        with pytest.raises(ValueError, match="is not known"):
            build_retriever(name)
    with pytest.raises(ValueError, match="cannot be kept on disk"):
        method.pack(None)
