"""Margins of known probability: the line comes back, and so do the bins and the counts."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from indiret.cli.hits import is_found
from indiret.evaluation import robust_z_score
from indiret.planes import load_plane_network
from indiret.retrieval import Hit, build_retriever
from tools.fit_calibration import (
    OUT,
    PRIOR,
    WEIGHTS,
    Pairs,
    Search,
    count_found,
    fit_line,
    for_share,
    hold_out_scenes,
    keep_pairs,
    probabilities,
    reliability,
    weigh,
)


def drawn_pairs(count: int = 12_000) -> Pairs:
    """Two sources of other shares of right pairs, whose margins say as much of either."""
    random = np.random.default_rng(0)
    source = np.where(np.arange(count) < count // 2, "one", "two")
    right = random.random(count) < np.where(source == "one", 0.1, 0.3)
    margin = random.normal(np.where(right, 8, 0), 2)  # log odds less those of the prior: 2 m - 8
    scene = random.integers(0, 40, count).astype(str)
    query = np.char.add(source, scene)
    return Pairs(source, scene, query, right, margin, margin, np.arange(count) % 2 == 0)


def test_sources_count_alike_and_as_if_one_in_thirty_were_right():
    pairs = drawn_pairs()
    weights = weigh(pairs)
    for source in ("one", "two"):
        chosen = pairs.source == source
        assert weights[chosen].sum() == pytest.approx(len(weights) / 2)
        assert weights[chosen & pairs.right].sum() == pytest.approx(PRIOR * weights[chosen].sum())
    slope, offset = fit_line(pairs)
    assert (slope, offset) == pytest.approx((2, np.log(PRIOR / (1 - PRIOR)) - 8), rel=0.12)
    assert for_share((slope, offset), 1 / 2) == pytest.approx((2, -8), rel=0.12)


def test_reliability_tells_a_good_line_from_a_low_one():
    pairs = drawn_pairs()
    good = reliability(hold_out_scenes(pairs), pairs, weigh(pairs))
    low = reliability(probabilities((2, -14), pairs.margin), pairs, weigh(pairs))
    assert good["error"][1] <= good["error"][0] <= good["error"][2] < 0.005 < low["error"][1]
    assert sum(row["pairs"] for row in good["bins"]) == len(pairs.right)
    assert sum(row["right"] for row in good["bins"]) == pairs.right.sum()
    for row in good["bins"]:
        assert (
            row["from"] <= row["predicted"] <= row["to"]
            and row["low"] <= row["observed"] <= row["high"]
        )


def test_counts_of_two_searches():
    margin = np.array([9.0, 1, 0, 8, 2, 1])
    pairs = Pairs(
        *np.array([["s"] * 6, ["s"] * 6, list("aaabbb")]),
        np.array([True, False, False, False, True, False]),
        margin,
        margin,
        np.zeros(6, bool),
    )
    counts = count_found(margin / 10, pairs)
    assert (counts["right_over"], counts["wrong_over"], counts["searches"]) == (1, 1, 2)
    assert (counts["first_right"], counts["missed"], counts["false_alarms"]) == (1, 0, 1)
    assert count_found(margin / 100, pairs)["missed"] == 1


def test_pairs_are_kept_for_the_same_photos_and_weights(tmp_path):
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    targets = [(str(n), lambda n=n: photos[n], n == 0) for n in range(3)]
    search = Search("source", "scene", "query", lambda: photos[0], targets)
    made = keep_pairs([search], tmp_path / "pairs.npz")
    assert made.right.tolist() == [True, False, False] * 2 and made.coded.sum() == 3
    assert made.margin[0] > made.margin[1:3].max() and made.margin[3] > made.margin[4:].max()
    again = keep_pairs([search], tmp_path / "pairs.npz")
    for kept, value in zip(again, made, strict=True):
        np.testing.assert_array_equal(kept, value)
    with pytest.raises(ValueError, match="other photos or weights; name another file"):
        keep_pairs([search._replace(query="other")], tmp_path / "pairs.npz")


def test_a_hit_is_found_by_its_probability_or_where_it_stands_out():
    def search(first: float, likely: float, others: int = 30) -> list[Hit]:
        rest = [Hit("wrong", np.sin(place), 0.01) for place in range(others)]
        return [Hit("first", first, likely), *sorted(rest, key=lambda hit: -hit.score)]

    assert is_found(search(9, 0.6, others=0)) and not is_found(search(9, 0.4, others=0))
    assert is_found(search(12, 0.1)) and not is_found(search(12, 0.01))
    assert not is_found(search(2, 0.1)) and not is_found(search(12, 0.1, others=10))
    assert robust_z_score([3.0]) == robust_z_score([5.0, 1, 1, 1]) == robust_z_score([]) == 0


def test_the_shipped_line_is_the_stored_one():
    stored = json.loads(OUT.read_text(encoding="utf-8"))
    assert load_plane_network().calibration.tolist() == pytest.approx(stored["line"], abs=1e-4)
    with safe_open(WEIGHTS / "plane-net.safetensors", "pt") as file:
        assert json.loads(file.metadata()["calibration"])["pairs"] == stored["hash"]
    slope, offset = stored["planes"]["line"]
    scores = np.array([-offset / slope, 1e3, -1e3])
    assert build_retriever("planes").probability(scores) == pytest.approx([0.5, 1, 0])
    before, after = (stored[when]["error"] for when in ("before", "after"))
    assert after[2] < before[1]  # intervals apart
