import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from indiret.datasets import load_dataset
from indiret.networks import CONFIGS, build_network
from indiret.sampling import PairSampler, symmetries
from indiret.training import PAPER_RECIPE, TrainingConfig, build_optimiser, fit
from tests.tiny_town import make_tiny_town

SMALL = replace(CONFIGS["base"], grid=(6, 6), query_grid=(5, 5), size=8, scales=(1.0,), width=4)
RECIPE = TrainingConfig(
    steps=60, batch=8, validate_every=20, checkpoint_every=5, validation_queries=4
)


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towns")
    return (
        make_tiny_town(folder / "train", "a"),
        make_tiny_town(folder / "validation", "b", landmarks=4, seed=1),
    )


def sampler_of(town, **changes):
    return PairSampler(town, build_network(SMALL), replace(RECIPE, **changes))


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def as_bytes(described):
    return b"".join(values.numpy().tobytes() for values in described.values())


def test_batches_are_a_function_of_seed_and_step(towns):
    sampler, again = sampler_of(towns[0]), sampler_of(towns[0])
    one, two = sampler.batch(7), again.batch(7)
    assert equal(one.target, two.target) and equal(one.query, two.query)
    assert torch.equal(one.labels, two.labels)
    assert not equal(one.query, sampler.batch(8).query)
    assert not equal(one.query, sampler_of(towns[0], seed=1).batch(7).query)


def test_a_part_of_the_sampler_shows_only_that_part(towns):
    town = towns[0]
    known = tuple(query for query in town.queries if query.landmark in town.landmarks[:3])
    photos = set().union(*(query.positives for query in known))
    unnamed = sampler_of(town).distractors[0]
    images = {name: town.images[name] for name in (*sorted(photos), unnamed)}
    part = sampler_of(town).only(replace(town, queries=known, images=images))
    for step in range(10):
        part.batch(step)
    assert {name for name, _, _ in part.views} <= images.keys()
    assert len(part.landmarks) == 3 and part.distractors == [unnamed]


def test_a_photo_has_several_versions_and_the_same_ones_every_time(towns):
    sampler, again = sampler_of(towns[0]), sampler_of(towns[0])
    name = sampler.landmarks[0][0]
    assert equal(sampler._view(name, 1), again._view(name, 1))
    assert not equal(sampler._view(name, 1), sampler._view(name, 2))


def test_labels_are_true(towns):
    """Without augmentation what is kept of a photo tells which one it was."""
    sampler = sampler_of(towns[0], augment=False, batch=20)
    owner = {}
    for landmark, views in enumerate(sampler.landmarks):
        for name in views:
            owner[as_bytes(sampler._view(name, 0))] = (landmark, name)
            owner[as_bytes(sampler._view(name, 0, query=True))] = (landmark, name)
    distractors = 0
    for step in range(5):
        target, query, labels = sampler.batch(step)
        for number, label in enumerate(labels):
            t, q = ({name: side[name][number] for name in side} for side in (target, query))
            asked, asked_name = owner[as_bytes(q)]
            shown, shown_name = owner.get(as_bytes(t), (None, None))
            distractors += shown is None
            assert (asked == shown) == bool(label)
            assert asked_name != shown_name
        assert labels.sum() == 10
    assert 5 <= distractors <= 35


def test_symmetries_move_entries_without_changing_them():
    tensor = torch.rand(1, 2, 3, 3, 3, 3)
    seen = set()
    for seed in range(200):
        turned = symmetries(tensor, np.random.default_rng(seed))
        torch.testing.assert_close(turned.flatten().sort()[0], tensor.flatten().sort()[0])
        seen.add(turned.numpy().tobytes())
    assert len(seen) == 16


def test_symmetries_keep_true_matches_true():
    """The diagonal i = k, j = l, where a photo matches itself, stays where it is."""
    diagonal = torch.zeros(1, 1, 3, 3, 3, 3)
    for i in range(3):
        for j in range(3):
            diagonal[0, 0, i, j, i, j] = 1
    for seed in range(20):
        assert torch.equal(symmetries(diagonal, np.random.default_rng(seed)), diagonal)


def test_symmetries_keep_the_shape_of_unequal_grids():
    tensor = torch.rand(1, 1, 2, 3, 4, 5)
    for seed in range(20):
        assert symmetries(tensor, np.random.default_rng(seed)).shape == tensor.shape


def test_fit_learns_and_logs(tmp_path):
    """Unseen posters are told apart: chance is 0.17 (two positives among 22 pictures)."""
    train = make_tiny_town(tmp_path / "train", "a", landmarks=16)
    validation = make_tiny_town(tmp_path / "validation", "b", seed=1)
    network, log = fit(SMALL, train, validation, replace(RECIPE, steps=240, patience=20))
    assert not network.training
    assert log[-1]["loss"] < log[0]["loss"] - 0.1
    looks = [row["validation_map"] for row in log if "validation_map" in row]
    assert len(looks) == 12 and max(looks) > 0.5
    slope, _ = network.calibration.tolist()
    assert slope > 0
    assert {"step", "loss", "learning_rate", "seconds"} <= set(log[0])


def test_early_stop_counts_looks_without_progress(towns):
    frozen = replace(RECIPE, learning_rate=1e-12, validate_every=5, patience=2, steps=60)
    _, log = fit(SMALL, *towns, frozen)
    assert log[-1]["step"] < 60


