"""`indiret.evaluation.shapes`: fitted shapes against closed forms and a loop over the tensor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.evaluation import SHAPES, matching_points, shape_precision, shape_recall
from indiret.evaluation.shapes import fit_gaussian, fit_sphere


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_a_sphere_is_found_again(seed):
    random = np.random.default_rng(seed)
    center, radius = random.normal(size=4), random.uniform(0.5, 2)
    directions = random.normal(size=(40, 4))
    points = center + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    distance = fit_sphere(points)
    assert distance(points).max() < 1e-6
    assert distance(center) == pytest.approx(radius)


def test_gaussian_distance_is_mahalanobis():
    random = np.random.default_rng(0)
    points = random.normal(size=(200, 4)) @ np.diag([1.0, 2, 0.5, 1])
    inverse = np.linalg.inv(np.cov(points.T))
    away = random.normal(size=4)
    expected = np.sqrt((away - points.mean(0)) @ inverse @ (away - points.mean(0)))
    assert fit_gaussian(points)(away) == pytest.approx(expected, rel=1e-3)


def test_precision_equals_a_loop():
    random = np.random.default_rng(1)
    points = np.unique(random.integers(0, 5, (20, 4)), axis=0)
    for shape, fit in SHAPES.items():
        normal = (2 * points + 1) / 5 - 1
        distance = fit(normal)
        limit = np.quantile(distance(normal), 0.9) + 1e-9
        inside = sum(
            bool(distance((2 * np.array(place) + 1) / 5 - 1) <= limit)
            for place in np.ndindex(5, 5, 5, 5)
        )
        expected = (distance(normal) <= limit).sum() / inside
        assert shape_precision(points, (5, 5, 5, 5), shape) == pytest.approx(expected)
        held = (distance(normal) <= limit).mean()
        assert shape_recall(points, (5, 5, 5, 5), shape, inside) == pytest.approx(held)


def test_matching_points_and_bad_input():
    assert matching_points(np.array([[[4, 5], [-1, -1]]])).tolist() == [[4, 5, 0, 0]]
    points = np.random.default_rng(0).integers(0, 5, (20, 4))
    with pytest.raises(ValueError, match="ball, sphere, gaussian, plane"):
        shape_precision(points, (5, 5, 5, 5), "cube")
    with pytest.raises(ValueError, match="determine no shape"):
        shape_precision(points[:5], (5, 5, 5, 5), "plane")
    with pytest.raises(ValueError, match="from 1 to 625"):
        shape_recall(points, (5, 5, 5, 5), "plane", 626)
