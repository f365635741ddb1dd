"""`indiret.baselines.verifier_training` on a small network and small towns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.baselines import verifier_training
from indiret.baselines.verifier_training import SetSampler, fit_verifier, set_reader
from indiret.baselines.verifiers import VERIFIERS
from indiret.datasets import join_datasets, load_dataset
from indiret.training import TrainingConfig
from tests.baselines.toys import toy
from tests.tiny_town import make_tiny_town

RECIPE = TrainingConfig(
    steps=30, batch=6, learning_rate=3e-3, validate_every=10, checkpoint_every=5, patience=9
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for verifier in VERIFIERS.values():  # a toy has fewer channels than these want dimensions
        defaults = tuple(min(value, 8) for value in verifier.__init__.__defaults__)
        monkeypatch.setattr(verifier.__init__, "__defaults__", defaults)


@pytest.mark.parametrize("kind", VERIFIERS)
def test_the_loss_falls(kind, towns):
    verifier, log = fit_verifier(kind, toy(), *towns, replace(RECIPE, steps=60))
    losses = [row["loss"] for row in log if "loss" in row]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert log[0]["step"] == 0 and 0 < log[0]["validation_map"] <= 1
    assert not verifier.training


def test_batches_are_true_and_a_function_of_seed_and_step(towns):
    train, backbone = towns[0], toy()
    verifier = VERIFIERS["siam-fv"](12)
    sampler = SetSampler(train, set_reader(backbone, verifier), RECIPE)
    owner = {id(sets): name for name, sets in sampler.targets.items()}
    asking = {id(sets): name for name, sets in sampler.queries.items()}
    queries, targets, relevant = sampler.batch(3)
    assert relevant.shape == (6, 14) and (relevant.sum(1) == 2).all()  # 2 of no landmark
    for query, row in zip(queries, relevant, strict=True):
        name = asking[id(query)]
        for target, answers in zip(targets, row, strict=True):
            assert (owner[id(target)][:3] == name[:3]) == bool(answers)
            assert owner[id(target)] != name
    again = SetSampler(train, set_reader(backbone, verifier), RECIPE).batch(3)
    assert all(torch.equal(a, b) for a, b in zip(queries, again[0], strict=True))
    other = SetSampler(train, set_reader(backbone, verifier), replace(RECIPE, seed=1)).batch(3)
    assert not all(map(torch.equal, targets, other[1]))


@pytest.mark.parametrize("kind", ["siam-fv", "non-metric"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(kind, towns, tmp_path, monkeypatch):
    whole, log = fit_verifier(kind, toy(), *towns, RECIPE)
    batch = SetSampler.batch

    def stopping(self, step):
        if step == 17:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(SetSampler, "batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit_verifier(kind, toy(), *towns, RECIPE, tmp_path)
    monkeypatch.setattr(SetSampler, "batch", batch)
    resumed, again = fit_verifier(kind, toy(), *towns, RECIPE, tmp_path)
    state = whole.state_dict()
    assert all(torch.equal(state[name], part) for name, part in resumed.state_dict().items())
    assert [row["step"] for row in again] == [row["step"] for row in log]
    with pytest.raises(ValueError, match="other data or settings"):
        fit_verifier(kind, toy(), *towns, replace(RECIPE, seed=1), tmp_path)


def test_what_cannot_be_learnt_from_is_refused(towns, tmp_path):
    with pytest.raises(ValueError, match="share"):
        fit_verifier("siam-fv", toy(), towns[0], towns[0], RECIPE)
    lone = make_tiny_town(tmp_path / "lone", "c", views=1)
    with pytest.raises(ValueError, match="two photos or more"):
        fit_verifier("siam-fv", toy(), lone, towns[1], RECIPE)


def test_pairs_of_photos_teach_beside_a_town(towns, tmp_path):
    for side in ("Query", "Reference"):
        (tmp_path / side).mkdir()
        for number in range(6):
            picture = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / side / f"{number}.png")
    both = join_datasets(towns[0], load_dataset("pairs", tmp_path))
    sampler = SetSampler(
        both, set_reader(toy(), VERIFIERS["deep-retrieval"](12)), replace(RECIPE, batch=12)
    )
    assert len(sampler.landmarks) == 12 and len(sampler.distractors) == 4
    relevant = sampler.batch(0)[2]
    assert sorted(relevant.sum(1).tolist()) == [1] * 6 + [2] * 6  # a pair has one answer
    assert both.manifest_hash() != towns[0].manifest_hash()
    log = fit_verifier("deep-retrieval", toy(), both, towns[1], RECIPE)[1]
    assert log[-1]["step"] == RECIPE.steps
    with pytest.raises(ValueError, match="share 34 names"):
        join_datasets(towns[0], towns[0])


def test_every_verifier_has_a_recipe():
    assert list(verifier_training.RECIPES) == list(VERIFIERS)


def test_a_large_photo_has_no_larger_say_in_the_start():
    small, large = torch.zeros(10, 2).half(), torch.ones(1000, 2).half()
    found = verifier_training._spread([small, small, large], most=30)
    assert found.dtype == torch.float32
    assert found[:, 0].tolist() == [0.0] * 20 + [1.0] * 10
    assert len(verifier_training._spread([small] * 3, most=2)) == 3  # one of each at least
