"""Figures 3 to 5 for any methods: what is drawn is what was given."""

import numpy as np
import pytest

from indiret.experiments.comparison import read_published
from indiret.figures import RankedPicture, ranked_lists, reported_and_measured

GREY = np.full((30, 40, 3), 128, dtype=np.uint8)


def test_ranked_lists_frame_right_and_wrong_answers():
    lists = {
        "gem": [RankedPicture(GREY, np.eye(3), True), RankedPicture(GREY, None, False)],
        "sift": [RankedPicture(GREY, None, False), RankedPicture(GREY, None, True)],
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
        reported_and_measured(read_published(), {"a": (0.5, 0.4, 0.6)})
