"""Codes on disk: immutable files of packed photos, each record with its checksum.

The shard of a photo follows from its number, so that no table says where it lies. A shard begins
with a directory (number, hash of the file, place, length, checksum); the records follow.
A record is read by its place alone: what a search holds in memory is the directories. A file that
is cut, damaged or another's is a `DamagedError`, and is never believed.

Chapter: *From pairs to collections*.
"""

import os
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indiret.datasets.writing import write_atomically

SHARD = 1024  # numbers that share a file: 64 MB of codes of 63 KB
MOST_DEAD = 0.25  # share of a file that may be of removed photos before it is rewritten without
MAGIC = b"indiret codes 1\n"
ENTRY = np.dtype(
    [("number", "<i8"), ("content", "S32"), ("place", "<i8"), ("size", "<i8"), ("check", "<u4")]
)


class DamagedError(ValueError):
    """A file of a collection that is not whole, or not what its name says."""


class PhotoCodes(NamedTuple):
    """What is kept of a photo for verification."""

    content: str  # hash of the photo's file, hexadecimal
    packed: bytes  # `indiret.retrieval.Retriever.pack`


class Shard:
    """One file of codes, opened anew for each record: it may be replaced at any time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "000000.codes")
    ...     write_shard(path, {7: PhotoCodes("a" * 32, b"codes of photo 7")})
    ...     Shard(path).read(7)
    PhotoCodes(content='aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', packed=b'codes of photo 7')
    """

    def __init__(self, path: Path):
        self.path = path
        self._state: tuple[int, ...] = ()
        self._entries = np.empty(0, ENTRY)

    def directory(self) -> NDArray[np.void]:
        """Entries of the file as it is now, in the order of their numbers.

        Raises FileNotFoundError or `DamagedError` if it is not there, or not whole.
        """
        with open(self.path, "rb", buffering=0) as file:
            return self._read_directory(file)

    def read(self, number: int) -> PhotoCodes:
        """The record of a photo; KeyError if there is none, and raises as `directory`."""
        with open(self.path, "rb", buffering=0) as file:
            _, content, place, size, check = _entry(self._read_directory(file), number)
            packed = os.pread(file.fileno(), size, place)
        if zlib.crc32(packed) != check:
            raise DamagedError(f"{self.path} is damaged: photo {number} is not what was written.")
        return PhotoCodes(content.decode(), packed)

    def _read_directory(self, file: BinaryIO) -> NDArray[np.void]:
        status = os.fstat(file.fileno())
        state = status.st_ino, status.st_size, status.st_mtime_ns
        if state != self._state:
            self._entries, self._state = _parse(file, self.path, status.st_size), state
        return self._entries


def _entry(entries: NDArray[np.void], number: int) -> tuple[Any, ...]:
    """The entry of a photo; KeyError if there is none."""
    at = int(np.searchsorted(entries["number"], number))
    if at == len(entries) or entries["number"][at] != number:
        raise KeyError(number)
    return tuple(entries[at].item())


def _parse(file: BinaryIO, path: Path, size: int) -> NDArray[np.void]:
    head = file.read(len(MAGIC) + 12)
    count, check = int.from_bytes(head[-12:-4], "little"), int.from_bytes(head[-4:], "little")
    if not head.startswith(MAGIC) or len(head) + count * ENTRY.itemsize > size:
        raise DamagedError(f"{path} is no file of codes, or was cut.")
    table = file.read(count * ENTRY.itemsize)
    entries = np.frombuffer(table, ENTRY)
    ends = entries["place"] + entries["size"]
    if zlib.crc32(table) != check or int(ends.max(initial=0)) > size:
        raise DamagedError(f"{path} is damaged or was cut.")
    return entries


def write_shard(path: Path, records: Mapping[int, PhotoCodes]) -> None:
    """Write a file of codes, whole or not at all; OSError if it cannot be written."""
    entries = np.zeros(len(records), ENTRY)
    place = len(MAGIC) + 12 + entries.nbytes
    for at, (number, (content, packed)) in enumerate(sorted(records.items())):
        entries[at] = (number, content.encode(), place, len(packed), zlib.crc32(packed))
        place += len(packed)
    table = entries.tobytes()
    head = MAGIC + len(records).to_bytes(8, "little") + zlib.crc32(table).to_bytes(4, "little")
    with write_atomically(path) as part, open(part, "wb") as file:
        file.write(head + table)
        file.writelines(records[number].packed for number in entries["number"].tolist())


class CodeStore:
    """All shards of a collection, in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards: dict[int, Shard] = {}

    def read(self, number: int, content: str) -> bytes:
        """The codes of a photo; `DamagedError` if they are lost, another's, or not whole."""
        shard = self._shard(number // SHARD)
        try:
            record = shard.read(number)
        except (KeyError, OSError):
            record = None
        if record is None or record.content != content:
            raise DamagedError(f"{shard.path} lacks the codes of photo {number}.")
        return record.packed

    def size(self, number: int) -> int:
        """The bytes of a photo's codes, as many for photos of one shape; 0 if they are lost."""
        with suppress(KeyError, OSError, DamagedError):
            return int(_entry(self._shard(number // SHARD).directory(), number)[3])
        return 0

    def stored(self) -> set[tuple[int, str]]:
        """Number and content of all records, as far as their files are whole."""
        found: set[tuple[int, str]] = set()
        for index in self._indices():
            try:
                entries = self._shard(index).directory()
            except (DamagedError, OSError):
                continue
            contents = map(bytes.decode, entries["content"].tolist())
            found.update(zip(entries["number"].tolist(), contents, strict=True))
        return found

    def add(self, records: Mapping[int, PhotoCodes], known: Collection[int]) -> None:
        """Write records; others in the same files stay if their numbers are ``known``."""
        for index in sorted({number // SHARD for number in records}):
            new = {number: one for number, one in records.items() if number // SHARD == index}
            write_shard(self._path(index), self._kept(index, known) | new)

    def compact(self, known: Collection[int]) -> None:
        """Win back the space of removed photos, in files where they are many."""
        for index in self._indices():
            numbers = self._numbers(index)
            alive = sum(number in known for number in numbers)
            if not alive:
                self._path(index).unlink(missing_ok=True)
            elif alive < (1 - MOST_DEAD) * len(numbers):
                write_shard(self._path(index), self._kept(index, known))

    def _numbers(self, index: int) -> list[int]:
        """The numbers in a file, none if it is not whole."""
        try:
            found: list[int] = self._shard(index).directory()["number"].tolist()
        except (DamagedError, OSError):
            found = []
        return found

    def _kept(self, index: int, known: Collection[int]) -> dict[int, PhotoCodes]:
        """Records of a file that are known and whole."""
        kept = {}
        for number in self._numbers(index):
            if number in known:
                with suppress(DamagedError):
                    kept[number] = self._shard(index).read(number)
        return kept

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06}.codes"

    def _shard(self, index: int) -> Shard:
        return self._shards.setdefault(index, Shard(self._path(index)))

    def _indices(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.codes"))
