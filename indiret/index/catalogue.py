"""The catalogue of a collection: which files hold which photos, in one SQLite file.

A *photo* is what a file contains: it has a number, which is never used again, and the hash of its
bytes. A *file* has a name, a size and a time, and the number of its photo, or the reason why it
cannot be read. So a renamed file keeps its photo, and copies of one file are one photo.

Chapter: *From pairs to collections*.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from indiret.index.shards import DamagedError

WAIT = 60  # seconds for another process that is writing
SCHEMA = """
BEGIN IMMEDIATE;  -- all or nothing, whenever its maker is killed
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS photos (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, time INTEGER NOT NULL,
    number INTEGER, problem TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_photo ON files (number);
COMMIT;
"""


class State(NamedTuple):
    """What tells without reading that a file has changed."""

    size: int  # bytes
    time: int  # of its last change of content or name, in nanoseconds: no program can set it back


class Entry(NamedTuple):
    """A file of the collection: the number of its photo, or what is wrong with it."""

    state: State
    number: int | None = None
    problem: str | None = None


class Photo(NamedTuple):
    """A photo that is there."""

    content: str  # hash of its file, hexadecimal
    names: list[str]  # of its files


class Catalogue:
    """Files and photos of a collection.

    Every change is whole or not at all, whatever happens to the process. Raises `DamagedError` if
    the file is no catalogue, and OSError if it cannot be written or read.

    Examples
    --------
    >>> catalogue = Catalogue(":memory:")
    >>> entry = Entry(State(size=9, time=9), number=1)
    >>> catalogue.add({1: "c0ffee"}, {"a.jpg": entry, "b.jpg": entry})
    >>> catalogue.numbers(), catalogue.find([1, 2])
    ([1], {1: Photo(content='c0ffee', names=['a.jpg', 'b.jpg'])})
    """

    def __init__(self, path: str | Path):
        self.path = path
        with self._naming():
            # Threads may search, one at a time, what another has opened.
            self._sqlite = sqlite3.connect(path, timeout=WAIT, check_same_thread=False)
            if not self._sqlite.execute("SELECT name FROM sqlite_master").fetchone():
                self._sqlite.executescript(SCHEMA)

    def close(self) -> None:
        self._sqlite.close()

    def check(self) -> None:
        """Raise `DamagedError` unless the file is whole, and has all columns."""
        if self._rows("PRAGMA integrity_check(1)") != [("ok",)]:
            raise DamagedError(f"{self.path} is damaged; try again, and the index is made anew.")
        self.settings()
        self.next_number()
        columns = "number, hash, name, size, time, problem"
        self._rows(f"SELECT {columns} FROM photos JOIN files USING (number) LIMIT 0")

    def settings(self) -> dict[str, str]:
        """What the collection was made with."""
        return dict(self._rows("SELECT name, value FROM settings"))

    def set(self, settings: Mapping[str, str]) -> None:
        """Keep settings."""
        with self._changing() as sqlite:
            sqlite.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", settings.items())

    def files(self) -> dict[str, Entry]:
        """All files by name."""
        rows = self._rows("SELECT name, size, time, number, problem FROM files ORDER BY name")
        return {os.fsdecode(name): Entry(State(a, b), *rest) for name, a, b, *rest in rows}

    def photos(self) -> dict[int, str]:
        """The hashes of all photos that have a number."""
        return dict(self._rows("SELECT number, hash FROM photos ORDER BY number"))

    def find(self, numbers: Iterable[int]) -> dict[int, Photo]:
        """Those of these photos that are there."""
        query = (
            "SELECT number, hash, name FROM photos JOIN files USING (number) "
            "WHERE number IN (SELECT value FROM json_each(?)) ORDER BY name"
        )
        found: dict[int, Photo] = {}
        for number, content, name in self._rows(query, json.dumps([*numbers])):
            found.setdefault(number, Photo(content, [])).names.append(os.fsdecode(name))
        return found

    def photo_of(self, name: str) -> tuple[int, str]:
        """Number and hash of a file's photo; KeyError if it has none."""
        query = "SELECT number, hash FROM photos JOIN files USING (number) WHERE name = ?"
        for number, content in self._rows(query, os.fsencode(name)):
            return number, content
        raise KeyError(name)

    def alike(self, state: State) -> list[str]:
        """The files of one size and time."""
        query = "SELECT name FROM files WHERE size = ? AND time = ? ORDER BY name"
        return [os.fsdecode(name) for (name,) in self._rows(query, *state)]

    def numbers(self, most: int = -1) -> list[int]:
        """The photos that are there, those of at least one file: the first ``most``, or all."""
        query = "SELECT DISTINCT number FROM files WHERE number IS NOT NULL ORDER BY number LIMIT ?"
        return [number for (number,) in self._rows(query, most)]

    def problems(self) -> dict[str, str]:
        """Why files cannot be read, by name."""
        rows = self._rows("SELECT name, problem FROM files WHERE problem NOT NULL ORDER BY name")
        return {os.fsdecode(name): problem for name, problem in rows}

    def next_number(self) -> int:
        """A number that no photo has or had."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'photos'")
        return 1 + (rows[0][0] if rows else 0)

    def add(self, photos: Mapping[int, str], files: Mapping[str, Entry]) -> None:
        """Enter photos with their hashes, and files."""
        rows = [(os.fsencode(name), *one.state, *one[1:]) for name, one in files.items()]
        with self._changing() as sqlite:
            sqlite.executemany("INSERT INTO photos VALUES (?, ?)", photos.items())
            sqlite.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def remove(self, files: Iterable[str]) -> None:
        """Forget files; their photos stay until `prune`, since names may have changed."""
        rows = [(os.fsencode(name),) for name in files]
        with self._changing() as sqlite:
            sqlite.executemany("DELETE FROM files WHERE name = ?", rows)

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget photos and their files, so that an update meets them as new ones."""
        rows = [(number,) for number in numbers]
        with self._changing() as sqlite:
            sqlite.executemany("DELETE FROM files WHERE number = ?", rows)
            sqlite.executemany("DELETE FROM photos WHERE number = ?", rows)

    def doubt(self) -> None:
        """Let an update read all files again; what is known of their contents stays."""
        with self._changing() as sqlite:
            sqlite.execute("UPDATE files SET size = -2")

    def prune(self) -> None:
        """Forget photos that have no file."""
        files = "SELECT number FROM files WHERE number IS NOT NULL"
        with self._changing() as sqlite:
            sqlite.execute(f"DELETE FROM photos WHERE number NOT IN ({files})")

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._naming():
            return self._sqlite.execute(query, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._naming(), self._sqlite:
            yield self._sqlite

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Errors of SQLite as this class has them, with the name of the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            lacks_column = error.sqlite_errorcode == sqlite3.SQLITE_ERROR
            if lacks_column or not isinstance(error, sqlite3.OperationalError):
                raise DamagedError(
                    f"{self.path} is no catalogue, or damaged ({error}); try again, and the index "
                    "is made anew."
                ) from error
            raise OSError(  # full disk, no right to write, a long wait
                f"{self.path} cannot be used ({error}); give the index a place with room and the "
                "right to write, by --out or INDIRET_CACHE."
            ) from error
