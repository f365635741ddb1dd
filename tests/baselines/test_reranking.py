"""`indiret.baselines.reranking`: against loops."""

import numpy as np
import pytest
import torch

from indiret.baselines.reranking import TwoStageRetriever, expand_query
from indiret.baselines.simple import ColourHistogram, Thumbnail
from indiret.retrieval import build_retriever, rank, sort_hits
from tests.baselines import toys
from tests.baselines.toys import scene, units
from tests.tiny_town import make_tiny_town


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


def test_an_expansion_needs_an_answer():
    with pytest.raises(ValueError, match="n=0 is not at least 1"):
        expand_query(units(1, 2)[0], units(3, 2), n=0)


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


def test_a_shortlist_needs_places_and_methods_made_of_others_need_pictures(tmp_path):
    with pytest.raises(ValueError, match="length=0"):
        TwoStageRetriever(ColourHistogram(), Thumbnail(), 0)
    for part in ("images", "queries"):
        (tmp_path / part).mkdir()
    exported = f"features={tmp_path}"
    for name in (f"thumbnail,{exported}", f"fuse:thumbnail,{exported}", f"fuse:{exported},planes"):
        with pytest.raises(ValueError, match="no pictures"):
            build_retriever(name)
    with pytest.raises(ValueError, match=r"features=FOLDER:mean\+kreciprocal20\."):
        build_retriever(f"kreciprocal20:{exported}")
    assert build_retriever(f"{exported}:mean+kreciprocal20").precomputed


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
