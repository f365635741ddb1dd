"""`indiret.cost`: what is predicted, beside what a small run then needs."""

import numpy as np
import pytest
from tiny_town import make_tiny_town

from indiret import cost
from indiret.baselines import build_method
from indiret.cost import Rates, estimate, measure_rates
from indiret.datasets import load_dataset
from indiret.ranking import prepare, rank


class Clockwork:
    """A method that needs 0.05 s a photo and 0.002 s a pair, by a clock of its own."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def prepare(self, picture):
        self.now += 0.05
        return np.zeros(1000, dtype=np.float32)

    def score(self, query, database):
        self.now += 0.002 * len(database)
        return np.zeros(len(database))


def test_ranking_costs_what_was_predicted(monkeypatch):
    town = load_dataset("toytown", split="validation")
    method = Clockwork()
    monkeypatch.setattr(cost, "clock", method.clock)
    rates = measure_rates(method, town, seconds=1)
    predicted = estimate(rates, photos=len(town.images), queries=len(town.queries))
    began = method.now
    rank(method, town.queries, town, prepare(method, town))
    assert predicted.hours * 3600 == pytest.approx(method.now - began)
    assert predicted.pairs == len(town.queries) * len(town.images)
    assert predicted.memory == 4000 * len(town.images)


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
