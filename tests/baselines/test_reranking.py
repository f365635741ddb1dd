"""`indiret.baselines.reranking`: against loops, and on a chain that only diffusion can follow."""

import numpy as np
import pytest
import torch

from indiret.baselines.neighbours import Diffusion, KReciprocal, NeighbourRetriever
from indiret.baselines.reranking import AGAIN, TwoStageRetriever, expand_query
from indiret.baselines.simple import ColourHistogram, Thumbnail
from indiret.retrieval import UNJUDGED, Retriever, build_retriever, rank, sort_hits
from tests.baselines import toys
from tests.baselines.toys import scene
from tests.tiny_town import make_tiny_town


def units(count, values, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, values)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "alpha"), [(4, None), (40, 0.0), (4, 3.0)])
def test_expansion_by_a_loop(n, alpha):
    database, query = units(30, 6), units(1, 6, seed=1)[0]
    cosines = [float(row @ query) for row in database]
    total = query.astype(float)
    for at in sorted(range(30), key=lambda at: -cosines[at])[:n]:
        weight = 1.0 if alpha is None else max(cosines[at], 0.0) ** alpha
        total = total + weight * database[at]
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(expand_query(query, database, n, alpha), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("rerank", "words"),
    [
        (lambda vectors: expand_query(vectors[0], vectors, n=0), "n=0 is not at least 1"),
        (lambda vectors: Diffusion(vectors @ vectors.T, alpha=1.0), "0 ≤ alpha < 1"),
        (lambda vectors: KReciprocal(vectors @ vectors.T, k1=2, k2=3), "k1 ≥ k2 ≥ 1"),
    ],
)
def test_what_has_no_meaning_is_refused(rerank, words):
    with pytest.raises(ValueError, match=words):
        rerank(units(3, 2))


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


def test_a_shortlist_is_put_in_order_and_the_rest_left_alone():
    pictures = toys.pictures(9, 16, 16)
    method = TwoStageRetriever(ColourHistogram(), Thumbnail(), length=4)
    database = [method.encode(picture) for picture in pictures]
    query = method.encode_query(pictures[2])
    first = ColourHistogram().score(query[0], [one for one, _ in database])
    second = Thumbnail().score(query[1], [two for _, two in database])
    order = sorted(range(9), key=lambda at: -first[at])
    expected = sorted(order[:4], key=lambda at: -second[at]) + order[4:]
    assert np.argsort(-method.score(query, database)).tolist() == expected
    whole = TwoStageRetriever(ColourHistogram(), Thumbnail(), length=9)
    assert np.argsort(-whole.score(query, database)).tolist() == np.argsort(-second).tolist()


def test_a_shortlist_by_name_ranks_a_data_set(tmp_path):
    town = make_tiny_town(tmp_path / "town", "a", landmarks=2)
    method = build_retriever("colour-histogram,thumbnail")
    assert isinstance(method, TwoStageRetriever) and isinstance(method.both[1], Thumbnail)
    lists = [rank(one, town.queries, town) for one in (method, Thumbnail())]
    names = [{q: [h.name for h in hits] for q, hits in ranked.items()} for ranked in lists]
    assert names[0] == names[1]  # the data set is shorter than the shortlist


def test_a_shortlist_explains_as_its_second():
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    both, sift = build_retriever("sift-ransac,sift-ransac"), build_retriever("sift-ransac")
    photo, other = scene(3, 240, 320), scene(4, 240, 320)
    query, database = both.encode_query(photo), [both.encode(other), both.encode(photo)]
    assert both.score(query, database).argmax() == 1
    assert both.evidence_kinds == sift.evidence_kinds and both.transfers_points
    pairs = both.explain(query, database[1]).pairs
    assert pairs.equal(sift.explain(query[1], database[1][1]).pairs) and pairs.any()
    middle = np.array([[0.5, 0.5]])
    np.testing.assert_allclose(both.transfer_points(query, database[1], middle), middle, atol=0.01)


def test_a_pair_that_the_second_never_judged_has_no_probability():
    """And one that it judged has the score and probability that `explain` gives."""
    method = TwoStageRetriever(Thumbnail(), build_retriever("base"), length=3)
    pictures = [scene(seed) for seed in range(6)]
    database, query = [*map(method.encode, pictures)], method.encode_query(scene(0)[20:90, 30:140])
    hits = sort_hits(method, [str(place) for place in range(6)], method.score(query, database))
    assert [hit.judged for hit in hits] == [True] * 3 + [False] * 3
    first = Thumbnail().score(query[0], [one for one, _ in database])
    assert [int(hit.name) for hit in hits[3:]] == np.argsort(-first, kind="stable")[3:].tolist()
    for hit in hits:
        alone = method.explain(query, database[int(hit.name)]).score
        score, probability = np.array([hit.score]), hit.probability
        assert (
            probability is None if not hit.judged else hit.score == pytest.approx(alone, abs=1e-6)
        )
        assert probability is None or probability == method.both[1].probability(score)[0]
    assert method.to("cpu") is method and method.structure(query) is None
    with pytest.raises(ValueError, match="Thumbnail runs on the processor alone"):
        method.to("cuda")


