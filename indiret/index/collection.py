"""A folder of photos, encoded once and searched again and again.

A search asks the shortlist for a few photos, which the retriever scores roughly. It then verifies
those that are high in both lists, at most `indiret.retrieval.LEAST` at once, so that a pair's score
is that pair's alone. The best answers ask the shortlist once more.

Chapter: *From pairs to collections*.
"""

import hashlib
import os
import warnings
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image, ImageOps

from indiret.baselines.descriptors import DescriptorRetriever
from indiret.baselines.reranking import reciprocal_ranks
from indiret.datasets.folders import cache_folder
from indiret.datasets.writing import hold_lock
from indiret.images import Box, Picture, crop, read_image
from indiret.index.catalogue import Photo, State
from indiret.index.cluster import Map, cluster_map, dask_client
from indiret.index.expansion import ask_again, best_answers
from indiret.index.segments import SegmentStore
from indiret.index.shards import CodeStore, DamagedError
from indiret.index.shortlist import Shortlist, build_shortlist
from indiret.index.store import CATALOGUE, FORMAT, IndexStore, prepare_index
from indiret.index.updates import find_changes, update_index
from indiret.retrieval import LEAST, UNJUDGED, Hit, Retriever, Scores, build_retriever, sort_hits

SHORTLISTED = 200  # photos that a shortlist names
NO_SHORTLIST = "none"
MOST_VERIFIED = 40  # of them, the best, that the retriever judges
TURNED_VERIFIED = 60  # where they are asked for in all turns, which rough scores do not know
MOST_NEW = 40  # judged, too, since an answer finds them, and the query did not
ASKED_TURNS = 12  # in which a shortlist is asked for a query that may lie turned
TURNED_WEIGHT = 0.7  # of what it scores turned beside upright: few photos lie turned
FEW = 500  # photos of a collection that are all judged: in a few seconds, and nothing is missed
SCORED_AT_ONCE = 50  # photos that are scored roughly at once, of one shape where they are many


class Changes(NamedTuple):
    """What an update found."""

    added: int  # files that are new, or have changed
    removed: int  # files that are gone


class Stats(NamedTuple):
    """The size of a collection."""

    files: int
    photos: int  # that differ, and can be read
    problems: int  # files that cannot be read
    codes: int  # bytes
    segments: int  # bytes
    catalogue: int  # bytes


