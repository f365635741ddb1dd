"""The page that compares the reader's own photos, in a browser: answers, files, keys, privacy."""

import base64
import csv
import hashlib
import io
import json
import re
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import indiret
from indiret.datasets import load_dataset
from indiret.retrieval import build_retriever
from indiret.widgets import photos_page
from tests.widgets.pages import BOOK, NASTY, OVERFLOW, absent, axe_faults, watch

FORMULA, NASTY_FILE = "=1+2, 'x'.jpg", NASTY.replace("/", "_") + ".jpg"
PICTURES = Path(indiret.__file__).with_name("data") / "pictures"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
SCRIPT = re.compile(r'<script type="module">(.*)</script>\n</body>', re.DOTALL)
KEPT = """async () => {
  const [{ name }] = await indexedDB.databases();
  const opened = (request) =>
    new Promise((then) => { request.onsuccess = () => then(request.result); });
  const store = (await opened(indexedDB.open(name))).transaction("photos").objectStore("photos");
  return opened(store.count());
}"""

NOTE_DECODED = """window.decoded = [];
const send = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...more) {
  if (message.task === "read" && !message.given[1].query) decoded.push(message.given[0].name);
  send.call(this, message, ...more);
};"""
CONNECT = """async (address) => {
  const image = new Image();
  const failed = new Promise((then) => { image.onerror = () => then("refused"); });
  image.src = address;
  navigator.sendBeacon(address, "a photo");
  return [await failed, await fetch(address).then(() => "let through", () => "refused")];
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photos.html"
    path.write_text(photos_page(), encoding="utf-8")
    return path


class Visit:
    """The page, opened by somebody, and what it did that it should not."""

    def __init__(self, browser, path, width=1000, scheme="light", script=None, **more):
        self.folder = path.with_name("given")
        self.folder.mkdir(exist_ok=True)
        size = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=size, color_scheme=scheme, **more)
        self.page.set_default_timeout(120_000)
        self.troubles = watch(self.page, path.parent.as_uri() + "/")
        if script:
            self.page.add_init_script(script)
        self.page.goto(path.as_uri())
        self.wait_ready()

    def wait_ready(self) -> None:
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def give(self, place: str, *files: tuple[str, bytes]) -> None:
        """Files, by name and content, through a card's input."""
        given = [self.folder / name for name, _ in files]
        for path, (_, data) in zip(given, files, strict=True):
            if not path.exists() or path.read_bytes() != data:  # the same file keeps its time
                path.write_bytes(data)
        self.page.locator(f"#{place} input:not([capture], [webkitdirectory])").set_input_files(
            given
        )

    def wait_answer(self) -> str:
        self.page.wait_for_selector("#answer:not([hidden]) #evidence > div")
        return self.page.locator("#title").text_content()

    def wait_status(self, words: str) -> None:
        self.page.locator("#status").get_by_text(words).wait_for(state="attached")

    def figures(self) -> list[str]:
        return self.page.locator("#figures dd").all_text_contents()

    def ranked(self) -> list[tuple[str, str]]:
        cards = self.page.locator("#ranking .choice")
        names = cards.locator("img").evaluate_all("all => all.map((one) => one.alt)")
        return list(zip(names, cards.locator("figcaption").all_text_contents(), strict=True))


@pytest.fixture
def visit(browser, page_file):
    visits = []

    def opened(**settings) -> Visit:
        visits.append(Visit(browser, page_file, **settings))
        return visits[-1]

    yield opened
    for one in visits:
        one.page.close()
        assert one.troubles == []


@pytest.fixture(scope="module")
def town():
    return load_dataset("toytown", split="validation")


@pytest.fixture(scope="module")
def jpegs(town):
    """A query's photo, two more of its landmark and two of others, by file name."""
    query = town.queries[0]
    names = [query.image, *sorted(query.good - {query.image})[:2]]
    names += [town.queries[at].image for at in (20, 30)]
    return [(f"{name}.jpg", town.path(name).read_bytes()) for name in names]


@pytest.fixture(scope="module")
def samples(page_file):
    packed = json.loads(re.search(r'id="sample-photos">(.*?)</script>', page_file.read_text())[1])
    photos = packed["photos"].items()
    return packed["sets"], {name: io.BytesIO(base64.b64decode(jpeg)) for name, jpeg in photos}


def test_the_page_may_run_its_own_script_and_connect_to_nothing(page_file):
    text = page_file.read_text(encoding="utf-8")
    policy, script = POLICY.search(text)[1], SCRIPT.search(text)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    workers = re.search(r'id="matcher">(.*?)</script>', text, re.DOTALL)[1]
    assert len(script) + len(workers) <= 150_000 and len(text) <= 1_000_000


