"""Print the built book as one PDF: ``python -m tools.print_book`` after ``make book``.

Chromium opens a page that knows mathematics and puts in the place of its article those of all pages
that the table of contents names, in order, each on a sheet of its own; explorers become pictures
of their first state, and what is folded away is open. A line tells of each page; one that is not
complete in time goes in as it is, so that the command ends. Needs the extra ``test`` and Debian's
``chromium``.
"""

import _thread
import argparse
import functools
import http.server
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "_build" / "html"
FIRST, WITH_MATHEMATICS = "book/intro.html", "book/notation.html"
# Fetches a page of the book and appends its article, with addresses that hold from here; → whether
# its formulas and pictures are there in time.
APPEND = """async ([address, seconds]) => {
  const answer = await fetch(address, { signal: AbortSignal.timeout(1000 * seconds) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const article = document.importNode(page.querySelector("article.bd-article"), true);
  for (const name of ["src", "href"]) {
    for (const one of article.querySelectorAll(`[${name}]`)) {
      one.setAttribute(name, new URL(one.getAttribute(name), address).href);
    }
  }
  const container = document.querySelector(".bd-article-container");
  if (container.querySelector("article")) article.style.breakBefore = "page";
  container.append(article);
  for (const script of article.querySelectorAll("script")) {
    const alive = document.createElement("script");
    alive.type = script.type;
    alive.textContent = script.textContent;
    script.replaceWith(alive);
  }
  for (const folded of article.querySelectorAll("details")) folded.open = true;
  const complete = async () => {
    await window.MathJax?.typesetPromise?.([article]);
    await Promise.all([...article.querySelectorAll("img")].map((image) => {
      image.loading = "eager"; // far down a page it would not load at all
      return image.decode().catch(() => {});
    }));
    return true;
  };
  return Promise.race([complete(), new Promise((then) => setTimeout(then, 1000 * seconds, false))]);
}"""
PAGES = """() => {
  document.title = document.querySelector(".sidebar-primary-item .title").textContent.trim();
  for (const old of document.querySelectorAll("article.bd-article, #jb-print-docs-body")) {
    old.remove(); // the theme's own title and contents, too
  }
  const links = [...document.querySelectorAll(".bd-links a.reference.internal")];
  const addresses = new Set(links.map((link) => link.href.replace(/#.*/, "")));
  return [...addresses].filter((address) => !address.includes("your_photos"));
}"""
TITLES = ".bd-article h1 { display: block !important }"  # which the theme hides on paper
HEADER = '<span style="font-size: 8px; margin-left: 15mm" class="title"></span>'
FOOTER = '<span style="font-size: 8px; margin: auto" class="pageNumber"></span>'


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def print_book(built: Path, out: Path, chromium: str, seconds: int) -> int:
    """Write the PDF of a built book, with so many seconds for each page; how many went in."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Quiet, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(color_scheme="light")
            page.set_default_timeout(600_000)
            home = f"http://127.0.0.1:{server.server_port}"
            page.goto(f"{home}/{WITH_MATHEMATICS}")
            addresses = [f"{home}/{FIRST}", *page.evaluate(PAGES)]
            for number, address in enumerate(addresses, start=1):
                began = time.perf_counter()
                complete = page.evaluate(APPEND, [address, seconds])
                took = f"{time.perf_counter() - began:.1f} s{'' if complete else ', not complete'}"
                print(
                    f"{number} of {len(addresses)}: {address.removeprefix(f'{home}/')}, {took}",
                    flush=True,
                )
            page.add_style_tag(content=f"@media print {{ {TITLES} }}")
            print("writing the PDF ...", flush=True)
            watchdog = threading.Timer(seconds * len(addresses), _thread.interrupt_main)
            watchdog.start()
            page.pdf(
                path=out,
                format="A4",
                margin={"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"},
                display_header_footer=True,
                header_template=HEADER,
                footer_template=FOOTER,
                outline=True,
                tagged=True,
            )
            watchdog.cancel()
            browser.close()
        server.shutdown()
    return len(addresses)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--built", type=Path, default=BUILT, help="the folder of the built book")
    parser.add_argument("--out", type=Path, default=BUILT.parent / "indiret-book.pdf")
    parser.add_argument("--seconds", type=int, default=60, help="the most for a page of the book")
    asked = parser.parse_args()
    if not (asked.built / FIRST).is_file():
        sys.exit(f"{asked.built} holds no built book; run `make book` first.")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("chromium is absent; install it, in Debian with `apt-get install chromium`.")
    try:
        count = print_book(asked.built, asked.out, chromium, asked.seconds)
    except KeyboardInterrupt:
        sys.exit("stopped before the PDF was written; allow a slow machine more --seconds.")
    print(f"{asked.out}: {count} pages of the book, {asked.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
