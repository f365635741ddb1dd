"""The Oxford benchmark's ground-truth files: four small texts for each query.

Chapter: *Data sets and their traps*.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from indiret.images import Box

ANSWER_KINDS = ("good", "ok", "junk")
OFFICIAL_PREFIX = "oxc1_"  # the benchmark's query files write it before each image's name
OFFICIAL_LAYOUT = (
    "images/*.jpg and groundtruth/<landmark>_<number>_{query,good,ok,junk}.txt, as the Oxford "
    "benchmark has them"
)


@dataclass(frozen=True)
class Query:
    """One question to the database, and its answers by name.

    Attributes
    ----------
    name : str
        Such as ``all_souls_1``.
    image : str
        The photo that asks.
    box : tuple of float or None
        ``(x1, y1, x2, y2)`` in pixels; None for the whole photo.
    landmark : str
        What the photo shows.
    good, ok, junk : frozenset of str
        Database images: clearly visible, partly visible, hardly visible. Junk counts neither for
        nor against.

    Examples
    --------
    >>> query = Query("mill_1", "mill_000001", None, "mill", frozenset({"mill_000001"}))
    >>> sorted(query.positives)
    ['mill_000001']
    """

    name: str
    image: str
    box: Box | None
    landmark: str
    good: frozenset[str] = frozenset()
    ok: frozenset[str] = frozenset()
    junk: frozenset[str] = frozenset()

    @property
    def positives(self) -> frozenset[str]:
        """The images that answer the query: good and ok."""
        return self.good | self.ok


def read_query(path: Path) -> Query:
    """Read ``<name>_query.txt`` and the three lists beside it.

    The query's line is ``image x1 y1 x2 y2``, the image with or without the benchmark's ``oxc1_``;
    a list has one image a line. The official files repeat one name, which does no harm.

    Parameters
    ----------
    path : Path
        The query's file, ``<landmark>_<number>_query.txt``.

    Returns
    -------
    Query
        As written; nothing is compared with the photos.

    Raises
    ------
    ValueError
        If a file is not as described, or lists an image as more than one of good, ok, junk.
    FileNotFoundError
        If a list is missing.

    Examples
    --------
    >>> import tempfile
    >>> texts = {"query": "oxc1_mill_000001 5 5 60 40", "good": "mill_000001", "ok": "", "junk": ""}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for kind, text in texts.items():
    ...         path = Path(folder, f"mill_1_{kind}.txt")
    ...         size = path.write_text(text)
    ...     query = read_query(Path(folder, "mill_1_query.txt"))
    >>> query.landmark, query.image, query.box
    ('mill', 'mill_000001', (5.0, 5.0, 60.0, 40.0))
    """
    name = path.name.removesuffix("_query.txt")
    landmark, _, number = name.rpartition("_")
    if not landmark or not number.isdecimal():
        raise ValueError(f"{path} must be named <landmark>_<number>_query.txt.")
    words = _read_text(path).split()
    try:
        image, *edges = words
        x1, y1, x2, y2 = map(float, edges)
    except ValueError as error:
        raise ValueError(
            f"{path} must hold one line, an image's name and its box: name x1 y1 x2 y2; it holds "
            f"{' '.join(words)[:100]!r}."
        ) from error
    good, ok, junk = (
        frozenset(_read_names(path.with_name(f"{name}_{kind}.txt"))) for kind in ANSWER_KINDS
    )
    if twice := (good & ok) | (good & junk) | (ok & junk):
        raise ValueError(
            f"The ground truth of {name} in {path.parent} lists {min(twice)} as more than one of "
            f"{', '.join(ANSWER_KINDS)}; keep one."
        )
    image = image.removeprefix(OFFICIAL_PREFIX)
    return Query(name, image, (x1, y1, x2, y2), landmark, good, ok, junk)


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}; each query needs {OFFICIAL_LAYOUT} (they may be empty)."
        )
    names = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    for name in names:
        if len(name.split()) > 1:
            raise ValueError(f"{path} must hold one image name a line, not {name[:100]!r}.")
    return names


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8.") from error
