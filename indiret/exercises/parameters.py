"""A chapter's parameters, as its cell, papermill or a command line gives them, read and checked.

Chapter: all.
"""

import ast
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from inspect import isroutine
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError


class ParameterError(ValueError):
    """A parameter of a chapter is refused; Jupyter and papermill print its sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def refused_in_a_sentence() -> Iterator[None]:
    """Turn what is refused inside into a ParameterError.

    Examples
    --------
    >>> with refused_in_a_sentence():
    ...     int("three")
    Traceback (most recent call last):
    indiret.exercises.parameters.ParameterError: invalid literal for int() with base 10: 'three'
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise ParameterError(str(error)) from error


def check_parameters(values: MutableMapping[str, Any], **allowed: Any) -> None:
    """Read a chapter's parameters in place, so that each is what the chapter expects.

    What is allowed is a ``range`` of whole numbers, a ``slice`` of any numbers with both its ends,
    a list of choices, a type, a tuple of these, one an entry, or a function of a text that raises
    for what it cannot take. ``papermill -p`` hands over ``(3, 4)`` as text, ``-y`` as a list.

    Raises ParameterError that names the parameter, what was given and what is wrong with it. A name
    that papermill was given and the chapter does not declare is refused, too.

    Examples
    --------
    >>> values = {"patch": "(3, 4)", "fast": "false", "top": 0}
    >>> check_parameters(values, patch=(range(10), range(10)), fast=bool)
    >>> values["patch"], values["fast"]
    ((3, 4), False)
    >>> check_parameters(values, top=range(1, 50))
    Traceback (most recent call last):
    indiret.exercises.parameters.ParameterError: the parameter top is 0: Input should be ...
    """
    if unknown := _unknown_names(values.get("In", [])):
        raise ParameterError(f"this chapter has no parameter {', '.join(unknown)}.")
    for name, limit in allowed.items():
        value = values[name]
        is_text = limit is str or isinstance(limit, list) or isroutine(limit)
        try:
            if isinstance(value, str) and not is_text:
                with suppress(SyntaxError, ValueError, MemoryError, RecursionError):
                    value = ast.literal_eval(value)  # or else the text itself is judged
            values[name] = TypeAdapter(_type(limit)).validate_python(value)
        except (ValueError, OSError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            said = said.removeprefix("Value error, ").rstrip(".")
            raise ParameterError(f"the parameter {name} is {value!r}: {said}.") from error


def path_or_nothing(path: str) -> str:
    """A file or a folder that is there, or an empty text."""
    if path and not Path(path).exists():
        raise ValueError("there is no such file or folder; give one that is there, or nothing")
    return path


def _unknown_names(cells: list[str]) -> list[str]:
    """What papermill's cell sets, among a kernel's cells, and the one before it does not."""
    for declared, injected in pairwise(cells):
        if injected.startswith("# Parameters\n"):
            names = [
                {node.id for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)}
                for cell in (declared, injected)
            ]
            return sorted(names[1] - names[0] - {"float"})  # as in float("nan")
    return []


def _type(limit: Any) -> Any:
    """What pydantic reads, of what is allowed."""
    text = Annotated[str, Field(coerce_numbers_to_str=True)]  # papermill takes "12" for a number
    if isinstance(limit, tuple):
        return tuple[tuple(map(_type, limit))]  # type: ignore[misc]
    if isinstance(limit, range):
        return Annotated[int, Field(strict=True, ge=limit[0], le=limit[-1])]
    if isinstance(limit, slice):
        return Annotated[float, Field(strict=True, ge=limit.start, le=limit.stop)]
    if isinstance(limit, list):
        return Literal[tuple(limit)]
    if isroutine(limit):
        return Annotated[text, AfterValidator(lambda value: (limit(value), value)[1])]
    return text if limit is str else limit
