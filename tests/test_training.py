from dataclasses import replace

import pytest
import torch

from indiret.checkpoints import load_network, save_network
from indiret.network import CONFIGS, build_network
from indiret.training import PAPER_RECIPE, TrainingConfig, build_optimiser, fingerprint_run, fit
from tests.tiny_town import make_tiny_town

SMALL = replace(CONFIGS["base"], grid=(6, 6), query_grid=(5, 5), size=8, scales=(1.0,), width=4)
RECIPE = TrainingConfig(
    steps=60, batch=8, validate_every=20, checkpoint_every=5, validation_queries=4
)


def test_fit_learns_and_logs(tmp_path):
    """Unseen posters are told apart: at random it is 0.17 (two positives among 22 pictures)."""
    train = make_tiny_town(tmp_path / "train", "a", landmarks=16)
    validation = make_tiny_town(tmp_path / "validation", "b", seed=1)
    network, log = fit(SMALL, train, validation, replace(RECIPE, steps=240, patience=20))
    assert not network.training
    assert log[-1]["loss"] < log[0]["loss"] - 0.1
    validations = [row["validation_map"] for row in log if "validation_map" in row]
    assert len(validations) == 12 and max(validations) > 0.5
    assert network.calibration[0] > 0
    assert {"step", "loss", "learning_rate", "seconds"} <= set(log[0])


def test_early_stop_counts_validations_without_progress(towns):
    frozen = replace(RECIPE, learning_rate=1e-12, validate_every=5, patience=2, steps=60)
    _, log = fit(SMALL, *towns, frozen)
    assert log[-1]["step"] < 60


def test_mahalanobis_is_fitted_on_training_photos(towns):
    config = replace(SMALL, scheme="grid", metrics=("cosine", "mahalanobis"))
    network, _ = fit(config, *towns, replace(RECIPE, steps=2))
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
    assert set(network.attention_parameters()) <= set(last)


def test_masks_do_not_decay():
    model = build_network(replace(SMALL, attention="har-normalised"))
    weights, masks = build_optimiser(model, RECIPE).param_groups
    assert masks["weight_decay"] == 0 and len(masks["params"]) == 3 * 3
    assert weights["weight_decay"] == RECIPE.weight_decay
    assert len(build_optimiser(build_network(SMALL), RECIPE).param_groups) == 1


def test_a_run_that_cannot_be_goes_no_further(towns, tmp_path):
    short = replace(RECIPE, steps=5)
    network, log = fit(SMALL, *towns, short, folder=tmp_path)
    with pytest.raises(ValueError, match=r"other data or settings \(training seed\)"):
        fit(SMALL, *towns, replace(short, seed=3), folder=tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="training starts afresh"):
        again, its_log = fit(SMALL, *towns, short, folder=tmp_path)
    assert [row["loss"] for row in its_log] == [row["loss"] for row in log]
    save_network(again, tmp_path / "network.safetensors")
    made_by = load_network(tmp_path / "network.safetensors").run
    assert made_by == network.run == fingerprint_run(SMALL, short, *towns)
    with pytest.raises(ValueError, match="share 6 landmark"):
        fit(SMALL, towns[0], towns[0], RECIPE)
    with pytest.raises(ValueError, match="diverged"):
        fit(SMALL, *towns, replace(PAPER_RECIPE, steps=50, learning_rate=1e30))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "at least 1"),
        ({"learning_rate": 0}, "above 0"),
        ({"seed": -1}, "at least 0"),
        ({"positives": 1.5}, "between 0 and 1"),
        ({"optimiser": "lion"}, "adamw, sgd"),
        ({"schedule": "flat"}, "cosine, steps"),
    ],
)
def test_bad_settings_get_a_sentence(setting, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**setting)
