"""The commands for a user's own photos, and what can be handed over by mistake."""

import json

import numpy as np
import pytest
from PIL import Image

from indiret.cli import main
from indiret.datasets import load_dataset
from tests.cli.command import refused, run


def test_search_ranks_and_reports_what_it_skipped(capsys, album):
    photos, query = album
    box = load_dataset("toytown", split="validation").queries[0].box
    status, out, err = run(capsys, "search", query, photos, "--box", *box, "--top", 3, "--json")
    hits = json.loads(out)
    assert status == 0 and len(hits) == 3 and "skipped broken.jpg" in err
    assert hits == sorted(hits, key=lambda hit: -hit["score"]) and hits[0]["name"][:4] == "a_0_"


def test_nothing_found_is_said(capsys, tmp_path):
    noise = np.random.default_rng(0)
    (tmp_path / "folder").mkdir()
    for name in ("query", "folder/a", "folder/b"):
        picture = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    status, out, _ = run(capsys, "search", tmp_path / "query.png", tmp_path / "folder")
    assert status == 0 and out.startswith("Nothing found")


def test_a_report_is_one_file_with_escaped_names(capsys, album, tmp_path, monkeypatch):
    """The query is named as it was typed: the page is passed on, names of folders are not."""
    photos, query = album
    monkeypatch.chdir(query.parent)
    page = tmp_path / "deep" / "report.html"
    status, out, _ = run(capsys, "search", query.name, photos, "--top", 13, "--html", page)
    assert status == 0 and "a_0_000000.jpg" in out and "%" in out
    text = page.read_text()
    assert "<h1>Photos like query.jpg</h1>" in text and str(query.parent) not in text
    assert "&lt;b&gt;.jpg" in text and text.count("data:image/jpeg") == 2 * 13


def test_explain_lists_patch_pairs(capsys, album, tmp_path):
    photos, query = album
    page = tmp_path / "pair.html"
    pair = "explain", query, photos / "a_0_000001.jpg"
    status, out, _ = run(capsys, *pair, "--html", page, "--json")
    found = json.loads(out)
    assert status == 0 and 0 <= found["probability"] <= 1
    assert 0 < len(found["pairs"]) <= 10
    assert {"i", "j", "k", "l", "value"} == set(found["pairs"][0])
    assert "data:image/jpeg" in page.read_text()
    status, out, _ = run(capsys, *pair, "--top", 2)
    assert status == 0 and "relevant with" in out and out.count("target patch") == 2


def test_explain_looks_into_the_layers_of_a_network_that_has_them(capsys, album):
    photos, query = album
    pair = ("explain", query, photos / "a_0_000001.jpg", "--json")
    layers = ("--evidence", "gradcam", "--layers", "stem")
    pairs = []
    for more in ((), ("--method", "base"), ("--method", "base", *layers)):
        status, out, _ = run(capsys, *pair, *more)
        assert status == 0
        pairs.append(json.loads(out)["pairs"])
    assert len(set(map(json.dumps, pairs))) == 3
    assert "plane-net has no such layers; add --method base" in refused(capsys, *pair, *layers)
    useless = refused(capsys, *pair, "--method", "base", "--layers", "stem")
    assert "--layers=stem is of no use to --evidence combined" in useless


def test_a_link_to_nowhere_and_a_name_that_is_no_text_do_no_harm(capsysbinary, album, tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    odd = tmp_path / "odd\udcff.jpg"
    odd.write_bytes(album[1].read_bytes())
    assert main(["search", str(odd), str(tmp_path)]) == 0
    out, err = capsysbinary.readouterr()
    assert b"skipped gone.jpg" in err and b"\\udcff.jpg" in out
    assert main(["explain", str(odd), str(tmp_path / "no\udcff.jpg")]) == 2
    assert b"no\\udcff.jpg" in capsysbinary.readouterr().err


@pytest.fixture
def no_pictures(tmp_path):
    """Files that cannot be searched for, and would be hits if they could."""
    folder = tmp_path / "no pictures"
    folder.mkdir()
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").touch()
    Image.effect_noise((64, 64), 50).save(folder / "truncated.jpg")
    with (folder / "truncated.jpg").open("r+b") as file:
        file.truncate(400)
    Image.new("RGB", (1, 1)).save(folder / "1x1.png")
    Image.new("RGB", (1, 5000)).save(folder / "1x5000.png")
    Image.new("1", (30_000, 30_000)).save(folder / "bomb.png")  # a hundred kilobytes
    return folder


def test_what_is_no_picture_is_refused_or_skipped_aloud(capsys, album, no_pictures):
    paths = sorted(no_pictures.iterdir())
    for path in (*paths, no_pictures / "absent.jpg"):
        assert path.name in refused(capsys, "search", path, album[0])
        assert path.name in refused(capsys, "explain", album[1], path)
    (no_pictures / "good.jpg").write_bytes(album[1].read_bytes())
    status, out, err = run(capsys, "search", album[1], no_pictures, "--json")
    assert status == 0 and [hit["name"] for hit in json.loads(out)] == ["good.jpg"]
    assert all(f"skipped {path.name}" in err for path in paths) and err.count("\n") == len(paths)


def test_a_wrong_box_is_refused(capsys, album):
    for box in ((500, 10, 600, 40), (40, 10, 20, 30), (-50, 0, 20, 20), (1, 1, 2, 2)):
        assert "box" in refused(capsys, "search", album[1], album[0], "--box", *box)


def test_an_empty_folder_is_refused(capsys, album, tmp_path):
    assert str(tmp_path) in refused(capsys, "search", album[1], tmp_path)


def test_broken_weights_are_refused(capsys, album, tmp_path):
    (tmp_path / "text.safetensors").write_text("not weights")
    for file, words in {"text": "not a whole safetensors file", "absent": "there is no"}.items():
        path = tmp_path / f"{file}.safetensors"
        assert words in refused(capsys, "search", album[1], album[0], "--method", path)
