"""`indiret.cost`: what is predicted, beside what a small run then needs."""

import time
from dataclasses import replace

import pytest
from tiny_town import make_tiny_town

from indiret import cost
from indiret.baselines import build_method
from indiret.cost import Plan, Rates, estimate, measure_rates, measure_step
from indiret.datasets import load_dataset
from indiret.networks import build_network
from indiret.ranking import NetworkMethod, prepare, rank
from indiret.training import TrainingConfig, fit


@pytest.fixture
def processor_time(monkeypatch):
    """Others on the machine do not count."""
    monkeypatch.setattr(cost, "clock", time.process_time)


def within(value, measured, share=0.3):
    return abs(value - measured) <= share * measured


def test_ranking_toytown_costs_what_was_predicted(processor_time):
    town = load_dataset("toytown", split="validation")
    town = replace(town, images=dict(list(town.images.items())[::4]))
    method, queries = NetworkMethod(build_network("base")), town.queries[:3]
    rates = measure_rates(method, town, seconds=1)
    predicted = estimate(rates, Plan(photos=len(town.images), queries=len(queries)))
    began = time.process_time()
    prepared = prepare(method, town)
    rank(method, queries, town, prepared)
    seconds = time.process_time() - began
    assert predicted.pairs == len(queries) * len(town.images)
    assert within(predicted.hours * 3600, seconds), (predicted.hours * 3600, seconds)
    features = prepared.features.values()
    held = sum(tensor.nbytes for described in features for tensor in described.values())
    assert within(predicted.memory, held, 0.01)


def test_training_costs_what_was_predicted(processor_time, tmp_path):
    train = make_tiny_town(tmp_path / "train", "train", landmarks=8)
    validation = make_tiny_town(tmp_path / "validation", "validation", landmarks=2, distractors=0)
    config = TrainingConfig(steps=30, batch=4)
    method = NetworkMethod(build_network("base"))
    rates = measure_rates(method, train, seconds=1)
    rates = rates._replace(step=measure_step("base", train, config, seconds=3))
    looks = 2 * len(validation.queries) * len(validation.images)  # one look, one calibration
    plan = Plan(0, 0, trainings=1, training_photos=len(train.images), looks=looks)
    began = time.process_time()
    fit("base", train, validation, config, tmp_path / "run")
    seconds = time.process_time() - began
    predicted = estimate(rates, plan, config).hours * 3600
    assert within(predicted, seconds), (predicted, seconds)


def test_checkpoints_fit_the_predicted_disk(tmp_path):
    train = make_tiny_town(tmp_path / "train", "train", landmarks=3)
    validation = make_tiny_town(tmp_path / "validation", "validation", landmarks=2)
    config = TrainingConfig(steps=1, batch=2, validation_queries=1)
    network, _ = fit("base", train, validation, config, tmp_path / "run")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    plan = Plan(0, 0, trainings=1, training_photos=len(train.images))
    predicted = estimate(Rates(0, 0, 0), plan, config, parameters).disk
    held = sum(path.stat().st_size for path in (tmp_path / "run").iterdir()) + 4 * parameters
    assert within(predicted, held)


def test_an_estimate_adds_up():
    rates = Rates(photo=1.0, pair=0.1, kept=10, step=2.0)
    once = estimate(rates, Plan(photos=100, queries=5))
    assert once == (500, (105 + 50) / 3600, 1000, 0)
    assert estimate(rates, Plan(100, 5, rankings=2)).hours == pytest.approx((105 + 100) / 3600)
    config = TrainingConfig(steps=10_000, batch=4)
    plan = Plan(100, 5, trainings=10, training_photos=20, looks=30)
    learnt = estimate(rates, plan, config, parameters=1000)
    assert learnt.pairs == 500 + 10 * (30 + 40_000)
    described = 2 * 4 * 20  # every view, in so many steps
    one = 20_000 + described + 20 + 3
    assert learnt.hours * 3600 == pytest.approx(155 + 10 * one)
    assert learnt.memory == 1600 and learnt.disk == 200_000
    assert str(once) == "500 pairs, 0.04 hours, 0.0 GB of memory, 0.00 GB of disk"


def test_any_method_and_no_query(tmp_path):
    town = make_tiny_town(tmp_path, "town")
    rates = measure_rates(build_method("thumbnail"), town, seconds=0.1)
    assert rates.kept == 4096 and rates.photo > 0 and rates.pair > 0
    folder = load_dataset("folder", tmp_path / "images")
    with pytest.raises(ValueError, match="has no query to measure"):
        measure_rates(build_method("thumbnail"), folder)
