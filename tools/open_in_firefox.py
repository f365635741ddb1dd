"""Open the built book in Firefox: ``python -m tools.open_in_firefox`` after ``make book``.

Playwright drives a Firefox of its own only; the one that readers have is spoken to by WebDriver
BiDi, which needs no driver. Each page is opened from the disk until its widgets, formulas and
pictures are there, and the page *Your own photos* compares its sample pair. Each error of a page is
printed, and then the exit status is 1. Needs ``firefox`` or Debian's ``firefox-esr``.
"""

import argparse
import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
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


async def open_pages(pages: list[Path], firefox: str) -> int:
    """Open pages one after the other; how many had troubles, which are printed."""
    with tempfile.TemporaryDirectory() as profile:
        command = [firefox, "--headless", "--no-remote", "--profile", profile]
        quiet = subprocess.DEVNULL
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port", "0"], stdout=quiet, stderr=quiet
        )
        try:
            server = Path(profile, "WebDriverBiDiServer.json")
            for _ in range(10 * PATIENCE):
                if server.is_file() and server.stat().st_size:
                    break
                await asyncio.sleep(0.1)
            port = json.loads(server.read_text(encoding="utf-8"))["ws_port"]
            tab = Firefox(await websocket_connect(f"ws://127.0.0.1:{port}/session"))
            print(f"Firefox {await tab.begin()}: {len(pages)} pages")
            failed = 0
            for page in pages:
                troubles = await tab.troubles_of(page)
                failed += bool(troubles)
                print(f"{page}: {'; '.join(troubles) or 'no error'}", flush=True)
        finally:
            browser.terminate()
            browser.wait()
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", type=Path, nargs="*", help="all pages of the book without these")
    asked = parser.parse_args()
    pages = asked.pages or [
        *(one for one in sorted(BUILT.glob("*/**/*.html")) if "_static" not in one.parts),
        BUILT / PHOTOS,
    ]
    firefox = shutil.which("firefox") or shutil.which("firefox-esr")
    if firefox is None:
        sys.exit("firefox is absent; install it, in Debian with `apt-get install firefox-esr`.")
    if not all(page.is_file() for page in pages):
        sys.exit(f"{BUILT} holds no built book; run `make book` first.")
    failed = asyncio.run(open_pages([page.resolve() for page in pages], firefox))
    sys.exit(f"{failed} pages have troubles." if failed else 0)


if __name__ == "__main__":
    main()
