"""`indiret.checkpoints`: whole or not at all, and what a file has to be."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from threading import Barrier

import pytest
import torch
from safetensors.torch import load_file, save_file

from indiret.checkpoints import (
    load_checkpoint,
    load_network,
    read_metadata,
    save_checkpoint,
    save_network,
    write_atomically,
    write_json,
)
from indiret.metrics import fit_metrics
from indiret.network import IndicativeNetwork
from tests.test_network import SMALL, rand

STEM = "backbone.stem.0.weight"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    with pytest.raises(RuntimeError), write_atomically(path) as part:
        part.write_text("half of")
        raise RuntimeError

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr("indiret.checkpoints.os.replace", die)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"value": 2})
    assert json.loads(path.read_text()) == {"value": 1} and os.listdir(tmp_path) == [path.name]


def test_two_writers_of_one_file_leave_one_of_theirs_whole(tmp_path):
    path, both = tmp_path / "new" / "note.txt", Barrier(2)

    def write(letter):
        with write_atomically(path) as part:
            part.write_text(letter)
            both.wait()
            part.write_text(letter * 10_000)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "ab"))
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert os.listdir(path.parent) == [path.name]


def test_saved_networks_come_back_bit_for_bit(tmp_path):
    network = IndicativeNetwork(SMALL.replace(metrics=("zncc", "mahalanobis")))
    network.set_metric_state(fit_metrics(network.config.metrics, rand(50, 12)))
    network(rand(2, 2, 6, 6, 6, 6))  # moves the running statistics
    network.calibration.copy_(torch.tensor([0.5, 0.25]))
    path = tmp_path / "weights.safetensors"
    save_network(network, path, {"seed": "3"})
    again = load_network(path)
    assert again.config == network.config and not again.training
    state = again.state_dict()
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
    assert read_metadata(path)["seed"] == "3"


def broken(change):
    """What makes a file of a small network whose tensors and metadata were tampered with."""

    def make(path):
        save_network(IndicativeNetwork(SMALL), path)
        tensors, metadata = change(load_file(path), read_metadata(path))
        save_file(tensors, path, metadata)

    return make


def with_config(text):
    return broken(lambda tensors, metadata: (tensors, {"config": text}))


def with_stem(change):
    return broken(lambda tensors, metadata: (tensors | {STEM: change(tensors[STEM])}, metadata))


def cut_short(path):
    save_network(IndicativeNetwork(SMALL), path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("these are not weights"), "not a whole safetensors file"),
        (cut_short, "not a whole safetensors file"),
        (broken(lambda t, m: (t, {})), "no network config"),
        (with_config("{"), "cannot be used"),
        (with_config("[1]"), "cannot be used"),
        (with_config('{"depth": 3}'), "'depth' is not known"),
        (with_config('{"width": 1000000000}'), "cannot be used"),
        (with_config(json.dumps(asdict(replace(SMALL, width=8)))), "do not fit"),
        (with_stem(lambda stem: stem * torch.nan), "holds NaN"),
        (with_stem(lambda stem: stem / 0), "NaN or infinity"),
        (with_stem(lambda stem: stem[:2]), "do not fit"),
        (broken(lambda t, m: (t | {"more": torch.ones(1)}, m)), "more is .*not there at all"),
        (broken(lambda t, m: ({k: t[k] for k in t if k != STEM}, m)), "is missing"),
    ],
)
def test_files_that_are_not_whole_networks(tmp_path, make, words):
    path = tmp_path / "weights.safetensors"
    make(path)
    with pytest.raises(ValueError, match=words) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_names_of_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="no network file"):
        load_network(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="choose from base"):
        load_network("resnet-of-mine")
    with pytest.raises(FileNotFoundError, match="indiret train --network timm/some:verifier"):
        load_network("timm/some:verifier")


def one_step(seed):
    torch.manual_seed(seed)
    model = torch.nn.Linear(2, 1)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return model, optimiser


def test_checkpoints_come_back_to_their_own_run_only(tmp_path):
    path, (model, optimiser) = tmp_path / "checkpoint.safetensors", one_step(0)
    save_checkpoint(path, "this run", model, optimiser, {"weight": torch.ones(1)}, {"step": 3})
    other, its_optimiser = one_step(1)
    best: dict = {}
    with pytest.raises(ValueError, match="other data or settings"):
        load_checkpoint(path, "another run", other, its_optimiser, best)
    assert not torch.equal(other.weight, model.weight)
    assert load_checkpoint(path, "this run", other, its_optimiser, best) == {"step": 3}
    assert torch.equal(other.weight, model.weight) and torch.equal(best["weight"], torch.ones(1))
    moments, expected = (one.state_dict()["state"][0] for one in (its_optimiser, optimiser))
    assert all(torch.equal(moments[name], expected[name]) for name in expected)

    whole = path.read_bytes()
    for content in (whole[:-1], b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a checkpoint"):
            load_checkpoint(path, "this run", other, its_optimiser, best)
    save_network(IndicativeNetwork(SMALL), path)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        load_checkpoint(path, "this run", other, its_optimiser, best)
