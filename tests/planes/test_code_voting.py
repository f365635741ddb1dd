"""Votes of coded photos beside the votes of one pair at a time, and beside each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.planes import (
    PlaneNetRetriever,
    PlaneRetriever,
    code_voting,
    load_plane_network,
    voting,
)
from indiret.planes.code_voting import best_planes, match_codes
from indiret.planes.codes import code_query
from tests.planes.conftest import RETRIEVER, SMALL, scene

SHAPES = ((96, 120), (120, 80), (96, 120), (60, 160), (96, 120))


@pytest.fixture(scope="module")
def coded():
    return [
        RETRIEVER.unpack(RETRIEVER.pack(RETRIEVER.encode_query(scene(n, *shape))))
        for n, shape in enumerate(SHAPES)
    ]


def test_planes_are_those_of_one_pair_at_a_time(coded, monkeypatch):
    """By `PlaneRetriever.best_plane`, whose responses are not rounded to eight bits."""
    monkeypatch.setattr(voting, "COSINE_THRESHOLD", code_voting.THRESHOLD)
    query, *targets = coded[0], coded[2], coded[4]
    templates = [target.template.patches for target in targets]
    found = [
        *best_planes([query.template.patches], [target.pyramid for target in targets]),
        *best_planes(templates, [query.pyramid]),
    ]
    slow = [RETRIEVER.best_plane(query.template, target.pyramid) for target in targets]
    slow += [RETRIEVER.best_plane(target.template, query.pyramid) for target in targets]
    for one, other in zip(found, slow, strict=True):
        assert (one.level, one.translation) == (other.level, other.translation)
        assert one.votes == pytest.approx(other.votes, rel=1e-2)
        assert one.z_score == pytest.approx(other.z_score, rel=1e-2)
        assert one.quarters == pytest.approx(other.quarters, rel=2e-2)


def test_votes_are_whole_numbers_that_float32_holds(coded):
    templates = [coded[0].template.patches]
    votes = torch.cat(code_voting._plane_votes(templates, [coded[2].pyramid]), 2)
    assert torch.equal(votes, votes.round()) and 0 < votes.max() < 2**24


@pytest.mark.parametrize(("rows", "columns"), [(278, 400), (214, 280)])
def test_photos_whose_templates_differ_alone_are_scored_together(rows, columns):
    """One more row of pixels, and the large template has one more of patches, no size has."""
    retriever = PlaneRetriever()
    photos = [scene(number, rows + more, columns) for number, more in enumerate((0, 1, 0))]
    coded = [retriever.unpack(retriever.pack(retriever.encode_query(one))) for one in photos]
    assert coded[0].template.patches.shape != coded[1].template.patches.shape
    shapes = [[size.shape for size in (*one.pyramid, one.close.patches)] for one in coded]
    assert shapes[0] == shapes[1] == shapes[2]
    together = retriever.score(coded[0], coded)
    np.testing.assert_array_equal(together, [retriever.score(coded[0], [one])[0] for one in coded])


def test_a_part_and_its_whole_find_each_other(coded):
    part = RETRIEVER.encode_query(np.ascontiguousarray(scene(2)[10:80, 20:110]))
    part = code_query(part, coded[0])
    scores = [match.score for match in match_codes(part, coded)]
    assert np.argmax(scores) == 2 and scores[2] > 2 * sorted(scores)[-2]


@pytest.fixture(scope="module", params=[RETRIEVER, PlaneNetRetriever(load_plane_network(), SMALL)])
def alone(request, coded):
    """A retriever, and the score of every pair by itself."""
    pairs = [[request.param.score(query, [one])[0] for one in coded] for query in coded]
    return request.param, np.array(pairs)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 4), st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 2**19)
)
def test_company_order_and_what_fits_the_cache_change_nothing(coded, alone, query, chosen, cache):
    retriever, wanted = alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_voting, "CACHE", cache)
        found = retriever.score(coded[query], [coded[one] for one in chosen])
    np.testing.assert_array_equal(found, wanted[query, chosen])


def test_threads_precision_and_evidence_agree(coded, alone, monkeypatch):
    retriever, wanted = alone
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda query: retriever.score(query, coded), coded)
        np.testing.assert_array_equal([*together], wanted)
    assert retriever.explain(coded[0], coded[2]).score == wanted[0, 2]
    query = RETRIEVER.encode_query(scene(0, *SHAPES[0]))  # is coded when it meets codes
    wanted = retriever.score(query, coded)
    assert retriever.explain(query, coded[2]).score == wanted[2]
    for precision in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(code_voting, "EXACT", precision)
        np.testing.assert_array_equal(retriever.score(query, coded), wanted)
