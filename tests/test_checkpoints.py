"""`indiret.checkpoints`: whole or not at all, and what a file has to be."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from threading import Barrier, Thread

import pytest
import torch
from safetensors.torch import load_file, save_file

from indiret.checkpoints import (
    OtherRunError,
    load_checkpoint,
    load_network,
    load_tensors,
    lock_folder,
    read_metadata,
    save_checkpoint,
    save_network,
    write_atomically,
    write_json,
)
from indiret.metrics import fit_metrics
from indiret.network import IndicativeNetwork
from indiret.training import resume
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


RUN = '{"training": {"steps": 3, "seed": 0}, "train": {"photos": "ab"}}'


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of a small model, and the model and optimiser that it holds."""
    path, (model, optimiser) = tmp_path / "checkpoint.safetensors", one_step(0)
    best = {name: values.clone() for name, values in model.state_dict().items()}
    save_checkpoint(path, RUN, model, optimiser, best, {"step": 3})
    return path, model, optimiser


def test_checkpoints_come_back_to_their_own_run_only(saved):
    path, model, optimiser = saved
    other, its_optimiser = one_step(1)
    now = RUN.replace("3", "4").replace("ab", "cd")
    for run, words in ((now, r" \(training steps, train photos\); delete"), ("no JSON", "")):
        with pytest.raises(OtherRunError, match="other data or settings" + words):
            load_checkpoint(path, run, other, its_optimiser, json.loads)
    assert not torch.equal(other.weight, model.weight)
    best, progress = load_checkpoint(path, RUN, other, its_optimiser, json.loads)
    assert torch.equal(other.weight, model.weight) and torch.equal(best["weight"], model.weight)
    moments, expected = (one.state_dict()["state"][0] for one in (its_optimiser, optimiser))
    assert progress == {"step": 3} and all(torch.equal(moments[n], expected[n]) for n in expected)


def tampered(change):
    """What writes a checkpoint's tensors again after a change to them."""

    def make(path):
        metadata, tensors = load_tensors(path)
        save_file(change(tensors), path, metadata)

    return make


def spoil(name, change):
    return tampered(lambda tensors: tensors | {name: change(tensors[name])})


BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "text": lambda path: path.write_bytes(b"not a checkpoint"),
    "a network": lambda path: save_network(IndicativeNetwork(SMALL), path),
    "NaN": spoil("model.weight", lambda weight: weight * torch.nan),
    "other shape": spoil("model.weight", lambda weight: weight[:, :1].clone()),
    "other best": spoil("best.bias", lambda bias: bias.repeat(2)),
    "other moments": spoil("optimiser.0.exp_avg", lambda moment: moment[:, :1].clone()),
    "no best": tampered(lambda t: {k: t[k] for k in t if not k.startswith("best")}),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_warned_of_and_changes_nothing(saved, kind):
    path, (model, optimiser) = saved[0], one_step(1)
    before = [value.clone() for value in model.state_dict().values()]
    BROKEN[kind](path)
    with pytest.warns(UserWarning, match="training starts afresh"):
        assert resume(path, RUN, model, optimiser) is None
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_a_checkpoint_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder where a file should be"):
        resume(tmp_path, RUN, *one_step(0))


FULL = """
import resource, signal, sys
from indiret.checkpoints import save_network, write_json
from indiret.network import build_network
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (lambda: save_network(build_network("base"), sys.argv[1]),
              lambda: write_json(sys.argv[1], "a" * 5000)):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    """No file may have more than 1,000 bytes, which is refused as on a full disk."""
    path = tmp_path / "network.safetensors"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(f"{path} cannot be written (" in line for line in lines)
    assert done.returncode == 0 and os.listdir(tmp_path) == []


def test_a_second_training_in_a_folder_says_so_and_waits(tmp_path):
    entered = []

    def train(name):
        with lock_folder(tmp_path):
            entered.append(name)

    with lock_folder(tmp_path), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        second = Thread(target=train, args=["second"])
        second.start()
        while not said:
            second.join(0.01)
        entered.append("first")
    second.join()
    assert entered == ["first", "second"] and f"{os.getpid()} on" in str(said[0].message)
