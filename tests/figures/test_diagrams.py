"""Diagrams of numbers: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest

from indiret.experiments.comparison import read_published
from indiret.figures import diagrams


def test_a_table_is_coloured_within_its_rows_or_its_limits():
    values = [[-3.0, -1.0], [10.0, 20.0]]
    (ax,) = diagrams.heat_table(values, ["a", "b"], ["x", "y"]).axes
    assert ax.images[0].get_array().tolist() == [[0, 1], [0, 1]]
    (ax,) = diagrams.heat_table(values, ["a", "b"], ["x", "y"], limits=(0, 20)).axes
    assert ax.images[0].get_array()[1].tolist() == [0.5, 1]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]


def test_a_row_of_equal_numbers_and_minus_zero_are_no_trouble():
    (ax,) = diagrams.heat_table([[-0.0001, -0.0001]], ["a"], ["x", "y"]).axes
    assert [text.get_text() for text in ax.texts] == ["0.00", "0.00"]
    assert np.isfinite(ax.images[0].get_array()).all()


def test_bars_say_their_numbers_and_chance():
    (ax,) = diagrams.bars({"cosine": 0.1, "zncc": 0.25}, "share", chance=0.05).axes
    assert [bar.get_width() for bar in ax.patches] == [0.1, 0.25]
    assert [text.get_text() for text in ax.texts] == ["0.10", "0.25"]
    assert ax.get_legend().get_texts()[0].get_text() == "by chance 0.05"
    assert ax.yaxis_inverted()  # the first one on top


def test_planes_join_the_points_along_the_plane():
    points = [[2, 5, 0, 0], [4, 5, 1, 0], [6, 6, 2, 1]]
    rows, columns = diagrams.plane_fit(points, ([[2, 0], [0, 1]], [2, 5])).axes
    (line,) = rows.lines
    np.testing.assert_allclose(line.get_xdata(), [0, 2])
    np.testing.assert_allclose(line.get_ydata(), [2, 6])
    sizes = columns.collections[0].get_sizes()
    assert sizes.tolist() == [24, 12]  # two pairs fall on (l, j) = (0, 5)


def test_histograms_give_each_sample_its_own_total():
    (ax,) = diagrams.histograms({"few": [0.0, 1.0], "many": np.linspace(0, 1, 50)}, "x").axes
    for shape in ax.patches:  # one outline each
        corners = shape.get_xy()
        x, y = corners[:, 0], corners[:, 1]
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        assert area == pytest.approx(1 / 12)  # shares sum to 1 over bins of a twelfth


def test_views_share_one_scale():
    figure = diagrams.matrices({"low": np.zeros((3, 4)), "high": np.full((3, 4), 7.0)}, "alike")
    low, high = (ax.images[0] for ax in figure.axes[:2])
    assert low.get_clim() == high.get_clim()
    assert figure.axes[-1].get_ylabel() == "alike"


def test_curves_draw_means_in_bands_panel_by_panel():
    line = [(1.0, 0.9, 1.0), (0.5, 0.2, 0.6)]
    panels = {"scale": {"base": line, "planes": line}, "light": {"base": line}}
    places, labels = {"scale": [1, 2], "light": [0, 4]}, {"scale": "times", "light": "stops"}
    figure = diagrams.curves(panels, places, labels, "found")
    scale, light = figure.axes
    assert [drawn.get_label() for drawn in scale.lines] == ["base", "planes"]
    np.testing.assert_allclose(light.lines[0].get_xydata(), [(0, 1.0), (4, 0.5)])
    heights = light.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.2, 1.0)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base", "planes"]


def test_trajectories_leave_out_steps_without_a_value():
    log = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6, "validation_map": 0.2}]
    loss, validation = diagrams.trajectories({"run": log}, ["loss", "validation_map"]).axes
    assert loss.lines[0].get_xdata().tolist() == [1, 2]
    assert validation.lines[0].get_xdata().tolist() == [2]


def test_reported_and_measured_stand_apart():
    rows = [row for row in read_published() if row.dataset == "paris6k"]
    left, right = diagrams.reported_and_measured(
        rows, {"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.4)}
    ).axes
    drawn = sorted(value for line in left.lines for value in line.get_xdata())
    assert drawn == sorted(row.mAP for row in rows)
    assert [label.get_text() for label in right.get_yticklabels()] == ["a", "b"]
    assert right.lines[0].get_xydata().tolist() == [[0.5, 1], [0.3, 0]]
    assert left.get_xlim() == right.get_xlim() == (0, 1)
    with pytest.raises(ValueError, match="figures of one data set"):
        diagrams.reported_and_measured(read_published(), {"a": (0.5, 0.4, 0.6)})
