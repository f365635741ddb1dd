"""Time and memory of the page *Your own photos*: python -m benchmarks.photos_page FOLDER

In a headless Chromium, from a file on the disk: photos of the folder are read, then ranked for the
first of them; then two of them, enlarged to 12 megapixels, are compared. Memory is that of all
processes of the browser, shared pages counted once (PSS). A task of the main thread counts as long
from 50 ms on. On a busy machine run it several times and keep the best.
"""

import argparse
import contextlib
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from indiret.widgets import photos_page

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]
LARGE = (4000, 3000)  # pixels of a photo of 12 megapixels
EVERY = 0.2  # seconds between looks at memory
NOTE_LONG_TASKS = """window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask", buffered: true });"""
TARGETS = "#targets input:not([capture], [webkitdirectory])"
QUERY = "#query input:not([capture])"


def processes_of(profile: Path) -> Iterator[tuple[str, Path]]:
    """The processes of the browser with this profile, by kind, and their places in /proc."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_text().replace("\0", " ")
            if str(profile) in words:
                kind = words.partition("--type=")[2].split(" ")[0] or "browser"
                yield kind, place


def memory_of(place: Path) -> float:
    """Megabytes of a process; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in (place / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0


class MemoryWatch(threading.Thread):
    """The most that the kinds of processes held together, by kind, since the last look."""

    def __init__(self, profile: Path):
        super().__init__(daemon=True)
        self.profile, self.most = profile, defaultdict[str, float](float)

    def run(self) -> None:
        while True:
            now = defaultdict[str, float](float)
            for kind, place in processes_of(self.profile):
                now[kind] += memory_of(place)
            now["all"] = sum(now.values())
            for kind, held in now.items():
                self.most[kind] = max(self.most[kind], held)
            time.sleep(EVERY)

    def take(self) -> str:
        """The most so far, as words; what comes is counted anew."""
        most, self.most = self.most, defaultdict(float)
        return ", ".join(f"{kind} {held:.0f}" for kind, held in sorted(most.items()))


def seconds(began: float) -> str:
    return f"{time.perf_counter() - began:.2f} s"


def measure(page: Page, watch: MemoryWatch, files: list[Path], large: list[Path]) -> None:
    """Print what each step took."""
    page.wait_for_selector("html[data-ready]", state="attached")

    def report(step: str, began: float) -> None:
        took = seconds(began)
        time.sleep(2 * EVERY)
        longest = page.evaluate("Math.max(0, ...longTasks.splice(0))")
        print(f"{step}: {took}; longest task {longest:.0f} ms; memory in MB: {watch.take()}")

    report("opened", time.perf_counter())
    began = time.perf_counter()
    page.locator(TARGETS).set_input_files(files)
    page.locator("#status").get_by_text("Now the photo you ask about.").wait_for(state="attached")
    report(f"{len(files)} photos read", began)
    began = time.perf_counter()
    page.locator(QUERY).set_input_files(files[0])
    page.locator("#status").get_by_text("photos compared.").wait_for(state="attached")
    page.wait_for_selector("#answer:not([hidden]) #evidence > div")
    report("ranked", began)
    for _ in range(3):
        page.get_by_role("button", name="Remove all").click()
        began = time.perf_counter()
        page.locator(QUERY).set_input_files(large[0])
        page.locator(TARGETS).set_input_files(large[1])
        page.wait_for_selector("#answer:not([hidden], .old) #evidence > div")
        report("two photos of 12 megapixels", began)
        page.locator("#forget").evaluate("one => one.click()")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    given = parser.parse_args()
    files = sorted(given.folder.glob("**/*.jpg"))[: given.photos]
    with tempfile.TemporaryDirectory() as made, sync_playwright() as driver:
        html, profile = Path(made, "photos.html"), Path(made, "profile")
        html.write_text(photos_page(), encoding="utf-8")
        large = [Path(made, f"{number}.jpg") for number in range(2)]
        for path, file in zip(large, files, strict=False):
            Image.open(file).convert("RGB").resize(LARGE).save(path, quality=95)
        browser = driver.chromium.launch_persistent_context(
            profile, executable_path=shutil.which("chromium"), args=FLAGS
        )
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.add_init_script(NOTE_LONG_TASKS)
        watch = MemoryWatch(profile)
        watch.start()
        page.goto(html.as_uri())
        measure(page, watch, files, large)
        browser.close()


if __name__ == "__main__":
    main()
