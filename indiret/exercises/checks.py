"""How exercises work: guesses to reveal, and checks of a reader's answers.

A chapter holds each exercise in three cells next to each other: the task, with its grade (★☆☆ to
★★★) in the heading; the starter, which ends in a call of `check`; and the solution with a typical
mistake, folded away in the page. Only the checks are here, so that a chapter gives nothing away.

Chapter: all.
"""

import html
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from traceback import extract_tb
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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
SEED: ContextVar[int] = ContextVar("seed", default=0)  # of the random numbers of a check


def exercise(function: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Register ``check_NAME`` as the check of exercise NAME; it raises a `Hint` if wrong."""
    name = function.__name__.removeprefix("check_")
    if name in CHECKS:
        raise ValueError(f"an exercise named {name!r} is registered already.")
    CHECKS[name] = function
    return function


def check(name: str, answer: Answer, seed: int = 0) -> CheckResult:
    """Check a number, or try a function on random numbers of a fixed seed: right, or a hint.

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
    before = SEED.set(seed)
    try:
        CHECKS[name](_Asked(answer) if callable(answer) else answer)
    except Hint as hint:
        return CheckResult(False, str(hint))
    except TypeError:  # of the check, which calls the answer or reads what it returns
        said = f"Give a function: its name, without brackets. Yours is {_kind(answer)}."
        if callable(answer):
            said = "What your function returns is of another kind than the task asks for."
        return CheckResult(False, said)
    finally:
        SEED.reset(before)
    return CheckResult(True)


def expect(
    found: Answer, wanted: object, hint: str, mistakes: Mapping[str, object] | None = None
) -> None:
    """Raise a hint unless both are equal; numbers are equal up to rounding, in the same shape.

    ``mistakes`` has for each typical error a hint of its own and the answer that it leads to.

    Examples
    --------
    >>> expect(3.0, 4.0, "Add all up.", {"The last one counts, too.": 3})
    Traceback (most recent call last):
    indiret.exercises.checks.Hint: The last one counts, too.
    """
    if found is ...:
        raise Hint("There is no answer yet: replace the `...`.")
    if found is None:
        raise Hint("The answer is None. A function needs a `return` with its result.")
    if _equal(found, wanted):
        return
    for said, value in (mistakes or {}).items():
        if _equal(found, value):
            raise Hint(said)
    have, want = _numbers(found), _numbers(wanted)
    if want is None:
        raise Hint(f"{hint} (Yours: {found}.)")
    if have is None:
        kind = "one number" if want.ndim == 0 else f"numbers of shape {tuple(want.shape)}"
        raise Hint(f"{hint} (Yours is {_kind(found)}, not {kind}.)")
    if have.shape != want.shape:
        raise Hint(f"{hint} (Your shape is {tuple(have.shape)}, not {tuple(want.shape)}.)")
    if have.isnan().any():
        raise Hint(f"{hint} (Yours contains NaN: is 0 divided by 0?)")
    raise Hint(f"{hint} (Yours: {found}.)" if have.numel() < 5 else hint)


def expect_parts(found: Answer, number: int, hint: str) -> tuple[Answer, ...]:
    """The parts of an answer that consists of several; raise the hint if it does not."""
    if found is None or found is ...:
        expect(found, 0, hint)
    if not isinstance(found, tuple | list) or len(found) != number:
        raise Hint(f"{hint} (Yours is {_kind(found)}, not {number} results.)")
    return tuple(found)


class without(TorchFunctionMode):  # a check says `with without(...)`
    """While it is entered, a call of one of these functions of torch raises the hint."""

    def __init__(self, *names: str, hint: str) -> None:
        super().__init__()
        self.names, self.hint = names, hint

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.names:
            raise Hint(self.hint)
        return func(*args, **(kwargs or {}))


def random_tensor(*shape: int) -> Tensor:
    """Numbers from 0 to 1 by a fixed seed."""
    seed = sum(shape) + 1000 * SEED.get()
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class _Asked:
    """A reader's function, called with copies; an error becomes a hint that names the line."""

    function: Callable[..., Answer]

    def __call__(self, *given: object) -> Answer:
        try:
            return self.function(*deepcopy(given))
        except Hint:
            raise
        except Exception as error:  # whatever the reader's code may raise
            said = f"Your code raised {type(error).__name__}: {error}".rstrip(".")
            own = getattr(getattr(self.function, "__code__", None), "co_filename", "")
            lines = [frame for frame in extract_tb(error.__traceback__) if frame.filename == own]
            if lines:
                said += f", in line {lines[-1].lineno}"
                said += f", `{lines[-1].line}`" if lines[-1].line else ""
            kinds = ", ".join(map(_kind, given)) or "nothing"
            raise Hint(f"{said}. It was called with {kinds}.") from error


def _kind(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, _Asked) or (callable(value) and hasattr(value, "__name__")):
        return "a function"
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)}" if value.ndim else f"{kind} of one number"
    if isinstance(value, bool | int | float | str):
        return repr(value) if len(repr(value)) < 30 else "a text"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _numbers(value: Any) -> Tensor | None:
    """A value as numbers, or None if it is none."""
    if isinstance(value, Tensor):
        return value.detach().cpu().to(torch.float64)
    if isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value):
        value = [v.detach().numpy() for v in value]
    if isinstance(value, str):
        return None
    try:
        return torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        return None


def _equal(found: Any, wanted: Any) -> bool:
    """Whether two answers are the same words, or numbers of one shape up to rounding."""
    have, want = _numbers(found), _numbers(wanted)
    if have is None or want is None:
        return bool(have is want and type(found) is type(wanted) and found == wanted)
    return have.shape == want.shape and torch.allclose(have, want, rtol=1e-4, atol=1e-5)
