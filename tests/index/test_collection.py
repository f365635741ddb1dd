"""A collection on disk: whatever happens to a folder or to a process, it is as one made at once."""

import multiprocessing
import os
import random
import signal
import threading
import time
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indiret.datasets import list_folder
from indiret.datasets.folders import INDEX_MARK
from indiret.images import read_image
from indiret.index import SHORTLISTS, Collection, collection, updates
from indiret.index.catalogue import Catalogue
from indiret.index.store import CATALOGUE, IndexStore
from indiret.retrieval import RETRIEVERS
from tests.index.toys import Nearest, Vector, save_photo, save_photos

KILLS = int(os.environ.get("INDIRET_KILLS", "3"))
TOYS = "vector", "nearest"
PARTS = ["*.sqlite", "codes", "codes/*", "segments", "segments/*"]


def register():
    if "vector" not in RETRIEVERS:
        RETRIEVERS["vector"], SHORTLISTS["nearest"] = ("for tests", Vector), lambda name: Nearest()


@pytest.fixture(autouse=True, scope="module")
def small():
    """A shortlist of six photos of which three are verified."""
    register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "SHORTLISTED", 6)
        patch.setattr(collection, "MOST_VERIFIED", 3)
        patch.setattr(collection, "TURNED_VERIFIED", 3)
        patch.setattr(collection, "FEW", 3)
        yield
    del RETRIEVERS["vector"], SHORTLISTS["nearest"]


@pytest.fixture
def album(tmp_path):
    """A folder of five photos, and what opens its collection."""
    folder = tmp_path / "photos"
    save_photos(folder, 5)
    return folder, lambda *toys: Collection.open(folder, *(toys or TOYS), out=tmp_path / "index")


def contents(found, every=1):
    """What a collection holds: the hash of each file, or of some, and what each finds."""
    hits = {}
    files = found.store.catalogue.files()
    for name in sorted(name for name, one in files.items() if one.number)[::every]:
        hits[name] = found.store.catalogue.photo_of(name)[1], found.search(found.folder / name)
    return hits, found.problems()


def count_encoded(retriever):
    """Lets a retriever count, from now on, the pictures that it encodes."""
    calls = []
    retriever.encode = lambda picture: (calls.append(0), Vector().encode(picture))[1]
    return lambda: len(calls)


def scores(folder, query):
    """An oracle: scores of all photos by name, best first."""
    toy, asked = Vector(), read_image(query)
    paths = [path for path in folder.rglob("*.png") if path.read_bytes().startswith(b"\x89PNG")]
    found = {p.relative_to(folder).as_posix(): toy.encode(read_image(p)) for p in paths}
    values = {name: float(toy.score(toy.encode(asked), [one])[0]) for name, one in found.items()}
    return sorted(values.items(), key=lambda one: (-one[1], one[0]))


def test_the_best_are_verified_and_others_follow_unjudged(album):
    folder, opened = album
    exact = scores(folder, folder / "00003.png")
    with opened() as few, Collection.open(folder, "vector", "none", out=folder / "all") as every:
        assert few.update() == every.update() == (5, 0)
        assert few.update() == every.update() == (0, 0)
        assert [hit[:2] for hit in every.search(folder / "00003.png")] == exact
        hits = few.search(folder / "00003.png")
        assert [hit.name for hit in hits] == [name for name, _ in exact]
        assert [hit[:2] for hit in hits[:3]] == exact[:3] and hits[0].probability == 1
        assert [hit.judged for hit in hits] == [True] * 3 + [False] * 2
        box = (0, 0, 16, 24)
        part = few.search(folder / "00003.png", box=box)
        assert part == few.search(read_image(folder / "00003.png")[:, :16]) != hits
        stats = few.stats()
    assert (stats.files, stats.photos, stats.problems) == (5, 5, 0)
    assert stats.codes > 5 * 27 * 8 and stats.segments > 5 * 27 * 8 and stats.catalogue > 0


