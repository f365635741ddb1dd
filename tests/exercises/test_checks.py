"""Exercises, taken out of the chapters and run: the checks know right from wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import torch

import indiret.exercises  # noqa: F401  registers its checks
from indiret.exercises import CHECKS, CheckResult, Hint, check, exercise, expect, guess

ROOT = Path(__file__).parents[2]
TASK = re.compile(r"### (★{1,3})☆{0,2} .+")


@dataclass(frozen=True)
class Exercise:
    chapter: str
    name: str
    grade: int
    imports: str
    starter: str
    solution: str
    mistake: str

    def verdict(self, answer: str) -> CheckResult:
        """Run code after the chapter's imports, then the starter's call of check."""
        (call,) = re.findall(r"^check\(.*\)$", self.starter, re.MULTILINE)
        names: dict[str, object] = {}
        exec(f"{self.imports}\n{answer}\nverdict = {call}", names)
        verdict = names["verdict"]
        assert isinstance(verdict, CheckResult)
        return verdict


def read_exercises() -> list[Exercise]:
    """Every exercise: a task, then ``exercise-*-starter``, then ``exercise-*-solution``."""
    found = []
    for chapter in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        cells = nbformat.read(chapter, as_version=4).cells
        imports = next(cell.source for cell in cells if cell.id == "imports")
        for task, starter, answers in zip(cells, cells[1:], cells[2:], strict=False):
            if starter.cell_type != "code" or not starter.id.startswith("exercise-"):
                continue
            heading = TASK.match(task.source)
            assert heading, f"{chapter.name}: {task.id} does not start with its grade and title"
            assert answers.id == task.id + "-solution", f"{chapter.name}: {task.id}"
            assert answers.source.startswith("<details>\n<summary>Solution</summary>\n\n```python")
            assert answers.source.endswith("```\n\n</details>")
            solution, mistake = re.findall(r"^```python\n(.*?)^```$", answers.source, re.M | re.S)
            (name,) = re.findall(r'^check\("(\w+)"', starter.source, re.MULTILINE)
            codes = imports, starter.source, solution, mistake
            found.append(Exercise(chapter.stem, name, len(heading[1]), *codes))
    return found


EXERCISES = read_exercises()
# What starts with 9 is reference.
LESSONS = [path.stem for path in sorted((ROOT / "notebooks").glob("*")) if "01" < path.name < "9"]
each = pytest.mark.parametrize("one", EXERCISES, ids=lambda one: f"{one.chapter[:2]}-{one.name}")


@each
def test_the_solution_is_right(one):
    verdict = one.verdict(one.solution)
    assert verdict.right, verdict.hint


@each
def test_the_starter_is_not_yet_right_and_the_typical_mistake_gets_a_hint(one):
    verdict = one.verdict(re.sub(r"^check\(.*\)$", "", one.starter, flags=re.MULTILINE))
    assert not verdict.right and "There is no answer yet" in verdict.hint
    verdict = one.verdict(one.mistake)
    assert not verdict.right and len(verdict.hint.split()) >= 6
    assert "no answer yet" not in verdict.hint and "raised" not in verdict.hint


def test_every_check_belongs_to_one_exercise():
    assert sorted(one.name for one in EXERCISES) == sorted(CHECKS)


@pytest.mark.parametrize("chapter", LESSONS)
def test_a_chapter_has_exercises_of_three_grades_in_order(chapter):
    grades = [one.grade for one in EXERCISES if one.chapter == chapter]
    assert 3 <= len(grades) <= 6
    assert set(grades) == {1, 2, 3}
    assert grades == sorted(grades)


def test_a_guess_hides_its_answer_and_escapes_both():
    page = guess("Is 1 < 2 & <b>bold</b>?", "<script>yes</script>")._repr_html_()
    summary, _, rest = page.partition("</summary>")
    assert "1 &lt; 2 &amp; &lt;b&gt;" in summary
    assert "&lt;script&gt;yes" not in summary and "&lt;script&gt;yes" in rest
    assert page.startswith("<details") and " open" not in page and "<script" not in page
    assert "42" not in repr(guess("How many?", 42))


def test_an_error_in_the_readers_code_is_a_verdict_with_its_reason():
    verdict = check("zncc", lambda p, q: p @ q.missing)
    assert not verdict.right
    assert "Your code raised AttributeError" in verdict.hint


def test_expect_compares_shape_and_numbers():
    expect(torch.ones(2), [1.0, 1 + 1e-7], "never shown")
    for found, wanted, words in (
        (torch.ones(2), torch.ones(1, 2), r"shape is \(2,\), not \(1, 2\)"),
        (3, 4, r"^Look again. \(Yours: 3.\)$"),
        ("open", "closed", r"^Look again. \(Yours: open.\)$"),
        (torch.full((6,), torch.nan), torch.ones(6), r"^Look again.$"),
    ):
        with pytest.raises(Hint, match=words):
            expect(found, wanted, "Look again.")


def test_a_name_is_known_and_registered_once():
    with pytest.raises(ValueError, match="no exercise 'patch'; choose from"):
        check("patch", 1)
    with pytest.raises(ValueError, match="'zncc' is registered already"):
        exercise(CHECKS["zncc"])
