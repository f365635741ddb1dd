"""``indiret index`` and ``duplicates`` as their user meets them."""

import json
import re
import shutil

import pytest

from indiret.index import updates
from tests.cli.command import refused, run


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "index"


def test_an_index_is_made_once_and_said_to_be_of_a_size(capsys, album, index, monkeypatch):
    photos, query = album
    status, out, err = run(capsys, "index", photos, "--out", index)
    assert status == 0 and f"{index}: the index of {photos}" in out and "skipped broken.jpg" in err
    assert "14 files read, 0 gone, 1 cannot be read\n12 photos in 13 files\n" in out
    size = re.search(r"([\d.]+) KB a photo: codes", out)
    assert size is not None and 10 < float(size[1]) < 150
    monkeypatch.setattr(updates, "read_image", None)
    assert "\n0 files read, 0 gone" in run(capsys, "index", photos, "--out", index)[1]
    assert run(capsys, "search", query, photos, "--out", index, "--top", 1)[0] == 0
    assert "method is plane-net-turned, not base" in refused(
        capsys, "index", photos, "--out", index, "--method", "base"
    )


def test_photos_of_one_thing_are_a_group(capsys, album, index, tmp_path):
    photos, _ = album
    groups = json.loads(run(capsys, "duplicates", photos, "--out", index, "--json")[1])
    assert [group for group in groups if {"<b>.jpg", "a_1_000001.jpg"} <= {*group}]
    assert all(len({name[:3] for name in group} - {"<b>"}) == 1 for group in groups)
    out = run(capsys, "duplicates", photos, "--out", index)[1]
    assert out.endswith(f"{len(groups)} groups\n") and out.count("  ") == sum(map(len, groups))
    shutil.copy(photos / "a_0_000000.jpg", tmp_path)
    assert "no two photos" in run(capsys, "duplicates", tmp_path)[1]


@pytest.mark.parametrize("command", ["index", "duplicates"])
def test_what_has_no_codes_or_no_photos_is_refused(capsys, album, tmp_path, command):
    assert "absent does not exist; give" in refused(capsys, command, tmp_path / "absent")
    words = {"index": "cannot be kept on disk; choose", "duplicates": "scores without probabil"}
    assert words[command] in refused(capsys, command, album[0], "--method", "thumbnail")
    assert "shortlist 'pixel' is not known" in refused(
        capsys, command, album[0], "--shortlist", "pixel"
    )
