"""Small inputs that once failed, kept beside the project: each now gives what it should."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from indiret.images import image_size, read_image
from tests.shared_data import SHARED

ROOT = Path(__file__).parents[1]
CASES = SHARED.parent / "cases"
RENAMED = (  # since the inputs were made
    "s/indiret.proposals/indiret.baselines.region_proposals/;s/prepare/encode/g;"
    "s/indiret.cascade import/indiret import build_retriever as/"
)
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the inputs in {CASES} are absent")


@pytest.fixture
def case(tmp_path):
    """A copy of a case's folder, and what its script, or another command there, says."""
    environment = tmp_path / "environment"  # a path without a space, which scripts do not quote
    environment.symlink_to(sys.prefix)

    def run(name: str, *command: str) -> tuple[Path, str]:
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(CASES / name, folder)
        path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        here = {"PATH": path, "PYTHONPATH": str(ROOT), "INDIRET_CACHE": str(tmp_path / "cache")}
        script = ("bash", "run.sh") if (folder / "run.sh").exists() else ("python", "gen.py")
        known = {"cwd": folder, "env": os.environ | here, "capture_output": True, "text": True}
        said = subprocess.run(command or script, **known)
        return folder, said.stdout + said.stderr

    return run


def test_paper_and_sky_come_after_every_photo_with_something_to_match(case):
    case("01_smooth_photos")
    _, said = case("01_smooth_photos", "indiret", "search", "query0.jpg", "db", "--top", "99")
    hits = re.findall(r"^ +\d+ +([\d.]+)% .* (\S+)$", said, re.M)
    right = [name.startswith("true_answer") for _, name in hits]
    assert any(right) and right == sorted(right, reverse=True) and not all(right)
    assert all(float(percent) < 5 for (percent, _), one in zip(hits, right, strict=True) if not one)


@pytest.mark.parametrize("path", sorted(CASES.glob("02*/*.jpg")), ids=lambda path: path.stem)
def test_an_odd_tag_is_no_damage(path):
    with Image.open(path) as stored:  # on its side: as many rows as the upright one has columns
        assert read_image(path).shape[:2] == image_size(path) == stored.size


@pytest.mark.parametrize("path", sorted(CASES.glob("11*/*.[bpt][!y]*")), ids=lambda path: path.name)
def test_pictures_with_much_beside_them_are_read(path):
    found = read_image(path)
    assert found.shape[:2] == image_size(path) and found.mean() == pytest.approx(134.2, abs=0.1)


@pytest.mark.parametrize(
    ("name", "figure", "expected"),
    [
        ("04_bom_nfd_groundtruth", r"AP ([\d.]+) expected", ["0.7639"] * 6),
        ("06_polygon_outside", r"area (\d+) expected \1", ["8000", "30000", "4122", "4000"]),
        ("07_coco_names", r"area (\w+) expected", ["1200"] * 3),  # and a refusal
        ("13_dask_other_folder", r"^rc (\d)$", ["0"]),
        ("17_score_depends_on_neighbours", r"largest change.* ([\d.]+)$", ["0.0"] * 4),
    ],
)
def test_figures_are_those_expected(case, name, figure, expected):
    case(name, "sed", "-i", RENAMED, "gen.py")
    _, said = case(name)
    assert re.findall(figure, said, re.M) == expected


def test_a_photo_that_breaks_late_counts_as_one_that_breaks_early(case):
    case("05_truncated_photo", "python", "gen.py")
    _, said = case("05_truncated_photo")
    parts = dict(part.split("\n", 1) for part in said.split("-- ")[1:])
    found = {name: re.findall(r"^mAP ([\d.]+)", text, re.M) for name, text in parts.items()}
    assert found["answer_body"] == found["answer_header"] == ["0.8069"]
    assert found["query_body"] == found["query_header"] == ["1.0000"]


def test_a_run_whose_data_changed_is_not_finished(case):
    folder, _ = case("08_stale_results", "sed", "-i", "s#2>/dev/null##", "run.sh")
    _, said = case(folder.name)
    assert "holds a run that differs in ground truth" in said
    assert "new mean AP 0.0282" in said


def test_search_and_explain_say_the_same_of_a_pair(case):
    _, said = case("09_never_judged")
    pairs = re.findall(r"search: score (\S+) probability (\S+) explain: (\S+) (\S+)", said)
    assert len(pairs) == 8 and all((a, b) == (c, d) for a, b, c, d in pairs)


def test_photos_of_any_name_are_found_and_others_named(case):
    _, said = case("10_other_names")
    assert "mAP 1.0000" in said and said.count("rc 0") == 3
    hits = re.findall(r"^ +\d+ +[\d.]+% +-?[\d.]+  (\S+)$", said, re.M)
    assert hits[0] == r"line\nbreak.png" and hits[3] == "saved_by_browser.jfif" and len(hits) == 6
    assert all(f"IMG_1.{kind}" in said for kind in ("HEIC", "avif", "jp2", "jxl", "dng"))


def test_a_report_that_cannot_be_written_costs_nothing(case):
    folder, said = case("14_report_cannot_be_written")
    assert "afolder cannot be written" in said and not list(folder.rglob("*.part"))
