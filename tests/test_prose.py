"""The prose of chapters, pages and records: proselint's checks, and a short house style."""

import json
import re

import pytest
from proselint.checks import __register__ as proselint_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

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
# Of 194 findings in 48,000 words these checks made 177, all wrong: Markdown has straight quotes,
# and spaces where code was taken out; "the better half" of pairs, "that very photo" and "more true
# partners" are meant literally; saliency, linear discriminant, and the verb resume are right words.
OFF = """typography.symbols.curly_quotes typography.symbols.sentence_spacing
    typography.diacritical_marks cliches.misc.write_good cliches.misc.garner weasel_words.very
    uncomparables needless_variants redundancy.misc.after_the_deadline
    dates_times.am_pm.lowercase_periods dates_times.dates.dash_and_from""".split()
CheckRegistry().register_many(proselint_checks)
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


def read_sentences(path):
    """The prose without code, formulas and addresses; a heading ends like a sentence."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        figures = [cell["metadata"].get("mystnb", {}) for cell in cells]
        captions = [figure.get("figure", {}).get("caption", "") for figure in figures]
        prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        text = "\n\n".join(prose + captions)
    text = re.sub(r"(?m)^#+ (.*)$", r"\1.", text)
    code = r"(?ms)^```.*?^```|\$\$.*?\$\$|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|\{[{%].*?[%}]\}"
    return re.sub(code, "§", text)


def lint(prose):
    """What proselint finds with the checks that are on, as (check, message)."""
    found = LintFile("prose", prose).lint(DEFAULT) if prose.strip() else []
    results = [one.check_result for one in found]
    return [(one.check_path, one.message) for one in results if one.check_path not in OFF]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_fails_the_linter(path):
    assert lint(read_sentences(path)) == []


def test_a_repeated_word_and_mixed_spelling_are_found():
    checks = [check for check, _ in lint("It is is here. The center of the centre.")]
    assert checks == ["lexical_illusions", "spelling.consistency"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_in_plain_english(path):
    assert find_archaisms(read_prose(path)) == {}


def test_an_archaism_is_found():
    assert find_archaisms("Winners are drawn\nby  lot.") == {"by lot": "at random"}
    assert find_archaisms("A slot at all. The same day.") == {}
