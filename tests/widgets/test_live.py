"""Widgets in JupyterLab: Python hears what is done, and what it sets is shown."""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from indiret.datasets import read_regions
from tests.widgets.pages import absent
from tests.widgets.test_annotator import album as album

EXPLORER = """import sys
sys.path.insert(0, {root!r})
from tests.widgets.test_explorer import Explorer, candidate, noise
explorer = Explorer("q", noise(), [candidate(), candidate(1)])

def hear(change):
    with open("heard.txt", "a") as file:
        print(change.name, change.new, file=file)

explorer.observe(hear, ["hovered", "pinned", "channel", "pairs", "truth", "opened"])
explorer"""
TELL = 'explorer.pinned = ("target", 2, 1)'


ANNOTATOR = """from indiret import load_dataset
from indiret.widgets import Annotator
annotator = Annotator(load_dataset("folder", "album"), "regions.json")
annotator"""


@pytest.fixture
def laboratory(browser, tmp_path):
    """JupyterLab with a notebook of the cells above, the first of which has been run."""
    if not (Path(sys.executable).parent / "jupyter-lab").is_file():
        absent("JupyterLab", "install it with `pip install -e .[lab]`.")
    sources = EXPLORER.format(root=str(Path(__file__).parents[2])), TELL, ANNOTATOR
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, tmp_path / "live.ipynb")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port, token = listener.getsockname()[1], "explorer"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *(f"--port={port}", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}"),
            *(f"--notebook-dir={tmp_path}", "--LabApp.news_url=None"),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "JupyterLab has ended"
                time.sleep(0.5)
        page = browser.new_page(viewport={"width": 1300, "height": 1500})
        page.set_default_timeout(120_000)
        page.goto(f"{address}/lab/tree/live.ipynb?token={token}")
        page.get_by_text("| Idle").wait_for()  # a kernel that is still starting may lose the cell
        page.locator(".jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_live_notebook_hears_answers_and_saves(laboratory, album, tmp_path):
    page = laboratory
    pad = page.locator(".pad[data-side=query]")
    pad.wait_for()
    box = pad.bounding_box()
    page.mouse.click(box["x"] + 4.5 / 6 * box["width"], box["y"] + 1.5 / 3 * box["height"])
    page.locator(".show").get_by_text("none / HAR / PRF").click()
    page.locator(".of").get_by_text("HAR", exact=True).click()
    page.get_by_label("pairs").fill("3")
    page.get_by_label("true correspondence").check()
    page.get_by_role("img", name="candidate 1").first.click()
    expected = {
        *("hovered ('query', 1, 4)", "pinned ('query', 1, 4)"),
        *("channel ('none / HAR / PRF', 'HAR')", "pairs 3", "truth True", "opened 1"),
    }
    heard: set[str] = set()
    for _ in range(240):  # the front end sends one change after the other
        page.wait_for_timeout(500)
        if (tmp_path / "heard.txt").is_file():
            heard = set((tmp_path / "heard.txt").read_text().splitlines())
        if expected <= heard:
            break
    assert expected <= heard
    page.locator(".jp-Cell .cm-content").nth(1).click()
    page.keyboard.press("Shift+Enter")
    page.get_by_text("target (2, 1), pinned").first.wait_for()

    page.keyboard.press("Shift+Enter")  # the annotator, drawn on by keys alone
    pad = page.locator(".pad:not([data-side])")
    pad.focus()
    for key in ("Enter", *["ArrowRight"] * 5, *["ArrowDown"] * 5, "Enter", "n"):
        page.keyboard.press(key)
    page.get_by_text("photo 2 of 4, 1 done").wait_for()
    page.keyboard.press("0")
    page.get_by_text("photo 2 of 4, 2 done").wait_for()
    saved = read_regions(tmp_path / "regions.json")
    assert saved["photo_0.jpg"].regions[0].box == (160, 100, 190, 130)
    assert saved["photo_1.jpg"].nothing
