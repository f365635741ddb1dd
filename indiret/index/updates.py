"""What has changed in a folder of photos since its index was made, and the encoding of what is new.

Names, sizes and times tell what has changed, without a file being opened. What seems new is read:
its hash tells whether it is a photo that is known under another name.

Chapter: *From pairs to collections*.
"""

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from indiret.datasets import list_folder
from indiret.images import ImageError, Picture, read_image
from indiret.index.catalogue import Entry, State
from indiret.index.cluster import Map
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
    unfinished: bool  # whether the last update was cut short


def find_changes(folder: Path, store: IndexStore) -> Difference:
    """What has changed in a folder; FileNotFoundError if there is none."""
    present = {}
    start = len((folder / "x").as_posix()) - 1  # of the name in a path; `relative_to` is slow
    for path in list_folder(folder)[0]:
        state = NEVER
        with suppress(OSError):  # gone since it was listed, or a link to nowhere
            status = os.stat(path)
            state = State(status.st_size, status.st_ctime_ns)
        present[path.as_posix()[start:]] = state
    lacking, files = store.lacking(), store.catalogue.files()
    reader = store.catalogue.settings().get("reader")
    other = reader != READER
    gone = {
        name
        for name, one in files.items()
        if present.get(name) != one.state or one.number in lacking or (other and one.problem)
    }
    new = {name: one for name, one in present.items() if name not in files or name in gone}
    return Difference(new, sorted(gone), lacking, not reader)


def update_index(
    folder: Path, store: IndexStore, difference: Difference,
    retriever: Retriever, shortlist: Shortlist | None, apply: Map = map,
) -> None:  # fmt: skip
    """Bring an index up to date, with a progress bar on a terminal."""
    store.catalogue.set({"reader": ""})  # until the end
    store.catalogue.forget(difference.lacking)
    store.catalogue.remove(difference.gone)
    encode_files(folder, store, difference.new, retriever, shortlist, apply)
    store.tidy()
    store.catalogue.set({"reader": READER})


def encode_files(
    folder: Path, store: IndexStore, new: Mapping[str, State],
    retriever: Retriever, shortlist: Shortlist | None, apply: Map = map,
) -> None:  # fmt: skip
    """Encode files, a few at a time, and save what is made every now and then.

    Numbers are given in the order of names, so that it does not matter where work was cut.
    """
    known = {content: number for number, content in store.catalogue.photos().items()}
    numbers = count(store.catalogue.next_number())
    batch, saved = UnsavedPhotos(), time.monotonic()
    encode = partial(encode_photos, folder.resolve(), retriever, shortlist, known)
    try:
        with tqdm(total=len(new), desc="indexing", unit="photo", disable=None) as bar:
            for part, made in _in_parts(apply, encode, list(new)):
                for name, one in zip(part, made, strict=True):
                    if one.packed is not None and one.content not in known:
                        known[one.content] = number = next(numbers)
                        batch.records[number] = PhotoCodes(one.content, one.packed)
                        if one.described is not None:
                            batch.described[number] = one.described
                    state = NEVER if one.retry else new[name]
                    batch.files[name] = Entry(state, known.get(one.content), one.problem)
                bar.update(len(part))
                if time.monotonic() - saved > SAVE_SECONDS or len(batch.records) >= SHARD:
                    full, batch, saved = batch, UnsavedPhotos(), time.monotonic()
                    store.save(full)
    finally:  # who is interrupted keeps what is finished
        store.save(batch)


def _in_parts(
    apply: Map, function: Callable[[Sequence[str]], Any], names: Sequence[str]
) -> Iterator[tuple[Sequence[str], Any]]:
    """Names, a few at a time, and what a function makes of them, at most a shard's at once."""
    for at in range(0, len(names), SHARD):
        ends = range(at, min(at + SHARD, len(names)), READ_AT_ONCE)
        parts = [names[start : start + READ_AT_ONCE] for start in ends]
        yield from zip(parts, apply(function, parts), strict=True)


class EncodedFile(NamedTuple):
    """What was made of a file."""

    content: str = ""  # its hash
    packed: bytes | None = None  # codes of its photo; None if its content is known
    described: NDArray[Any] | None = None
    problem: str | None = None
    retry: bool = False  # whether that may end without a change of the file


def encode_photos(
    folder: Path, retriever: Retriever, shortlist: Shortlist | None,
    known: Collection[str], names: Sequence[str],
) -> list[EncodedFile]:  # fmt: skip
    """Read files and encode their photos, but not those whose content is known."""
    paths = [folder / name for name in names]
    # Threads that leave `read_image` in another order than they came leave warnings off.
    with warnings.catch_warnings(), ThreadPoolExecutor(READ_AT_ONCE) as threads:
        files, pictures = zip(*threads.map(partial(_read, known=known), paths), strict=True)
    fresh = {
        one.content: picture
        for one, picture in zip(files, pictures, strict=True)
        if picture is not None
    }
    made = {}
    for content, picture in fresh.items():
        features = retriever.encode_to_pack(picture)
        described = shortlist.describe(picture, features) if shortlist else None
        made[content] = EncodedFile(content, retriever.pack(features), described)
    return [made.get(one.content, one) for one in files]


def _read(path: Path, known: Collection[str]) -> tuple[EncodedFile, Picture | None]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        content = digest.hexdigest()
        return EncodedFile(content), None if content in known else read_image(path)
    except ImageError as error:
        return EncodedFile(problem=str(error)), None
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror or error})."
        return EncodedFile(problem=problem, retry=True), None