def test_who_is_verified_is_chosen_by_the_shortlist_and_by_rough_scores(album, monkeypatch):
    folder, opened = album
    monkeypatch.setattr(Vector, "score_roughly", lambda self, *pair: -self.score(*pair))
    exact = [name for name, _ in scores(folder, folder / "00003.png")]
    with opened() as found:
        found.update()
        hits = found.search(folder / "00003.png")
        assert {hit.name for hit in hits if hit.judged} == {exact[0], exact[1], exact[-1]}
        found.turned = True
        monkeypatch.setattr(Vector, "score_roughly", None)  # not asked: it is of what lies upright
        assert {*exact[:2]} <= {
            hit.name for hit in found.search(folder / "00003.png") if hit.judged
        }


def change(folder, kind, seed):
    """Do something to a folder, and say which content is new in it."""
    dice = random.Random(seed)
    old = sorted(folder.rglob("*.png"))
    path = dice.choice(old or [folder / "first.png"])
    other = folder / dice.choice(["", "sub", "sub/deep"]) / f"{seed}.png"
    other.parent.mkdir(parents=True, exist_ok=True)
    if kind == "broken":
        other.write_bytes(b"no photo")
    elif kind in ("new", "changed") or not old:
        save_photo(other if kind == "new" else path, seed)
    elif kind == "copied":
        other.write_bytes(path.read_bytes())
    elif kind == "touched":
        os.utime(path, ns=(seed, seed))
    elif kind == "renamed":
        path.rename(other)
    elif kind == "removed":
        path.unlink()


KINDS = st.sampled_from("new changed copied touched renamed removed broken".split())


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(st.tuples(KINDS, st.integers(0, 40)), max_size=3), min_size=1, max_size=4))
def test_a_folder_that_changed_is_as_one_indexed_at_once(tmp_path_factory, steps):
    """And no photo is ever encoded that the last update knew."""
    home = tmp_path_factory.mktemp("home")
    folder, known = home / "photos", set()
    folder.mkdir()
    with Collection.open(folder, *TOYS, out=home / "index") as kept:
        for number, step in enumerate(steps):
            for kind, seed in step:
                change(folder, kind, seed)
            encoded = count_encoded(kept.retriever)
            kept.update()
            photos = {*kept.store.catalogue.photos().values()}
            assert encoded() == len(photos - known)
            known = photos
            with Collection.open(folder, *TOYS, out=home / f"index {number}") as new:
                new.update()
                assert contents(kept) == contents(new)


def test_a_turned_query_is_verified_where_it_is_asked_for_in_all_turns(album, monkeypatch):
    """By the first round: what answers find would hide it among few photos."""
    monkeypatch.setattr(collection, "MOST_NEW", 0)
    folder, opened = album
    save_photos(folder, 12)
    query = np.rot90(read_image(folder / "00007.png"))
    with opened() as found:
        found.update()
        upright = [hit.name for hit in found.search(query, 3)]
        found.turned = True
        assert "00007.png" in [hit.name for hit in found.search(query, 3)]
        assert "00007.png" not in upright


def test_a_photo_that_cannot_be_read_is_remembered_and_tried_when_it_changes(album, monkeypatch):
    folder, opened = album
    (folder / "bad.png").write_bytes(b"no photo")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    read, update = [], lambda: opened().update()
    monkeypatch.setattr(updates, "read_image", lambda p: (read.append(p.name), read_image(p))[1])
    assert update() == (7, 0) and len(read) == 6
    assert {*opened().problems()} == {"bad.png", "gone.png"} and opened().stats().problems == 2
    assert update() == (0, 0) and len(read) == 6
    monkeypatch.setattr(updates, "READER", "a newer one")
    assert update() == (2, 0) and read[6:] == ["bad.png"]
    save_photo(folder / "bad.png", 7)
    save_photo(folder / "nowhere.png", 7)
    assert update() == (3, 0) and not opened().problems()


@pytest.mark.parametrize("toys", [TOYS, ("vector", "none")])
@pytest.mark.parametrize("kind", "lost cut changed segment catalogue none".split() + PARTS)
def test_what_is_damaged_is_made_again(album, kind, toys):
    opened = album[1]
    with opened(*toys) as found:
        found.update()
        before = contents(found)
        (shard,) = found.store.folder.glob("codes/*")
        segments = [*found.store.folder.glob("segments/*")]
    whole = shard.read_bytes()
    if kind == "lost":
        shard.unlink()
    elif kind == "cut":
        os.truncate(shard, len(whole) - 1)
    elif kind == "changed":
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif kind == "segment":
        for path in segments:
            path.write_bytes(b"PK damaged")
    elif kind == "catalogue":
        (found.store.folder / "catalogue.sqlite").write_bytes(b"damaged" * 999)
    elif kind == "none":
        (found.store.folder / "catalogue.sqlite").unlink()
    for path in [*found.store.folder.glob(kind)]:  # a folder where a file was, or a file for one
        moved = path.rename(album[0].parent / "moved")
        (path.mkdir if moved.is_file() else path.touch)()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with opened(*toys) as found:
            found.update()
            assert contents(found) == before and found.update() == (0, 0)
    assert [str(one.message).endswith("again.") for one in said] == [True] * len(said)
    assert len(said) == (kind in ("changed", "catalogue"))