def test_a_shortlist_needs_places_and_pictures(tmp_path):
    with pytest.raises(ValueError, match="length=0"):
        TwoStageRetriever(ColourHistogram(), Thumbnail(), 0)
    for part in ("images", "queries"):
        (tmp_path / part).mkdir()
    exported = build_retriever(f"features={tmp_path}")
    with pytest.raises(ValueError, match="no pictures"):
        TwoStageRetriever(exported, Thumbnail())


def test_ranks_are_fused_and_the_rest_is_of_whoever_has_it():
    fused = build_retriever("fuse:thumbnail,planes")
    first, second = fused.both
    pictures = [scene(seed) for seed in range(4)]
    query, database = fused.encode_query(pictures[0]), [fused.encode(one) for one in pictures]
    ranks = []
    for at, one in enumerate((first, second)):
        scores = one.score(query[at], [features[at] for features in database])
        ranks.append(1 + np.argsort(np.argsort(-scores)))
    np.testing.assert_allclose(fused.score(query, database), sum(1 / (10 + r) for r in ranks))
    assert fused.evidence_kinds == ("verified", "planes") and fused.transfers_points
    found = fused.explain(query, database[0])
    torch.testing.assert_close(found.pairs, second.explain(query[1], database[0][1]).pairs)
    assert fused.transfer_points(query, database[0], np.array([[0.5, 0.5]])).shape == (1, 2)
    assert fused.probability(np.ones(1)) is None
    with pytest.raises(ValueError, match="cannot be kept"):
        fused.pack(database[0])


def test_two_that_are_kept_are_kept_together():
    fused = build_retriever("fuse:planes,plane-net")
    query = fused.encode_query(scene(1))
    packed = fused.pack(query)
    for one, part, again in zip(fused.both, query, fused.unpack(packed), strict=True):
        assert one.pack(again)[20:] == one.pack(one.unpack(one.pack(part)))[20:]
    assert len(fused.fingerprint()) == len(fused.both[0].fingerprint())


def test_a_fusion_needs_two_methods():
    for name in ("fuse:", "fuse:planes", "fuse:,planes"):
        with pytest.raises(ValueError, match="does not name two methods; write fuse:FIRST,SECOND"):
            build_retriever(name)
    with pytest.raises(ValueError, match="method 'plane' is not known"):
        build_retriever("fuse:planes,plane")


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


def ask_last(scores, n):
    """The last row asks for the others: the method, its database and its scores."""
    method = NeighbourRetriever(Rows(scores), n)
    *photos, query = numbered(len(scores))
    database = [method.encode(photo) for photo in photos]
    return method, database, method.score(method.encode_query(query), database)


@pytest.mark.parametrize(("photos", "n"), [(30, 6), (12, 20), (1, 10)])
def test_any_list_in_order_again_by_the_graph_of_mean_scores(photos, n):
    scores = np.random.default_rng(4).normal(3, 5, (photos + 1, photos + 1))
    method, database, found = ask_last(scores, n)
    among = scores[:photos, :photos]

    def likeness(values):
        return 1 / (1 + np.exp(2 - (values - among.mean()) / (among.std() + 1e-9)))

    row = np.maximum(scores[photos, :photos], among.min())  # as if it were the lowest judged
    graph = KReciprocal(likeness((among + among.T) / 2), n, -(-3 * n // 10))
    np.testing.assert_allclose(found, graph.score(likeness(row)), atol=1e-6)
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
    assert isinstance(method, NeighbourRetriever) and method.n == 20
    assert build_retriever("kreciprocal:planes").n == AGAIN["kreciprocal"]
    assert method.evidence_kinds == build_retriever("planes:gradients").evidence_kinds
    assert method.probability(np.zeros(2)) is None
    for name in ("kreciprocal0:planes", "kreciprocalx:planes", "kreciprocal:nothing"):
        with pytest.raises(ValueError, match="is not known"):
            build_retriever(name)
    with pytest.raises(ValueError, match="cannot be kept on disk"):
        method.pack(None)
