"""`indiret.datasets.writing`: whole or not at all, over files alone, and one process at a time."""

import multiprocessing
import os
import platform
import re
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from indiret.datasets.writing import hold_lock, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "note"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path) as part:
        part.write_text("half of")
        raise RuntimeError

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(OSError, match=r"note cannot be written \(disk full\)"):
        with write_atomically(path) as part:
            part.write_text("new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == [path.name]


def test_two_writers_of_one_file_leave_one_of_theirs_whole(tmp_path):
    path, both = tmp_path / "new" / "note.txt", Barrier(2)

    def write(letter):
        with write_atomically(path) as part:
            part.write_text(letter)
            both.wait()
            part.write_text(letter * 10_000)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "ab"))
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe"])
def test_what_is_no_file_is_never_replaced(tmp_path, kind):
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
    if kind.startswith("link"):
        path.symlink_to("pipe")
    before = path.lstat()
    with pytest.raises(OSError, match=r"cannot be written \(it is a folder, a pipe or a device\)"):
        with write_atomically(path) as part:
            part.write_text("new")
    assert path.lstat() == before


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/\.lock cannot be written \(.+\); name another place"):
        with hold_lock(tmp_path / "file" / ".lock", "the work"):
            pass


def wait_for(lock, started):
    started.set()
    with hold_lock(lock, "the work"):
        pass


@pytest.mark.parametrize("same", [False, True], ids=["of another", "a worker of this"])
def test_a_command_that_waits_says_for_whom_and_since_when(tmp_path, capfd, same):
    """But not for other workers of its own."""
    lock, context = tmp_path / "new" / ".lock", multiprocessing.get_context("spawn")
    started, said = context.Event(), ""
    second = context.Process(target=wait_for, args=(lock, started))
    with hold_lock(lock, "the work") as held:
        with hold_lock(lock, "the work", patient=False) as held_twice:
            assert held and not held_twice
        note = lock.with_name(".lock.holder")
        own = note.read_text()
        note.write_text(own if same else own.replace(f"{os.getpid()} on", "1 on"))
        second.start()
        assert started.wait(60)
        second.join(1)
        while not same and "waiting" not in said:
            said += capfd.readouterr().err
            time.sleep(0.02)
        assert second.is_alive()
    second.join(60)
    assert second.exitcode == 0 and os.listdir(lock.parent) == [".lock"]
    year = time.strftime("%Y")
    holder = rf"process 1 on {re.escape(platform.node())} since \d\d \w+ {year} [\d:]+"
    assert same or re.fullmatch(rf"the work: {holder} is at it; waiting for it.\n", said)
    assert "waiting" not in capfd.readouterr().err
