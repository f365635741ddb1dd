"""What has changed in a folder of photos since its index was made, and the encoding of what is new.

Names, sizes and times tell what has changed, without a file being opened. What seems new is read:
its hash tells whether it is a photo that is known under another name.

Chapter: *From pairs to collections*.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm

from indiret.datasets import list_folder
from indiret.images import ImageError, Picture, read_image
from indiret.index.catalogue import Entry, State
from indiret.index.shards import SHARD, PhotoCodes
from indiret.index.shortlist import Shortlist
from indiret.index.store import IndexStore, UnsavedPhotos
from indiret.retrieval import Retriever

READ_AT_ONCE = 8  # photos in memory: one of 12 megapixels has 36 MB
SAVE_SECONDS = 20.0  # seconds of work that a kill may cost
NEVER = State(-1, -1)  # of a file that could not be opened: it is tried again
# What decides which files can be read; those that could not are tried again when it changes.
READER = f"Pillow {PIL.__version__}" + ", heif" * bool(find_spec("pillow_heif"))


class Difference(NamedTuple):
    """What has to be done for an index to be as its folder."""

    new: dict[str, State]  # files to read
    gone: list[str]  # files to forget; some of them are new, too
    lacking: set[int]  # photos to forget, since their codes or descriptions are lost


def find_changes(folder: Path, store: IndexStore) -> Difference:
    """What has changed in a folder; FileNotFoundError if there is none."""
    present = {}
    start = len((folder / "x").as_posix()) - 1  # of the name in a path; `relative_to` is slow
    for path in list_folder(folder)[0]:
        state = NEVER
        with suppress(OSError):  # gone since it was listed, or a link to nowhere
            status = os.stat(path)
            state = State(status.st_size, status.st_mtime_ns)
        present[path.as_posix()[start:]] = state
    lacking, files = store.lacking(), store.catalogue.files()
    again = store.catalogue.settings().get("reader") != READER
    gone = {
        name
        for name, one in files.items()
        if present.get(name) != one.state or one.number in lacking or (again and one.problem)
    }
    new = {name: one for name, one in present.items() if name not in files or name in gone}
    return Difference(new, sorted(gone), lacking)


def update_index(
    folder: Path, store: IndexStore, difference: Difference,
    retriever: Retriever, shortlist: Shortlist | None,
) -> None:  # fmt: skip
    """Bring an index up to date, with a progress bar on a terminal."""
    store.catalogue.forget(difference.lacking)
    store.catalogue.remove(difference.gone)
    encode_files(folder, store, difference.new, retriever, shortlist)
    store.catalogue.set({"reader": READER})
    store.tidy()


def encode_files(
    folder: Path, store: IndexStore, new: Mapping[str, State],
    retriever: Retriever, shortlist: Shortlist | None,
) -> None:  # fmt: skip
    """Encode files, a few at a time, and save what is made every now and then.

    Numbers are given in the order of names, so that it does not matter where work was cut.
    """
    known = {content: number for number, content in store.catalogue.photos().items()}
    numbers = count(store.catalogue.next_number())
    batch, saved = UnsavedPhotos(), time.monotonic()
    try:
        with tqdm(total=len(new), desc="indexing", unit="photo", disable=None) as bar:
            for part in _read_files(folder, list(new), known):
                photos = {
                    one.content: one.picture for one in part.values() if one.picture is not None
                }
                encoded = retriever.encode_many(list(photos.values()))
                for (content, picture), features in zip(photos.items(), encoded, strict=True):
                    known[content] = number = next(numbers)
                    batch.records[number] = PhotoCodes(content, retriever.pack(features))
                    if shortlist:
                        batch.described[number] = shortlist.describe(picture, features)
                for name, one in part.items():
                    state = NEVER if one.retry else new[name]
                    batch.files[name] = Entry(state, known.get(one.content), one.problem)
                bar.update(len(part))
                if time.monotonic() - saved > SAVE_SECONDS or len(batch.records) >= SHARD:
                    full, batch, saved = batch, UnsavedPhotos(), time.monotonic()
                    store.save(full)
    finally:  # who is interrupted keeps what is finished
        store.save(batch)


class _Read(NamedTuple):
    """What was read of a file."""

    content: str = ""  # its hash
    picture: Picture | None = None  # None if its content is known
    problem: str | None = None
    retry: bool = False  # whether that may end without a change of the file


def _read_files(
    folder: Path, names: Sequence[str], known: Mapping[str, int]
) -> Iterator[dict[str, _Read]]:
    """Files by name, some at once."""
    with ThreadPoolExecutor(READ_AT_ONCE) as threads:
        for at in range(0, len(names), READ_AT_ONCE):
            part = names[at : at + READ_AT_ONCE]
            paths = [folder / name for name in part]
            yield dict(zip(part, threads.map(partial(_read, known=known), paths), strict=True))


def _read(path: Path, known: Mapping[str, int]) -> _Read:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        content = digest.hexdigest()
        return _Read(content, None if content in known else read_image(path))
    except ImageError as error:
        return _Read(problem=str(error))
    except OSError as error:
        return _Read(problem=f"{path} cannot be read ({error.strerror or error}).", retry=True)
