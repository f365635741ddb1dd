"""Open the built book: ``python -m tools.open_in_browser firefox``, or ``webkit``.

Playwright drives a Firefox and a WebKit of its own only. The Firefox that readers have is spoken to
by WebDriver BiDi, which needs no driver; WebKit by WebDriver, which tells no errors. Each page is
opened from the disk until its widgets, formulas and pictures are there, and the page *Your own
photos* compares its sample pair. What a page lacks and each error that is told are printed, and
then the exit status is 1. Needs Debian's ``firefox-esr``, or ``webkit2gtk-driver`` and ``xvfb``.
"""

import argparse
import asyncio
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from tools.print_book import BUILT

PHOTOS = "_static/photos.html"
PATIENCE = 60  # seconds for a page
# What is missing after a while: nothing on a page that is whole.
MISSING = """async (sample, seconds) => {
  const end = performance.now() + 1000 * seconds;
  const missing = () => [
    ...[...document.querySelectorAll(".math")].filter((one) => !one.querySelector("mjx-container")),
    ...[...document.querySelectorAll("div[data-alive]")]
      .filter((one) => !one.querySelector(":scope > div[data-ready]")),
    ...[...document.images].filter((one) => one.checkVisibility() && !one.naturalWidth),
    ...(sample ? document.querySelectorAll("#answer[hidden]") : []),
  ].map((one) => one.outerHTML.slice(0, 100));
  const until = async (reached) => {
    while (!reached() && performance.now() < end) {
      await new Promise((then) => setTimeout(then, 100));
    }
  };
  if (sample) {
    await until(() => document.querySelector("html[data-ready]"));
    document.querySelector("#samples button").click();
  }
  await until(() => !missing().length);
  return JSON.stringify(missing());
}"""
QUIET = subprocess.DEVNULL
NEEDS = {  # programs, by the Debian package that has them
    "firefox": {"firefox": "firefox-esr"},
    "webkit": {"WebKitWebDriver": "webkit2gtk-driver", "Xvfb": "xvfb"},
}


