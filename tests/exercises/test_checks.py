"""Exercises, taken out of the chapters and run: the checks know right from wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from indiret.conv4d import Conv4d
from indiret.exercises import CHECKS, CheckResult, Hint, check, exercise, expect, guess
from tools.make_course import Exercise, read_exercises

ROOT = Path(__file__).parents[2]


def judge(one: Exercise, answer: str, seed: int = 0) -> CheckResult:
    """Run code after the chapter's imports, then check it."""
    names: dict[str, object] = {}
    call = f"check({one.name!r}, {one.answer}, {seed})"
    exec(f"{one.imports}\n{answer}\nverdict = {call}", names)
    found = names["verdict"]
    assert isinstance(found, CheckResult)
    return found


CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
EXERCISES = [one for chapter in CHAPTERS for one in read_exercises(chapter)]
# What starts with 9 is reference.
LESSONS = [path.stem for path in sorted((ROOT / "notebooks").glob("*")) if "01" < path.name < "9"]
each = pytest.mark.parametrize("one", EXERCISES, ids=lambda one: f"{one.chapter[:2]}-{one.name}")


@each
def test_the_solution_is_right(one):
    verdict = judge(one, one.solution)
    assert verdict.right, verdict.hint


@each
def test_the_starter_is_not_yet_right_and_the_typical_mistake_gets_a_hint(one):
    verdict = judge(one, re.sub(r"^check\(.*\)$", "", one.starter, flags=re.MULTILINE))
    assert not verdict.right and "There is no answer yet" in verdict.hint
    verdict = judge(one, one.mistake)
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


@each
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_random_numbers_judge_the_same(one, seed):
    assert judge(one, one.solution, seed).right
    assert not judge(one, one.mistake, seed).right


def relu_first(F, G):
    return (G.mean((1, 2), keepdim=True) * F).relu().sum(0)