def test_the_browser_refuses_every_connection(browser, page_file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        answers = page.evaluate(CONNECT, f"http://127.0.0.1:{server.getsockname()[1]}/photo.png")
        with pytest.raises(TimeoutError):
            server.accept()
        page.close()
    assert answers == ["refused", "refused"]


@pytest.mark.parametrize(("number", "found"), [*enumerate([True, False, True] * 2)])
def test_a_sample_is_judged_as_python_judges_it(visit, samples, number, found):
    title, query, box, targets = samples[0][number]
    photos = {name: Image.open(jpeg) for name, jpeg in samples[1].items()}
    one = visit(width=1440)
    one.page.get_by_role("button", name=title).click()
    assert one.wait_answer().startswith("The same thing, very" if found else "No sign of")
    retriever = build_retriever("plane-net")
    part = np.multiply(box or (0, 0, 1, 1), photos[query].size * 2).round()
    asked = retriever.encode_query(np.asarray(photos[query].crop(tuple(part))))
    others = [retriever.encode(np.asarray(photos[name])) for name in targets if name != query]
    probabilities = retriever.probability(retriever.score(asked, others))
    best = int(np.argmax(probabilities))
    expected = [probabilities[best], *map(retriever.structure, (asked, others[best]))]
    shown = [float(re.search(r"\d+", text)[0]) / 100 for text in one.figures()]
    assert shown == pytest.approx(expected, abs=0.02)
    assert one.page.locator("polygon.landed").count() == 1
    one.page.locator(".pad[data-side=query]").focus()
    one.page.keyboard.press("ArrowDown")
    assert "query (1, 0)" in one.page.locator(".readout").text_content()
    assert one.page.locator("circle.landed").count() == 1


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + body + crc


def test_files_that_are_no_photos_get_a_sentence_each_and_spoil_nothing(visit, jpegs):
    thin = io.BytesIO()
    Image.new("RGB", (400, 17)).save(thin, "PNG")
    bad = {
        "empty.jpg": b"",
        "broken.jpg": jpegs[0][1][:200],
        "phone.heic": b"\0\0\0\x18ftypheic" + bytes(40),
        "scan.tif": b"II*\0" + bytes(40),
        "bomb.png": png_header(60_000, 60_000) + bytes(40),
        "thin.png": thin.getvalue(),
        NASTY_FILE: b"<svg onload=alert(1)>" + bytes(40),
    }
    one = visit()
    one.give("query", ("empty.jpg", b""))
    one.page.locator("#problems p").wait_for()
    one.give("query", jpegs[0])
    one.give("targets", *bad.items(), *jpegs[1:3], ("notes.txt", b"no photo"))
    one.wait_answer()
    said = one.page.locator("#problems p").all_text_contents()
    unreadable = "which this browser cannot read; save it as JPEG and choose that."
    expected = {
        "empty.jpg is empty.",
        "broken.jpg is a broken JPEG file.",
        f"phone.heic is a HEIC photo, {unreadable}",
        f"scan.tif is a TIFF photo, {unreadable}",
        "bomb.png has 3600 megapixels; make it smaller, 64 at most.",
        "thin.png has 400 by 17 pixels; one side may be at most 20 times the other.",
        f"{NASTY_FILE} is no photo that a browser can read.",
    }
    assert set(said) >= expected
    assert len(one.ranked()) == 2


def test_a_folder_is_ranked_kept_and_taken_away(visit, jpegs, browser, tmp_path):
    one = visit(script=NOTE_DECODED)
    names = [NASTY_FILE, FORMULA, *(name for name, _ in jpegs[3:])]
    files = [(name, data) for name, (_, data) in zip(names, jpegs[1:], strict=True)]
    one.give("query", jpegs[0])
    one.give("targets", *files, jpegs[0])
    one.wait_status("4 photos compared. The photo itself, which is among them, is left out.")
    ranked = one.ranked()
    assert {name for name, _ in ranked[:2]} == {NASTY_FILE, FORMULA}
    assert all(re.fullmatch(r"\d · (over|under)? ?\d+ %", text) for _, text in ranked)
    one.page.locator("#ranking .choice").last.click()
    one.page.get_by_text("target: " + ranked[-1][0]).wait_for()

    with one.page.expect_download() as saved:
        one.page.get_by_role("button", name="Save the list").click()
    text = saved.value.path().read_text("utf-8-sig")
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["rank", "photo", "probability", "score", "structure"]
    assert [row[1].removeprefix("'") for row in rows] == [name for name, _ in ranked]
    assert f"'{FORMULA}" in [row[1] for row in rows]
    margins = [float(row[3]) for row in rows]
    assert margins == sorted(margins, reverse=True)

    with one.page.expect_download() as saved:
        one.page.get_by_role("button", name="Save the results").click()
    report = tmp_path / "results.html"
    saved.value.save_as(report)
    assert "default-src 'none'" in report.read_text("utf-8")
    shown = browser.new_page()
    troubles = watch(shown, report.as_uri())
    shown.goto(report.as_uri())
    assert shown.locator("h2").all_text_contents() == [
        f"{place}. {name}" for place, (name, _) in enumerate(ranked, start=1)
    ]
    assert shown.locator("svg image").count() == 2 * len(ranked)
    assert shown.locator("img, script").count() == 0 and shown.evaluate(OVERFLOW) <= 0
    shown.close()
    assert troubles == []

    assert one.page.evaluate(KEPT) == 5
    one.page.reload()
    one.wait_ready()
    one.give("targets", *files, jpegs[0])
    one.wait_status("Now the photo you ask about.")
    assert one.page.locator("#mosaic img").count() == 5
    assert one.page.evaluate("decoded") == []
    one.give("query", jpegs[0])
    one.wait_answer()
    assert one.ranked() == ranked
    one.page.get_by_role("button", name="Forget these photos").click()
    one.wait_status("Forgotten")
    assert one.page.evaluate(KEPT) == 0


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("Object.defineProperty(window, 'indexedDB', { get() { throw Error('no'); } })", False),
        ("IDBDatabase.prototype.transaction = () => { throw Error('closed'); }", True),
    ],
)
def test_without_a_place_to_keep_codes_it_works_as_before(visit, jpegs, script, kept):
    one = visit(script=script)
    one.give("query", jpegs[0])
    one.give("targets", *jpegs[1:3])
    one.wait_answer()
    assert one.page.locator("#problems p").count() == 0
    assert one.page.locator("#save-csv").is_visible()
    assert one.page.locator("#forget").is_visible() == kept
    if kept:
        one.page.locator("#forget").click()
        one.wait_status("could not be removed")


