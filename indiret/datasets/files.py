"""Files that others made: only regular ones are opened, and limits on all but photos stand here.

No honest file comes near a limit; a hostile one that keeps to them costs seconds, not the machine.

Chapter: *Your own photos*.
"""

import codecs
import gc
import io
import json
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

MAX_TEXT_FILE = 2_000_000  # bytes of a text: a list of 90,000 names
MAX_JSON = 60_000_000  # bytes: 300 a region leave room for 200,000
MAX_VALUES = 10_000_000  # in a JSON file: decoded, one takes 64 bytes
MAX_ARRAY = 256_000_000  # bytes of a photo's features: (2048, 64, 64) in double have a quarter
MAX_MASK = 64_000_000  # bytes of a mask; its pixels are those of its photo
MAX_PICKLE = 4_000_000  # bytes: the largest of the benchmarks' has 0.3 million
MAX_OPCODES = 200_000  # of a pickle: the benchmarks' largest has 39,151
MAX_INTEGER = 2**53  # in a pickle; of larger ones, thousands can collide in a dict
MAX_CORNERS = 500  # of one polygon
MAX_DOWNLOAD = 8 * 10**9  # bytes; the largest archive has 1.9e9
MAX_MEMBER = 32 * 2**20  # bytes of one file of an archive: the largest photo has 1 MB
MAX_MEMBERS = 20_000  # of an archive: the benchmarks' have 6,400
MAX_UNPACKED = 8 * 10**9  # bytes of all of them
MAX_RATIO = 20  # of what an archive unpacks to and its own size: 1 for photos, 5 for texts

_T = TypeVar("_T")


def reason(error: BaseException) -> str:
    """Another library's words for an error, on one line and not too many."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_bytes(path: str | os.PathLike[str], limit: int = MAX_TEXT_FILE) -> bytes:
    """The contents of a regular file of at most ``limit`` bytes.

    Raises FileNotFoundError if there is no such file, and ValueError if it is larger, or a folder,
    a pipe, a socket or a device, which are not opened.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give the path of one.")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device; give a file.")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise ValueError(f"{path} has {max(size, len(data)):,} bytes; at most {limit:,} are read.")
    return data


def read_text(
    path: str | os.PathLike[str], limit: int = MAX_TEXT_FILE, errors: str = "strict"
) -> str:
    """A text in UTF-8, or in UTF-16 as Windows saves it, without byte order marks.

    With ``errors="surrogateescape"``, bytes that are no UTF-8 stay as Python has them in the names
    of files. Raises as `read_bytes`, and ValueError if the file is no text.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "list.txt")
    >>> size = path.write_bytes(b"\\xef\\xbb\\xbfmill")
    >>> read_text(path)
    'mill'
    """
    data = read_bytes(path, limit)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8", errors).replace("\ufeff", "")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8.") from error
    if "\0" in text:
        raise ValueError(f"{path} is not a text file: it holds zero bytes.")
    return text


def read_json(path: str | os.PathLike[str], kind: type[_T], what: str = "file") -> _T:
    """A JSON file as the type it should have, for pydantic to check: a model, a dataclass, a dict.

    Raises as `read_text`, and ValueError if it is not ``what`` it should be, with the first fault.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "sizes.json")
    >>> size = path.write_text('{"mill": ["80", 1e400]}')
    >>> read_json(path, dict[str, list[int]])
    Traceback (most recent call last):
    ValueError: ... is not a file that can be read: at mill.1 input should be a finite number (inf).
    """
    text = read_text(path, MAX_JSON)
    if sum(map(text.count, "{[,")) > MAX_VALUES:
        raise ValueError(f"{path} holds more than {MAX_VALUES:,} values.")
    with without_collector():
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a json file ({reason(error)}).") from error
        return check_type(path, values, kind, what)


@contextmanager
def without_collector() -> Iterator[None]:
    """Millions of values are made in half the time if nobody looks for garbage among them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def check_type(path: str | os.PathLike[str], values: Any, kind: type[_T], what: str) -> _T:
    """What a file holds as the type it should have; ValueError as `read_json`."""
    from pydantic import TypeAdapter, ValidationError  # here: it takes as long as the library
    from pydantic_core import SchemaValidator

    try:
        schema = _stop_at_first(TypeAdapter(kind).core_schema)
        found: _T = SchemaValidator(schema).validate_python(values)
        return found
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))[:200] or "its top"
        words = fault["msg"][0].lower() + fault["msg"][1:]
        given = reprlib.repr(fault["input"])
        raise ValueError(
            f"{path} is not a {what} that can be read: at {place} {words} ({given})."
        ) from error


def _stop_at_first(schema: Any) -> Any:
    """A schema of pydantic whose lists report one fault, not one for each of a million entries."""
    if isinstance(schema, list):
        return [_stop_at_first(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _stop_at_first(part) for key, part in schema.items()}
    return found | ({"fail_fast": True} if found.get("type") == "list" else {})


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array of numbers in an ``.npy`` file; what its header claims is not trusted.

    Raises as `read_bytes`, and ValueError if the file is another, or has not the size it claims.
    """
    stream = io.BytesIO(read_bytes(path, MAX_ARRAY))
    try:
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        header = (
            np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(stream)
        values = np.frombuffer(stream.getbuffer(), dtype, offset=stream.tell())
        return values.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # a header is Python's text: it may raise anything
        raise ValueError(f"{path} is not an array that can be read ({reason(error)}).") from error