@contextmanager
def running(*command: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that ends with the block."""
    with subprocess.Popen(command, stderr=QUIET, text=True, **how) as program:
        try:
            yield program
        finally:
            program.terminate()


class WebKit:
    """One window of a WebKit, by WebDriver."""

    def __init__(self, address: str):
        self.address = address

    def ask(self, path: str, **given: Any) -> Any:
        """The answer to a command."""
        body, head = json.dumps(given).encode(), {"Content-Type": "application/json"}
        for _ in range(10 * PATIENCE):
            try:
                command = urllib.request.Request(self.address + path, body, head)
                with urllib.request.urlopen(command, timeout=2 * PATIENCE) as answer:
                    return json.load(answer)["value"]
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"{path}: {error.read().decode()}") from error
            except urllib.error.URLError:  # the driver has not begun to listen
                time.sleep(0.1)
        raise ConnectionError("WebKitWebDriver does not answer.")

    async def begin(self) -> str:
        """Open the session; WebKit's version."""
        session = self.ask("", capabilities={})
        self.address += f"/{session['sessionId']}"
        self.ask("/timeouts", script=2000 * PATIENCE)
        return session["capabilities"]["browserVersion"]

    async def troubles_of(self, page: Path) -> list[str]:
        """What a page of the disk lacks."""
        self.ask("/url", url=page.as_uri())
        script = f"({MISSING})(...arguments).then(arguments[2])"
        answer = self.ask("/execute/async", script=script, args=[page.match(PHOTOS), PATIENCE])
        return [f"lacks {one}" for one in json.loads(answer)]


class Firefox:
    """One tab of a headless Firefox, and the errors that it has told of."""

    def __init__(self, socket: WebSocketClientConnection):
        self.socket, self.numbers, self.errors = socket, itertools.count(1), list[str]()

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command of BiDi; what is told before it is noted."""
        number = next(self.numbers)
        await self.socket.write_message(
            json.dumps({"id": number, "method": method, "params": params})
        )
        while True:
            text = await asyncio.wait_for(self.socket.read_message(), 2 * PATIENCE)
            if text is None:
                raise ConnectionError("Firefox has closed the connection.")
            told = json.loads(text)
            if told.get("id") == number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['message']}")
                return told["result"]
            if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
                self.errors.append(told["params"]["text"])
            elif told.get("method") == "network.fetchError":
                self.errors.append(f"cannot load {told['params']['request']['url'][:100]}")

    async def begin(self) -> str:
        """Open the session; Firefox's version."""
        session = await self.ask("session.new", capabilities={})
        await self.ask("session.subscribe", events=["log.entryAdded", "network.fetchError"])
        tree = await self.ask("browsingContext.getTree")
        self.tab = tree["contexts"][0]["context"]
        return session["capabilities"]["browserVersion"]

    async def troubles_of(self, page: Path) -> list[str]:
        """Errors of a page of the disk and what it lacks."""
        self.errors = []
        await self.ask(
            "browsingContext.navigate", context=self.tab, url=page.as_uri(), wait="complete"
        )
        answer = await self.ask(
            "script.callFunction",
            functionDeclaration=MISSING,
            arguments=[
                {"type": "boolean", "value": page.match(PHOTOS)},
                {"type": "number", "value": PATIENCE},
            ],
            target={"context": self.tab},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            return [*self.errors, answer["exceptionDetails"]["text"]]
        return [*self.errors, *(f"lacks {one}" for one in json.loads(answer["result"]["value"]))]


async def open_pages(pages: list[Path], tab: Firefox | WebKit) -> int:
    """Open pages one after the other; how many had troubles, which are printed."""
    print(f"{type(tab).__name__} {await tab.begin()}: {len(pages)} pages")
    failed = 0
    for page in pages:
        troubles = await tab.troubles_of(page)
        failed += bool(troubles)
        print(f"{page}: {'; '.join(troubles) or 'no error'}", flush=True)
    return failed


async def in_firefox(pages: list[Path]) -> int:
    firefox = shutil.which("firefox") or "firefox-esr"
    with (
        tempfile.TemporaryDirectory() as profile,
        running(
            *(firefox, "--headless", "--no-remote", "--profile", profile),
            *("--remote-debugging-port", "0"),
            stdout=QUIET,
        ),
    ):
        server = Path(profile, "WebDriverBiDiServer.json")
        for _ in range(10 * PATIENCE):
            if server.is_file() and server.stat().st_size:
                break
            await asyncio.sleep(0.1)
        port = json.loads(server.read_text(encoding="utf-8"))["ws_port"]
        tab = Firefox(await websocket_connect(f"ws://127.0.0.1:{port}/session"))
        return await open_pages(pages, tab)


async def in_webkit(pages: list[Path]) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running("Xvfb", "-displayfd", "1", stdout=subprocess.PIPE) as screen:
        assert screen.stdout is not None
        display = {**os.environ, "DISPLAY": f":{screen.stdout.readline().strip()}"}
        with running("WebKitWebDriver", f"--port={port}", stdout=QUIET, env=display):
            return await open_pages(pages, WebKit(f"http://127.0.0.1:{port}/session"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("browser", choices=NEEDS)
    parser.add_argument("pages", type=Path, nargs="*", help="all pages of the book without these")
    asked = parser.parse_args()
    pages = asked.pages or [
        *(one for one in sorted(BUILT.glob("*/**/*.html")) if "_static" not in one.parts),
        BUILT / PHOTOS,
    ]
    for program, package in NEEDS[asked.browser].items():
        if not shutil.which(program) and not shutil.which(package):
            sys.exit(
                f"{program} is absent; install it, in Debian with `apt-get install {package}`."
            )
    if not all(page.is_file() for page in pages):
        sys.exit(f"{BUILT} holds no built book; run `make book` first.")
    run = in_firefox if asked.browser == "firefox" else in_webkit
    failed = asyncio.run(run([page.resolve() for page in pages]))
    sys.exit(f"{failed} pages have troubles." if failed else 0)


if __name__ == "__main__":
    main()
