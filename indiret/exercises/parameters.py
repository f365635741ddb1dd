"""A chapter's parameters, as its cell, papermill or a command line gives them, read and checked.

Chapter: all.
"""

from ast import literal_eval
from collections.abc import MutableMapping
from contextlib import suppress
from inspect import isroutine
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError


def check_parameters(values: MutableMapping[str, Any], **allowed: Any) -> None:
    """Read a chapter's parameters in place, so that each is what the chapter expects.

    What is allowed is a ``range`` of whole numbers, a ``slice`` of any numbers with both its ends,
    a list of choices, a type, a tuple of these, one an entry, or a function of a text that raises
    for what it cannot take. ``papermill -p`` hands over ``(3, 4)`` as text, ``-y`` as a list.

    Raises ValueError that names the parameter, what was given and what is wrong with it.

    Examples
    --------
    >>> values = {"patch": "(3, 4)", "fast": "false", "top": 0}
    >>> check_parameters(values, patch=(range(10), range(10)), fast=bool)
    >>> values["patch"], values["fast"]
    ((3, 4), False)
    >>> check_parameters(values, top=range(1, 50))
    Traceback (most recent call last):
    ValueError: the parameter top is 0: Input should be greater than or equal to 1.
    """
    for name, limit in allowed.items():
        value = values[name]
        is_text = limit is str or isinstance(limit, list) or isroutine(limit)
        try:
            if isinstance(value, str) and not is_text:
                with suppress(SyntaxError, ValueError, MemoryError, RecursionError):
                    value = literal_eval(value)  # or else the text itself is judged
            values[name] = TypeAdapter(_type(limit)).validate_python(value)
        except (ValueError, OSError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            said = said.removeprefix("Value error, ").rstrip(".")
            raise ValueError(f"the parameter {name} is {value!r}: {said}.") from error


def path_or_nothing(path: str) -> str:
    """A file or a folder that is there, or an empty text."""
    if path and not Path(path).exists():
        raise ValueError("there is no such file or folder; give one that is there, or nothing")
    return path


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
