"""Widgets in pages on the disk, driven in a browser that notes what a page should not do."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.test_book import CHROMIUM_FLAGS, absent

NASTY = """</script><script>alert("x")</script>'&"><img src=x onerror=alert(1)>"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


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
    chromium = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)
    if chromium is None:
        absent("chromium", "install it, in Debian with `apt-get install chromium`.")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


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
    """A page with a widget, and what it did that it should not do: errors, and foreign requests."""

    kind: str

    def __init__(self, browser, address: str, width=1000, scheme="light", **more):
        size = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=size, color_scheme=scheme, **more)
        self.page.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        self.troubles: list[str] = []
        self.page.on("console", self.note_message)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", self.note_request)
        self.home = address.partition("//")[0], address.split("/")[2]
        self.page.goto(address)
        self.host = self.page.locator(f".indiret-{self.kind} > div[data-ready]")
        self.host.wait_for(state="attached")

    def note_message(self, message) -> None:
        if message.type == "error":
            self.troubles.append(message.text)

    def note_request(self, request) -> None:
        scheme, _, rest = request.url.partition("//")
        if not scheme.startswith(("data:", "blob:")) and (scheme, rest.split("/")[0]) != self.home:
            self.troubles.append(request.url)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


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
