"""A network scores, explains, learns and is resumed on a device as it is on the processor."""

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.checkpoints import load_network, save_network
from indiret.evidence import KINDS, deletion
from indiret.feedback import FeedbackConfig, rerank_with_feedback
from indiret.network import build_network
from indiret.retrieval import NetworkRetriever, index_database, rank
from indiret.training import fit
from tests.other_device import Elsewhere, other_device
from tests.test_training import RECIPE, SMALL


def test_what_plays_the_device_finds_mistakes():
    with other_device() as device:
        away = torch.ones(3).to(device)
        assert away.device.type == device and (away + 1).cpu().tolist() == [2, 2, 2]
        for wrong in (lambda: away + torch.ones(3), away.numpy, away.double):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()


@pytest.mark.parametrize("changes", [{}, {"conv": "flat"}, {"conv": "pivot", "aspect": "keep"}])
def test_a_network_elsewhere_says_the_same(towns, changes):
    config = replace(SMALL, attention="har", **changes)
    torch.manual_seed(0)
    here, there = (NetworkRetriever(build_network(config)) for _ in range(2))
    there.network.load_state_dict(here.network.state_dict())
    few = replace(towns[0], queries=towns[0].queries[:2])
    second = FeedbackConfig(n=1, pool="mean")

    def answers(retriever):
        database = index_database(retriever, few)
        first = rank(retriever, few.queries, few, database)
        again = rerank_with_feedback(retriever, few.queries, few, database, first, second)
        encoded = retriever.encode_query(few.read_query(few.queries[0]))
        target = database.features[few.queries[0].image]
        pairs = [retriever.explain(encoded, target, kind).pairs for kind in KINDS]
        tensor = retriever.tensor(encoded, [target])
        fall = deletion(retriever.network, tensor, pairs[0].sum((2, 3))[None])
        return first, again, torch.stack([*pairs]).numpy(), fall.cpu().tolist()

    expected = answers(here)
    with other_device() as device:
        found = answers(there.to(device))
        assert isinstance(next(there.network.parameters()), Elsewhere)
    for one, two in zip(expected[:2], found[:2], strict=True):
        assert one == two
    np.testing.assert_allclose(found[2], expected[2], atol=1e-6)
    assert found[3] == pytest.approx(expected[3], abs=1e-5)


class InThisThread:
    """In place of a pool of threads, which do not know of the other device."""

    def __init__(self, workers):
        pass

    def submit(self, function, step):
        future = Future()
        future.set_result(function(step))
        return future


def test_a_training_elsewhere_takes_the_same_steps_and_is_resumed(towns, tmp_path, monkeypatch):
    monkeypatch.setattr("indiret.pairs.ThreadPoolExecutor", InThisThread)
    recipe = replace(RECIPE, steps=6, validate_every=3, checkpoint_every=3)
    config = replace(SMALL, metrics=("zncc", "mahalanobis"), attention="har-normalised")
    network, log = fit(config, *towns, recipe, tmp_path / "here")
    with other_device() as device:
        elsewhere, its_log = fit(config, *towns, recipe, tmp_path / "there", device)
        again, _ = fit(config, *towns, recipe, tmp_path / "there", device)
        save_network(elsewhere, tmp_path / "network.safetensors")
        assert isinstance(next(again.parameters()), Elsewhere)
    saved = load_network(tmp_path / "network.safetensors").state_dict()
    for name, values in network.state_dict().items():
        torch.testing.assert_close(saved[name], values)
    assert [row["loss"] for row in its_log] == pytest.approx([row["loss"] for row in log])
