"""Names as people write them: which photo a line of a list, or an entry of a file, means.

The same photo is ``mill_000001`` in one list, ``oxc1_mill_000001`` in the benchmark's,
``images\\\\mill_000001.JPG`` from Windows, and has its accents in two characters on a Mac.

Chapter: *Reproducing the tables*.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from indiret.images import EXTENSIONS

OFFICIAL_PREFIX = "oxc1_"  # the benchmark's query files write it before each image's name


class NameIndex:
    """The names of photos, to be found by what people write for them.

    Examples
    --------
    >>> index = NameIndex(["mill_1", "café_2"])
    >>> index.match("oxc1_mill_1.JPG"), index.match("cafe\\u0301_2"), index.match("tower")
    (('mill_1',), ('café_2',), ())
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._tables: tuple[dict[str, list[str]], ...] = tuple(defaultdict(list) for _ in range(3))
        self._endings: dict[str, list[str]] = defaultdict(list)
        for name in names:
            forms = _forms(name)
            for table, form in zip(self._tables, forms, strict=True):
                table[form].append(name)
            for ending in _endings(forms[-1]):
                self._endings[ending].append(name)

    def match(self, written: str, anywhere: bool = False) -> tuple[str, ...]:
        """All photos that this may mean: none, one, or several where it is not clear.

        The name as it is comes first, then without extension and prefix, then without regard to how
        accents are written; with ``anywhere``, folders that only one of the two names has may stand
        before it.
        """
        forms = _forms(written)
        for table, form in zip(self._tables, forms, strict=True):
            if form in table:
                return tuple(table[form])
        if anywhere:
            for ending in _endings(forms[-1]):
                if ending in self._tables[-1]:
                    return tuple(self._tables[-1][ending])
            return tuple(self._endings.get(forms[-1], ()))
        return ()


def _forms(name: str) -> tuple[str, str, str]:
    """The name as it is, what of it is the photo's own, and that in one Unicode form."""
    *folders, file = (part for part in f"./{name}".replace("\\", "/").split("/") if part != ".")
    stem = file.removeprefix(OFFICIAL_PREFIX)
    while os.path.splitext(stem)[1].lower() in EXTENSIONS:  # masks are named mill.jpg.png, too
        stem = os.path.splitext(stem)[0]
    plain = "/".join((*folders, stem))
    return name, plain, composed(plain)


def composed(name: str) -> str:
    """A name in the one form in which names are compared: NFC, bytes that are no UTF-8 as Latin 1.

    Examples
    --------
    >>> composed("cafe\\u0301") == composed("caf\\udce9") == "café"
    True
    """
    latin = "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in name)
    return unicodedata.normalize("NFC", latin)


def _endings(name: str) -> list[str]:
    """What is left of a path when folders are taken from its front, one after the other."""
    parts = name.split("/")[-50:]
    return ["/".join(parts[start:]) for start in range(1, len(parts))]
