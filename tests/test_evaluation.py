"""`indiret.evaluation`: average precision against the benchmark's own program."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import Query
from indiret.evaluation import average_precision, mean_average_precision

SHARED = Path(
    os.environ.get("INDIRET_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
)
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

    def names(path):
        return path.read_text().split()

    lines = [line.split() for line in (folder / "AP.txt").read_text().splitlines()]
    written = {Path(line[0]).name: float(line[1]) for line in lines if len(line) == 2}
    assert len(written) == 55
    for query, value in written.items():
        lists = {kind: names(truth / f"{query}_{kind}.txt") for kind in ("good", "ok", "junk")}
        ranked = names(folder / f"{query}_top.txt")
        computed = average_precision(ranked, lists["good"] + lists["ok"], lists["junk"])
        assert computed == pytest.approx(value, abs=1e-6)


def test_ap_of_known_lists():
    assert average_precision(["a", "b"], {"a", "b"}) == 1
    assert average_precision(["x", "y"], {"a"}) == 0
    assert average_precision([], {"a"}) == 0
    assert average_precision(["a"], {"a", "never ranked"}) == 0.5
    assert average_precision(["x", "a"], {"a"}) == 0.25  # (0 + 1/2) / 2
    assert average_precision(["junk", "a"], {"a"}, {"junk"}) == 1


def test_ap_at_k_measures_recall_against_what_k_ranks_can_hold():
    assert average_precision(["a", "b", "x"], {"a", "b", "c", "d"}, k=2) == 1
    assert average_precision(["j", "a", "b"], {"a", "b", "c"}, {"j"}, k=2) == 1
    assert average_precision(["a", "x", "b"], {"a", "b"}, k=2) == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a"], ()), "at least one positive"),
        ((["a", "b", "a"], {"a"}), "'a' is ranked twice"),
        ((["a"], {"a"}, {"a"}), "positive and as junk"),
        ((["a"], {"a"}, (), 0), "k=0 is not at least 1"),
    ],
)
def test_bad_lists(arguments, words):
    with pytest.raises(ValueError, match=words):
        average_precision(*arguments)


def query(name, landmark, image="own", good=("own", "b"), junk=()):
    return Query(name, image, None, landmark, frozenset(good), junk=frozenset(junk))


def test_map_with_and_without_the_querys_own_photo():
    queries = [query("m_1", "m"), query("m_2", "m", good=("own", "c"), junk=("x",))]
    lists = {"m_1": ["own", "b", "x", "c"], "m_2": ["own", "x", "b", "c"]}
    kept = (1 + (0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)) / 2
    assert mean_average_precision(lists, queries) == pytest.approx(kept)
    excluded = (1 + (0 + 1 / 2) / 2) / 2
    assert mean_average_precision(lists, queries, exclude_query=True) == pytest.approx(excluded)
    assert mean_average_precision(lists, queries, k=1) == 1


def test_map_names_the_query_that_cannot_be_measured():
    with pytest.raises(ValueError, match="'m_1' has no ranked list"):
        mean_average_precision({}, [query("m_1", "m")])
    with pytest.raises(ValueError, match=r"Query 'm_1': .*at least one positive"):
        mean_average_precision({"m_1": []}, [query("m_1", "m", good=("own",))], exclude_query=True)
    with pytest.raises(ValueError, match="no queries"):
        mean_average_precision({}, [])
