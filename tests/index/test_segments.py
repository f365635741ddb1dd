"""Segments: whatever comes, goes and is killed, a search finds what is there, each photo once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.index import segments, shards
from indiret.index.postings import ARRAYS
from indiret.index.segments import SegmentStore
from tests.index.toys import Nearest

VECTORS = np.random.default_rng(0).random((400, 4))
MOST_PHOTOS = segments.SHARD * segments.FANOUT ** (segments.LEVELS - 1)


@pytest.fixture(autouse=True, scope="module")
def small():
    """Segments of four photos, two of which make one of the next level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SHARD", 4)
        patch.setattr(segments, "FANOUT", 2)
        patch.setattr(segments, "LEVELS", 9)
        yield


def check(store, known):
    numbers, scores = store.search(VECTORS[0], 400)
    kept = [
        (number, score) for number, score in zip(numbers, scores, strict=True) if number in known
    ]
    exact = -np.abs(VECTORS - VECTORS[0]).sum(1)
    assert [n for n, _ in kept] == sorted(known, key=lambda n: (-exact[n], n))
    assert all(score == exact[n] for n, score in kept) and {*numbers.tolist()} >= known


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1), st.booleans()), max_size=8))
def test_searches_find_what_is_known(steps):
    """Steps add some photos, lose some, and may be killed before they are entered or merged."""
    known, number = set(), 1
    with TemporaryDirectory() as folder:
        store = SegmentStore(Path(folder), Nearest())
        for count, kept, killed in steps:
            new = range(number, number + count)
            store.add({n: VECTORS[n] for n in new}, known)
            check(store, known)
            if killed:
                continue
            number += count
            known |= set(new)
            known = {n for n in known if VECTORS[n, 0] <= kept} or known
            store.compact(known, number)
            check(store, known)
            for one in store.segments().values():
                dead = sum(n not in known for n in one.numbers.tolist())
                assert dead <= shards.MOST_DEAD * len(one.numbers)


def test_they_stay_few_and_are_the_same_however_photos_came(tmp_path):
    found = []
    for name, step in (("one by one", 1), ("at once", 90)):
        store = SegmentStore(tmp_path / name, Nearest())
        for first in range(1, 91, step):
            store.add({n: VECTORS[n] for n in range(first, first + step)}, range(1, first))
            store.compact(range(1, first + step), first + step)
        files = sorted(store.folder.iterdir())
        found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1] and len(found[0]) <= 6


def test_a_posting_has_room_for_the_photos_of_the_largest_segment():
    assert ARRAYS["photos"] == "U16" and MOST_PHOTOS <= 2**16


def test_those_of_the_last_level_are_not_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "LEVELS", 2)
    store = SegmentStore(tmp_path, Nearest())
    store.add({n: VECTORS[n] for n in range(18)}, ())
    store.compact(range(18), 18)
    assert [*store.segments()] == [(0, 4), (1, 0), (1, 1)]


def test_after_a_kill_while_merging_a_photo_is_found_once(tmp_path):
    store = SegmentStore(tmp_path, Nearest())
    store.add({n: VECTORS[n] for n in range(8)}, ())
    Nearest().merge(tmp_path / "1-000000", [*store.segments().values()], ())
    assert len(store.search(VECTORS[0], 9)[0]) == 8
    store.compact(range(8), 8)
    assert [path.name for path in tmp_path.iterdir()] == ["1-000000"]


def test_a_damaged_segment_counts_for_nothing(tmp_path):
    store = SegmentStore(tmp_path, Nearest())
    store.add({n: VECTORS[n] for n in range(1, 8)}, ())
    (tmp_path / "0-000001").write_bytes(b"PK damaged")
    assert store.numbers() == {1, 2, 3}
    store.compact(range(8), 8)
    assert not (tmp_path / "0-000001").exists()
