"""The second round by verified answers."""

import numpy as np
import pytest
import torch

from indiret import build_retriever
from indiret.planes import PlaneNetRetriever
from indiret.planes.expansion import CHAIN, ExpandedPlaneRetriever
from tests.planes.conftest import scene


@pytest.fixture(scope="module")
def retriever():
    found = build_retriever("plane-net+vqe")
    assert isinstance(found, ExpandedPlaneRetriever)
    return found


@pytest.fixture(scope="module")
def views():
    """The left of a scene asks; the middle, which shares half of it, the right, and others."""
    wide = scene(0, 240, 640)
    cut = [np.ascontiguousarray(wide[:, at : at + 320]) for at in (0, 130, 270)]
    return [*cut, *(scene(seed, 240, 320) for seed in (1, 2, 3))]


def test_an_answer_finds_what_the_query_cannot(retriever, views):
    query = retriever.encode_query(views[0])
    database = [retriever.encode(picture) for picture in views[1:]]
    first = PlaneNetRetriever.score(retriever, query, database)
    both = retriever.score(query, database)
    assert retriever.probability(first)[0] > 0.5 > retriever.probability(first)[1]
    assert both[0] == first[0] and both[1] > first[1] + 1
    direct = PlaneNetRetriever.score(retriever, retriever.part(query, database[0]), database)
    assert both[1] == pytest.approx(max(first[1], direct[1] - CHAIN))


def test_only_the_part_that_the_query_shows_asks(retriever, views):
    query, answer = (retriever.encode(picture) for picture in views[:2])
    template = retriever.part(query, answer).template
    asks = template.patches.abs().sum(-1) > 0
    assert asks.float().mean() < 0.85  # the query shows 190 of the answer's 320 columns
    assert float(template.points[asks][:, 1].max()) == pytest.approx(190 / 320, abs=0.08)
    torch.testing.assert_close(template.patches[asks], answer.template.patches[asks])


def test_without_a_believed_answer_nothing_changes(retriever, views):
    query = retriever.encode_query(views[3])
    database = [retriever.encode(picture) for picture in (*views[:3], *views[4:])]
    np.testing.assert_array_equal(
        retriever.score(query, database), PlaneNetRetriever.score(retriever, query, database)
    )
