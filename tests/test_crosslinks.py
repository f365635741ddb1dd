"""Equations, functions and chapters lead to each other; the main numbers are the stored ones."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTATION = (ROOT / "book/notation.md").read_text(encoding="utf-8")
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
MODULES = sorted((ROOT / "indiret").glob("[a-z]*.py"))
PROSE = [ROOT / name for name in ("README.md", "book/intro.md.j2", "book/preface.md")]

pytest.importorskip("sphinx")
sys.path.insert(0, str(ROOT / "book/_ext"))
crosslinks = importlib.import_module("crosslinks")
tidy = importlib.import_module("tidy")
offline = importlib.import_module("offline")

ROW = re.compile(
    r"^\| \{eq\}`(?P<label>[\w-]+)` \|.*\| \{py:\w+\}`indiret\.(?P<module>\w+)\.(?P<name>\w+)` "
    r"\| \{chapter\}`(?P<chapter>\d+)` \|$",
    re.MULTILINE,
)
ROWS = {row["label"]: row for row in ROW.finditer(NOTATION)}


def equations_cited(text: str) -> set[int]:
    """Numbers of this paper's equations in a text, ranges spelt out."""
    cited: set[int] = set()
    for first, between, last in crosslinks.EQUATION.findall(text):
        both = {int(first), int(last or first)}
        cited |= both if between == " and " else set(range(min(both), max(both) + 1))
    return cited


def test_the_examples_of_the_extension_hold():
    for module, examples in ((crosslinks, 3), (tidy, 7), (offline, 2)):
        tried = doctest.testmod(module)
        assert tried.attempted == examples and tried.failed == 0


def test_the_guide_for_teachers_has_the_times_of_the_chapters():
    guide = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
    for number, minutes in re.findall(r"^\| \{chapter\}`(\d+)` \| (\d+) \|", guide, re.MULTILINE):
        title = nbformat.read(CHAPTERS[int(number) - 1], as_version=4).cells[0].source
        assert f"(About {minutes} minutes" in " ".join(title.split()), number


def test_equations_are_labelled_in_the_papers_order():
    """So the number that the page gives an equation is the paper's."""
    labels = re.findall(r"^\$\$ \(([\w-]+)\)$", NOTATION, re.MULTILINE)
    assert tuple(labels) == crosslinks.EQUATIONS
    assert len(labels) == 10


@pytest.mark.parametrize("number", range(1, 11))
def test_every_equation_has_a_function_that_cites_it_and_a_chapter(number):
    row = ROWS[crosslinks.EQUATIONS[number - 1]]
    function = getattr(importlib.import_module(f"indiret.{row['module']}"), row["name"])
    assert number in equations_cited(function.__doc__), row["name"]
    assert 1 <= int(row["chapter"]) <= len(crosslinks.CHAPTERS)
    module = importlib.import_module(f"indiret.{row['module']}")
    named = re.search(r"^Chapters?: (.+)\.$", module.__doc__ or "", re.MULTILINE)
    assert named and crosslinks.CHAPTERS[int(row["chapter"]) - 1] in named[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_docstrings_name_equations_and_chapters_that_exist(path):
    source = path.read_text(encoding="utf-8")
    assert equations_cited(source) <= set(range(1, 11))
    for line in re.findall(r"^Chapters?: (.+)$", source, re.MULTILINE):
        titles = re.findall(r"\*([^*]+)\*", line)
        assert set(titles) <= set(crosslinks.CHAPTERS)
        assert titles or line == "all."


def test_a_chapter_is_linked_once_it_is_there():
    pages = {f"notebooks/{path.stem}" for path in CHAPTERS}
    env = SimpleNamespace(found_docs=pages, doc2path=lambda page: ROOT / f"{page}.ipynb")
    line = crosslinks.link_chapters(env, "Chapters: *Quick tour*.")
    assert line == "Chapters: :doc:`Quick tour </notebooks/01_quick_tour>`."
    env.found_docs = set()
    assert crosslinks.link_chapters(env, "Chapter: *Quick tour*.") == "Chapter: *Quick tour*."
    assert crosslinks.link_chapters(env, "a *word* elsewhere") == "a *word* elsewhere"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_imports_is_found_in_the_library(chapter):
    cells = nbformat.read(chapter, as_version=4).cells
    imports = next(cell.source for cell in cells if cell.id == "imports")
    names = crosslinks.imported_names(imports)
    assert names, "a chapter uses the library"
    for name in names:
        module, _, last = name.rpartition(".")
        if module != "indiret":
            assert hasattr(importlib.import_module(module), last), name


@pytest.mark.parametrize("page", PROSE, ids=lambda path: path.stem)
def test_what_a_reader_meets_first_has_no_typed_results(page):
    """Results stand in executed cells, and in records that name their command."""
    filled = r"\{[{%].*?[%}]\}|<!-- = .*?<!-- end -->"
    aside = rf"```.*?```|\(http.*?\)|\[arXiv.*?\]|{filled}"
    text = re.sub(aside, "", page.read_text(), flags=re.DOTALL)
    # 1.4 GB, Python 3.11 and CC BY 4.0 are no results; 0.7 and 93 % would be.
    assert re.findall(r"(?<!\d)0?\.\d+|\d\s?%", text) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapters_tables_are_computed(chapter):
    """A table of figures typed into prose could say anything."""
    for cell in nbformat.read(chapter, as_version=4).cells:
        if cell.cell_type == "markdown":
            rows = [line for line in cell.source.splitlines() if line.startswith("|")]
            assert not re.findall(r"\d\.\d", "\n".join(rows)), cell.id
