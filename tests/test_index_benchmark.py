"""`benchmarks.index`: a small run measures what it says, and lists are judged as they should be."""

import json
import sys

import numpy as np
import pytest

from benchmarks import index, index_recall
from benchmarks.index_growth import change
from benchmarks.index_recall import Found, join, link_photos, measure_road, spread
from indiret.datasets import Query, load_dataset
from indiret.images import read_image
from indiret.index import build_shortlist
from tests.tiny_town import make_tiny_town

SMALL = index.Size(searched=8, updated=12, grown=(6, 9), queries=2, encoded=3, pool=4, timed=1)


def test_a_small_run_measures_every_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(index, "QUICK", SMALL)
    monkeypatch.setattr(index, "ROADS", ("pixels",))
    monkeypatch.setenv("INDIRET_CACHE", "")  # it is set by the run, and put back
    out, stages = tmp_path / "index.json", ("rates", "search", "update", "growth")
    command = ["index", str(out), "--work", str(tmp_path), "--quick", "--stages", *stages]
    monkeypatch.setattr(sys, "argv", command)
    index.main()
    found = json.loads(out.read_text())
    assert found.keys() == {*stages, "load", "machine"}
    assert found["update"]["found"] == 10 and found["update"]["still_found"] == 0
    assert 0 < found["rates"]["read"] < found["rates"]["code"] < 60
    assert [row["photos"] for row in found["growth"]["pixels"]] == [6, 9]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("yes", "NO")) for line in lines) == 8


def test_what_was_missed_is_said():
    assert index.show("recall", 0.5, ">= 0.9").startswith("NO")
    assert index.show("seconds", 0.5, "<= 0.9").startswith("yes")


def test_a_curve_is_that_of_lists_with_fewer_verified(monkeypatch):
    """Photo 3 is right, and listed last of four; verification puts it first."""
    monkeypatch.setattr(index_recall, "VERIFIED", (0, 2, 4))
    query = Query("q", "0", None, "mill", good=frozenset({"0", "3"}))
    found = {"q": Found(["0", "1", "2", "3"], [9.0, 1.0, 2.0, 8.0], 0.1, 0.2, 0.3, 0.4, 0.5, {})}
    assert found["q"].ranked(2, {"4": 5.0}) == ["0", "4", "1", "2", "3"]
    rows = measure_road(found, [query], {"q": ["0", "3", "1", "2"]})["rows"]
    values = [[row[name][0] for name in ("recall", "mAP", "difference")] for row in rows]
    np.testing.assert_allclose(values, np.divide([[6, 1, -5], [0, 1, -5], [6, 6, 0]], 6), atol=1e-9)


def test_data_sets_are_joined_and_linked_by_name(tmp_path):
    towns = {name: make_tiny_town(tmp_path / name, name) for name in ("a", "b")}
    both = join("both", towns)
    assert len(both.images) == sum(len(town.images) for town in towns.values())
    assert all(query.positives <= both.images.keys() for query in both.queries)
    files = link_photos(both, tmp_path / "links")
    linked = load_dataset("folder", tmp_path / "links")
    assert {*linked.images} == {*files} and {*files.values()} == {*both.images}
    assert [query.name[0] for query in spread(both.queries, 8)].count("b") == 2


@pytest.mark.parametrize("kind", ["postings", "vector"])
def test_a_changed_description_is_like_it_and_not_equal(kind):
    picture = read_image(next(iter(load_dataset("toytown").images.values())))
    described = build_shortlist("pixels").describe(picture, None)
    if kind == "vector":
        described = described["word"].copy().view(np.int8)
    one, other = (change(described, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.dtype == described.dtype and one.shape == described.shape
    assert len({one.tobytes(), other.tobytes(), described.tobytes()}) == 3
