"""The network over samples along planes: its file, its margins, its evidence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.checkpoints import WEIGHTS
from indiret.evaluation import average_precision
from indiret.experiments.evidence_protocol import measure_evidence
from indiret.planes import (
    PlaneNetRetriever,
    PlaneNetwork,
    PlaneRetriever,
    collate,
    load_plane_network,
    sample_pair,
    save_plane_network,
)
from indiret.planes.gradients import FITTED
from indiret.planes.network import NAME
from indiret.retrieval import build_retriever, index_database, rank
from tests.planes.conftest import RETRIEVER, SMALL
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
    (tmp_path / "bad.safetensors").write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_plane_network(tmp_path / "bad.safetensors")
    with pytest.raises(FileNotFoundError, match="there are no weights"):
        load_plane_network(tmp_path / "none.safetensors")
    with torch.no_grad():
        network.support.weight[0, 0] = torch.nan
    save_plane_network(network, path)
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_plane_network(path)


def test_it_is_built_by_name_and_from_a_file(tmp_path):
    save_plane_network(load_plane_network(), tmp_path / "mine.safetensors")
    for name in ("plane-net", str(tmp_path / "mine.safetensors")):
        assert type(build_retriever(name)) is PlaneNetRetriever


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
    for kind in ("verified", "support"):  # maps are roots of what supports them
        own, other = (retriever.explain(query, one, kind) for one in (target, unrelated))
        assert own.score == evidence.score and own.pairs.sum() > 2 * other.pairs.sum()
    assert torch.equal(retriever.explain(query, target, "verified").pairs, evidence.pairs)
    with pytest.raises(ValueError, match="choose from verified, support"):
        retriever.explain(query, target, "gradcam")


@pytest.mark.parametrize("judged", [False, True])
def test_toytown_is_ranked_and_its_evidence_measured(judged):
    few = few_landmarks()
    query = few.queries[0]
    names = sorted(query.positives) + [n for n in few.images if n not in query.positives][:6]
    few = replace(few, images={n: few.images[n] for n in names}, queries=(query,))
    retriever = PlaneNetRetriever(load_plane_network()) if judged else PlaneRetriever()
    indexed = index_database(retriever, few)
    ranked = [hit.name for hit in rank(retriever, [query], few, indexed)[query.name]]
    assert ranked[0] == query.image and set(ranked) == set(few.images)
    assert average_precision(ranked, query.positives, query.junk) > 0.6
    rows = measure_evidence(retriever, few, indexed)
    measured = rows[retriever.evidence_kinds[0]]
    assert measured["pairs"] == len(query.positives - {query.image})
    assert measured["pixel_auc"] > max(rows["all ones"]["pixel_auc"], 0.75 * judged)
    assert measured["patch_match"] > (5 if judged else 3) * measured["chance"]
    assert not judged or measured["box_iou"] > rows["all ones"]["box_iou"]


def test_shipped_weights_are_small():
    assert (WEIGHTS / f"{NAME}.safetensors").stat().st_size < 100_000
    assert (WEIGHTS / f"{NAME}.log.json").is_file()
    assert FITTED.stat().st_size < 1_000_000


def test_it_judges_the_better_part_of_the_vote(views, scenes):
    query, database = views[0], scenes[:30]
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
