"""The cascade beside its looks done one by one over everything."""

from __future__ import annotations

import numpy as np
import pytest

from indiret.cascade import PLANE_METHODS, PlaneCascade, load_plane_method
from indiret.planenet import PlaneNetMethod, load_plane_network, save_plane_network
from indiret.planevote import floats
from tests.test_planenet import METHOD
from tests.test_planevote import SMALL, scene

DATABASE = 45


@pytest.fixture(scope="module")
def views():
    """A part of a picture, and pictures of which the first is the whole."""
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    return METHOD.prepare(part), [METHOD.prepare(scene(seed)) for seed in range(DATABASE)]


def test_each_look_orders_what_the_last_has_kept(views):
    query, database = views
    network = load_plane_network()
    method = PlaneCascade(network, SMALL, voted=0.8, judged=0.5)
    scores = method.score(query, database)
    targets = [floats(target) for target in database]
    glances = []
    for target in targets:
        seen = METHOD.glance(floats(query), target)
        closer = METHOD.seek_closer(query, target, 0, seen.there)
        glances.append(seen._replace(there=closer).worth)
    votes = [METHOD.agree(floats(query), target).worth for target in targets]
    margins = PlaneNetMethod(network, SMALL, judged=1).score(query, database)
    seen = sorted(range(DATABASE), key=lambda place: -glances[place])
    voted = sorted(seen[:36], key=lambda place: -votes[place])
    judged = sorted(voted[:22], key=lambda place: -margins[place])
    assert judged[0] == 0
    assert np.argsort(-scores).tolist() == judged + voted[22:] + seen[36:]
    np.testing.assert_allclose(scores[judged], margins[judged], atol=1e-4)


def test_a_small_folder_is_seen_by_all(views):
    query, database = views
    few = database[:20]
    scores = PlaneCascade(load_plane_network(), SMALL, voted=0.1, judged=0.0).score(query, few)
    margins = PlaneNetMethod(load_plane_network(), SMALL).score(query, few)
    np.testing.assert_allclose(scores, margins, atol=1e-4)
    assert PlaneCascade(load_plane_network(), SMALL).score(query, []).shape == (0,)


@pytest.mark.parametrize("shares", [(0.1, 0.2), (1.1, 0.2), (0.5, -0.1)])
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="no larger one to the network"):
        PlaneCascade(load_plane_network(), SMALL, *shares)


def test_methods_by_name(tmp_path):
    for name, (kind, _) in PLANE_METHODS.items():
        assert type(load_plane_method(name)) is kind
    path = tmp_path / "mine.safetensors"
    save_plane_network(load_plane_network(), path)
    assert type(load_plane_method(str(path))) is PlaneNetMethod
