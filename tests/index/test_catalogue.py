"""The catalogue: a dictionary of files that survives, and says in a sentence when it cannot."""

import os
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.index.catalogue import Catalogue, Entry, State
from indiret.index.shards import DamagedError

NAMES = st.sampled_from(["a.jpg", "b/ä.png", "odd\udcff.jpg", "=1+1.jpg", "'; --.jpg"])
OF = Entry(State(1, 2), 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(1, 4), st.booleans())))
def test_it_holds_what_was_entered_and_not_removed(steps):
    catalogue, files, photos = Catalogue(":memory:"), {}, {}
    for name, number, removed in steps:
        if removed:
            catalogue.remove([name])
            files.pop(name, None)
            continue
        new = {} if number in photos else {number: f"hash {number}"}
        catalogue.add(new, {name: Entry(State(number, 2), number)})
        photos |= new
        files[name] = number
    assert {name: one.number for name, one in catalogue.files().items()} == files
    assert catalogue.photos() == photos and catalogue.numbers() == sorted({*files.values()})
    found = catalogue.find(range(1, 5))
    assert {name: number for number, one in found.items() for name in one.names} == files
    assert all(catalogue.photo_of(name) == (n, f"hash {n}") for name, n in files.items())
    before = catalogue.next_number()
    catalogue.prune()
    assert {*catalogue.photos()} == {*files.values()} and catalogue.next_number() == before
    catalogue.forget(photos)
    assert not catalogue.files() and before > max(photos, default=0)


def test_a_change_is_whole_or_not_at_all(tmp_path):
    catalogue = Catalogue(tmp_path / "c.sqlite")
    catalogue.add({1: "a"}, {"a.jpg": OF})
    with pytest.raises(DamagedError, match="UNIQUE"):
        catalogue.add({2: "b", 3: "a"}, {"b.jpg": OF})
    assert Catalogue(tmp_path / "c.sqlite").photos() == {1: "a"}


def test_what_is_no_catalogue_or_damaged_is_said(tmp_path):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"no catalogue at all" * 99)
    with pytest.raises(DamagedError, match=r"c\.sqlite is no catalogue"):
        Catalogue(path)
    path.unlink()
    files = {f"{n}.jpg": OF for n in range(999)}
    Catalogue(path).add({1: "a"}, files)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DamagedError):
        Catalogue(path).check()
    path.unlink()
    Catalogue(path).add({1: "a"}, files)
    path.write_bytes(path.read_bytes().replace(b"77.jpg", b"xx.jpg", 1))  # in one of two tables
    with pytest.raises(DamagedError):
        Catalogue(path).check()
    path.unlink()
    (catalogue := Catalogue(path))._sqlite.execute("ALTER TABLE files RENAME problem TO trouble")
    with pytest.raises(DamagedError, match="no such column: problem"):
        catalogue.check()


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(OSError, match=r"absent/c\.sqlite cannot be used"):
        Catalogue(tmp_path / "absent" / "c.sqlite")
    catalogue = Catalogue(tmp_path / "c.sqlite")
    catalogue.check()
    catalogue._sqlite.execute("PRAGMA max_page_count = 9")  # a full disk
    with pytest.raises(OSError, match=r"disk is full.*room"):
        catalogue.add({1: "a"}, {f"{n}.jpg": OF for n in range(9999)})
    catalogue._sqlite.execute("PRAGMA max_page_count = 999")
    assert catalogue.files() == {} and sqlite3.sqlite_version_info >= (3, 38)  # for json_each
