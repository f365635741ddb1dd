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
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the inputs in {CASES} are absent")


@pytest.fixture
def case(tmp_path, request):
    """A copy of a case's folder, and what its script, or another command there, says."""

    def run(name: str, *command: str) -> tuple[Path, str]:
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(CASES / name, folder)
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = os.environ | {"PATH": binaries, "PYTHONPATH": str(ROOT)}
        known["INDIRET_CACHE"] = str(tmp_path / "cache")
        said = subprocess.run(
            command or ("bash", "run.sh"), cwd=folder, env=known, capture_output=True, text=True
        )
        return folder, said.stdout + said.stderr

    return run


def test_paper_and_sky_come_after_every_photo_with_something_to_match(case):
    case("01_smooth_photos", "python", "gen.py")
    _, said = case("01_smooth_photos", "indiret", "search", "query0.jpg", "db", "--top", "99")
    hits = re.findall(r"^ +\d+ +([\d.]+)% .* (\S+)$", said, re.M)
    right = [name.startswith("true_answer") for _, name in hits]
    assert any(right) and right == sorted(right, reverse=True) and not all(right)
    assert all(float(percent) < 5 for (percent, _), one in zip(hits, right, strict=True) if not one)


@pytest.mark.parametrize(
    "name", ["bytes_for_a_short", "float_for_a_short", "negative_short", "resolution_as_text"]
)
def test_an_odd_tag_is_no_damage(name):
    path = CASES / "02_exif_odd_tag" / f"{name}.jpg"
    with Image.open(path) as stored:  # on its side: as many rows as the upright one has columns
        assert read_image(path).shape[:2] == image_size(path) == stored.size


@pytest.mark.parametrize("name", ["text.png", "text_behind.png", "profile.png", "xmp.tif"])
def test_pictures_with_much_beside_them_are_read(name):
    path = CASES / "11_png_text_bmp_alpha" / name
    assert read_image(path).shape[:2] == image_size(path)


def test_alpha_that_is_zero_everywhere_hides_nothing():
    found = read_image(CASES / "11_png_text_bmp_alpha" / "clipboard.bmp")
    assert found.mean() == pytest.approx(134.2, abs=0.1)


def test_lists_are_read_as_people_write_them(case):
    _, said = case("04_bom_nfd_groundtruth", "python", "gen.py")
    assert re.findall(r"AP ([\d.]+) expected", said) == ["0.7639"] * 6


def test_a_photo_that_breaks_late_counts_as_one_that_breaks_early(case):
    case("05_truncated_photo", "python", "gen.py")
    _, said = case("05_truncated_photo")
    parts = dict(part.split("\n", 1) for part in said.split("-- ")[1:])
    found = {name: re.findall(r"^mAP ([\d.]+)", text, re.M) for name, text in parts.items()}
    assert found["answer_body"] == found["answer_header"] == ["0.8069"]
    assert found["query_body"] == found["query_header"] == ["1.0000"]


def test_outlines_are_measured_as_they_are_drawn(case):
    _, said = case("06_polygon_outside", "python", "gen.py")
    assert re.findall(r"area (\d+) expected \1", said) == ["8000", "30000", "4122", "4000"]


def test_a_run_whose_data_changed_is_not_finished(case):
    folder, _ = case("08_stale_results", "sed", "-i", "s#2>/dev/null##", "run.sh")
    _, said = case(folder.name)
    assert "holds a run that differs in ground truth" in said
    assert "new mean AP 0.0282" in said


def test_search_and_explain_say_the_same_of_a_pair(case):
    _, said = case("09_never_judged")
    pairs = re.findall(r"search: score (\S+) probability (\S+) explain: (\S+) (\S+)", said)
    assert len(pairs) == 8 and all((a, b) == (c, d) for a, b, c, d in pairs)


def test_a_report_that_cannot_be_written_costs_nothing(case):
    folder, said = case("14_report_cannot_be_written")
    assert "afolder cannot be written" in said and not list(folder.rglob("*.part"))
