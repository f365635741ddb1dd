"""`indiret.experiments.forecast`: what is predicted, beside what a small run then needs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from indiret.experiments import forecast
from indiret.experiments.forecast import Rates, count_run, estimate_grid, measure_rates
from indiret.experiments.reproduction import RunConfig
from indiret.retrieval import Retriever, build_retriever, index_database, rank
from tests.tiny_town import make_tiny_town


class Clockwork(Retriever):
    """A method that needs 0.05 s a photo and 0.002 s a pair, by a clock of its own."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def encode(self, picture):
        self.now += 0.05
        return np.zeros(1000, dtype=np.float32)

    def score(self, query, database):
        self.now += 0.002 * len(database)
        return np.zeros(len(database))


def test_ranking_costs_what_was_predicted(tmp_path, monkeypatch):
    town = make_tiny_town(tmp_path, "town")
    method = Clockwork()
    monkeypatch.setattr(forecast, "_clock", method.clock)
    rates = measure_rates(method, town, seconds=1)
    predicted = forecast.estimate(rates, photos=len(town.images), queries=len(town.queries))
    began = method.now
    rank(method, town.queries, town, index_database(method, town))
    assert predicted.hours * 3600 == pytest.approx(method.now - began)
    assert predicted.pairs == len(town.queries) * len(town.images)
    assert predicted.memory == 4000 * len(town.images)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town"), "a", landmarks=8, views=5)


def test_no_query_is_no_pair(town):
    with pytest.raises(ValueError, match="no query"):
        measure_rates(build_retriever("thumbnail"), replace(town, queries=()))


def config_of(town, **changes):
    return RunConfig(dataset="oxford5k", root=str(town.root), folds=4, **changes)


@pytest.mark.parametrize("draws", [1, 30, 400])
def test_different_ones_among_draws(draws):
    random = np.random.default_rng(0)
    counts = [len(set(random.integers(50, size=draws))) for _ in range(200)]
    assert forecast.distinct(50, draws) == pytest.approx(np.mean(counts), rel=0.03)


def test_parts_of_a_run_are_counted_right(town):
    config = config_of(town, steps=25, feedback=("mean", "max"))
    ranked = len(config.part(town).test) * len(town.images)
    pairs, steps = count_run(Rates(photo=0, pair=0, step=1), config, town)
    judged = count_run(Rates(photo=0, pair=1), config, town)[1]
    assert steps == 25 and 3 * ranked < judged == pairs - 25 * config.recipe.batch
    alone = config_of(town, method="thumbnail")
    assert count_run(Rates(photo=0, pair=1), alone, town) == (ranked, ranked)


def test_a_grid_is_measured_and_adds_up(town):
    configs = [config_of(town, steps=2, by=by) for by in ("query", "landmark")]
    configs.append(config_of(town, method="thumbnail"))
    found = estimate_grid(configs, processes=2, seconds=1, notebooks=False)
    assert estimate_grid(configs, processes=2, seconds=1).memory > found.memory
    assert found.runs == 3 and found.processes == 2 and 0 < found.hours < 0.1
    longer = [config_of(town, steps=2000, by=by) for by in ("query", "landmark")]
    assert estimate_grid(longer, 2, 1, notebooks=False).hours > 5 * found.hours
    assert "3 runs" in str(found) and " with 2 at once, " in str(found)


def test_a_part_of_the_grid_took_what_was_forecast():
    """As `benchmarks/forecast.py` measured it on one machine, nearly free at first, then busy."""
    free, busy = json.loads(forecast.STORED_FORECAST.read_text())
    for found, names in (free, ("hours", "processor_hours", "disk")), (busy, ("processor_hours",)):
        foreseen, measured = found["forecast"], found["measured"]
        assert foreseen["runs"] == measured["runs"] >= 4
        for name in names:
            assert foreseen[name] == pytest.approx(measured[name], rel=0.3), name
