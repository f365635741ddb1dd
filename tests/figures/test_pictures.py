"""Pictures under evidence: what is drawn is what was given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import ConnectionPatch

from indiret import figures
from indiret.evidence import Evidence


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    shapes = (90, 120, 3), (120, 80, 3), (60, 160, 3)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def test_overlay_is_warm_only_where_the_map_is_strong(pictures):
    grey = np.full_like(pictures[0], 128)
    spot = np.zeros((3, 4))
    spot[0, 3] = 5.0
    shown = figures.overlay(grey, spot).astype(int)
    warmth = shown[..., 0] - shown[..., 2]
    assert warmth[10, 110] > 60
    assert abs(warmth[80, 10]) <= 1


def test_overlay_knows_no_scale_and_a_constant_map_is_finite(pictures):
    values = np.random.default_rng(1).random((4, 4))
    shown = figures.overlay(pictures[0], torch.from_numpy(values))
    np.testing.assert_array_equal(shown, figures.overlay(pictures[0], values * 1e-6))
    for value in (0.0, 3.0):
        shown = figures.overlay(pictures[1], np.full((2, 2), value))
        assert shown.shape == pictures[1].shape and shown.dtype == np.uint8


def test_lines_join_the_centres_of_the_matched_patches(pictures):
    query, target, _ = pictures
    pairs = torch.zeros(4, 5, 6, 3)
    assert figures.draw_evidence_pairs(query, target, Evidence(-3.0, pairs)).artists == []
    pairs[3, 1, 2, 0] = 2.0
    figure = figures.draw_evidence_pairs(query, target, Evidence(1.0, pairs))
    line = next(artist for artist in figure.artists if isinstance(artist, ConnectionPatch))
    assert line.xy1 == pytest.approx((120 / 6, 90 * 2.5 / 6))
    assert line.xy2 == pytest.approx((80 * 1.5 / 5, 120 * 3.5 / 4))


def test_ranked_strip_says_right_and_wrong_in_words_too(pictures):
    figure = figures.ranked_strip(pictures[0], pictures, ["a", "b", "c"], [True, False, None])
    assert [ax.get_title() for ax in figure.axes] == ["query", "a ✓", "b ✗", "c"]
    for hits, captions, words in ((pictures, ["a"], "3 hits, 1 captions"), ([], None, "0 hits")):
        with pytest.raises(ValueError, match=words):
            figures.ranked_strip(pictures[0], hits, captions)


def test_figures_can_be_saved(pictures, tmp_path):
    evidence = Evidence(1.0, torch.rand(4, 5, 6, 3))
    figures.draw_evidence_pairs(*pictures[:2], evidence).savefig(tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").stat().st_size > 1000


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = np.array(to_rgb(colour))
        curved = ((channels + 0.055) / 1.055) ** 2.4
        linear = np.where(channels <= 0.03928, channels / 12.92, curved)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", [figures.INK, figures.GOOD, figures.BAD])
def test_text_reads_on_the_figures_own_ground(colour):
    assert contrast(colour, figures.BACKGROUND) > 4


def test_patches_lie_apart_in_their_order():
    patches = np.zeros((2, 3, 4 * 4 * 3))
    patches[1, 2] = 1
    photo, sheet = figures.patch_mosaic(np.zeros((40, 60, 3), np.uint8), patches).axes
    assert photo.get_title() == "40 × 60 pixels"
    drawn = np.asarray(sheet.images[0].get_array())
    assert drawn.shape == (10, 15, 3)
    assert drawn[5:9, 10:14].min() == 255 and drawn[:4, :4].max() == 0
    assert (drawn[4] == drawn[0, 4]).all()  # the gap is all paper


def test_a_response_marks_the_patch_its_partner_and_the_best(pictures):
    query, target, _ = pictures
    similarity = np.zeros((4, 5))
    similarity[3, 1] = 2
    figure = figures.patch_responses(query, target, {"zncc": similarity}, (2, 0), (6, 3), (1, 4))
    asked, answered = figure.axes
    frame, partner = asked.patches[-1], answered.patches[-1]
    assert (frame.get_x(), frame.get_y()) == pytest.approx((-0.5, 2 * 90 / 6 - 0.5))
    assert (partner.get_x(), partner.get_y()) == pytest.approx((4 * 80 / 5 - 0.5, 120 / 4 - 0.5))
    (ring, _) = answered.lines
    assert ring.get_xydata()[0] == pytest.approx((80 * 1.5 / 5, 120 * 3.5 / 4))


def test_ranked_lists_frame_right_and_wrong_answers(pictures):
    asked, *_ = pictures
    right, wrong = (figures.RankedPicture(asked, None, relevant) for relevant in (True, False))
    lists = {"gem": [right._replace(evidence=np.eye(3)), wrong], "sift": [wrong, right]}
    axes = figures.ranked_lists(asked, lists).axes
    titles = [ax.get_title() for ax in axes]
    assert titles == ["gem   1 ✓", "2 ✗", "sift   1 ✗", "2 ✓", "query"]
    assert [len(ax.patches) for ax in axes] == [1, 1, 1, 1, 0]
    assert not np.array_equal(axes[0].images[0].get_array(), asked)
    np.testing.assert_array_equal(axes[1].images[0].get_array(), asked)
    for refused in ({}, {"a": []}, {"a": lists["gem"], "b": lists["gem"][:1]}):
        with pytest.raises(ValueError, match="lists of one length"):
            figures.ranked_lists(asked, refused)


def test_windows_are_framed_where_they_lie(pictures):
    (ax,) = figures.patch_windows(pictures[0], {"dense": [[10, 20, 50, 40]]}).axes
    assert {frame.get_bbox().bounds for frame in ax.patches} == {(9.5, 19.5, 40, 20)}


def test_each_map_stands_over_its_photo(pictures):
    """Targets above, the query below, a column for each kind of evidence."""
    pairs = torch.zeros(4, 5, 6, 3)
    pairs[3, 1, 2, 0] = 2.0
    evidences = {name: Evidence(1.0, pairs) for name in ("Base", "HAR")}
    axes = figures.evidence_columns(pictures[0], pictures[1], evidences).axes
    assert [ax.get_title() for ax in axes] == ["Base", "HAR", "", ""]
    maps = evidences["HAR"].target_map, evidences["HAR"].query_map
    for ax, picture, values in zip(axes[1::2], pictures[1::-1], maps, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), figures.overlay(picture, values))
