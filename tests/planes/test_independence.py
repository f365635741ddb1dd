"""A score belongs to its pair: not to its company, its order, or what the caller has set."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.planes import PlaneNetRetriever, PlaneRetriever
from indiret.planes import load_plane_network as load
from indiret.planes.geometry import grid_places
from indiret.planes.turning import TurnedPlaneRetriever
from tests.callers import SETTINGS
from tests.planes.conftest import SMALL, scene

MAKERS = {
    "planes": lambda: PlaneRetriever(SMALL),
    "plane-net-turned": lambda: TurnedPlaneRetriever(MAKERS["plane-net"]()),
    "plane-net": lambda: PlaneNetRetriever(load(), SMALL),
}
SHAPES = ((96, 120), (120, 80), (60, 160), (90, 90), (150, 40))
PICTURES = [scene(number, *shape) for number, shape in enumerate(SHAPES)]


def answers(name: str) -> list[np.ndarray]:
    """All that a retriever says of the first picture in the second."""
    retriever = MAKERS[name]()
    query, target = retriever.encode_query(PICTURES[0]), retriever.encode(PICTURES[1])
    scores, evidence = retriever.score(query, [target]), retriever.explain(query, target)
    assert evidence.score == scores[0]
    points = retriever.transfer_points(query, target, np.array([[0.1, 0.2], [0.5, 0.6]]))
    likely = retriever.probability(scores)
    return [scores, evidence.pairs.numpy(), points, scores if likely is None else likely]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", MAKERS)
def test_what_the_caller_has_set_changes_nothing(name, setting):
    wanted = answers(name)
    grid_places.cache_clear()
    with SETTINGS[setting]():
        found = answers(name)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module", params=MAKERS)
def alone(request):
    """A retriever, encoded pictures, and the score of every pair by itself."""
    retriever = MAKERS[request.param]()
    features = [retriever.encode(picture) for picture in PICTURES]
    pairs = [[retriever.score(query, [one])[0] for one in features] for query in features]
    return retriever, features, np.array(pairs)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, len(PICTURES) - 1), st.lists(st.integers(0, len(PICTURES) - 1), min_size=1))
def test_company_and_order_change_nothing(alone, query, chosen):
    retriever, features, wanted = alone
    found = retriever.score(features[query], [features[one] for one in chosen[:12]])
    np.testing.assert_array_equal(found, wanted[query, chosen[:12]])


def test_four_threads_score_as_one(alone):
    retriever, features, wanted = alone
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda query: retriever.score(query, features), features * 2)
        np.testing.assert_array_equal(list(together), [*wanted, *wanted])
