"""The tool that looks for clicked points: where points go, and which pairs report."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from indiret.checkpoints import load_network
from indiret.datasets import load_clicked_pairs
from indiret.images import read_image
from indiret.planes import PlaneRetriever
from indiret.retrieval import NetworkRetriever
from tests.planes.conftest import scene
from tools import match_points


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pairs: a part of a photo, and the photo that it was cut from."""
    root = tmp_path_factory.mktemp("clicked")
    for number in range(4):
        place = root / "easy" / f"wall{number}"
        place.mkdir(parents=True)
        whole = scene(number, 192, 240)
        Image.fromarray(whole[40:140, 60:180]).save(place / "01.jpg", quality=95)
        Image.fromarray(whole).save(place / "02.jpg", quality=95)
        points = np.array([[20, 30], [100, 20], [60, 80]])
        np.savetxt(place / "corrs.txt", np.column_stack([points, points + np.array([60, 40])]))
    return root


def test_points_of_a_part_are_found_in_the_whole(folder):
    pair = load_clicked_pairs(folder)[0]
    photos = read_image(pair.query), read_image(pair.target)
    found = match_points.guesses(PlaneRetriever(), pair, *photos)
    assert np.abs(found["transferred"] - pair.target_points).max() < 6  # pixels of 240
    assert np.abs(found["evidence"] - pair.target_points).max() < 2 * 240 / 14
    only = match_points.guesses(NetworkRetriever(load_network("base")), pair, *photos)
    assert "transferred" not in only and only["evidence"].shape == (3, 2)


def test_every_second_pair_reports(folder, tmp_path, monkeypatch, capsys):
    for odd, names in ((False, ["easy/wall1", "easy/wall3"]), (True, ["easy/wall0", "easy/wall2"])):
        out = tmp_path / f"{odd}.json"
        words = ["match_points", str(folder), "--out", str(out), "--methods", "planes"]
        monkeypatch.setattr(sys, "argv", [*words, *["--odd"] * odd])
        match_points.main()
        rows = json.loads(out.read_text())["rows"]
        ways = [(row["method"], row["way"]) for row in rows]
        middle = match_points.CENTRE
        of_planes = ("evidence", "evidence: planes", "transferred")
        assert ways == [(middle, "transferred"), *(("planes", way) for way in of_planes)]
        assert all(list(row["pairs"]) == names for row in rows)
        assert rows[-1]["within_one"] == 1 and rows[-1]["error"] < 0.02
        assert "within_one 1.0" in capsys.readouterr().out


def test_a_method_that_finds_nothing_has_no_error():
    misses = match_points.PointMatches(0.0, 0.0, np.inf)
    hits = match_points.PointMatches(1.0, 1.0, 0.0)
    row = match_points.row("blind", "transferred", {"a": misses, "b": misses, "c": hits})
    assert row["error"] is None and row["pairs"]["a"]["error"] is None
    assert row["within_one"] == pytest.approx(1 / 3, abs=1e-4)
