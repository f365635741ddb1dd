"""`indiret.experiments.forecast`: what is predicted, beside what a small run then needs."""

import json

import numpy as np
import pytest

from indiret.baselines import build_method
from indiret.cost import RunRates
from indiret.datasets import load_dataset
from indiret.experiments import forecast
from indiret.experiments.forecast import (
    Rates,
    count_run,
    distinct,
    estimate,
    estimate_grid,
    in_words,
    measure_rates,
)
from indiret.experiments.reproduction import RunConfig
from indiret.ranking import prepare, rank
from tests.tiny_town import make_tiny_town
from tools.scale_page import tables


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
    monkeypatch.setattr(forecast, "clock", method.clock)
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
    assert str(once) == "500 pairs, 3 min, 0.0 GB of memory"


def test_any_method_and_no_query(tmp_path):
    town = make_tiny_town(tmp_path, "town")
    rates = measure_rates(build_method("thumbnail"), town, seconds=0.1)
    assert rates.kept == 4096 and rates.photo > 0 and rates.pair > 0
    folder = load_dataset("folder", tmp_path / "images")
    with pytest.raises(ValueError, match="has no query to measure"):
        measure_rates(build_method("thumbnail"), folder)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town"), "a", landmarks=8, views=5)


def config_of(town, **changes):
    return RunConfig(dataset="oxford5k", root=str(town.root), folds=4, **changes)


@pytest.mark.parametrize("draws", [1, 30, 400])
def test_different_ones_among_draws(draws):
    random = np.random.default_rng(0)
    counts = [len(set(random.integers(50, size=draws))) for _ in range(200)]
    assert distinct(50, draws) == pytest.approx(np.mean(counts), rel=0.03)


def test_parts_of_a_run_are_counted_right(town):
    config = config_of(town, steps=25, feedback=("mean", "max"))
    fold, photos = config.part(town), len(town.images)
    pairs, steps = count_run(Rates(photo=0, pair=0, step=1), config, town)
    lessons = 4 * 3 * sum(len(query.positives) - 1 for query in fold.test) / config.recipe.batch
    assert steps == pytest.approx(25 + lessons)
    judged = count_run(Rates(photo=0, pair=1), config, town)[1]
    assert judged == pairs - steps * config.recipe.batch
    assert judged > 3 * len(fold.test) * photos
    alone = count_run(Rates(photo=0, pair=1), config_of(town, method="thumbnail"), town)
    assert alone == (len(fold.test) * photos, len(fold.test) * photos)


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


def test_the_page_on_scale_says_what_was_measured_and_what_was_not():
    rates = RunRates(photo=0.02, pair=0.005, step=0.3, target=0.02, query=0.01, kept=800_000)
    done = {"photos": 512, "queries": 2, "block": 128, "processor_seconds": 30.0}
    done |= {"gb_after_one_block": 0.7, "gb_at_the_end": 0.71}
    part = {"machine": "x", "rates": rates._asdict(), "rehearsals": {"full": done}}
    page = tables(part)
    assert "A part was rehearsed" in page and "worked out from its rates, not run" in page
    assert "| Oxford, 5,063 photos | 278,465 |" in page and "55,278,465" in page
    gpu = (30.0 - 1024 * 0.005) / 514 * (5063 + 55) / 16  # all but the pairs, on 16 cores
    row = next(line for line in page.splitlines() if line.startswith("| Oxford, 5,063"))
    assert row.split(" | ")[4] == in_words(gpu / 3600)
    whole = done | {"photos": 5063, "queries": 55, "processor_seconds": 1700.0}
    page = tables(part | {"rehearsals": {"full": whole}})
    assert "The whole of Oxford was rehearsed" in page and "not run" not in page
    page = tables(part | {"rehearsals": {"full": done, "fast": whole}})
    assert "in the fast setting: 5,063 photos for 55 queries, 278,465 pairs" in page
    assert "A part was rehearsed" in page and page.index("fast") < page.index("A part")
