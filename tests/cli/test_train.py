"""The command that trains."""

import json
import re

import pytest
from torch import nn

from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.verifiers import load_verifier
from indiret.cli import options, train
from tests.cli.command import refused, run
from tests.tiny_town import make_tiny_town


@pytest.fixture
def tiny_towns(tmp_path, monkeypatch):
    """Small ones in the place of Toytown's parts."""
    validation = make_tiny_town(tmp_path / "validation", "b", landmarks=4, seed=1)
    train_town = make_tiny_town(tmp_path / "train", "a")
    towns = {"train": train_town, "validation": validation, "test": validation}
    monkeypatch.setattr(options, "load_dataset", lambda name, root=None, split="": towns[split])


def test_train_writes_weights_and_log(capsys, tmp_path, tiny_towns):
    status, out, _ = run(capsys, "train", "--steps", 2, "--out", tmp_path / "run")
    assert status == 0 and "validation mAP" in out
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    assert log["training"]["steps"] == 2 and log["log"][-1]["step"] == 2
    assert (tmp_path / "run" / "network.safetensors").is_file()


def test_train_teaches_a_verifier(capsys, tmp_path, monkeypatch, tiny_towns):
    backbone = PretrainedBackbone("toy", nn.Conv2d(3, 200, 8, 8).requires_grad_(False))
    monkeypatch.setattr(train, "load_backbone", lambda name: backbone)
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    line = "train", "--network", "toy:siam-fv", "--out", out
    status, said, _ = run(capsys, *line, "--steps", 2)
    assert status == 0 and re.search(r"validation mAP 0\.\d+, untrained 0\.\d+", said)
    assert json.loads((out / "log.json").read_text())["log"][0]["step"] == 0
    for name in ("network", "untrained"):
        assert load_verifier(out / f"{name}.safetensors")[1]["backbone"] == "toy"
    assert "--steps and --seed" in refused(capsys, *line, "--recipe", "paper")
    sentence = refused(capsys, "evaluate", "--method", "timm/some:siam-fv")
    assert "indiret train --network timm/some:siam-fv" in sentence


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (("--network", "resnet"), "base, paper-base"),
        (("--network", "efficientnet-lite0:siam"), "BACKBONE:siam-fv"),
        (("--network", "plane-net", "--norm", "group", "--pairs", "x"), "--photos, --steps"),
        (("--network", "x:siam-fv", "--norm", "group"), "--pairs, --steps and --seed"),
        (("--photos", "x"), "--recipe, --device, --steps"),
        (("--attention", "some"), "none, "),
        (("--device", "gpu"), "choose cpu"),
        (("--device", "cuda:99"), "choose cpu"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_can(capsys, tmp_path, given, allowed):
    assert allowed in refused(capsys, "train", *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
