"""Figures of comparison: right and wrong answers are told apart, and so are the two sources."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from indiret import comparison
from indiret.comparison import Listed, ranked_lists, read_published, reported_and_measured

GREY = np.full((30, 40, 3), 128, dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    yield
    assert plt.get_fignums() == []


def test_ranked_lists_frame_right_and_wrong_answers():
    lists = {
        "gem": [Listed(GREY, np.eye(3), True), Listed(GREY, None, False)],
        "sift": [Listed(GREY, None, False), Listed(GREY, None, True)],
    }
    axes = ranked_lists(GREY, lists).axes
    titles = [ax.get_title() for ax in axes]
    assert titles == ["query", "gem   1 ✓", "2 ✗", "sift   1 ✗", "2 ✓"]
    assert [len(ax.patches) for ax in axes] == [0, 1, 1, 1, 1]
    assert not np.array_equal(axes[1].images[0].get_array(), GREY)
    np.testing.assert_array_equal(axes[2].images[0].get_array(), GREY)
    for wrong in ({}, {"a": []}, {"a": lists["gem"], "b": lists["gem"][:1]}):
        with pytest.raises(ValueError, match="lists of one length"):
            ranked_lists(GREY, wrong)


def test_reported_and_measured_stand_apart():
    rows = [row for row in read_published() if row.dataset == "paris6k"]
    left, right = reported_and_measured(rows, {"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.4)}).axes
    drawn = sorted(value for line in left.lines for value in line.get_xdata())
    assert drawn == sorted(row.mAP for row in rows)
    assert [label.get_text() for label in right.get_yticklabels()] == ["b", "a"]
    assert right.lines[0].get_xdata().tolist() == [0.3, 0.5]
    assert left.get_xlim() == right.get_xlim() == (0, 1)
    with pytest.raises(ValueError, match="figures of one data set"):
        reported_and_measured(comparison.read_published(), {"a": (0.5, 0.4, 0.6)})
