"""What of the paper the book shows and tests: links for the page ``book/coverage.md.j2``.

``book/coverage.toml`` has a row for each section, equation, table, figure and claim of the paper,
and for what it gets wrong or leaves out: the cells of the chapters that show it, and the tests of
what they use. `tools.render_pages` fills the page. A cell or test that is not there is an error.
"""

import ast
import json
import shutil
from functools import cache
from pathlib import Path

from myst_parser.mdit_to_docutils.base import default_slugify

from indiret.experiments.claims import STORED_GRID, judge_claims, read_claims, read_measured
from tools.make_slides import Strict, read_toml

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "book" / "coverage.toml"
DEEPEST = 3  # the last level of headings that has an anchor, as _config.yml says


class Row(Strict):
    """One thing that the paper holds."""

    what: str
    name: str = ""  # where it stands; of a stored claim, what `read_claims` says
    cells: tuple[str, ...]  # CHAPTER/CELL
    tests: tuple[str, ...] = ()  # FILE::FUNCTION
    untested: str = ""  # why no test can check it
    verdict: str = ""  # of a stored claim, by the stored runs


class PaperCoverage(Strict):
    """All rows, by kind."""

    section: tuple[Row, ...]
    equation: tuple[Row, ...]
    table: tuple[Row, ...]
    figure: tuple[Row, ...]
    claim: tuple[Row, ...]
    slip: tuple[Row, ...]
    silence: tuple[Row, ...]


def read_coverage(path: Path = ROWS) -> dict[str, list[Row]]:
    """The rows by kind. Stored claims are completed by what their own file says."""
    known = {claim["text"]: claim for claim in read_claims()}
    verdicts = {v.claim: v.verdict for one in read_measured(STORED_GRID) for v in judge_claims(one)}
    rows = {kind: list(found) for kind, found in read_toml(path, PaperCoverage)}
    for at, row in enumerate(rows["claim"]):
        if claim := known.get(row.what):
            found = {"name": claim["where"], "untested": claim.get("reason", "")}
            found["verdict"] = verdicts[row.what]
            rows["claim"][at] = row.model_copy(update=found)
    return rows


@cache
def sections_of(chapter: str) -> tuple[str, dict[str, str]]:
    """A chapter's file name, and of each of its cells the heading that it stands under.

    Its own, where it is a heading. The title counts as none.

    >>> name, headings = sections_of("06")
    >>> name, headings["gradcam"], headings["title"]
    ('06_from_gradcam_to_evidence.ipynb', 'Eq. 3, literally', '')
    """
    paths = sorted((ROOT / "notebooks").glob(f"{chapter}_*.ipynb"))
    if not paths:
        raise ValueError(f"There is no chapter {chapter!r} in notebooks/.")
    headings, current = {}, ""
    for cell in json.loads(paths[0].read_text("utf-8"))["cells"]:
        first, _, title = "".join(cell["source"]).partition("\n")[0].partition(" ")
        if cell["cell_type"] == "markdown" and set(first) == {"#"} and 1 < len(first) <= DEEPEST:
            current = title
        headings[cell["id"]] = current
    return paths[0].name, headings


def link_to_cell(cell: str) -> str:
    """A link to the section of a chapter that holds the cell.

    >>> link_to_cell("06/gradcam")
    '[6: Eq. 3, literally](../notebooks/06_from_gradcam_to_evidence.ipynb#eq-3-literally)'
    """
    chapter, _, name = cell.partition("/")
    file, headings = sections_of(chapter)
    if name not in headings:
        raise ValueError(f"{file} has no cell {name!r}.")
    heading = headings[name]
    number = {"90": "Errata"}.get(chapter, chapter.lstrip("0"))
    anchor = f"#{default_slugify(heading)}" if heading else ""
    return f"[{number}: {heading or 'beginning'}](../notebooks/{file}{anchor})"


@cache
def functions_of(file: str) -> frozenset[str]:
    """Names of a test file's functions.

    >>> sorted(functions_of("tests/test_prose.py"))[-1]
    'test_pages_are_in_plain_english'
    """
    path = ROOT / file
    if not path.is_file():
        raise ValueError(f"There is no file {file}.")
    body = ast.parse(path.read_text("utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))


def link_to_test(test: str) -> str:
    """A test's name in words, which lead to its file.

    >>> link_to_test("tests/test_prose.py::test_an_archaism_is_found")
    '[an archaism is found](tests/test_prose.py)'
    """
    file, _, name = test.partition("::")
    if name not in functions_of(file):
        raise ValueError(f"{file} has no test {name!r}.")
    return f"[{name.removeprefix('test_').replace('_', ' ')}]({file})"


def coverage_line(row: Row) -> list[str]:
    """A row in Markdown: what the paper holds, where it is shown, and what tests it."""
    cells: dict[str, list[str]] = {}  # by section
    for cell in row.cells:
        cells.setdefault(link_to_cell(cell), []).append(cell.partition("/")[2])
    shown = [f"{link} <small>{', '.join(names)}</small>" for link, names in cells.items()]
    tests = [link_to_test(test) for test in row.tests]
    if row.untested:
        tests.append(f"*Not tested here:* {row.untested}.")
    elif row.verdict:
        tests.append(f"Verdict: *{row.verdict}*.")
    return [f"**{row.name}:** {row.what}", "<br>".join(shown), "<br>".join(tests)]


def copy_tests(folder: Path) -> None:
    """Put the test files that the page names below a folder, for readers to download."""
    for rows in read_coverage().values():
        for file in {test.partition("::")[0] for row in rows for test in row.tests}:
            copy = folder / Path(file).relative_to("tests")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy)
