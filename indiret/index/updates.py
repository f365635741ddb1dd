"""What has changed in a folder of photos since its index was made, and the encoding of what is new.

Names, sizes and times tell what has changed, without a file being opened. What seems new is read:
its hash tells whether it is a photo that is known under another name.

Chapter: *From pairs to collections*.
"""

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
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


class EncodedFile(NamedTuple):
    """What is kept of a file: the hash of its content, and codes and description if it is new."""

    content: str
    packed: bytes | None = None
    described: NDArray[Any] | None = None


class Difference(NamedTuple):
    """What has to be done for an index to be as its folder."""

    new: dict[str, State]  # files to read
    gone: list[str]  # files to forget; some of them are new, too
    lacking: set[int]  # photos to forget, since their codes or descriptions are lost


def find_changes(folder: Path, store: IndexStore) -> Difference:
    """What has changed in a folder; FileNotFoundError if there is none."""
    present = {}
    for path in list_folder(folder)[0]:
        state = NEVER
        with suppress(OSError):  # gone since it was listed, or a link to nowhere
            status = path.stat()
            state = State(status.st_size, status.st_mtime_ns)
        present[path.relative_to(folder).as_posix()] = state
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
    retriever: Retriever, shortlist: Shortlist | None, apply: Map = map,
) -> None:  # fmt: skip
    """Bring an index up to date, with a progress bar on a terminal."""
    store.catalogue.forget(difference.lacking)
    store.catalogue.remove(difference.gone)
    encode_files(folder, store, difference.new, retriever, shortlist, apply)
    store.catalogue.set({"reader": READER})
    store.tidy()


def encode_files(
    folder: Path, store: IndexStore, new: Mapping[str, State],
    retriever: Retriever, shortlist: Shortlist | None, apply: Map = map,
) -> None:  # fmt: skip
    """Encode files, a few at a time, and save what is made every now and then.

    Numbers are given in the order of names, so that it does not matter where work was cut. At most
    a shard's photos are handed at once to ``apply``, which may have them encoded by others.
    """
    known = {content: number for number, content in store.catalogue.photos().items()}
    number, names = store.catalogue.next_number(), list(new)
    parts = [names[at : at + READ_AT_ONCE] for at in range(0, len(names), READ_AT_ONCE)]
    batch, saved = UnsavedPhotos(), time.monotonic()
    with tqdm(total=len(names), desc="indexing", unit="photo", disable=None) as bar:
        for at in range(0, len(parts), SHARD // READ_AT_ONCE):
            some = parts[at : at + SHARD // READ_AT_ONCE]
            encode = partial(encode_photos, folder.resolve(), retriever, shortlist, known)
            for part, made in zip(some, apply(encode, some), strict=True):
                for name, one in zip(part, made, strict=True):
                    if isinstance(one, Exception):
                        state = new[name] if isinstance(one, ImageError) else NEVER
                        batch.files[name] = Entry(state, problem=str(one))
                        continue
                    if one.packed and one.content not in known:
                        batch.records[number] = PhotoCodes(one.content, one.packed)
                        if one.described is not None:
                            batch.described[number] = one.described
                        known[one.content] = number
                        number += 1
                    batch.files[name] = Entry(new[name], known[one.content])
                bar.update(len(part))
                if time.monotonic() - saved > SAVE_SECONDS or len(batch.records) >= SHARD:
                    store.save(batch)
                    batch, saved = UnsavedPhotos(), time.monotonic()
        store.save(batch)


def encode_photos(
    folder: Path, retriever: Retriever, shortlist: Shortlist | None,
    known: Collection[str], names: Sequence[str],
) -> list[EncodedFile | Exception]:  # fmt: skip
    """What a few files hold, or what is wrong with them; only photos not ``known`` are encoded."""
    with ThreadPoolExecutor(READ_AT_ONCE) as readers:
        found = list(readers.map(lambda name: _read(folder / name), names))
    read = [one for one in found if not isinstance(one, Exception)]
    fresh = {content: picture for content, picture in read if content not in known}
    encoded = retriever.encode_many(list(fresh.values()))
    made = {}
    for (content, picture), features in zip(fresh.items(), encoded, strict=True):
        described = shortlist.describe(picture, features) if shortlist else None
        made[content] = EncodedFile(content, retriever.pack(features), described)
    return [
        one if isinstance(one, Exception) else made.get(one[0], EncodedFile(one[0]))
        for one in found
    ]


def _read(path: Path) -> tuple[str, Picture] | Exception:
    """The hash and the picture of a file, or what is wrong with it."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return digest.hexdigest(), read_image(path)
    except (ImageError, OSError) as error:
        return error
