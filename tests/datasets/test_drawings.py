"""Drawings: a marker or a letterhead changes its own corner alone, and no two are the same."""

from indiret.datasets.drawings import chest_scan, handwritten_letter


def test_only_the_marker_changes_a_scan():
    plain, marked = chest_scan(3), chest_scan(3, marker=True)
    changed = (plain != marked).any(2)
    assert changed[:50, :50].any() and not changed[50:].any() and not changed[:, 50:].any()
    assert (plain != chest_scan(4)).any()


def test_only_the_letterhead_changes_a_letter():
    plain, headed = handwritten_letter(3, letterhead=False), handwritten_letter(3)
    changed = (plain != headed).any(2)
    assert changed[:60].any() and not changed[60:].any()
    assert (plain[60:] != handwritten_letter(4)[60:]).any()
