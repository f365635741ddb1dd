"""The commands for a user's own photos, and what can be handed over by mistake."""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from indiret.cli import main
from indiret.datasets import load_dataset
from indiret.networks import CONFIGS, build_network, save_network
from tests.cli.command import refused, run


def test_search_ranks_and_reports_what_it_skipped(capsys, album):
    photos, query = album
    box = load_dataset("toytown", split="validation").queries[0].box
    status, out, err = run(capsys, "search", query, photos, "--box", *box, "--top", 3, "--json")
    assert status == 0
    hits = json.loads(out)
    assert len(hits) == 3
    assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)
    assert hits[0]["name"].startswith("a_0_")
    assert "skipped broken.jpg" in err


def test_search_prints_a_table(capsys, album):
    photos, query = album
    status, out, _ = run(capsys, "search", query, photos, "--top", 30)
    assert status == 0
    assert "a_0_000000.jpg" in out and "%" in out


@pytest.mark.parametrize("method", ["thumbnail", "sift-ransac", "colour-histogram,mutual-nn"])
def test_search_takes_any_method_and_explain_those_that_explain(capsys, album, tmp_path, method):
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    photos, query = album
    search = "search", query, photos, "--method", method, "--top", 2
    status, out, _ = run(capsys, *search)
    assert status == 0 and "a_0_000000.jpg" in out and "%" not in out
    status, out, _ = run(capsys, *search, "--json")
    assert [hit["probability"] for hit in json.loads(out)] == [None, None]
    for command in (("explain", query, query, "--method", method), (*search, "--html", tmp_path)):
        sentence = refused(capsys, *command)
        assert f"{method!r} cannot explain" in sentence and "plane-net" in sentence


def test_report_is_one_file_with_escaped_names(capsys, album, tmp_path):
    photos, query = album
    page = tmp_path / "deep" / "report.html"
    status, _, _ = run(capsys, "search", query, photos, "--top", 13, "--html", page)
    assert status == 0
    text = page.read_text()
    assert "&lt;b&gt;.jpg" in text and "<b>.jpg" not in text
    assert text.count("data:image/jpeg") == 2 * 13
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    assert len(text) < 5_000_000


def test_a_report_names_the_query_as_it_was_typed(capsys, album, tmp_path, monkeypatch):
    """Not by its full path: the page is passed on, the names of somebody's folders are not."""
    photos, query = album
    monkeypatch.chdir(query.parent)
    page = tmp_path / "report.html"
    status, _, _ = run(capsys, "search", query.name, photos, "--top", 1, "--html", page)
    assert status == 0
    text = page.read_text()
    assert "<h1>Photos like query.jpg</h1>" in text and str(query.parent) not in text


def test_a_link_to_nowhere_and_a_name_that_is_no_text_do_no_harm(capsysbinary, album, tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    odd = tmp_path / "odd\udcff.jpg"
    odd.write_bytes(album[1].read_bytes())
    assert main(["search", str(odd), str(tmp_path)]) == 0
    out, err = capsysbinary.readouterr()
    assert b"skipped gone.jpg" in err and b"\\udcff.jpg" in out
    assert main(["explain", str(odd), str(tmp_path / "no\udcff.jpg")]) == 2
    assert b"no\\udcff.jpg" in capsysbinary.readouterr().err


def test_nothing_found_is_said(capsys, tmp_path):
    noise = np.random.default_rng(0)
    for name in ("query", "a", "b"):
        picture = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        folder = tmp_path / "folder" if name != "query" else tmp_path
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{name}.png")
    status, out, _ = run(capsys, "search", tmp_path / "query.png", tmp_path / "folder")
    assert status == 0
    assert out.startswith("Nothing found")


def test_explain_lists_patch_pairs(capsys, album, tmp_path):
    photos, query = album
    page = tmp_path / "pair.html"
    target = photos / "a_0_000001.jpg"
    status, out, _ = run(capsys, "explain", query, target, "--html", page, "--json")
    assert status == 0
    found = json.loads(out)
    assert 0 <= found["probability"] <= 1
    assert 0 < len(found["pairs"]) <= 10
    assert {"i", "j", "k", "l", "value"} == set(found["pairs"][0])
    assert "data:image/jpeg" in page.read_text()


def test_explain_prints_sentences(capsys, album):
    photos, query = album
    status, out, _ = run(capsys, "explain", query, photos / "a_0_000001.jpg", "--top", 2)
    assert status == 0
    assert "relevant with" in out and out.count("target patch") == 2


def test_explain_looks_into_the_layers_of_a_network_that_has_them(capsys, album):
    photos, query = album
    asked = ("explain", query, photos / "a_0_000001.jpg", "--json")
    layers = ("--evidence", "gradcam", "--layers", "stem")
    pairs = []
    for more in ((), ("--method", "base"), ("--method", "base", *layers)):
        status, out, _ = run(capsys, *asked, *more)
        assert status == 0
        pairs.append(json.loads(out)["pairs"])
    assert len(set(map(json.dumps, pairs))) == 3
    assert "plane-net has no such layers; add --method base" in refused(capsys, *asked, *layers)
    useless = refused(capsys, *asked, "--method", "base", "--layers", "stem")
    assert "--layers=stem is of no use to --evidence combined" in useless


def picture_file(folder: Path, kind: str) -> Path:
    """A picture that cannot be searched for, and would be a hit if it could."""
    path = folder / f"{kind}.png"
    if kind == "text":
        path.write_text("not an image")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path = path.with_suffix(".jpg")
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:400])
    elif kind == "1x1":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "1x5000":
        Image.new("RGB", (1, 5000)).save(path)
    elif kind == "bomb":
        path.write_bytes(bomb())
    return path


