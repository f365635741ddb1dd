"""Named arrays in one safetensors file, written atomically and memory-mapped.

Chapter: *From pairs to collections*.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.datasets.writing import write_atomically

#: NumPy's name of each kind of number in a safetensors file.
DTYPES = {"I8": "<i1", "U8": "<u1", "U16": "<u2", "U32": "<u4", "I64": "<i8"}

Arrays = dict[str, NDArray[Any]]


@contextmanager
def create_arrays(
    path: Path, layout: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Iterator[Arrays]:
    """Arrays of these kinds and shapes, to be filled; the file is there once all are.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "squares"
    >>> with create_arrays(path, {"squares": ("I64", (3,))}) as arrays:
    ...     arrays["squares"][:] = 0, 1, 4
    >>> open_arrays(path)["squares"].tolist()
    [0, 1, 4]
    """
    header, end = {}, 0
    for name, (kind, shape) in layout.items():
        begin, end = end, end + np.dtype(DTYPES[kind]).itemsize * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    with write_atomically(path) as part:
        with part.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        arrays = _map(part, "r+")
        yield arrays
        for one in arrays.values():
            if isinstance(one, np.memmap):
                one.flush()
        del arrays


def open_arrays(path: Path) -> Arrays:
    """The arrays of a file, memory-mapped; ValueError if it is not whole, OSError if not there."""
    try:
        return _map(path, "r")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged; delete it, and it is made again.") from error


def release(*arrays: NDArray[Any]) -> None:
    """Take mapped arrays out of memory until they are read again.

    What the system still has of their file is then mapped anew, without reading the disk.

    Examples
    --------
    >>> release(np.arange(3))  # which is of no file: nothing to do
    """
    for one in arrays:
        owner: Any = one
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            owner.madvise(mmap.MADV_DONTNEED)


def _map(path: Path, mode: Any) -> Arrays:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(length))
    arrays, end = {}, 0
    for name, entry in header.items():
        kind, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if end - begin != np.dtype(kind).itemsize * int(np.prod(shape)):
            raise ValueError("an array is not as long as its shape says")
        empty = begin == end  # which cannot be mapped
        arrays[name] = (
            np.empty(shape, kind)
            if empty
            else np.memmap(path, kind, mode, 8 + length + begin, shape)
        )
    if path.stat().st_size != 8 + length + end:
        raise ValueError("the file has not the length that its header says")
    return arrays
