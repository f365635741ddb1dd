"""A folder that is searched in memory, by methods whose features cannot be kept on disk.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection as Names
from contextlib import suppress
from pathlib import Path
from typing import Any

from indiret.datasets import load_dataset
from indiret.images import Picture
from indiret.retrieval import Hit, IndexedDatabase, Retriever, index_database, sort_hits


class MemoryCollection:
    """Searches as `indiret.index.Collection`, but encodes every photo anew, and judges all at once.

    So for methods that look at the whole database, too. Raises ValueError if the retriever is not
    shown pictures.

    Examples
    --------
    >>> from indiret.datasets import TOYTOWN
    >>> from indiret.retrieval import build_retriever
    >>> photos = TOYTOWN / "validation" / "images"
    >>> collection = MemoryCollection(photos, build_retriever("thumbnail"))
    >>> collection.update()
    >>> len(collection.problems()), len(collection.database.features)
    (0, 142)
    """

    def __init__(self, folder: Path, retriever: Retriever):
        if retriever.precomputed is not None:
            raise ValueError(
                "exported features are those of one data set, by name; choose a method that looks "
                "at photos, such as plane-net."
            )
        self.folder, self.retriever = folder, retriever
        self.dataset = load_dataset("folder", folder)
        self.database = IndexedDatabase()

    def update(self) -> None:
        """Encode all photos."""
        self.database = index_database(self.retriever, self.dataset)

    def problems(self) -> dict[str, str]:
        """Why files cannot be read, by name."""
        return dict(self.dataset.skipped) | self.database.skipped

    def names_of(self, path: Path) -> list[str]:
        """The names that a file has in the folder."""
        found = []
        for name, other in self.dataset.images.items():
            with suppress(OSError):  # gone since it was listed
                if other.samefile(path):
                    found.append(name)
        return found

    def features(self, name: str) -> Any:
        """What the retriever made of a photo."""
        return self.database.features[name]

    def rank(self, picture: Picture, features: Any, without: Names[str] = ()) -> list[Hit]:
        """All photos but some, for an encoded query, best first."""
        names = [name for name in self.database.features if name not in without]
        if not names:
            return []
        scores = self.retriever.score(features, [self.database.features[one] for one in names])
        return sort_hits(self.retriever, names, scores)