# An exercise, a wrong answer to it, and what its own hint says.
ERRORS = [
    ("grad_cam", lambda F, G: (G.mean((1, 2), keepdim=True) * F).sum(0), "The ReLU is missing"),
    ("grad_cam", relu_first, "The ReLU comes after the sum"),
    ("grad_cam", lambda F, G: (G * F).sum(0).relu(), "place by place"),
    ("grad_cam", lambda F, G: (G.sum((1, 2), keepdim=True) * F).sum(0).relu(), "yours is its sum"),
    ("grad_cam", lambda F, G: (G.mean((1, 2), keepdim=True) * F).mean(0).relu(), "is their mean"),
    ("grad_cam", lambda F, G: (G.mean((1, 2)) * F).sum(0), "raised RuntimeError: The size of"),
    ("patch_at", lambda x, y, g, s: (x * g[1] // s[1], y * g[0] // s[0]), "return the row first"),
    ("patch_at", lambda x, y, g, s: (y * g[0] / s[0], x * g[1] / s[1]), "divide with //"),
    ("conv4d_from_2d", lambda x, w: Conv4d.forward(small(w), x[None, None])[0, 0], "nothing above"),
    ("conv4d_from_2d", lambda x, w: torch.conv3d(x, w), "nothing above F.conv2d"),
    ("z_score", lambda v: (v - v.mean()) / v.std(), "z-scores of all votes"),
    ("z_score", lambda votes: votes.max() - votes.mean(), "Divide it by the standard deviation"),
    ("probability", lambda logits: logits.softmax(1)[:, 0], "probability of irrelevant"),
    ("evidence_maps", lambda M: M.sum((2, 3)), r"Return the two maps.*a tensor of shape"),
    ("zncc", lambda p, q: None, "answer is None. A function needs a `return`"),
    ("zncc", 3, "Give a function: its name, without brackets. Yours is 3"),
    ("zncc", lambda p: p, r"raised TypeError: .*takes 1 positional argument but 2 were given"),
    ("zncc", lambda p, q: "alike", "Yours is 'alike', not one number"),
    ("tensor_entries", relu_first, "Yours is a function, not one number"),
    ("tensor_entries", None, "The answer is None"),
    ("merge", lambda first, second, removed: first | second, "Only the second file's postings"),
    ("countable", lambda names, own, junk: {*names} - junk - {own}, "a set has none"),
    ("countable", lambda names, own, junk: sorted({*names} - junk - {own}), "do not sort"),
    ("countable", lambda names, own, junk: 3, "of another kind than the task asks for"),
    ("warmer_inside", lambda w, i: (w[i][:, None] > w[~i]).float().mean(), "does not count it"),
    ("warmer_inside", lambda w, i: (w[i][:, None] < w[~i]).float().mean(), "Inside has to be"),
    ("output_length", lambda n, k, s, p: (n + 2 * p - k) // s, "The first place counts, too"),
    ("output_length", lambda n, k, s, p: (n + 2 * p - k) / s + 1, "divide with //"),
    ("output_length", lambda n, k, s, p: (n - k) // s + 1, "The padding is missing"),
    ("loss_of_margins", lambda m, y: torch.nn.functional.softplus(-m).sum(), "Take the mean"),
    ("leaking_queries", lambda f: len({q.landmark for q in f.test}), "queries of the test"),
    ("largest_places", lambda maps, q: maps.amax((1, 2)) * q, "A channel counts at the place"),
    ("carry_over", lambda H, box: torch.ones(2, 4), r"shape is \(2, 4\), not \(4, 2\)"),
    ("fullest_bin", lambda shifts, weights, size: sum(weights), "counts all shifts"),
    ("fullest_bin", lambda *given: corner_bin(*given), "fit into the square that starts at"),
    ("chi_square", lambda products: products.target.sum(-1), r"Your shape is \(2, 5\)"),
]


def corner_bin(shifts, weights, size):
    """The heaviest square whose first row and column are those of one shift."""
    return max(
        sum(
            w
            for w, (i, j) in zip(weights, shifts, strict=True)
            if a <= i < a + size and b <= j < b + size
        )
        for a, b in shifts
    )


def small(w):
    """A layer with this kernel."""
    conv = Conv4d(1, 1, 3, padding=1, bias=False)
    conv.weight.data[0, 0] = w
    return conv


@pytest.mark.parametrize(("name", "answer", "words"), ERRORS)
def test_a_typical_error_has_a_hint_of_its_own(name, answer, words):
    verdict = check(name, answer)
    assert not verdict.right and re.search(words, verdict.hint), verdict


@pytest.mark.parametrize("correction", [0, 1])
def test_either_standard_deviation_makes_a_z_score(correction):
    way = dict(correction=correction)
    assert check("z_score", lambda votes: (votes.max() - votes.mean()) / votes.std(**way)).right


def test_an_answer_may_change_what_it_is_given_and_an_error_names_its_line():
    def in_place(p, q):
        p -= p.mean()
        q -= q.mean()
        return p @ q / (p.norm() * q.norm())

    def broken(p, q):
        return p @ q[:3]

    assert check("zncc", in_place).right
    verdict = check("zncc", broken)
    assert "`return p @ q[:3]`. It was called with a tensor of shape (192,), a tens" in verdict.hint


def test_expect_compares_shape_and_numbers():
    expect(torch.ones(2), [1.0, 1 + 1e-7], "never shown")
    for found, wanted, words in (
        (torch.ones(2), torch.ones(1, 2), r"shape is \(2,\), not \(1, 2\)"),
        (3, 4, r"^Look again. \(Yours: 3.\)$"),
        ("open", "closed", r"^Look again. \(Yours: open.\)$"),
        (torch.full((6,), torch.nan), torch.ones(6), "contains NaN"),
    ):
        with pytest.raises(Hint, match=words):
            expect(found, wanted, "Look again.")


def test_a_name_is_known_and_registered_once():
    with pytest.raises(ValueError, match="no exercise 'patch'; choose from"):
        check("patch", 1)
    with pytest.raises(ValueError, match="'zncc' is registered already"):
        exercise(CHECKS["zncc"])