def test_mahalanobis_is_fitted_on_training_photos(towns):
    network, _ = fit(
        replace(SMALL, scheme="grid", metrics=("cosine", "mahalanobis")),
        *towns,
        replace(RECIPE, steps=2),
    )
    fresh = build_network(network.config)
    key = next(name for name in network.state_dict() if "whitening" in name)
    assert not torch.equal(network.state_dict()[key], fresh.state_dict()[key])


def test_what_attention_learns_is_logged(towns):
    recipe = replace(RECIPE, steps=40, patience=20)
    network, log = fit(replace(SMALL, attention="har-normalised"), *towns, recipe)
    first, last = log[0], log[-1]
    names = [name for name in last if name.startswith("stage1.0 ")]
    assert [name.split()[1] for name in names] == ["c_i", "c_j", "c_k", "c_l", "mu", "sigma"]
    assert any(first[name] != last[name] for name in names)
    assert set(network.attention_readings()) <= set(last)


def test_masks_do_not_decay():
    model = build_network(replace(SMALL, attention="har-normalised"))
    weights, masks = build_optimiser(model, RECIPE).param_groups
    assert masks["weight_decay"] == 0 and len(masks["params"]) == 3 * 3
    assert weights["weight_decay"] == RECIPE.weight_decay
    assert len(build_optimiser(build_network(SMALL), RECIPE).param_groups) == 1


def test_paper_recipe_runs(towns):
    _, log = fit(SMALL, *towns, replace(PAPER_RECIPE, steps=4, batch=4, validate_every=4))
    assert all(np.isfinite(row["loss"]) for row in log)


SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from indiret.datasets import load_dataset
from indiret.networks import save_network
from indiret.training import fit
sys.path.insert(0, sys.argv[1])
from tests.test_training import RECIPE, SMALL
torch.set_num_threads(1)
here = Path(sys.argv[2])
network, log = fit(
    SMALL, load_dataset("oxford5k", here / "train"), load_dataset("oxford5k", here / "validation"),
    replace(RECIPE, steps=200), folder=Path(sys.argv[3]),
)
save_network(network, Path(sys.argv[3]) / "final.safetensors", {})
(Path(sys.argv[3]) / "log.json").write_text(json.dumps(log))
"""


def run_training(data: Path, folder: Path) -> subprocess.Popen:
    tests = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", SCRIPT, tests, str(data), str(folder)])


def kill_after_steps(process: subprocess.Popen, folder: Path, age: float) -> None:
    """Kill -9 a while after a new checkpoint has appeared, at whatever it is doing then."""
    checkpoint = folder / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
            time.sleep(age)
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def test_killed_run_ends_with_the_same_weights(towns, tmp_path):
    data = towns[0].root.parent
    whole = run_training(data, tmp_path / "whole")
    for age in (0.0, 0.13):
        kill_after_steps(run_training(data, tmp_path / "killed"), tmp_path / "killed", age)
    assert run_training(data, tmp_path / "killed").wait() == 0
    assert whole.wait() == 0
    one = load_file(tmp_path / "whole" / "final.safetensors")
    two = load_file(tmp_path / "killed" / "final.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    logs = [json.loads((tmp_path / run / "log.json").read_text()) for run in ("whole", "killed")]
    for row, other in zip(*logs, strict=True):
        row.pop("seconds"), other.pop("seconds")
        assert row == other


def test_checkpoint_of_another_run_is_refused(towns, tmp_path):
    short = replace(RECIPE, steps=5)
    fit(SMALL, *towns, short, folder=tmp_path)
    with pytest.raises(ValueError, match="other data or settings"):
        fit(SMALL, *towns, replace(short, seed=3), folder=tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        fit(SMALL, *towns, short, folder=tmp_path)


def test_shared_landmarks_are_refused(towns):
    with pytest.raises(ValueError, match="share 6 landmark"):
        fit(SMALL, towns[0], towns[0], RECIPE)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "at least 1"),
        ({"learning_rate": 0}, "above 0"),
        ({"seed": -1}, "at least 0"),
        ({"positives": 1.5}, "between 0 and 1"),
        ({"optimiser": "lion"}, "adamw, sgd"),
        ({"schedule": "flat"}, "cosine, steps"),
        ({"epochs": 3}, "choose from steps, batch"),
    ],
)
def test_bad_settings_get_a_sentence(setting, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig.from_dict(setting)


def test_junk_is_neither_answer_nor_distractor(tmp_path):
    town = make_tiny_town(tmp_path / "town", "a")
    junk = tmp_path / "town" / "groundtruth" / "a_0_1_junk.txt"
    junk.write_text("atown_000000\n")
    sampler = sampler_of(load_dataset("oxford5k", tmp_path / "town"))
    assert "atown_000000" not in sampler.distractors
    assert sampler.distractors == sorted(set(town.images) - set(sampler.boxes) - {"atown_000000"})


def test_grids_of_many_shapes_cannot_be_batched(towns):
    with pytest.raises(ValueError, match="aspect='squash'"):
        PairSampler(towns[0], build_network(replace(SMALL, aspect="keep")), RECIPE)


def test_a_diverged_run_stops_with_a_sentence(towns):
    with pytest.raises(ValueError, match="diverged"):
        fit(SMALL, *towns, replace(PAPER_RECIPE, steps=50, learning_rate=1e30))


def test_one_landmark_is_too_few(tmp_path):
    lonely = make_tiny_town(tmp_path / "lonely", "c", landmarks=1)
    with pytest.raises(ValueError, match="at least 2"):
        sampler_of(lonely)
