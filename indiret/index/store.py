"""All that lies on disk of a collection: catalogue, codes, segments, and what they were made with.

What a batch adds is written in one order, codes, descriptions, catalogue, and the catalogue alone
says what is there. So whoever is killed leaves nothing that counts, and what was lost or damaged
shows as photos that lack something.

Chapter: *From pairs to collections*.
"""

import shutil
import warnings
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from indiret.datasets.folders import INDEX_MARK
from indiret.datasets.writing import hold_lock
from indiret.index.catalogue import Catalogue, Entry
from indiret.index.segments import SegmentStore
from indiret.index.shards import CodeStore, DamagedError, PhotoCodes
from indiret.index.shortlist import Shortlist

FORMAT = "2"  # of an index; others are refused
CATALOGUE = "catalogue.sqlite"


@dataclass
class UnsavedPhotos:
    """What has been made of photos, by number, and of files, and is not on disk yet."""

    records: dict[int, PhotoCodes] = field(default_factory=dict)
    described: dict[int, NDArray[Any]] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)


class IndexStore:
    """An index on disk.

    Raises `DamagedError` or OSError as `indiret.index.catalogue.Catalogue`.
    """

    def __init__(self, folder: Path, shortlist: Shortlist | None = None):
        self.folder = folder
        self.catalogue = Catalogue(folder / CATALOGUE)
        self.codes = CodeStore(folder / "codes")
        self.segments = SegmentStore(folder / "segments", shortlist) if shortlist else None

    def close(self) -> None:
        """Close the catalogue."""
        self.catalogue.close()

    def save(self, batch: UnsavedPhotos) -> None:
        """Write what was made of some photos."""
        known = self.catalogue.photos()
        self.codes.add(batch.records, known)
        if self.segments:
            self.segments.add(batch.described, known)
        photos = {number: record.content for number, record in batch.records.items()}
        self.catalogue.add(photos, batch.files)

    def lacking(self) -> set[int]:
        """Photos whose codes or description are not there, as far as directories tell."""
        photos = self.catalogue.photos()
        stored = photos.items() & self.codes.stored()
        whole = {number for number, _ in stored}
        if self.segments:
            whole &= self.segments.numbers()
        return photos.keys() - whole

    def damaged(self) -> set[int]:
        """Photos whose codes are not there or not whole: all codes are read."""
        found = set()
        for number, content in self.catalogue.photos().items():
            try:
                self.codes.read(number, content)
            except DamagedError:
                found.add(number)
        return found

    def tidy(self) -> None:
        """Forget photos without a file, and win back their space where they are many."""
        self.catalogue.prune()
        known = self.catalogue.photos()
        self.codes.compact(known)
        if self.segments:
            self.segments.compact(known, self.catalogue.next_number())
        for part in self.folder.glob("*/.*.part"):  # of one who was killed as it wrote
            part.unlink()


def prepare_index(folder: Path, settings: Mapping[str, str], cache: bool) -> None:
    """See that a folder holds an index with these settings, an empty one if there was none.

    One with other settings, or what is no index, is a ValueError; in a ``cache`` it is made again,
    as is what is damaged. Raises OSError if the folder cannot be written.
    """
    with suppress(DamagedError):
        if _holds(folder, settings, cache):
            return
    with hold_lock(folder / ".lock", str(folder)):
        try:
            if _holds(folder, settings, cache):  # another process has made it meanwhile
                return
        except DamagedError:
            warnings.warn(f"{folder} has a damaged catalogue; it is made again.", stacklevel=3)
        for path in (*folder.glob(f"{CATALOGUE}*"), folder / "codes", folder / "segments"):
            shutil.rmtree(path, ignore_errors=True)  # which leaves files
            path.unlink(missing_ok=True)
        (folder / INDEX_MARK).touch()
        with closing(Catalogue(folder / CATALOGUE)) as catalogue:
            catalogue.set(settings)


def _holds(folder: Path, settings: Mapping[str, str], cache: bool) -> bool:
    """Whether a folder is an index with these settings; raises as `prepare_index`.

    Raises `DamagedError` if its catalogue is not whole.
    """
    if not (folder / INDEX_MARK).exists():
        if not cache and folder.exists() and not _is_empty(folder):
            raise ValueError(
                f"{folder} is no folder of an index, and not empty; name an empty or a new one."
            )
        return False
    if not (folder / CATALOGUE).is_file():
        return False
    with closing(Catalogue(folder / CATALOGUE)) as catalogue:
        catalogue.check()
        found = catalogue.settings()
    if "format" not in found:  # who made it was killed before it had settings
        return False
    differs = [name for name, value in settings.items() if found.get(name, value) != value]
    if differs and not cache:
        name = differs[0]
        raise ValueError(
            f"{folder} holds an index whose {name} is {found[name][:20]}, not "
            f"{settings[name][:20]}; choose what it was made with, name another folder, or delete "
            "this one."
        )
    folders = folder / "codes", folder / "segments"
    files = *folder.glob("codes/*.codes"), *folder.glob("segments/*-*")
    misplaced = any(map(Path.is_file, folders)) or any(map(Path.is_dir, files))
    return not differs and not misplaced


def _is_empty(folder: Path) -> bool:
    """Whether a folder has no files but those of a lock."""
    return folder.is_dir() and all(path.name.startswith(".lock") for path in folder.iterdir())