def test_another_version_of_the_page_removes_what_was_kept(visit, page_file):
    one = visit()
    stored = "indexedDB.databases().then((all) => all.map(({ name }) => name))"
    before = one.page.evaluate(stored)
    newer = page_file.with_name("newer.html")
    newer.write_text(re.sub('data-version="[^"]*"', 'data-version="newer"', page_file.read_text()))
    one.page.goto(newer.as_uri())
    one.wait_ready()
    assert len(before) == 1 and one.page.evaluate(stored) == ["indiret-photos-newer"]


def test_a_query_or_box_that_is_refused_changes_nothing(visit, jpegs):
    small = io.BytesIO()
    Image.open(io.BytesIO(jpegs[0][1])).resize((90, 120)).save(small, "PNG")
    one = visit()
    one.give("targets", *jpegs[1:])
    one.give("query", ("small.png", small.getvalue()))
    one.page.locator("#pad img").wait_for()
    assert "Now the photo" not in one.page.locator("#status").text_content()
    one.wait_status("Compar")
    one.give("query", ("empty.jpg", b""))
    one.page.get_by_text("empty.jpg is empty.").wait_for()
    one.wait_answer()
    assert all("%" in caption for _, caption in one.ranked())
    box = one.page.locator("#pad .pad").bounding_box()
    for step, act in enumerate((one.page.mouse.down, one.page.mouse.up)):
        one.page.mouse.move(box["x"] + 20 + 0.1 * step * box["width"], box["y"] + 20 + 40 * step)
        act()
    one.page.get_by_text("The box on small.png has").wait_for()
    assert one.page.locator("#problems p").count() == 1
    assert one.page.locator("#pad rect.outline").count() == 0


def test_reading_stops_and_goes_on(visit, jpegs):
    one = visit()
    many = [(f"{at}.jpg", jpegs[1][1] + bytes([at])) for at in range(4)]
    one.give("query", jpegs[0])
    one.page.locator("#pad img").wait_for()
    one.give("targets", *many)
    one.page.get_by_role("button", name="Stop").click()
    one.page.get_by_role("button", name="Go on").click()
    one.wait_status("4 photos compared.")
    assert len(one.ranked()) == 4
    assert one.page.locator("#reading").is_hidden()
    one.page.get_by_role("button", name="Remove all").click()
    assert one.page.locator("#answer").is_hidden() and one.page.locator("#results").is_hidden()


