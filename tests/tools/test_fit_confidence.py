"""Places of known probability: the line comes back, and a part is found in its whole."""

import numpy as np
import pytest
import torch

from indiret.planes import PlaneRetriever
from indiret.planes.confidence import line_probability
from tests.planes.conftest import scene
from tools.fit_confidence import Case, Points, fit_line, judge, measure, toytown_cases

LINE = 1.5, -1.0, -0.5


def drawn_points(count: int = 10_000) -> Points:
    random = np.random.default_rng(0)
    traits = random.exponential(1, (count, 2))
    likely = line_probability(torch.from_numpy(traits), torch.tensor(LINE)).numpy()
    names = np.full(count, "source"), random.integers(0, 30, count).astype(str)
    right = random.random(count) < likely
    return Points(*names, traits, right, right | (random.random(count) < 0.5))


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of bins without points
def test_the_line_that_drew_the_points_comes_back_and_is_calibrated():
    points = drawn_points()
    assert fit_line(points) == pytest.approx(LINE, abs=0.1)
    good, flat = measure(points, LINE), measure(points, (0.0, 0.0, -3.0))
    assert good["error"][0] < 0.015 and good["error"][2] < 0.03 < flat["error"][1]
    assert good["brier"] < good["constant"] < flat["brier"] and flat["auc"] == 0
    assert good["auc"] > 0.7 and good["low_right"] < 0.5 < good["low_not_shown"] + good["low_right"]


def test_places_of_a_part_in_its_whole_are_right_and_points_outside_are_left_out():
    whole, random = scene(0, 192, 240), np.random.default_rng(0)
    part, points = whole[40:140, 60:180], random.uniform(0.1, 0.9, (20, 2))
    truth = (points * (120, 100) + (60, 40)) / (240, 192)
    found, left_out = judge(iter([Case("a", "b", part, whole, points, truth)]), PlaneRetriever())
    assert found.right.all() and found.shown.all() and left_out == 0
    back = Case(
        "a", "b", whole, part, np.array([[0.05, 0.05], [0.5, 0.5]]), np.full((2, 2), np.nan)
    )
    found, left_out = judge(iter([back]), PlaneRetriever())
    assert left_out == 1 and not found.right.any() and not found.shown.any()


def test_toytown_tells_where_patches_are():
    case = next(toytown_cases("validation"))
    shown = np.isfinite(case.truth).all(-1)
    assert 0.2 < shown.mean() < 1 and (np.abs(case.truth[shown] - 0.5) <= 0.5).all()