def test_what_is_no_index_or_another_one_is_refused(album, tmp_path, monkeypatch):
    folder, opened = album
    with opened() as found:
        found.update()
    for toys, words in (
        (("thumbnail", None), "cannot be kept"),
        (("vector", "none"), "shortlist is"),
    ):
        with pytest.raises(ValueError, match=words):
            opened(*toys)
    monkeypatch.setattr(Vector, "fingerprint", lambda self: "vector 2")
    with pytest.raises(ValueError, match="whose encoder is vector 1, not vector 2; choose"):
        opened()
    monkeypatch.setattr(collection, "FORMAT", "0")
    with pytest.raises(ValueError, match="whose format is 2, not 0"):
        opened()
    with pytest.raises(ValueError, match="photos holds the photos; name another folder"):
        Collection.open(folder, *TOYS, out=folder)
    assert len([*folder.iterdir()]) == 5
    (own := tmp_path / "own").mkdir()
    (own / "catalogue.sqlite").write_bytes(b"of another program")
    with pytest.raises(ValueError, match="own is no folder of an index, and not empty"):
        Collection.open(folder, *TOYS, out=own)
    assert (own / "catalogue.sqlite").read_bytes() == b"of another program"


def test_an_index_among_the_photos_is_none_of_them(album):
    folder, _ = album
    with Collection.open(folder, *TOYS, out=folder / "index") as found:
        assert found.update() == (5, 0) and found.update() == (0, 0)
    assert list_folder(folder)[1] == {}


def test_a_photo_replaced_by_one_of_its_size_and_time_is_seen(album):
    folder, opened = album
    one, other = (folder / f"0000{n}.png" for n in (0, 1))
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(999, b"\0"))
        os.utime(path, ns=(9, 9))
    with opened() as found:
        found.update()
        one.write_bytes(other.read_bytes())
        os.utime(one, ns=(9, 9))
        assert found.update() == (1, 0) and found.search(one)[1].score == 0


def test_reading_side_by_side_leaves_warnings_as_they_were(album, monkeypatch):
    """The second thread comes while the first reads, and leaves after it."""
    opened = album[1]
    came, joined, left = (threading.Event() for _ in range(3))

    def read(path):
        if path.stem == "00000":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                came.set()
                assert joined.wait(9)
            left.set()
        elif path.stem == "00001":
            assert came.wait(9)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                joined.set()
                assert left.wait(9)
        return read_image(path)

    monkeypatch.setattr(updates, "read_image", read)
    before = list(warnings.filters)
    with opened() as found:
        assert found.update() == (5, 0)
    assert warnings.filters == before


def test_the_cache_is_made_again_where_settings_changed(album, tmp_path, monkeypatch):
    folder, _ = album
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    for version, changes in ("1", (5, 0)), ("1", (0, 0)), ("2", (5, 0)):
        monkeypatch.setattr(Vector, "fingerprint", lambda self, version=version: version)
        with Collection.open(folder, *TOYS) as found:
            assert found.update() == changes and len(found.search(folder / "00000.png")) == 5
    assert len([*(tmp_path / "cache" / "collections").iterdir()]) == 1


def test_an_index_that_moved_with_its_folder_believes_no_names(album, tmp_path, monkeypatch):
    folder, opened = album
    with opened() as found:
        found.update()
    stored = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    other = tmp_path / "other"
    save_photos(other, 5, first=1)
    for path in sorted(other.iterdir()):  # as if it were the same
        path.rename(new := other / f"{int(path.stem) - 1:05}.png")
        os.utime(new, ns=(stored[new.name],) * 2)
    with Collection.open(other, *TOYS, out=tmp_path / "index") as found:
        encoded = count_encoded(found.retriever)
        assert found.update() == (5, 0) and encoded() == 1
        assert found.search(other / "00000.png")[0].score == 0


