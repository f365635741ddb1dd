"""The network over samples along planes: its file, its margins, its evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.networks import WEIGHTS
from indiret.planes import (
    PlaneNetRetriever,
    PlaneNetwork,
    collate,
    is_plane_network,
    load_plane_network,
    sample_pair,
    save_plane_network,
)
from indiret.planes.gradients import FITTED
from indiret.planes.network import NAME
from indiret.protocol import measure_maps
from indiret.ranking import prepare, rank
from tests.planes.conftest import RETRIEVER
from tests.planes.test_matching import SMALL, scene
from tests.planes.test_samples import few_landmarks


def test_the_file_is_the_network_and_nothing_else_is(tmp_path, views):
    torch.manual_seed(0)
    network, path = PlaneNetwork(width=6).eval(), tmp_path / "one.safetensors"
    network.calibration.copy_(torch.tensor([2.0, -1.0]))
    save_plane_network(network, path, {"seed": "0"})
    maps = collate([sample_pair(RETRIEVER, *views[:2])])
    loaded = load_plane_network(path)
    assert torch.equal(loaded(*maps).margin, network(*maps).margin)
    assert loaded.calibration.tolist() == [2.0, -1.0]
    assert is_plane_network(str(path)) and not is_plane_network(str(tmp_path / "none.safetensors"))
    (tmp_path / "bad.safetensors").write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is no file of plane-net"):
        load_plane_network(tmp_path / "bad.safetensors")
    assert not is_plane_network(str(tmp_path / "bad.safetensors"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_plane_network(tmp_path / "none.safetensors")
    with torch.no_grad():
        network.support.weight[0, 0] = torch.nan
    save_plane_network(network, path)
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_plane_network(path)


def test_the_shipped_network_tells_a_part_from_an_unrelated_photo(views):
    retriever = PlaneNetRetriever(load_plane_network(), SMALL)
    query, target, unrelated = views
    margins = retriever.score(query, [target, unrelated])
    assert margins[0] > margins[1]
    likely = retriever.probability(margins)
    assert (0 <= likely).all() and (likely <= 1).all() and likely[0] > likely[1]
    evidence = retriever.explain(query, target)
    assert evidence.score == pytest.approx(margins[0], abs=1e-4)
    assert evidence.pairs.min() >= 0
    # maps are roots of what supports them
    assert evidence.pairs.sum() > 2 * retriever.explain(query, unrelated).pairs.sum()
    assert torch.equal(retriever.explain(query, target, "support").pairs, evidence.pairs)
    with pytest.raises(ValueError, match="choose from support"):
        retriever.explain(query, target, "gradcam")


def test_it_ranks_and_its_evidence_can_be_measured():
    few = few_landmarks(landmarks=1)
    retriever = PlaneNetRetriever(load_plane_network())
    prepared = prepare(retriever, few)
    hits = rank(retriever, few.queries[:1], few, prepared)
    assert {hit.name for hit in hits[few.queries[0].name]} == set(few.images)
    measured = measure_maps(retriever, replace(few, queries=few.queries[:1]), prepared)
    assert measured["support"]["pixel_auc"] > 0.75
    assert measured["support"]["box_iou"] > measured["all ones"]["box_iou"]
    assert measured["support"]["patch_match"] > 5 * measured["support"]["chance"]


def test_shipped_weights_are_small():
    assert (WEIGHTS / f"{NAME}.safetensors").stat().st_size < 100_000
    assert (WEIGHTS / f"{NAME}.log.json").is_file()
    assert FITTED.stat().st_size < 1_000_000


def test_it_judges_the_better_part_of_the_vote():
    whole = scene(0)
    query = RETRIEVER.encode(np.ascontiguousarray(whole[10:80, 20:110]))
    database = [RETRIEVER.encode(scene(seed)) for seed in range(30)]
    network = load_plane_network()
    votes = RETRIEVER.score(query, database)
    margins = PlaneNetRetriever(network, SMALL, judged=1).score(query, database)
    scores = PlaneNetRetriever(network, SMALL, judged=0.8).score(query, database)
    voted = sorted(range(30), key=lambda place: -votes[place])
    judged = sorted(voted[:24], key=lambda place: -margins[place])
    assert np.argsort(-scores).tolist() == judged + voted[24:] != voted
    np.testing.assert_allclose(scores[judged], margins[judged], atol=1e-4)
    assert PlaneNetRetriever(network, SMALL).score(query, []).shape == (0,)
    with pytest.raises(ValueError, match="no share of the database"):
        PlaneNetRetriever(network, judged=1.5)
