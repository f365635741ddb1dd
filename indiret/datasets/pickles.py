"""Plain data out of a pickle, and nothing else: no name is imported, nothing is called.

Python's own ``pickle`` runs whatever a file tells it to. Here `pickletools` lists the opcodes of a
file first, only those of plain data are let through, and the `pickle.Unpickler` that follows them
refuses every name.

Chapter: *Reproducing the tables*.
"""

import io
import pickle
import pickletools
import reprlib
from pathlib import Path
from typing import Any, NoReturn

from indiret.datasets.files import MAX_INTEGER, MAX_OPCODES, MAX_PICKLE, read_bytes, reason

# No tuples: a dict hashes its keys, and the hash of a deeply nested tuple overflows the stack.
PLAIN_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST LIST "
    "APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET "
    "LONG_BINGET".split()
)


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds only lists, dicts, texts, numbers, booleans and None.

    What comes back may hold itself, or one list very often: print no part of it whole. Raises
    ValueError if the file asks for anything else (a function, a class), is no whole pickle, or has
    more than 4 MB.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "a.pkl")
    >>> size = path.write_bytes(pickle.dumps({"imlist": ["a", "b"], "box": [1.5, 2]}))
    >>> read_plain_pickle(path)
    {'imlist': ['a', 'b'], 'box': [1.5, 2]}
    >>> size = path.write_bytes(pickle.dumps(print))
    >>> read_plain_pickle(path)
    Traceback (most recent call last):
    ValueError: ... holds more than plain data (STACK_GLOBAL: a function, a class, ...
    """
    data = read_bytes(path, MAX_PICKLE)
    try:
        refused = _refused_opcode(data)
        if refused is None:
            return _PlainUnpickler(
                io.BytesIO(data), encoding="utf-8", errors="surrogateescape"
            ).load()
    except Exception as error:  # of a broken order of opcodes: many kinds
        raise ValueError(f"{path} is not a whole pickle ({reason(error)}).") from error
    raise ValueError(
        f"{path} holds more than plain data ({refused}: a function, a class, a tuple or bytes), "
        "and might run anything; only lists, dicts, texts and numbers are read."
    )


def _refused_opcode(data: bytes) -> str | None:
    """The first opcode that is not of plain data, if there is one."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in PLAIN_OPCODES:
            return opcode.name
        if number == MAX_OPCODES:
            raise ValueError(f"it holds more than {MAX_OPCODES:,} values")
        if isinstance(argument, int):
            # pickle sets memory aside for as many values as one is numbered; of large integers,
            # thousands can have one hash, and a dict of them takes hours
            if abs(argument) > (number if opcode.name.endswith("PUT") else MAX_INTEGER):
                raise ValueError(f"it holds {reprlib.repr(argument)} as value {number}")
    return None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain data")
