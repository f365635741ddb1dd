"""`indiret.evaluation.ranking`: average precision against the benchmark's own program."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import Query, read_pickled
from indiret.datasets.groundtruth import read_query
from indiret.evaluation import (
    SETUPS,
    average_precision,
    mean_average_precision,
    mean_precision,
    precision_at,
    select_setup,
)
from tests.shared_data import SHARED

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data at {SHARED}")


def benchmark_program(ranked, positives, junk, k=None):
    """compute_ap.cpp of the Oxford benchmark, line by line; cut after k ranks."""
    old_recall, old_precision, ap, hits, rank = 0.0, 1.0, 0.0, 0, 0
    for name in ranked:
        if name in junk:
            continue
        if k is not None and rank == k:
            break
        hits += name in positives
        recall = hits / (len(positives) if k is None else min(k, len(positives)))
        precision = hits / (rank + 1)
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        rank += 1
    return ap


@st.composite
def ranked_lists(draw):
    names = [f"photo{i}" for i in range(draw(st.integers(1, 25)))]
    kind = draw(st.lists(st.sampled_from("pjn"), min_size=len(names), max_size=len(names)))
    positives = {name for name, what in zip(names, kind, strict=True) if what == "p"}
    junk = {name for name, what in zip(names, kind, strict=True) if what == "j"}
    order = draw(st.permutations(names))
    return order[: draw(st.integers(0, len(names)))], positives | {"never ranked"}, junk


@settings(deadline=None)
@given(ranked_lists(), st.one_of(st.none(), st.integers(1, 30)))
def test_ap_equals_the_benchmarks_program(case, k):
    ranked, positives, junk = case
    value = average_precision(ranked, positives, junk, k)
    assert value == pytest.approx(benchmark_program(ranked, positives, junk, k), abs=1e-12)
    assert 0 <= value <= 1


@needs_shared
@pytest.mark.parametrize("system", ["result-sift-knn-top100", "result-orb-knn-top100"])
def test_ap_equals_the_files_the_program_wrote(system):
    folder, truth = SHARED / "ap_reference" / system, SHARED / "groundtruth" / "oxford5k"
    lines = [line.split() for line in (folder / "AP.txt").read_text().splitlines()]
    written = {Path(line[0]).name: float(line[1]) for line in lines if len(line) == 2}
    assert len(written) == 55
    for name, value in written.items():
        asking = read_query(truth / f"{name}_query.txt")
        ranked = (folder / f"{name}_top.txt").read_text().split()
        computed = average_precision(ranked, asking.positives, asking.junk)
        assert computed == pytest.approx(value, abs=1e-6)


def query(name, good=("own", "b"), junk=()):
    return Query(name, "own", None, "m", frozenset(good), junk=frozenset(junk))


def test_map_with_and_without_the_querys_own_photo():
    queries = [query("m_1"), query("m_2", good=("own", "c"), junk=("x",))]
    lists = {"m_1": ["own", "b", "x", "c"], "m_2": ["own", "x", "b", "c"]}
    kept = (1 + (0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)) / 2
    assert mean_average_precision(lists, queries) == pytest.approx(kept)
    excluded = (1 + (0 + 1 / 2) / 2) / 2
    assert mean_average_precision(lists, queries, exclude_query=True) == pytest.approx(excluded)
    assert mean_average_precision(lists, queries, k=1) == 1


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda: average_precision(["a"], {"a"}, {"a"}), "positive and as junk"),
        (lambda: average_precision(["a"], {"a"}, (), 0), "k=0 is not at least 1"),
        (lambda: precision_at(["a", "a"], {"a"}), "'a' is ranked twice"),
        (lambda: mean_average_precision({}, [query("m_1")]), "'m_1' has no ranked list"),
        (lambda: mean_average_precision({"q": []}, [query("q", ())]), "'q': .* one positive"),
        (lambda: mean_precision({}, [], 5), "no queries"),
        (lambda: select_setup([], "harder"), "'harder'; choose one of easy, medium, hard"),
    ],
)
def test_what_cannot_be_measured_gets_a_sentence(measure, words):
    with pytest.raises(ValueError, match=words):
        measure()


def revisited_program(ranked, positives, junk, ks):
    """The revisited benchmark's measures from the 1-based ranks of positives, junk taken out."""
    kept = [name for name in ranked if name not in junk]
    ranks = [rank for rank, name in enumerate(kept, start=1) if name in positives]
    area = 0.0
    for found, rank in enumerate(ranks, start=1):
        before = 1.0 if rank == 1 else (found - 1) / (rank - 1)
        area += (before + found / rank) / 2 / len(positives)
    at = [min(max(ranks), k) for k in ks]
    return area, [sum(rank <= k for rank in ranks) / k for k in at]


@settings(deadline=None)
@given(st.permutations("abcdefghijklmnop"), st.lists(st.sampled_from("ehjn"), min_size=16))
def test_setups_equal_the_revisited_program(ranked, kinds):
    known = list(zip(sorted(ranked), kinds, strict=False))
    answers = {kind: {name for name, one in known if one == kind} for kind in "ehj"}
    one = Query("q_1", "own", None, "q", *(frozenset(answers[kind]) for kind in "ehj"))
    expected = {
        "easy": (answers["e"], answers["j"] | answers["h"]),
        "medium": (answers["e"] | answers["h"], answers["j"]),
        "hard": (answers["h"], answers["j"] | answers["e"]),
    }
    for setup, (positives, junk) in expected.items():
        selected = select_setup([one], setup)
        assert bool(selected) == bool(positives)
        if not selected:
            continue
        area, at = revisited_program(ranked, positives, junk, (1, 5, 10))
        assert mean_average_precision({"q_1": ranked}, selected) == pytest.approx(area, abs=1e-12)
        for k, value in zip((1, 5, 10), at, strict=True):
            assert mean_precision({"q_1": ranked}, selected, k) == pytest.approx(value, abs=1e-12)


def test_precision_counts_to_the_last_positive_only():
    assert precision_at(["a", "b", "x", "y"], {"a", "b"}, k=4) == 1
    assert precision_at(["x", "a", "y"], {"a"}, k=1) == 0
    assert precision_at(["j", "x", "a", "y"], {"a"}, {"j"}, k=3) == 0.5
    assert precision_at(["x", "y"], {"a"}, k=1) == 0


@needs_shared
def test_two_queries_of_oxford_have_no_easy_answer():
    _, queries = read_pickled(SHARED / "groundtruth" / "gnd_roxford5k.pkl", "roxford5k")
    assert [len(select_setup(queries, setup)) for setup in SETUPS] == [68, 70, 70]
