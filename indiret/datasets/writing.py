"""How files are written: whole or not at all, and never by two processes at once.

Chapter: *Reproducing the tables*.
"""

import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which takes its place at the end, or never if it fails.

    The folder is made where it is missing. Raises OSError, which names ``path``, if it cannot be
    written, or is a folder, a pipe or a device, which a file would replace.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> with write_atomically(mkdtemp()) as part:
    ...     size = part.write_text("[]")
    Traceback (most recent call last):
    FileExistsError: ... cannot be written (it is a folder, a pipe or a device); name another place.
    """
    path = Path(path)
    writer = f"{os.getpid()}-{threading.get_ident()}"  # two may write the same file at once
    part = path.with_name(f".{path.name}.{writer}.part")
    try:
        if path.exists() and not path.is_file():
            raise FileExistsError("it is a folder, a pipe or a device")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _named(path, error) from error


@contextmanager
def hold_lock(lock: Path, what: str, patient: bool = True) -> Iterator[bool]:
    """Hold a lock that one at a time can hold, of whatever process; yields whether it is held.

    Who is ``patient`` waits for it, and says on standard error who is at ``what`` and since when;
    others go on without. The system lets go of it when its process dies. Raises OSError, which
    names ``lock``, if it cannot be written.
    """
    file, note = FileLock(lock), lock.with_name(f"{lock.name}.holder")
    worker = multiprocessing.parent_process()
    own = f"process {worker.pid if worker else os.getpid()} on {platform.node()}"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file.acquire(timeout=0)
    except Timeout:
        if not patient:
            yield False
            return
        holder = ""
        for _ in range(20):  # it may have just begun, or just ended
            with suppress(OSError):
                holder = note.read_text(encoding="utf-8")
            if holder:
                break
            time.sleep(0.01)
        holder = holder or "another process"
        if not (worker and holder.startswith(f"{own} since")):  # or another worker of our command
            print(f"{what}: {holder} is at it; waiting for it.", file=sys.stderr)
        file.acquire()
    except OSError as error:
        raise _named(lock, error) from error
    try:
        with suppress(OSError):  # the disk is full: the lock holds all the same
            note.write_text(f"{own} since {time.strftime('%d %B %Y %H:%M:%S')}", encoding="utf-8")
        yield True
    finally:
        with suppress(OSError):
            note.unlink()
        file.release()


def _named(path: Path, error: OSError) -> OSError:
    """The error in a sentence with the path that was to be written."""
    reason = error.strerror or error
    return type(error)(f"{path} cannot be written ({reason}); name another place.")
