"""Killed with -9 at any moment and started again, work ends as if nobody had touched it.

A few kills of each by default; ``INDIRET_KILLS=100`` asks for as many.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from indiret.baselines import region_proposals
from indiret.checkpoints import load_tensors, save_network, write_json
from indiret.datasets import load_dataset
from indiret.experiments.grid import run_grid
from indiret.experiments.reproduction import RunConfig
from indiret.planes import training
from indiret.planes.network import save_plane_network
from indiret.planes.training import PLANE_TRAINING, fit_plane_network
from indiret.training import TrainingConfig, fit
from tests.experiments import SMALL
from tests.planes.test_samples import few_landmarks
from tests.planes.test_training import few_pairs
from tests.tiny_town import make_tiny_town

KILLS = int(os.environ.get("INDIRET_KILLS", "2"))
FEW = {"validate_every": 10, "checkpoint_every": 2, "validation_queries": 2}
# What two runs of the same settings may differ in; who edits meanwhile changes the commit.
TIMES = ("seconds", "processor_seconds", "commit")


def train(roots, out):
    """What ``indiret train`` does, in seconds."""
    towns = [load_dataset("oxford5k", root) for root in roots]
    network, log = fit(SMALL, *towns, TrainingConfig(steps=40, **FEW), out)
    save_network(network, out / "network.safetensors")
    write_json(out / "results.json", {"log": log})


def train_planes(pairs, out):
    """What ``indiret train --network plane-net`` does, with few pairs, made already."""
    judge = {"mean_average_precision": lambda _: 0.5, "calibration": lambda _: (1.0, 0.0)}
    training.landmark_pairs = lambda *_: pairs
    training.SampleValidator = lambda *_: SimpleNamespace(**judge)
    recipe = replace(PLANE_TRAINING, steps=20, batch=4, **FEW)
    network, _ = fit_plane_network(few_landmarks("train"), few_landmarks(), recipe, out, width=4)
    save_plane_network(network, out / "network.safetensors")


def propose(root, out):
    """``indiret regions propose``, which saves after every photo here."""
    region_proposals.SAVE_EVERY = 0.0
    out.mkdir(exist_ok=True)
    region_proposals.propose_regions(load_dataset("oxford5k", root), out / "regions.json")


def do_grid(configs, how, out):
    """A small grid by two processes, or by a Dask cluster of one."""
    processes, scheduler = (2, None) if how == "processes" else (1, "local")
    assert run_grid(configs, out, processes, scheduler, notebooks=False) == {}


def small_grid(root, method="thumbnail"):
    """A run of a method in each of three folds, and a short training."""
    fixed = {"dataset": "oxford5k", "root": str(root), "folds": 3, "steps": 2}
    folds = [RunConfig.from_dict(fixed | {"fold": n, "method": method}) for n in range(3)]
    return [*folds, RunConfig.from_dict(fixed)]


def results(out: Path) -> dict[str, object]:
    """All that is finished in a folder, without what the clock says; whole, or this raises."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        if path.name == "network.safetensors":
            found[str(path.relative_to(out))] = {
                k: v.tolist() for k, v in load_tensors(path)[1].items()
            }
        elif path.name in ("regions.json", "results.json"):
            found[str(path.relative_to(out))] = one = json.loads(path.read_text())
            for part in (one.get("provenance", {}), *one.get("log", ())):
                for name in TIMES:
                    part.pop(name, None)
    return found


def alone(job, out):
    """A job with one thread, which waits for no other on a machine that is busy."""
    torch.set_num_threads(1)
    job(out)


def start(job, out):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=alone, args=(job, out))
    process.start()
    return process


def check_kills(job, tmp_path, kills=KILLS, finished="results.json"):
    """Unbroken, then with kills; what was finished once is never touched again."""
    began = time.monotonic()
    process = start(job, tmp_path / "unbroken")
    process.join(300)
    assert process.exitcode == 0
    longest, dice, kept = time.monotonic() - began, random.Random(0), {}
    out = tmp_path / "killed"
    for _ in range(kills):
        process = start(job, out)
        process.join(dice.uniform(0.1, 0.9) * longest)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        results(out)
        for path in out.rglob(finished):
            kept.setdefault(path, path.stat().st_mtime_ns)
    process = start(job, out)
    process.join(300)
    assert process.exitcode == 0
    assert results(out) == results(tmp_path / "unbroken") != {}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not [path for path in out.rglob("*") if ".broken-" in path.name]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towns")
    return [make_tiny_town(folder / name, name, seed=n).root for n, name in enumerate("ab")]


def test_training(roots, tmp_path):
    check_kills(partial(train, roots), tmp_path, finished="none")


def test_training_of_the_plane_network(monkeypatch, tmp_path):
    check_kills(partial(train_planes, few_pairs(monkeypatch)), tmp_path)


@pytest.mark.parametrize("how", ["processes", "dask"])
def test_a_grid(roots, tmp_path, how):
    if how == "dask":
        pytest.importorskip("distributed")
    check_kills(partial(do_grid, small_grid(roots[0]), how), tmp_path, max(1, KILLS - 1))


def test_proposals_of_regions(roots, tmp_path):
    pytest.importorskip("cv2")
    check_kills(partial(propose, roots[0]), tmp_path, finished="none")