def test_an_index_that_cannot_be_written_is_a_sentence_and_keeps_what_it_has(album, tmp_path):
    folder, opened = album
    with opened() as found:
        found.update()
        before = contents(found)
        save_photos(folder, 1, first=9)
        (tmp_path / "index" / "codes").rename(tmp_path / "kept")
        (tmp_path / "index" / "codes").touch()
        with pytest.raises(OSError, match=r"cannot be written .*; name another"):
            found.update()
        (tmp_path / "index" / "codes").unlink()
        (tmp_path / "kept").rename(tmp_path / "index" / "codes")
        (folder / "00009.png").unlink()
        found.update()
        assert contents(found) == before


def test_who_is_interrupted_keeps_what_was_finished(album):
    folder, opened = album
    save_photos(folder, 12, first=5)
    left = [KeyboardInterrupt, *[None] * 11]

    def encode(picture):
        if left and (error := left.pop()):
            raise error
        return Vector().encode(picture)

    with opened() as found:
        found.retriever.encode = encode
        with pytest.raises(KeyboardInterrupt):
            found.update()
        assert len(found.store.catalogue.files()) == updates.READ_AT_ONCE == 8
        assert found.update() == (9, 0)
        assert found.search(folder / "00016.png")[0].name == "00016.png"


def update(folder, index, pace=0.0):
    """What `indiret index` does, in a process of its own, saving after every eight photos."""
    register()
    torch.set_num_threads(1)
    updates.SAVE_SECONDS, encode = 0.0, Vector.encode
    Vector.encode = lambda *given: (time.sleep(pace), encode(*given))[1]
    with Collection.open(folder, *TOYS, out=index) as found:
        found.update()


def start(*given):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=update, args=given)
    process.start()
    return process


def on_disk(index):
    """All that matters of an index: its files, and what the catalogue says."""
    files = {
        p.name: p.read_bytes() for kind in ("codes", "segments") for p in (index / kind).iterdir()
    }
    with Collection.open(index.parent / "photos", *TOYS, out=index) as found:
        catalogue = found.store.catalogue
        said = catalogue.photos(), catalogue.files(), catalogue.settings()
        return files, said, contents(found, every=9)


def test_killed_at_any_moment_it_ends_as_if_nobody_had_touched_it(tmp_path):
    """Two processes at once; each kill is somewhere in what is left to do."""
    save_photos(tmp_path / "photos", 40 * KILLS)
    (tmp_path / "photos" / "00077.png").write_bytes(b"no photo")
    update(tmp_path / "photos", tmp_path / "unbroken")
    dice = random.Random(0)
    for _ in range(KILLS):
        both = [start(tmp_path / "photos", tmp_path / "killed", 0.005) for _ in range(2)]
        for process in both:
            process.join(dice.uniform(0.0, 0.5))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
    both = [start(tmp_path / "photos", tmp_path / "killed") for _ in range(2)]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert on_disk(tmp_path / "killed") == on_disk(tmp_path / "unbroken")


def test_what_a_killed_writer_left_goes_with_the_next_update(tmp_path, monkeypatch):
    folder, index = tmp_path / "photos", tmp_path / "index"
    save_photos(folder, 3)
    update(folder, index)
    left = [index / kind / ".000000.part.1-1.part" for kind in ("codes", "segments")]
    for path in left:
        path.write_bytes(b"half")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        save_photos(folder, 4)
        patch.setattr(IndexStore, "tidy", Mock(side_effect=KeyboardInterrupt))
        update(folder, index)
    assert all(path.exists() for path in left)
    update(folder, index)
    assert not any(path.exists() for path in left)


def test_an_index_whose_maker_was_killed_before_it_had_settings_is_made_again(tmp_path):
    folder, index = tmp_path / "photos", tmp_path / "killed"
    save_photos(folder, 3)
    index.mkdir()
    (index / INDEX_MARK).touch()
    Catalogue(index / CATALOGUE).close()
    update(folder, index)
    update(folder, tmp_path / "unbroken")
    assert on_disk(index) == on_disk(tmp_path / "unbroken")