@pytest.mark.parametrize("way", ["mouse", "finger", "keys"])
def test_a_box_on_the_query_is_what_is_asked_about(visit, jpegs, way):
    one = visit(width=375, has_touch=True)
    one.give("query", jpegs[0])
    pad = one.page.locator("#pad .pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    start, end = ((box["x"] + s * box["width"], box["y"] + s * box["height"]) for s in (0.25, 0.75))
    if way == "mouse":
        one.page.mouse.move(*start)
        one.page.mouse.down()
        one.page.mouse.move(*end, steps=3)
        one.page.mouse.up()
    elif way == "finger":
        one.page.get_by_role("button", name="Draw a box").click()
        session = one.page.context.new_cdp_session(one.page)
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            touches = [{"x": x, "y": y} for x, y in points]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    else:
        pad.focus()
        for key in (
            *["ArrowUp", "ArrowLeft"] * 5,
            "Enter",
            *["ArrowDown", "ArrowRight"] * 10,
            "Enter",
        ):
            one.page.keyboard.press(key)
    one.page.get_by_role("button", name="Whole photo").wait_for()
    outline = one.page.locator("#pad rect.outline")
    drawn = [float(outline.get_attribute(of)) for of in ("x", "y", "width", "height")]
    assert drawn == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.02)
    one.page.get_by_role("button", name="Whole photo").click()
    one.page.get_by_role("button", name="Whole photo").wait_for(state="hidden")
    assert outline.count() == 0


@pytest.mark.parametrize("home", ["", "http://127.0.0.1/"])
def test_files_are_pasted_and_dropped_and_so_is_a_folder(visit, jpegs, page_file, home):
    one = visit()
    if home:
        one.page.route(home, lambda route: route.fulfill(path=page_file))
        one.page.goto(home)
        one.wait_ready()
        one.troubles.clear()  # that it asked for this page
    paste = """([name, data]) => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([new Uint8Array(data)], name, { type: "image/jpeg" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData }));
    }"""
    one.page.evaluate(paste, [jpegs[0][0], [*jpegs[0][1]]])
    one.page.locator("#pad img").wait_for()
    inner = one.folder / "dropped" / "inner"
    inner.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{folder.name}.jpg" for folder in (one.folder, inner.parent, inner)]
    [path.write_bytes(data) for path, (_, data) in zip(paths, jpegs[1:], strict=False)]
    box = one.page.locator("#targets").bounding_box()
    files = {"files": [*map(str, (paths[0], inner.parent))], "items": [], "dragOperationsMask": 1}
    drag = {"x": box["x"] + 20, "y": box["y"] + 20, "data": files}
    session = one.page.context.new_cdp_session(one.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **drag})
    one.wait_status("3 photos compared.")
    assert {name for name, _ in one.ranked()} == {path.name for path in paths}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_is_used_by_keys_alone(visit, scheme):
    one = visit(width=375, scheme=scheme, bypass_csp=True)  # axe is a second script
    keyboard = one.page.keyboard
    for _ in range(30):
        keyboard.press("Tab")
        if "One house" in one.page.evaluate("document.activeElement.textContent"):
            break
    keyboard.press("Enter")
    one.wait_answer()
    assert one.page.evaluate(OVERFLOW) <= 0
    assert axe_faults(one.page) == []


def test_the_samples_are_of_the_town_or_in_the_public_domain(samples, town):
    licence = PICTURES.joinpath("LICENSE").read_text("utf-8")
    for name, jpeg in samples[1].items():
        path = PICTURES / f"{name}.jpg" if name in licence else town.path(name)
        assert jpeg.getvalue() == path.read_bytes() and not Image.open(jpeg).getexif()


def test_it_stands_in_the_book_as_high_as_it_is_and_in_its_colours(browser):
    address = BOOK / "book" / "your_photos.html"
    if not address.is_file():
        absent("the built page", "run `make book` first.")
    page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
    page.set_default_timeout(120_000)
    troubles = watch(page, f"{BOOK.as_uri()}/")
    page.goto(address.as_uri())
    frame = page.frame_locator("iframe.photos")
    root = frame.locator("html")
    start = page.locator("iframe.photos").bounding_box()["height"]
    frame.get_by_role("button", name="One house, twice").click()
    frame.locator("#answer:not([hidden]) #evidence > div").wait_for()
    page.wait_for_timeout(300)
    height = page.locator("iframe.photos").bounding_box()["height"]
    assert start < height == pytest.approx(root.evaluate("e => e.scrollHeight"), abs=3)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)
    assert root.evaluate("e => getComputedStyle(e).colorScheme") == "dark"
    assert frame.locator("h1").is_hidden()
    page.close()
    assert troubles == []