def bomb(side: int = 30_000) -> bytes:
    """A PNG of 30,000 × 30,000 zeros in a few hundred kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + checksum

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compressobj(9)
    line = bytes(1 + side // 8)
    body = b"".join(rows.compress(line * 1000) for _ in range(side // 1000)) + rows.flush()
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "1x1", "1x5000", "bomb", "absent"])
def test_a_query_that_is_no_picture_is_refused(capsys, album, tmp_path, kind):
    path = picture_file(tmp_path, kind)
    assert path.name in refused(capsys, "search", path, album[0])
    assert path.name in refused(capsys, "explain", album[1], path)


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "1x1", "1x5000", "bomb"])
def test_a_photo_that_is_no_picture_is_skipped_aloud(capsys, album, tmp_path, kind):
    (tmp_path / "good.jpg").write_bytes(album[1].read_bytes())
    path = picture_file(tmp_path, kind)
    status, out, err = run(capsys, "search", album[1], tmp_path, "--json")
    assert status == 0
    assert [hit["name"] for hit in json.loads(out)] == ["good.jpg"]
    assert f"skipped {path.name}" in err and err.count("\n") == 1


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "P", "RGBA", "LA", "L", "1", "gif", "exif"])
def test_unusual_pictures_are_searched(capsys, album, tmp_path, mode):
    (tmp_path / "good.jpg").write_bytes(album[1].read_bytes())
    picture = Image.open(album[1])
    if mode == "gif":
        other = Image.new("RGB", picture.size)
        picture.save(tmp_path / "odd.gif", save_all=True, append_images=[other, other])
    elif mode == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.rotate(90, expand=True).save(tmp_path / "odd.jpg", exif=exif, quality=95)
    elif mode == "CMYK":
        picture.convert("CMYK").save(tmp_path / "odd.tif")
    elif mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(tmp_path / "odd.png")
    else:
        picture.convert(mode).save(tmp_path / "odd.png")
    status, out, err = run(capsys, "search", album[1], tmp_path, "--json")
    assert (status, err) == (0, "")
    scores = {hit["name"].split(".")[0]: hit["score"] for hit in json.loads(out)}
    assert set(scores) == {"good", "odd"}
    if mode in ("CMYK", "RGBA", "exif"):
        assert scores["odd"] == pytest.approx(scores["good"], abs=2.0)


@pytest.mark.parametrize(
    "box", [(500, 10, 600, 40), (40, 10, 20, 30), (10, 30, 40, 20), (-50, 0, 20, 20), (1, 1, 2, 2)]
)
def test_a_wrong_box_is_refused(capsys, album, box):
    assert "box" in refused(capsys, "search", album[1], album[0], "--box", *box)


def test_missing_and_empty_folders_are_refused(capsys, album, tmp_path):
    assert "absent" in refused(capsys, "search", album[1], tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, "search", album[1], tmp_path / "empty")


@pytest.mark.parametrize("method", ["plane-cascde", "paper-base"])
def test_an_unknown_method_gets_a_list_of_the_known(capsys, album, method):
    for command in (("search", album[1], album[0]), ("explain", album[1], album[1])):
        answer = refused(capsys, *command, "--method", method)
        assert method in answer and "base, " in answer and "plane-cascade" in answer


def test_broken_weights_are_refused(capsys, album, tmp_path):
    good = tmp_path / "good.safetensors"
    save_network(build_network(replace(CONFIGS["base"], width=4)), good, {})
    with safe_open(good, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(good)
    name = next(key for key in tensors if key.endswith("weight"))
    nan = {**tensors, name: torch.full_like(tensors[name], torch.nan)}
    save_file(nan, tmp_path / "nan.safetensors", metadata)
    other = {**tensors, name: tensors[name][:1].contiguous()}
    save_file(other, tmp_path / "other.safetensors", metadata)
    (tmp_path / "text.safetensors").write_text("not weights")
    for file, words in (
        ("nan", "NaN"), ("other", "another architecture"), ("text", "safetensors"), ("absent", "no")
    ):  # fmt: skip
        path = tmp_path / f"{file}.safetensors"
        assert words in refused(capsys, "search", album[1], album[0], "--method", path)