class Collection:
    """The photos of a folder and, in another folder, all that is kept of them.

    Examples
    --------
    >>> import shutil, tempfile
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> folder = Path(tempfile.mkdtemp())
    >>> for path in [*town.images.values()][:4]:
    ...     copy = shutil.copy(path, folder)
    >>> with Collection.open(folder, out=folder / "index") as collection:
    ...     collection.update()
    ...     len(collection.search(copy, top=3))
    Changes(added=4, removed=0)
    3
    """

    def __init__(
        self, folder: Path, index: Path, retriever: Retriever, shortlist: Shortlist | None = None
    ):
        self.folder, self.retriever, self.shortlist = folder, retriever, shortlist
        self.store = IndexStore(index, shortlist)
        #: What does the parts of an update and of a search: `map`, or a cluster's.
        self.map: Map = map
        #: Whether the shortlist ``pixels`` is asked in all turns, at `ASKED_TURNS` times its cost.
        self.turned = False
        self._cluster = ExitStack()

    @classmethod
    def open(
        cls, folder: str | Path, method: str = "plane-net-turned", shortlist: str | None = None,
        out: str | Path | None = None, retriever: Retriever | None = None,
    ) -> Self:  # fmt: skip
        """The collection of a folder as it was last, empty at first; see `update`.

        ``method`` is a retriever's name, and ``retriever`` what `build_retriever` made of it, if
        that is at hand. ``shortlist`` is one's name, or ``none`` to verify all photos; if it is not
        given, that is `default_shortlist`. What is kept lies in ``out``, or in the user's cache.

        Raises ValueError if a name is not known, what the method encodes cannot be kept, or ``out``
        holds something else: the index of another method or version, or what is no index.
        """
        folder = Path(folder)
        retriever = retriever or build_retriever(method)
        shortlist = shortlist or default_shortlist(retriever)
        listing = None if shortlist == NO_SHORTLIST else build_shortlist(shortlist)
        settings = {
            "format": FORMAT,
            "method": method,
            "shortlist": shortlist,
            "encoder": retriever.fingerprint(),
            "shortlist's fit": listing.fingerprint() if listing else "",
        }
        whole = os.path.realpath(folder)
        key = hashlib.blake2b(os.fsencode(f"{whole}\0{method}\0{shortlist}"), digest_size=8)
        index = Path(out).resolve() if out else cache_folder() / "collections" / key.hexdigest()
        if str(index) == whole:
            raise ValueError(f"{index} holds the photos; name another folder for their index.")
        prepare_index(index, settings, cache=out is None)
        collection = cls(folder, index, retriever, listing)
        catalogue = collection.store.catalogue
        if catalogue.settings().get("folder") != whole:
            catalogue.doubt()  # equal names, sizes and times tell nothing of another folder
            catalogue.set({"folder": whole})
        return collection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that are open, and leave a cluster."""
        self.store.close()
        self._cluster.close()

    def use_cluster(self, scheduler: str) -> None:
        """Have a Dask cluster encode, search and verify; raises as `indiret.index.dask_client`.

        ``scheduler`` is its address, or ``"local"`` to start one here. All of its machines see the
        folder and the index under the same paths.
        """
        client = self._cluster.enter_context(dask_client(scheduler, os.cpu_count() or 1))
        self.map = partial(cluster_map, client)

    def update(self) -> Changes:
        """Encode what is new in the folder, and forget what is gone; goes on where it was killed.

        Another process that updates the same index is waited for. Raises FileNotFoundError if there
        is no folder, and OSError if the index cannot be written.
        """
        if not any(find_changes(self.folder, self.store)):
            return Changes(0, 0)
        with hold_lock(self.store.folder / ".lock", str(self.store.folder)):
            difference = find_changes(self.folder, self.store)  # what another one left to do
            update_index(
                self.folder, self.store, difference, self.retriever, self.shortlist, self.map
            )
        removed = [name for name in difference.gone if name not in difference.new]
        return Changes(len(difference.new), len(removed))

    def search(
        self, query: str | Path | Picture, top: int = 10, box: Box | None = None
    ) -> list[Hit]:
        """The photos most like a query, a file or a picture (H, W, 3), best first.

        With a ``box`` (x1, y1, x2, y2), in pixels, a part of it is searched for. Raises as
        `indiret.images.read_image` and `indiret.images.crop`.
        """
        picture = query if isinstance(query, np.ndarray) else read_image(query)
        picture = crop(picture, box) if box else picture
        return self.rank(picture, self.retriever.encode_query(picture))[:top]

    def rank(self, picture: Picture, features: Any, without: Names[str] = ()) -> list[Hit]:
        """All photos but some that are named for a query's picture and its `encode_query`.

        Those that were not verified come last, unjudged. Photos whose codes are damaged are encoded
        again.
        """
        try:
            hits = self._rank(picture, features)
        except DamagedError:  # or another process has just removed the photo
            try:
                hits = self._rank(picture, features)
            except DamagedError as error:
                warnings.warn(f"{error} What is damaged is encoded again.", stacklevel=2)
                self._repair()
                hits = self._rank(picture, features)
        return [hit for hit in hits if hit.name not in without]

    def features(self, name: str) -> Any:
        """What the retriever keeps of a photo, by the name of its file; KeyError if it has none."""
        return self.retriever.unpack(self.store.codes.read(*self.store.catalogue.photo_of(name)))

    def photos(self) -> list[list[str]]:
        """The photos that can be found, each by the names of its copies."""
        catalogue = self.store.catalogue
        return [photo.names for photo in catalogue.find(catalogue.numbers()).values()]

    def names_of(self, path: str | Path) -> list[str]:
        """The names that a file has in the folder; FileNotFoundError if it is not there."""
        status = os.stat(path)
        found = []
        for name in self.store.catalogue.alike(State(status.st_size, status.st_ctime_ns)):
            with suppress(OSError):  # gone since the update
                if os.path.samefile(self.folder / name, path):
                    found.append(name)
        return found

    def problems(self) -> dict[str, str]:
        """Why files cannot be read, by name."""
        return self.store.catalogue.problems()

    def stats(self) -> Stats:
        """How many photos there are, and how much is kept of them."""
        index, catalogue = self.store.folder, self.store.catalogue
        sizes = [
            sum(path.stat().st_size for path in index.glob(pattern))
            for pattern in ("codes/*", "segments/*", CATALOGUE)
        ]
        counts = len(catalogue.files()), len(catalogue.numbers()), len(catalogue.problems())
        return Stats(*counts, *sizes)

    def _repair(self) -> None:
        """Look at all codes, and encode again what is not whole."""
        with hold_lock(self.store.folder / ".lock", str(self.store.folder)):
            self.store.catalogue.forget(self.store.damaged())
        self.update()

    def _rank(self, picture: Picture, features: Any) -> list[Hit]:
        catalogue, segments = self.store.catalogue, self.store.segments
        numbers = catalogue.numbers(FEW + 1 if segments else -1)
        if segments and len(numbers) > FEW:
            numbers, scores, photos = self._ask_shortlist(segments, picture, features)
        else:
            photos = catalogue.find(numbers)
            scores = self._scores(features, numbers, photos)
        rest = UNJUDGED - np.arange(len(numbers) - len(scores), dtype=np.float64)
        scores = np.concatenate([scores, rest])
        names = [name for number in numbers for name in photos[number].names]
        copies = [len(photos[number].names) for number in numbers]
        return sort_hits(self.retriever, names, scores.repeat(copies))

    def _ask_shortlist(
        self, segments: SegmentStore, picture: Picture, features: Any
    ) -> tuple[list[int], Scores, dict[int, Photo]]:
        """Photos by number, those that were judged first, and the scores of these."""
        turns = ASKED_TURNS if self.turned else 1
        asked = turn_query(segments.shortlist, picture, features, turns)
        found = search_turned(segments, asked, self.map)
        photos = self.store.catalogue.find(found)
        numbers = [number for number in found if number in photos][:SHORTLISTED]
        if self.turned:
            judged = numbers[:TURNED_VERIFIED]
        else:
            rough = self._scores(features, numbers, photos, rough=True)
            numbers = by_both_ranks(numbers, rough)
            judged = numbers[:MOST_VERIFIED]
        scores = self._scores(features, judged, photos)
        answers = best_answers(judged, scores)
        files = [self.folder / photos[number].names[0] for number in answers]
        found = ask_again(segments, files, SHORTLISTED, self.map)
        photos |= self.store.catalogue.find(found)
        new = [one for one in found if one in photos and one not in numbers][:MOST_NEW]
        scores = np.concatenate([scores, self._scores(features, new, photos)])
        return [*judged, *new, *numbers[len(judged) :]], scores, photos

    def _scores(
        self,
        query: Any,
        numbers: Sequence[int],
        photos: Mapping[int, Photo],
        rough: bool = False,
    ) -> Scores:
        """Scores of photos by their numbers, in parts that are done beside one another.

        Photos of one shape come in one part where they can, which saves time.
        """
        order = np.argsort([self.store.codes.size(number) for number in numbers], kind="stable")
        pairs = [(numbers[place], photos[numbers[place]].content) for place in order.tolist()]
        size = SCORED_AT_ONCE if rough else LEAST
        parts = [pairs[at : at + size] for at in range(0, len(pairs), size)]
        score = partial(score_photos, self.retriever, self.store.codes, query, rough)
        apply = map_in_threads if self.map is map else self.map
        scores = np.empty(len(numbers))
        scores[order] = np.concatenate([np.empty(0), *apply(score, parts)])
        return scores


def by_both_ranks(listed: Sequence[int], rough: Scores) -> list[int]:
    """Photos of a shortlist, best first, ordered by their ranks in it and by rough scores.

    Examples
    --------
    >>> by_both_ranks([7, 8, 9], np.array([0.0, 2.0, 1.0]))
    [8, 7, 9]
    """
    ranks = reciprocal_ranks(-np.arange(len(listed), dtype=np.float64)) + reciprocal_ranks(rough)
    return [listed[place] for place in np.argsort(-ranks, kind="stable")]


def turn_query(shortlist: Shortlist, picture: Picture, features: Any, turns: int) -> Iterator[Any]:
    """A query as a shortlist is asked for it, in so many turns evenly round the circle."""
    yield shortlist.describe_query(picture, features)
    if turns == 1:
        return
    mean = tuple(picture.mean((0, 1)).astype(int).tolist())
    square = ImageOps.pad(Image.fromarray(picture), (max(picture.shape),) * 2, color=mean)
    for number in range(1, turns):
        turned = square.rotate(360 * number / turns, Image.Resampling.BILINEAR, fillcolor=mean)
        yield shortlist.describe_query(np.asarray(turned), None)


def search_turned(segments: SegmentStore, queries: Iterable[Any], apply: Map) -> list[int]:
    """The numbers of the photos most like a query in any of its turns, best first."""
    best: dict[int, float] = {}
    for turn, query in enumerate(queries):
        numbers, scores = segments.search(query, SHORTLISTED, apply)
        weighted = scores * (TURNED_WEIGHT if turn else 1)
        for number, score in zip(numbers.tolist(), weighted.tolist(), strict=True):
            best[number] = max(score, best.get(number, score))
    return sorted(best, key=lambda number: (-best[number], number))


def map_in_threads(function: Map, parts: Iterable[Any]) -> Iterator[Any]:
    """As `map`, with a thread for each processor."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(function, parts)


def default_shortlist(retriever: Retriever) -> str:
    """The shortlist of a retriever: descriptors need none, since they are compared at once.

    Examples
    --------
    >>> default_shortlist(build_retriever("plane-net"))
    'pixels'
    """
    return NO_SHORTLIST if isinstance(retriever, DescriptorRetriever) else "pixels"


def score_photos(
    retriever: Retriever,
    codes: CodeStore,
    query: Any,
    rough: bool,
    photos: Sequence[tuple[int, str]],
) -> Scores:
    """Scores, or rough ones, of an encoded query against a few photos by number and content.

    Raises `DamagedError` if the codes of one are not there, or damaged.
    """
    score = retriever.score_roughly if rough else retriever.score
    return score(query, [retriever.unpack(codes.read(*photo)) for photo in photos])
