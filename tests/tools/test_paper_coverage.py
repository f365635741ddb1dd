"""`tools.paper_coverage`: nothing of the paper lacks a row, and no row is empty or out of date."""

import doctest
import re

import nbformat
import pytest

from indiret.experiments.claims import read_claims
from tests.test_crosslinks import crosslinks, equations_cited
from tools import paper_coverage
from tools.paper_coverage import ROOT, coverage_line, link_to_cell, link_to_test, read_coverage

ROWS = read_coverage()
NUMBER = r"\d(?:\.\d)?"
SOURCES = [path for folder in ("indiret", "tools") for path in (ROOT / folder).rglob("*.py")]
PROSE = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").rglob("*.md*")]


def numbers(kind):
    return [number for row in ROWS[kind] for number in re.findall(NUMBER, row.name)]


def test_the_examples_hold():
    tried = doctest.testmod(paper_coverage)
    assert tried.attempted > 4 and tried.failed == 0


@pytest.mark.parametrize("kind", ROWS)
def test_no_row_is_empty_and_what_it_names_exists(kind):
    assert len({row.what for row in ROWS[kind]}) == len(ROWS[kind]) > 0
    for row in ROWS[kind]:
        assert row.name and row.cells and (row.tests or row.untested), row
        named, shown, tested = coverage_line(row)
        assert named and shown and tested and "|" not in named + shown + tested


def test_every_equation_table_and_figure_of_the_paper_has_a_row():
    every = [str(number + 1) for number in range(len(crosslinks.EQUATIONS))]
    assert [row.name for row in ROWS["equation"]] == [f"Eq. {number}" for number in every]
    assert numbers("table") == ["1", "2"]
    assert numbers("figure") == ["1", "2", "3", "4", "5"]
    assert {number[0] for number in numbers("section")} == set("12345")


def test_every_stored_claim_has_a_row_and_every_slip_its_cell():
    assert {claim["text"] for claim in read_claims()} <= {row.what for row in ROWS["claim"]}
    (path,) = (ROOT / "notebooks").glob("90_*.ipynb")
    code = [cell.id for cell in nbformat.read(path, 4).cells if cell.id.endswith("-code")]
    named = {cell for kind in ROWS for row in ROWS[kind] for cell in row.cells}
    assert code and {f"90/{name}" for name in code} <= named


def test_what_the_book_cites_of_the_paper_has_a_row():
    cited = {number for path in SOURCES for number in equations_cited(path.read_text("utf-8"))}
    assert {f"Eq. {number}" for number in cited} == {row.name for row in ROWS["equation"]}
    pages = [path.read_text("utf-8") for path in PROSE]
    pages += [f"paper's {claim['where']}" for claim in read_claims()]
    for kind in ("section", "table", "figure"):
        found = {
            number
            for page in pages
            for number in re.findall(rf"(?:paper's|its) {kind} ({NUMBER})", page, re.IGNORECASE)
        }
        assert found <= set(numbers(kind)), kind


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="no chapter '99'"):
        link_to_cell("99/title")
    with pytest.raises(ValueError, match="has no cell 'absent'"):
        link_to_cell("06/absent")
    with pytest.raises(ValueError, match="no file tests/test_absent"):
        link_to_test("tests/test_absent.py::test_it")
    with pytest.raises(ValueError, match="has no test 'test_absent'"):
        link_to_test("tests/test_prose.py::test_absent")


def test_a_cell_before_the_first_section_leads_to_the_beginning():
    link = "[6: beginning](../notebooks/06_from_gradcam_to_evidence.ipynb)"
    assert link_to_cell("06/title") == link


def test_the_tests_that_are_named_lie_beside_the_page(tmp_path):
    paper_coverage.copy_tests(tmp_path)
    for rows in ROWS.values():
        for row in rows:
            for test in row.tests:
                file, _, name = test.partition("::")
                assert f"def {name}(" in (tmp_path.joinpath(*file.split("/")[1:])).read_text()
