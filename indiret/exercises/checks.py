"""How exercises work: guesses to reveal, and checks of a reader's answers.

A chapter holds each exercise in three cells next to each other: the task, with its grade (★☆☆ to
★★★) in the heading; the starter, which ends in a call of `check`; and the solution with a typical
mistake, folded away in the page. Only the checks are here, so that a chapter gives nothing away.

Chapter: all.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Answer = Any  # a number or a function, as the exercise asks for


@dataclass(frozen=True)
class guess:  # a chapter calls it as a function
    """A prediction, asked in plain text; a click opens the answer, which the cell computes.

    Examples
    --------
    >>> guess("How many patches?", 14 * 14)
    How many patches? (Guess first; the answer is in .answer.)
    """

    question: str
    answer: object

    def __repr__(self) -> str:
        return f"{self.question} (Guess first; the answer is in .answer.)"

    def _repr_html_(self) -> str:
        question, answer = (html.escape(str(text)) for text in (self.question, self.answer))
        return (
            f'<details class="guess"><summary><strong>Guess first:</strong> {question}</summary>'
            f"<p>{answer}</p></details>"
        )


class Hint(Exception):
    """What is wrong with an answer, and where to look."""


@dataclass(frozen=True)
class CheckResult:
    """What `check` found; it prints itself."""

    right: bool
    hint: str = ""

    def __repr__(self) -> str:
        return "✓ Right." if self.right else f"✗ Not yet. {self.hint}"


CHECKS: dict[str, Callable[[Answer], None]] = {}


def exercise(function: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Register ``check_NAME`` as the check of exercise NAME; it raises a `Hint` if wrong."""
    name = function.__name__.removeprefix("check_")
    if name in CHECKS:
        raise ValueError(f"an exercise named {name!r} is registered already.")
    CHECKS[name] = function
    return function


def check(name: str, answer: Answer) -> CheckResult:
    """Check a number, or try a function on fixed random numbers: right, or a hint.

    Raises ValueError if there is no exercise of this name.

    Examples
    --------
    >>> from indiret.exercises import check  # with the checks of all chapters
    >>> check("tensor_entries", 14 * 14 * 10 * 10)
    ✗ Not yet. One view has 14 · 14 · 10 · 10 entries; how many views are there? (Yours: 19600.)
    >>> check("tensor_entries", 6 * 14 * 14 * 10 * 10)
    ✓ Right.
    """
    if name not in CHECKS:
        raise ValueError(f"there is no exercise {name!r}; choose from {', '.join(CHECKS)}.")
    try:
        CHECKS[name](answer)
    except Hint as hint:
        return CheckResult(False, str(hint))
    except Exception as error:  # whatever the reader's code may raise
        return CheckResult(False, f"Your code raised {type(error).__name__}: {error}")
    return CheckResult(True)


def expect(found: Answer, wanted: object, hint: str) -> None:
    """Raise the hint unless both are the same words, or numbers of one shape up to rounding."""
    if found is None or found is ...:
        raise Hint("There is no answer yet: replace the `...`.")
    if isinstance(wanted, str):
        if found != wanted:
            raise Hint(f"{hint} (Yours: {found}.)")
        return
    have, want = (torch.as_tensor(value).to(torch.float64) for value in (found, wanted))
    if have.shape != want.shape:
        raise Hint(f"{hint} (Your shape is {tuple(have.shape)}, not {tuple(want.shape)}.)")
    if not torch.allclose(have, want, rtol=1e-4, atol=1e-5):
        raise Hint(f"{hint} (Yours: {found}.)" if have.numel() < 5 else hint)


def random_tensor(*shape: int) -> Tensor:
    """Numbers from 0 to 1 by a fixed seed."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))
