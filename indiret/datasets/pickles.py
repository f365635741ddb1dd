"""Plain data out of a pickle, and nothing else: no name is imported, nothing is called.

Python's own ``pickle`` runs whatever a file tells it to. Here the file's opcodes are listed by
`pickletools` and only those are followed that make lists, tuples, dicts, texts and numbers.

Chapter: *Reproducing the tables*.
"""

import pickletools
from pathlib import Path
from typing import Any

MAX_BYTES = 16_000_000  # the largest of the benchmarks' pickles has 0.3 million
VALUES = frozenset(
    "BINUNICODE SHORT_BINUNICODE UNICODE STRING BINSTRING SHORT_BINSTRING "
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds only lists, tuples, dicts, texts, numbers, booleans and None.

    Parameters
    ----------
    path : Path
        The file, of any protocol.

    Returns
    -------
    object
        What was pickled.

    Raises
    ------
    ValueError
        If the file asks for anything else (a function, a class), is no pickle, is cut short, or
        has more than 16 MB.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pickle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.pkl")
    ...     size = path.write_bytes(pickle.dumps({"imlist": ["a", "b"], "box": (1.5, 2)}))
    ...     read_plain_pickle(path)
    {'imlist': ['a', 'b'], 'box': (1.5, 2)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.pkl")
    ...     size = path.write_bytes(pickle.dumps(print))
    ...     read_plain_pickle(path)
    Traceback (most recent call last):
    ValueError: ... holds more than plain data (STACK_GLOBAL: a function, a class or bytes), ...
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes; a ground truth has at most {MAX_BYTES}."
        )
    try:
        return _follow(path.read_bytes())
    except _NotPlainError as error:
        raise ValueError(
            f"{path} holds more than plain data ({error}: a function, a class or bytes), and might "
            "run anything; only lists, tuples, dicts, texts and numbers are read."
        ) from None
    except Exception as error:  # of pickletools or of a broken order of opcodes: many kinds
        raise ValueError(f"{path} is not a whole pickle ({error or type(error).__name__}).") from (
            error
        )


class _NotPlainError(Exception):
    """The opcode that is not followed."""


def _follow(data: bytes) -> Any:
    """A stack machine for the opcodes of plain values."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("LIST", "TUPLE"):
            items = _since_mark(stack)
            stack.append(items if name == "LIST" else tuple(items))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "DICT":
            stack.append(_pairs(_since_mark(stack)))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            _top(stack, list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
            _top(stack, dict).update(_pairs(items))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STOP":
            (result,) = stack
            return result
        elif name not in ("PROTO", "FRAME"):
            raise _NotPlainError(name)
    raise ValueError("it does not end")


def _since_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not MARK:  # an IndexError where there is none
        at -= 1
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _top(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise TypeError(f"a {type(stack[-1]).__name__} stands where a {kind.__name__} must")
    return stack[-1]
