"""The built book in a real browser, from the disk and from a server: pictures, console, layout."""

import re

import pytest

from tests.widgets.pages import BOOK, FIRST_PAGE, absent, axe_faults, watch
from tests.widgets.pages import browser as browser
from tests.widgets.pages import served as served
from tools.landing import METHODS

CHAPTER_1 = "notebooks/01_quick_tour.html"
PAGES = sorted(
    page.relative_to(BOOK).as_posix()
    for page in BOOK.glob("*/**/*.html")
    if "_static" not in page.parts
)
# Scripts, widgets and frames may act otherwise on a server: of pages with the same, one is served.
ACTS = re.compile(r'<(?:script|iframe)\b[^>]*\bsrc="(?:\.\./)*([^"?]+)|class="(indiret-\w+)')
KINDS = {frozenset(ACTS.findall((BOOK / name).read_text("utf-8"))): name for name in PAGES}
CASES = [*((name, "file") for name in PAGES), *((name, "http") for name in KINDS.values())]
WIDTHS = (1440, 375)
PARTS = ("/notebooks/", "/book/api/")
SCHEMES = ("light", "dark")
READABLE = 4.5  # the contrast that WCAG asks of text
# How far a page scrolls sideways, and the least contrast of its and an explorer's words.
LAYOUT = """() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => rgb(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return rgb(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  const host = document.querySelector(".indiret-explorer");
  const inside = host?.firstElementChild?.shadowRoot?.querySelector(".readout");
  const texts = [...document.querySelectorAll("article :is(p, td a, figcaption)")].slice(0, 200);
  const contrasts = [...texts.map((text) => [text, null]), [inside, host]]
    .filter(([text]) => text).map(([text, holder]) => {
      const pair = [getComputedStyle(text).color, behind(holder ?? text)].map(light);
      return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    });
  const { scrollWidth, clientWidth } = document.documentElement;
  return [scrollWidth - clientWidth, Math.min(...contrasts, 21)];
}"""
UNREADABLE = """[...document.querySelectorAll("img, th")].filter((one) => !(one.textContent.trim()
  || one.alt?.trim() && one.complete && one.naturalWidth)).map((one) => one.outerHTML)"""


@pytest.fixture(scope="module", autouse=True)
def the_book_is_built() -> None:
    if not (BOOK / FIRST_PAGE).is_file():
        absent("the built book", "run `make book` first.")


@pytest.fixture(scope="module")
def tabs(browser, served):
    """A tab for pages of the disk, one for served pages, and what they do that they should not."""

    def tab(home: str):
        page = browser.new_page(color_scheme=SCHEMES[0])
        page.set_default_timeout(120_000)
        troubles = watch(page, f"{home}/")
        page.on("requestfailed", lambda request: troubles.append(f"cannot load {request.url}"))
        page.on("response", lambda got: got.ok or got.status == 304 or troubles.append(got.url))
        return page, troubles, home

    return {"file": tab(BOOK.as_uri()), "http": tab(served)}


@pytest.mark.parametrize(("page_name", "over"), CASES)
def test_page_is_whole_offline_and_fits(tabs, page_name, over):
    page, troubles, home = tabs[over]
    troubles.clear()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(f"{home}/{page_name}", wait_until="load")
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container svg", state="attached")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    for width, schemes in zip(WIDTHS, (SCHEMES, SCHEMES[::-1]), strict=True):  # ends as it began
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colours between
            page.wait_for_selector(f"html[data-theme={scheme}]", state="attached")
            overflow, contrast = page.evaluate(LAYOUT)
            if overflow > 0 or contrast < READABLE:
                troubles.append(f"{width} px, {scheme}: {overflow} px over, contrast {contrast}")
        if over == "http":  # one of each kind: wide, with its bars, and narrow, where much scrolls
            troubles += axe_faults(page)
    assert troubles + page.evaluate(UNREADABLE) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_landing_page_is_light_and_its_explorer_switches(browser, served, width):
    """All that a minute needs: the evidence at once, five doors, and what it weighs."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    got: list = []
    page.on("response", lambda response: got.append(response))
    page.goto(f"{served}/{FIRST_PAGE}", wait_until="load")
    page.wait_for_selector(".indiret-explorer > div[data-ready]", state="attached")
    weight = sum(len(r.body()) for r in got if r.ok and r.url.startswith(served))
    picture = page.locator(".side img").first.bounding_box()
    words = []
    for method in METHODS.values():
        page.locator(".show").get_by_text(method, exact=True).click()
        words.append(page.locator(".readout").inner_text())
    doors = page.locator(".doors a").all_inner_texts()
    page.close()
    assert FIRST_PAGE in (BOOK / "index.html").read_text(encoding="utf-8")
    assert weight <= 1_500_000
    assert picture["y"] < 900 and picture["width"] > 250
    assert all("on one plane" in told for told in words)
    assert len(doors) == 5


def test_the_evidence_of_the_first_chapter_is_in_sight(browser):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((BOOK / CHAPTER_1).as_uri(), wait_until="load")
    picture = page.locator("#fig-evidence img:visible")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    caption = page.locator("#fig-evidence figcaption").inner_text()
    page.close()
    assert box is not None and box["width"] > 400 and box["height"] > 100
    assert caption.startswith("Fig. 1.") and len(caption.split()) > 10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_figure_with_photos_has_a_dark_form(browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto((BOOK / CHAPTER_1).as_uri(), wait_until="load")
    shown = page.locator("#fig-evidence img").evaluate_all(
        "all => all.filter((one) => one.checkVisibility()).map((one) => one.src)"
    )
    assert page.locator("#fig-evidence figcaption").is_visible()
    page.close()
    assert [".dark." in source for source in shown] == [scheme == "dark"]


def test_a_search_from_the_disk_shows_excerpts_and_chapters_first(browser):
    page = browser.new_page()
    page.set_default_timeout(120_000)
    troubles = watch(page, f"{BOOK.as_uri()}/")
    page.goto(f"{BOOK.as_uri()}/search.html?q=evidence")
    page.wait_for_selector("#search-results li p.context")
    page.wait_for_selector("#search-results li > a[href*='book/api/']")  # they come one by one
    found = page.locator("#search-results li > a").evaluate_all("all => all.map((a) => a.href)")
    excerpt = page.locator("#search-results li p.context").first.inner_text()
    page.close()
    assert troubles == []
    assert "evidence" in excerpt.lower()
    places = {part: next(n for n, one in enumerate(found) if part in one) for part in PARTS}
    assert places["/notebooks/"] < places["/book/api/"]


def test_equations_functions_and_chapters_lead_to_each_other():
    def page(name: str) -> str:
        return (BOOK / name).read_text(encoding="utf-8")

    function, equation = "core.html#indiret.evidence.explain", "#equation-eq-evidence"
    chapter = "06_from_gradcam_to_evidence.html"
    assert f"../notation.html{equation}" in page("book/api/core.html")
    assert f"../../notebooks/{chapter}" in page("book/api/core.html")
    assert f"api/{function}" in page("book/notation.html")
    assert f"../notebooks/{chapter}" in page("book/notation.html")
    assert f"../book/api/{function}" in page(f"notebooks/{chapter}")
    assert f"../book/notation.html{equation}" in page(f"notebooks/{chapter}")
    numbers = re.findall(r'class="eqno">\((\d+)\)', page("book/notation.html"))
    assert numbers == [str(number) for number in range(1, 11)], "the paper's own"
