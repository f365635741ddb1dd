"""Widgets in pages on the disk, driven in a browser that notes what a page should not do."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "_build" / "html"
FIRST_PAGE = "book/intro.html"
NASTY = """</script><script>alert("x")</script>'&"><img src=x onerror=alert(1)>"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NAME = "e => e.getAttribute('aria-label') || e.textContent || e.labels?.[0].textContent || ''"

CHROMIUM_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def absent(what: str, remedy: str) -> None:
    """In CI an absent book or browser is a failure: there it must have been made."""
    reason = f"{what} is absent: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def axe_faults(page) -> list[str]:
    """What axe-core finds in a page: how serious it is, what, and where."""
    package = pytest.importorskip("axe_playwright_python")
    page.add_script_tag(path=f"{package.__path__[0]}/axe.min.js")
    found = page.evaluate("axe.run({ preload: false })")["violations"]
    return [f"{one['impact']}: {one['help']}, {one['nodes']}" for one in found]


class Tags(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        absent("chromium", "install it, in Debian with `apt-get install chromium`.")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of the book on a server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(BOOK))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def watch(page, home: str) -> list[str]:
    """What a page does that it should not, noted from now on: errors, and requests elsewhere."""
    troubles: list[str] = []

    def note_message(message) -> None:
        if message.type == "error":
            troubles.append(f"console: {message.text}")

    def note_request(request) -> None:
        if not request.url.startswith((home, "data:", "blob:")):
            troubles.append(f"asks for {request.url}")

    page.on("console", note_message)
    page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
    page.on("request", note_request)
    return troubles


def page_of(html: str, folder: Path) -> str:
    """The address of a page that shows a piece of HTML."""
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Widget</title><style>:root { color-scheme: light dark }</style>"
        f"<body>{html}</body></html>",
        encoding="utf-8",
    )
    return path.as_uri()


class Opened:
    """A page with a widget, and what it did that it should not do."""

    kind: str

    def __init__(self, browser, address: str, width=1000, scheme="light", **more):
        size = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=size, color_scheme=scheme, **more)
        self.page.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        self.troubles = watch(self.page, "/".join(address.split("/")[:3]) + "/")
        self.page.goto(address)
        self.host = self.page.locator(f".indiret-{self.kind} > div[data-ready]")
        self.host.wait_for(state="attached")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def shown(self):
        return self.page.evaluate(self.SHOWN)

    @property
    def readout(self) -> str:
        return self.page.locator(".readout").text_content()

    def assert_fits_and_is_named(self) -> None:
        """Nothing leaves the page, what can be used has a name, and pictures have a description."""
        assert self.page.evaluate(OVERFLOW) <= 0
        for control in self.page.locator("input:visible, button, [role=application]").all():
            assert control.evaluate(NAME).strip()
        for image in self.page.locator(f".indiret-{self.kind} img").all():
            assert image.get_attribute("alt")
            assert image.evaluate("image => image.complete && image.naturalWidth > 0")
        if self.page.locator(".keys").count():
            size = "e => parseFloat(getComputedStyle(e).fontSize)"
            assert self.page.locator(".keys").evaluate(size) >= 13


@pytest.fixture
def open_page(browser):
    """Open a page as one of `Opened`'s classes; at the end it is closed and had no trouble."""
    pages: list[Opened] = []

    def opened(kind: type[Opened], address: str, **settings):
        pages.append(kind(browser, address, **settings))
        return pages[-1]

    yield opened
    for one in pages:
        one.page.close()
        assert not one.troubles, one.troubles
