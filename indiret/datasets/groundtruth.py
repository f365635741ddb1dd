"""Ground truth of the Oxford and Paris benchmarks: four small texts a query, or one pickle.

Chapter: *Reproducing the tables*.
"""

import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from indiret.datasets.dataset import Query
from indiret.datasets.files import read_text, reason
from indiret.datasets.names import OFFICIAL_PREFIX, composed
from indiret.datasets.pickles import read_plain_pickle

ANSWER_KINDS = ("good", "ok", "junk")
OFFICIAL_LAYOUT = (
    "images/*.jpg and groundtruth/<landmark>_<number>_{query,good,ok,junk}.txt, as the Oxford "
    "benchmark has them"
)
# What there is to know of each, which the file explains.
TABLES = tomllib.loads(
    (Path(__file__).parents[1] / "data" / "benchmarks.toml").read_text(encoding="utf-8")
)


class Benchmark(NamedTuple):
    """What a benchmark holds at full size."""

    photos: int  # in the database
    landmarks: tuple[str, ...]  # of each query, in the pickle's order
    revisited: bool = False
    corrupt: frozenset[str] = frozenset()


def _benchmark(name: str) -> Benchmark:
    tables = TABLES["benchmarks"]
    table = tables[tables[name].get("of", name)] | tables[name]
    again, corrupt = table.get("again", ()), table.get("corrupt", ())
    landmarks = *sorted(5 * table["landmarks"]), *sorted(3 * again)
    return Benchmark(table["photos"], landmarks, bool(again), frozenset(corrupt))


BENCHMARKS = {name: _benchmark(name) for name in TABLES["benchmarks"]}


def read_query(path: Path) -> Query:
    """Read ``<landmark>_<number>_query.txt`` and the three lists beside it.

    The query's line is ``image x1 y1 x2 y2``, a list has one image a line; names of photos come
    back as they are written, that of the query in NFC (`indiret.datasets.names`). Raises
    FileNotFoundError if a list is missing, and ValueError if a file is not of this form.
    """
    name = composed(path.name.removesuffix("_query.txt"))
    landmark, _, number = name.rpartition("_")
    if not landmark or not number.isdecimal():
        raise ValueError(f"{path} must be named <landmark>_<number>_query.txt.")
    words = read_text(path, errors="surrogateescape").split()
    try:
        image, *edges = words
        x1, y1, x2, y2 = map(float, edges)
    except ValueError as error:
        raise ValueError(
            f"{path} must hold one line, an image's name and its box: name x1 y1 x2 y2; it holds "
            f"{' '.join(words)[:100]!r}."
        ) from error
    beside = {composed(one.name): one for one in path.parent.iterdir()}
    names = (f"{name}_{kind}.txt" for kind in ANSWER_KINDS)
    lists = [_read_names(beside.get(one, path.with_name(one))) for one in names]
    image = image.removeprefix(OFFICIAL_PREFIX)
    return Query(name, image, (x1, y1, x2, y2), landmark, *lists)


def rename(query: Query, names: Mapping[str, str], place: Path) -> Query:
    """The query with the photos' own names for those that were written.

    Raises ValueError if a photo is then more than one of good, ok, junk.
    """
    lists = (query.good, query.ok, query.junk)
    good, ok, junk = (frozenset(names.get(name, name) for name in written) for written in lists)
    if twice := (good & ok) | (good & junk) | (ok & junk):
        raise ValueError(
            f"The ground truth of {query.name} in {place} lists {min(twice)} as more than one of "
            f"{', '.join(ANSWER_KINDS)}; keep one."
        )
    image = names.get(query.image, query.image)
    return replace(query, image=image, good=good, ok=ok, junk=junk)


def read_pickled(path: Path, name: str) -> tuple[list[str], list[Query]]:
    """Read ``gnd_<name>.pkl``, the form in which the revisited benchmarks are published.

    The pickle holds ``imlist`` (the database), ``qimlist`` (a photo for each query) and ``gnd``:
    for each query ``bbx`` and lists of places in ``imlist``, ``ok`` and ``junk``, or of the
    revisited sets ``easy``, ``hard`` and ``junk``. Nothing in it is executed.

    Returns the database's names, and the queries: easy and hard answers are ``good`` and ``ok``, as
    in the medium setup; ``ok`` of the original sets, which do not tell the two apart, is ``good``.
    Raises ValueError if the file is not of this form, or has other counts than the benchmark.
    """
    benchmark = BENCHMARKS[name]
    data = read_plain_pickle(path)
    expected = f"{path} is not the ground truth of {name}: "
    if not isinstance(data, dict) or not {"imlist", "qimlist", "gnd"} <= data.keys():
        raise ValueError(expected + "it must hold imlist, qimlist and gnd.")
    asking = len(benchmark.landmarks)
    for field, count in (("imlist", benchmark.photos), ("qimlist", asking), ("gnd", asking)):
        if not isinstance(data[field], list) or len(data[field]) != count:
            raise ValueError(f"{expected}{field} must be a list of {count}.")
    images, photos = data["imlist"], data["qimlist"]
    for text in (*images, *photos):
        if not isinstance(text, str) or not text or set(text) & set("/\\\0") or text[0] == ".":
            raise ValueError(f"{expected}{reprlib.repr(text)} cannot be the name of a photo.")
    if len(set(images)) < len(images):
        raise ValueError(expected + "imlist names a photo twice.")
    queries: list[Query] = []
    kinds = ("easy", "hard", "junk") if benchmark.revisited else ("ok", "junk")
    for place, (photo, truth) in enumerate(zip(photos, data["gnd"], strict=True)):
        landmark = benchmark.landmarks[place]
        query = f"{landmark}_{1 + benchmark.landmarks[:place].count(landmark)}"
        try:
            queries.append(_pickled_query(query, photo, landmark, truth, images, kinds))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{expected}the entry of {query} must hold bbx, four numbers, and "
                f"{', '.join(kinds)}, lists of places in imlist without a place twice "
                f"({reason(error)})."
            ) from error
    return images, queries


def _pickled_query(
    name: str, photo: str, landmark: str, truth: Any, images: list[str], kinds: Sequence[str]
) -> Query:
    x1, y1, x2, y2 = map(float, truth["bbx"])
    if sum(len(truth[kind]) for kind in kinds) > len(images):  # one long list may stand there often
        raise ValueError("a place stands there twice")
    places = [place for kind in kinds for place in truth[kind]]
    for place in places:
        if type(place) is not int or not 0 <= place < len(images):
            raise ValueError(f"{reprlib.repr(place)} is no place")
    if len(set(places)) < len(places):
        raise ValueError("a place stands there twice")
    good, *hard, junk = (frozenset(images[place] for place in truth[kind]) for kind in kinds)
    return Query(name, photo, (x1, y1, x2, y2), landmark, good, frozenset().union(*hard), junk)


def _read_names(path: Path) -> frozenset[str]:
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file {path}; each query needs {OFFICIAL_LAYOUT} (they may be empty)."
        )
    lines = read_text(path, errors="surrogateescape").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        if len(name.split()) > 1:
            raise ValueError(f"{path} must hold one image name a line, not {name[:100]!r}.")
    return frozenset(names)
