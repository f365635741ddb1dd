"""`tools.landing` and `tools.measure_lines`: the rule of the pair, and what is counted."""

import json

import numpy as np
import pytest

from indiret.experiments.comparison import LINE_COLUMNS, LINE_ROWS, line_table
from indiret.retrieval import build_retriever
from tests.widgets.test_payload import unpack
from tools.landing import METHODS, RULE, landing_explorer, middle_pair
from tools.measure_lines import MEASURES, OUT, chances

STORED = json.loads(OUT.read_text("utf-8"))["methods"]


def test_the_pair_is_the_middle_one():
    query, names = middle_pair()
    pairs = STORED[RULE]["pairs"]
    spreads = [pair["right"]["spread"] for pair in pairs.values()]
    assert sorted(spreads)[(len(spreads) - 1) // 2] == pairs[query]["right"]["spread"]
    assert names == [pairs[query]["right"]["name"], pairs[query]["wrong"]["name"]]


def test_the_landing_page_shows_what_both_methods_say():
    explorer = landing_explorer()
    header, numbers = unpack(explorer.payload)
    assert [one["relevant"] for one in header["candidates"]] == [True, False]
    assert [one["true_matches"] is None for one in header["candidates"]] == [False, True]
    assert len(explorer.to_html()) < 400_000
    for one in header["candidates"]:
        assert all(f"{title} " in one["caption"] for title in METHODS.values())
    for found in numbers:
        assert [group for group, _ in found] == list(METHODS.values())
        maps = [values.sum((0, 1)) for values in found.values()]
        assert maps[0].shape == maps[1].shape and not np.allclose(*maps)
    assert all(build_retriever(name).evidence_kinds for name in METHODS)


def test_a_chance_is_counted_answer_by_answer():
    better, worse = ({name: value * sign for name, sign in MEASURES.items()} for value in (2, 1))
    rows = {("arch", "arch_1", 0): [better, worse, worse], ("arch", "arch_2", 0): [worse, better]}
    found = chances(rows)
    for measure in MEASURES:
        assert found[measure]["all"][0] == pytest.approx((0.75 + 0) / 2)
        assert found[measure]["first"][0] == pytest.approx((1 + 0) / 2)


def test_stored_chances_are_those_of_the_stored_pairs_and_stand_in_the_table():
    assert set(STORED) == set(LINE_COLUMNS) and set(MEASURES) == set(LINE_ROWS)
    table = line_table()
    for result in STORED.values():
        for measure, sign in MEASURES.items():
            pairs = [
                [sign * pair[answer][measure] for answer in ("right", "wrong")]
                for pair in result["pairs"].values()
            ]
            share = np.mean([(right > wrong) + (right == wrong) / 2 for right, wrong in pairs])
            mean, low, high = result["chances"][measure]["first"]
            assert mean == pytest.approx(share, abs=1e-5) and low <= mean <= high
            assert f"{100 * mean:.0f} % ({100 * low:.0f} … {100 * high:.0f})" in table


def test_what_pages_say_of_lines():
    """In words, which no template fills in."""
    for name, result in STORED.items():
        chance = {measure: result["chances"][measure]["first"] for measure in MEASURES}
        mean, low, high = zip(
            *(chance[m] for m in ("spread", "crossings", "on_plane")), strict=True
        )
        assert chance["score"][1] > 0.9 and max(high) < chance["score"][1], "the score tells"
        if name.startswith("base"):
            assert max(mean) < 0.5, "lines do not"
        else:
            assert chance["coverage"][1] > 0.5, "a fair hint"
            assert max(mean) < chance["coverage"][0] and min(low) < 0.5
