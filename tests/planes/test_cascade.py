"""The cascade beside its steps done one by one over everything."""

from __future__ import annotations

import numpy as np
import pytest

from indiret.planes import (
    PLANE_NETWORKS,
    PlaneCascadeRetriever,
    PlaneNetRetriever,
    load_plane_network,
    load_plane_retriever,
    save_plane_network,
)
from indiret.planes.matching import to_float32
from tests.planes.conftest import RETRIEVER
from tests.planes.test_matching import SMALL, scene

DATABASE = 45


@pytest.fixture(scope="module")
def features():
    """A part of a picture, and pictures of which the first is the whole."""
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    return RETRIEVER.encode(part), [RETRIEVER.encode(scene(seed)) for seed in range(DATABASE)]


def test_each_step_orders_what_the_last_has_kept(features):
    query, database = features
    network = load_plane_network()
    retriever = PlaneCascadeRetriever(network, SMALL, voted=0.8, judged=0.5)
    scores = retriever.score(query, database)
    targets = [to_float32(target) for target in database]
    coarse = []
    for target in targets:
        seen = RETRIEVER.coarse_match(to_float32(query), target)
        closer = RETRIEVER.match_close(query, target, 0, seen.forward)
        coarse.append(seen._replace(forward=closer).score)
    votes = [RETRIEVER.match_both(to_float32(query), target).score for target in targets]
    margins = PlaneNetRetriever(network, SMALL, judged=1).score(query, database)
    seen = sorted(range(DATABASE), key=lambda place: -coarse[place])
    voted = sorted(seen[:36], key=lambda place: -votes[place])
    judged = sorted(voted[:22], key=lambda place: -margins[place])
    assert judged[0] == 0
    assert np.argsort(-scores).tolist() == judged + voted[22:] + seen[36:]
    np.testing.assert_allclose(scores[judged], margins[judged], atol=1e-4)


def test_a_small_folder_is_seen_by_all(features):
    query, database = features
    few = database[:20]
    network = load_plane_network()
    scores = PlaneCascadeRetriever(network, SMALL, voted=0.1, judged=0.0).score(query, few)
    margins = PlaneNetRetriever(network, SMALL).score(query, few)
    np.testing.assert_allclose(scores, margins, atol=1e-4)
    assert PlaneCascadeRetriever(load_plane_network(), SMALL).score(query, []).shape == (0,)


@pytest.mark.parametrize("shares", [(0.1, 0.2), (1.1, 0.2), (0.5, -0.1)])
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="no larger one to the network"):
        PlaneCascadeRetriever(load_plane_network(), SMALL, *shares)


def test_retrievers_by_name(tmp_path):
    for name, (kind, _) in PLANE_NETWORKS.items():
        assert type(load_plane_retriever(name)) is kind
    path = tmp_path / "mine.safetensors"
    save_plane_network(load_plane_network(), path)
    assert type(load_plane_retriever(str(path))) is PlaneNetRetriever
