"""The page of a search: text stays text, nothing is loaded, and it is written whole."""

import re

import pytest
import torch

from indiret.evidence import Evidence
from indiret.reports import ReportHit, write_search_report
from indiret.retrieval import Hit
from tests.reports.page import Page
from tests.widgets.pages import browser as browser
from tests.widgets.test_payload import noise

NASTY = """<script>alert("x")</script>'&"><img src=x onerror=alert(1)>.jpg"""


def hit(name: str = "hit.jpg", shape=(300, 400), probability: float | None = 0.9) -> ReportHit:
    evidence = Evidence(2.5, torch.rand(7, 7, 5, 6))
    return ReportHit(Hit(name, 2.5, probability), noise(*shape), evidence)


def write(folder, *hits: ReportHit, query=None, name: str = "q.jpg", **options) -> str:
    picture = noise(200, 300) if query is None else query
    path = write_search_report(folder / "r.html", name, picture, hits, **options)
    return path.read_text(encoding="utf-8")


def test_names_are_text_and_never_markup(tmp_path):
    page = Page(write(tmp_path, hit(NASTY), name=NASTY, note=NASTY))
    assert page.text.count(NASTY) == 4  # title, heading, note, hit
    assert "script" not in page.tags and "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_nothing_and_describes_its_drawings(tmp_path):
    text = write(tmp_path, hit("b.jpg"), hit())
    links = [value for name, value in Page(text).attributes if name in ("src", "href", "srcset")]
    assert len(links) == 2 * (2 + 4)
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert "90.0% likely relevant" in text
    assert "url(" not in text and "@import" not in text
    wide, tall, *_ = re.findall(r"<svg class=[^>]*>", text)
    for drawing in (wide, tall):
        assert 'role="img"' in drawing and "q.jpg and hit 1, b.jpg" in drawing


def test_ten_large_noisy_hits_stay_small(tmp_path):
    hits = (hit(f"{n}.jpg", (2000, 3000)) for n in range(10))
    path = write_search_report(tmp_path / "report.html", "q.jpg", noise(3000, 2000), hits)
    assert path.stat().st_size < 5_000_000


def test_lines_join_matched_patches_in_both_layouts(tmp_path):
    pairs = torch.zeros(4, 4, 2, 2)
    pairs[3, 0, 0, 1] = 1.0
    found = ReportHit(Hit("b.jpg", 1.0, None), noise(200, 200), Evidence(1.0, pairs))
    text = write(tmp_path, found, query=noise(200, 200))
    ends = re.findall(r'class="pair" x1="([^"]*)" y1="([^"]*)" x2="([^"]*)" y2="([^"]*)"', text)
    assert [tuple(map(float, end)) for end in ends] == [
        (225.0, 75.0, 324 + 37.5, 262.5),
        (255.0, 85.0, 42.5, 364 + 297.5),
    ]


@pytest.mark.parametrize(("probability", "dashed"), [(0.2, 2), (0.8, 0), (float("nan"), 0)])
def test_a_line_to_a_place_that_is_probably_wrong_is_dashed(tmp_path, probability, dashed):
    pairs = torch.zeros(4, 4, 2, 2)
    pairs[3, 0, 0, 1] = 1.0
    evidence = Evidence(1.0, pairs, torch.tensor([[0.9, probability], [0.1, 0.1]]))
    text = write(tmp_path, ReportHit(Hit("b.jpg", 1.0, None), noise(200, 200), evidence))
    assert text.count('class="pair doubtful"') == dashed  # in both layouts


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    def hits():
        yield hit(probability=None)
        raise OSError("a photo is gone")

    before = write(tmp_path / "new", name="q\udcff.jpg", note="Nothing found.")  # no unicode
    assert "Nothing found." in before and "likely relevant" not in before
    with pytest.raises(OSError, match="is gone"):
        write_search_report(tmp_path / "new" / "r.html", "q", noise(60, 60), hits())
    assert (tmp_path / "new" / "r.html").read_text(encoding="utf-8") == before
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["r.html"]


@pytest.mark.parametrize("width", [375, 1440])
def test_the_page_fits_and_stays_quiet_in_a_browser(tmp_path, browser, width):
    write(tmp_path, hit("b" * 200, (400, 200)), name="a_long_name_" * 12)
    page = browser.new_page(viewport={"width": width, "height": 800})
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.goto((tmp_path / "r.html").as_uri())
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    seen = [page.locator(f"svg.{layout}").first.is_visible() for layout in ("wide", "tall")]
    page.close()
    assert troubles == [] and overflow <= 0
    assert seen == ([False, True] if width == 375 else [True, False])
