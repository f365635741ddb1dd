"""What has changed in a folder of photos since its index was made, and the encoding of what is new.

Names, sizes and times tell what has changed, without a file being opened. What seems new is read:
its hash tells whether it is a photo that is known under another name.

Chapter: *From pairs to collections*.
"""

import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
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
    number, names = store.catalogue.next_number(), list(new)
    batch, saved = UnsavedPhotos(), time.monotonic()
    bar = tqdm(total=len(names), desc="indexing", unit="photo", disable=None)
    with bar, ThreadPoolExecutor(READ_AT_ONCE) as readers:
        for at in range(0, len(names), READ_AT_ONCE):
            part = names[at : at + READ_AT_ONCE]
            contents: dict[str, str] = {}
            fresh: dict[str, Picture] = {}
            for name, read in zip(
                part, readers.map(lambda n: _read(folder / n), part), strict=True
            ):
                if isinstance(read, Exception):
                    state = new[name] if isinstance(read, ImageError) else NEVER
                    batch.files[name] = Entry(state, problem=str(read))
                    continue
                contents[name], picture = read
                if contents[name] not in known:
                    fresh[contents[name]] = picture
            encoded = retriever.encode_many(list(fresh.values()))
            for (content, picture), features in zip(fresh.items(), encoded, strict=True):
                batch.records[number] = PhotoCodes(content, retriever.pack(features))
                if shortlist:
                    batch.described[number] = shortlist.describe(picture, features)
                known[content] = number
                number += 1
            for name, content in contents.items():
                batch.files[name] = Entry(new[name], known[content])
            bar.update(len(part))
            if time.monotonic() - saved > SAVE_SECONDS or len(batch.records) >= SHARD:
                store.save(batch)
                batch, saved = UnsavedPhotos(), time.monotonic()
        store.save(batch)


def _read(path: Path) -> tuple[str, Picture] | Exception:
    """The hash and the picture of a file, or what is wrong with it."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return digest.hexdigest(), read_image(path)
    except (ImageError, OSError) as error:
        return error
