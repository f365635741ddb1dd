"""`indiret.cost`: what is predicted, beside what a small run then needs."""

import time
from dataclasses import replace

import pytest
from tiny_town import make_tiny_town

from indiret import cost
from indiret.baselines import build_method
from indiret.cost import Rates, estimate, measure_rates
from indiret.datasets import load_dataset
from indiret.networks import build_network
from indiret.ranking import NetworkMethod, prepare, rank


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
    predicted = estimate(rates, photos=len(town.images), queries=len(queries))
    began = time.process_time()
    prepared = prepare(method, town)
    rank(method, queries, town, prepared)
    seconds = time.process_time() - began
    assert predicted.pairs == len(queries) * len(town.images)
    assert within(predicted.hours * 3600, seconds), (predicted.hours * 3600, seconds)
    features = prepared.features.values()
    held = sum(tensor.nbytes for described in features for tensor in described.values())
    assert within(predicted.memory, held, 0.01)


def test_an_estimate_adds_up():
    rates = Rates(photo=1.0, pair=0.1, kept=10)
    once = estimate(rates, photos=100, queries=5)
    assert once == (500, (105 + 50) / 3600, 1000)
    assert estimate(rates, 100, 5, rounds=2).hours == pytest.approx((105 + 100) / 3600)
    assert str(once) == "500 pairs, 0.04 hours, 0.0 GB of memory"


def test_any_method_and_no_query(tmp_path):
    town = make_tiny_town(tmp_path, "town")
    rates = measure_rates(build_method("thumbnail"), town, seconds=0.1)
    assert rates.kept == 4096 and rates.photo > 0 and rates.pair > 0
    folder = load_dataset("folder", tmp_path / "images")
    with pytest.raises(ValueError, match="has no query to measure"):
        measure_rates(build_method("thumbnail"), folder)
