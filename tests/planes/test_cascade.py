"""The cascade beside its steps done one by one over everything."""

import numpy as np
import pytest

from indiret.planes import (
    PlaneCascadeRetriever,
    PlaneNetRetriever,
    load_plane_network,
    save_plane_network,
)
from indiret.retrieval import build_retriever
from tests.planes.conftest import RETRIEVER, SMALL

NETWORK = load_plane_network()


def test_each_step_orders_what_the_last_has_kept(views, scenes):
    query = views[0]
    scores = PlaneCascadeRetriever(NETWORK, SMALL, voted=0.8, judged=0.5).score(query, scenes)
    coarse, votes = [], []
    for target in scenes:
        match = RETRIEVER.coarse_match(query, target)
        closer = RETRIEVER.match_close(query, target, 0, match.forward)
        coarse.append(match._replace(forward=closer).score)
        votes.append(RETRIEVER.match_both(query, target).score)
    margins = PlaneNetRetriever(NETWORK, SMALL, judged=1).score(query, scenes)
    seen = sorted(range(len(scenes)), key=lambda place: -coarse[place])
    voted = sorted(seen[:36], key=lambda place: -votes[place])
    judged = sorted(voted[:22], key=lambda place: -margins[place])
    assert judged[0] == 0
    assert np.argsort(-scores).tolist() == judged + voted[22:] + seen[36:]
    np.testing.assert_allclose(scores[judged], margins[judged], atol=1e-4)


def test_a_small_folder_is_seen_by_all(views, scenes):
    query, few = views[0], scenes[:20]
    scores = PlaneCascadeRetriever(NETWORK, SMALL, voted=0.1, judged=0.0).score(query, few)
    margins = PlaneNetRetriever(NETWORK, SMALL).score(query, few)
    np.testing.assert_allclose(scores, margins, atol=1e-4)
    assert PlaneCascadeRetriever(NETWORK, SMALL).score(query, []).shape == (0,)


@pytest.mark.parametrize("shares", [(0.1, 0.2), (1.1, 0.2), (0.5, -0.1)])
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="no larger one to the network"):
        PlaneCascadeRetriever(NETWORK, SMALL, *shares)


def test_retrievers_by_name(tmp_path):
    assert type(build_retriever("plane-net")) is PlaneNetRetriever
    assert type(build_retriever("plane-cascade")) is PlaneCascadeRetriever
    save_plane_network(NETWORK, tmp_path / "mine.safetensors")
    assert type(build_retriever(str(tmp_path / "mine.safetensors"))) is PlaneNetRetriever
