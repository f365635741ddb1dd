"""The prose of chapters, pages and records: no archaisms, no British past forms beside American."""

import json
import re

import pytest

from tools.render_pages import ROOT

HOUSE_STYLE = {  # what is not to be read, and what is said instead
    r"by lot": "at random",
    r"all the same": "still, or anyway",
    r"who is done": "those who finish early",
    r"(it )?is to be had": "is available",
    r"learnt": "learned",
    r"whence|whereof|thereof|heretofore": "a plain clause",
    r"whilst|amongst": "while, among",
    r"lest": "so that … not",
    r"whoever": "anyone who, readers who",
    r"dealt": "split, assigned",
    r"for want of": "without",
    r"hearsay": "say what is missing",
}
PAGES = sorted(
    path
    for path in [*(ROOT / "book").rglob("*"), *ROOT.glob("*.md"), *(ROOT / "notebooks").iterdir()]
    if path.suffixes[-1:] in ([".md"], [".j2"], [".ipynb"])
)


def read_prose(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    captions = [
        json.dumps(cell["metadata"].get("mystnb", ""), ensure_ascii=False) for cell in cells
    ]
    return "\n".join(["".join(cell["source"]) for cell in cells] + captions)


def find_archaisms(prose):
    """Each phrase of the house style's list that stands in the prose, with its remedy."""
    found = (
        (re.search(rf"\b({phrase})\b", " ".join(prose.split()), re.IGNORECASE), said)
        for phrase, said in HOUSE_STYLE.items()
    )
    return {match[0]: said for match, said in found if match}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_in_plain_english(path):
    assert find_archaisms(read_prose(path)) == {}


def test_an_archaism_is_found():
    assert find_archaisms("Winners are drawn\nby  lot.") == {"by lot": "at random"}
    assert find_archaisms("A slot at all. The same day.") == {}
