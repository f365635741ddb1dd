"""A data set for retrieval: photos, queries with their boxes, and which photos answer them.

Chapter: *Ranking and honest evaluation*.
"""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indiret.datasets.files import MAX_MASK, read_bytes, reason
from indiret.datasets.names import NameIndex
from indiret.datasets.regions import PhotoRegions, Region, check_shape, read_regions, region_mask
from indiret.datasets.toytown import Geometry, read_geometry
from indiret.images import Box, ImageError, Picture, crop, image_size, pixel_box, read_image

GONE = ImageError, OSError  # of a photo that is broken, or not there any more
_Name = TypeVar("_Name")
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Query:
    """A query and its answers by name: the landmark is clearly, partly or hardly visible in them.

    Junk counts neither for nor against. Of the revisited sets they are easy, hard and junk.
    """

    name: str  # such as all_souls_1
    image: str  # the query's photo
    box: Box | None  # (x1, y1, x2, y2) in pixels; None for the whole photo
    landmark: str  # what the photo shows
    good: frozenset[str] = frozenset()
    ok: frozenset[str] = frozenset()
    junk: frozenset[str] = frozenset()

    @property
    def positives(self) -> frozenset[str]:
        """The images that answer the query: good and ok."""
        return self.good | self.ok

    def among(self, names: Set[str]) -> "Query":
        """The query with only those answers that are among these names."""
        return replace(self, good=self.good & names, ok=self.ok & names, junk=self.junk & names)


@dataclass(frozen=True)
class RetrievalDataset:
    """A database of photos, and queries with their answers."""

    name: str  # such as toytown/test
    root: Path  # the folder that holds everything
    images: Mapping[str, Path]  # the database in the order of its names
    queries: tuple[Query, ...]  # in the order of their names; empty for a plain folder
    query_images: Mapping[str, Path]  # the database's own paths where they lie in it
    skipped: tuple[tuple[str, str], ...] = ()  # files and queries left out, and the reasons
    revisited: bool = False  # the answers are of the revisited benchmark: good easy, ok hard
    regions: Mapping[str, tuple[Region, ...]] | None = None  # of `use_regions`; None: the set's own
    regions_used: str = "the boxes of the queries"  # in words for a report

    @property
    def landmarks(self) -> tuple[str, ...]:
        """The landmarks of the queries, in order of name."""
        return tuple(sorted({query.landmark for query in self.queries}))

    def path(self, name: str) -> Path:
        """The file of a photo of the database or of a query; ValueError if there is none."""
        found = self.images.get(name) or self.query_images.get(name)
        if found is None:
            raise ValueError(
                f"The data set {self.name} has no image named {name!r}; its names are like "
                f"{next(iter(self.images))!r}."
            )
        return found

    def read(self, name: str) -> Picture:
        """The photo of this name, (H, W, 3) uint8; raises as `path` and `read_image`."""
        return read_image(self.path(name))

    def read_query(self, query: Query) -> Picture:
        """The photo of a query, cut to its box; raises as `read`."""
        picture = self.read(query.image)
        return crop(picture, query.box) if query.box else picture

    def roi(self, name: str, landmark: str | None = None) -> NDArray[np.bool_] | None:
        """Where the landmark of a photo is, (H, W) bool; None where nobody knows.

        What a file of regions says, if one is used (`use_regions`), with a ``landmark`` only its
        own regions and those that name none; otherwise the pixel mask where the set has one
        (Toytown), or the boxes of the queries on the photo.
        """
        path = self.path(name)
        if self.regions is not None:
            known = self.regions.get(name, ())
            chosen = [one for one in known if landmark is None or one.landmark in ("", landmark)]
            return region_mask(chosen, image_size(path)) if chosen else None
        shape = image_size(path)
        for mask in self._masks.match(name):
            return _read_mask(self.root / "masks" / mask, shape)
        asked = [query.box for query in self.queries if query.image == name and query.box]
        boxes = [Region.from_box(pixel_box(box, shape)) for box in asked]
        return region_mask(boxes, shape) if boxes else None

    @cached_property
    def _masks(self) -> NameIndex:
        return NameIndex(path.name for path in sorted(self.root.glob("masks/*.[pP][nN][gG]")))

    def geometry(self, name: str) -> Geometry | None:
        """The surface points and the camera of a Toytown photo that shows a landmark, else None."""
        self.path(name)
        archive = self.root / "geometry.npz"
        return read_geometry(archive, name) if archive.is_file() else None

    def file_name(self, name: str) -> str:
        """The photo's name for other programs: with the extension of its file."""
        extension = self.path(name).suffix
        return name if name.endswith(extension) else name + extension

    def without(self, broken: Mapping[str, str]) -> "RetrievalDataset":
        """The data set as if these photos had never been there; ``skipped`` says why they are not.

        Queries whose photo is among them, or that have no answer left, are left out, too: a photo
        that breaks while it is read counts like one that was broken before.
        """
        images = {name: path for name, path in self.images.items() if name not in broken}
        skipped, queries = [*self.skipped, *broken.items()], []
        for query in (one.among(images.keys()) for one in self.queries):
            if query.image in broken or query.image not in self.query_images:
                skipped.append((query.name, f"its photo {query.image} is absent or broken"))
            elif not query.positives:
                skipped.append((query.name, "none of its positives is there"))
            else:
                queries.append(query)
        photos = {query.image: self.query_images[query.image] for query in queries}
        return replace(
            self, images=images, queries=tuple(queries), query_images=photos, skipped=tuple(skipped)
        )

    def readable(self) -> "RetrievalDataset":
        """`without` the photos that break while they are read, all of which takes a while."""
        return self.without(why_gone({**self.images, **self.query_images}, self.read))

    def manifest_hash(self) -> str:
        """A SHA-256 that tells which data a result was made with.

        For Toytown, of its frozen manifest, which holds a hash of every file; otherwise of the
        names and sizes of the photos and of the queries.
        """
        manifest = self.root.parent / "MANIFEST.sha256"
        if self.name.startswith("toytown") and "+" not in self.name and manifest.is_file():
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        photos = {**self.images, **self.query_images}
        lines = [f"{name} {photos[name].stat().st_size}" for name in sorted(photos)]
        for query in self.queries:
            answers = [sorted(names) for names in (query.good, query.ok, query.junk)]
            lines.append(f"{query.name} {query.image} {query.box} {answers}")
        return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()

    def fingerprint(self) -> dict[str, str]:
        """Short hashes of the contents of ground truth, photos and regions.

        Whoever stores a result stores them with it, and can name what has changed since.

        Examples
        --------
        >>> from indiret.datasets import load_dataset
        >>> load_dataset("toytown", split="validation").fingerprint().keys()
        dict_keys(['ground truth', 'photos', 'regions'])
        """
        photos = {**self.images, **self.query_images}
        truth = [
            (one.name, one.image, one.box, one.landmark, *map(sorted, (one.good, one.ok, one.junk)))
            for one in self.queries
        ]
        masks = [*sorted(self.root.glob("masks/*.png")), self.root / "geometry.npz"]
        contents: dict[str, object] = {
            "ground truth": truth,
            "photos": [(name, _hash_file(photos[name])) for name in sorted(photos)],
            "regions": sorted((self.regions or {}).items()) or [_hash_file(one) for one in masks],
        }
        return {kind: _hash(repr(what)) for kind, what in contents.items()}


def read_all(
    names: Iterable[_Name], read: Callable[[_Name], _Read]
) -> tuple[dict[_Name, _Read], dict[_Name, str]]:
    """What is read by each name, and why not where a photo is broken or gone."""
    found = dict[_Name, _Read]()
    return found, why_gone(names, lambda name: found.update({name: read(name)}))


def why_gone(names: Iterable[_Name], read: Callable[[_Name], object]) -> dict[_Name, str]:
    """Why photos are broken or gone, by name, of those that cannot be read."""
    gone = {}
    for name in names:
        try:
            read(name)
        except GONE as error:
            gone[name] = str(error)
    return gone


def _read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of any usual encoding: 0 and 1, 0 and 255, numbers of instances, colours, a palette.

    Where most of what is marked has all bits, 255 or 65535, other values are soft edges.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path, MAX_MASK)), formats=("PNG",)) as image:
            if (image.height, image.width) != shape:
                raise ValueError(f"it has {image.width} x {image.height}")
            values = plain = np.asarray(image)  # of a palette, its indices
            palette = image.mode == "P"
            if palette or plain.ndim == 3:
                *colours, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
                values = np.max(colours, axis=0) * (alpha > 0)
                values = values if values.any() or alpha.all() else alpha  # black, cut out
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} is no mask of {shape[1]} x {shape[0]} pixels ({reason(error)})."
        ) from error
    if palette:
        return plain > 0 if values.all() else values > 0
    full = 65535 if values.dtype.itemsize > 1 else 255
    soft = np.count_nonzero(values == full) > np.count_nonzero(values) / 2
    return values > (full // 2 if soft else 0)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _hash_file(path: Path) -> str:
    """A hash of a file's contents, read anew where size or time have changed; "" if it is gone."""
    try:
        state = path.stat()
        return _hash_contents(path, state.st_size, state.st_mtime_ns) if path.is_file() else ""
    except OSError:
        return ""


@lru_cache(maxsize=100_000)
def _hash_contents(path: Path, *state: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join_datasets(first: RetrievalDataset, second: RetrievalDataset) -> RetrievalDataset:
    """The photos and queries of two data sets as one, to learn from both.

    Regions of interest are those of the first. The two may not share a name.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> len(join_datasets(town, load_dataset("toytown")).landmarks)
    27
    """
    sides = [
        {*data.images, *data.query_images, *data.landmarks, *(query.name for query in data.queries)}
        for data in (first, second)
    ]
    if shared := sides[0] & sides[1]:
        raise ValueError(
            f"{first.name} and {second.name} share {len(shared)} names, {min(shared)} for one; "
            "data sets that are joined share none."
        )
    return replace(
        first,
        name=f"{first.name}+{second.name}",
        images={**first.images, **second.images},
        queries=(*first.queries, *second.queries),
        query_images={**first.query_images, **second.query_images},
        skipped=(*first.skipped, *second.skipped),
    )


def use_regions(
    dataset: RetrievalDataset, path: str | os.PathLike[str], unreviewed: bool = False
) -> RetrievalDataset:
    """The data set with its regions of interest taken from a COCO json file, and nowhere else.

    Photos in the file that the data set lacks are passed over. With ``unreviewed``, proposals that
    nobody has accepted or rejected are taken, too. ``regions_used`` says what was taken. Raises
    ValueError if the file knows a photo in another size, or has no region for this data set.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from indiret.datasets import PhotoRegions, load_dataset, write_regions
    >>> town, file = load_dataset("toytown", split="validation"), Path(mkdtemp(), "regions.json")
    >>> name, region = town.queries[0].image, Region.from_box((10, 20, 110, 120))
    >>> write_regions(file, {name: PhotoRegions(image_size(town.path(name)), [region])})
    >>> use_regions(town, file).regions_used
    'regions.json (SHA-256 ...): 1 photos; regions: 1 drawn'
    """
    path = Path(path)
    states = {"accepted", "open"} if unreviewed else {"accepted"}
    photos, others = _photos_of_file(dataset, path)
    regions: dict[str, tuple[Region, ...]] = {}
    skipped: list[tuple[str, str]] = []
    waiting = 0
    for name, (given, photo) in photos.items():
        if broken := why_gone([name], lambda name: image_size(dataset.path(name))):
            skipped += broken.items()
            continue
        check_shape(path, name, photo, image_size(dataset.path(name)))
        skipped += [(given, words) for words in photo.left_out]
        waiting += sum(region.state == "open" for region in photo.regions)
        for region in (one for one in photo.regions if one.state in states):
            try:
                regions[name] = (*regions.get(name, ()), region.within(photo.shape))
            except ValueError as error:
                skipped.append((given, str(error)))
    skipped += others
    if not regions:
        remedy = f"; {waiting} proposals in it wait to be accepted" if waiting else ""
        remedy += "".join(f"; {name}: {words.rstrip('.')}" for name, words in skipped[:1])
        raise ValueError(f"{path} has no region for a photo of {dataset.name}{remedy}.")
    origins = Counter(
        "sift, unreviewed" if region.state == "open" else region.origin
        for region in chain.from_iterable(regions.values())
    )
    counts = ", ".join(f"{number} {origin}" for origin, number in sorted(origins.items()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    used = f"{path.name} (SHA-256 {digest[:16]}): {len(regions)} photos; regions: {counts}"
    return replace(
        dataset, regions=regions, regions_used=used, skipped=(*dataset.skipped, *skipped)
    )


def _photos_of_file(
    dataset: RetrievalDataset, path: Path
) -> tuple[dict[str, tuple[str, PhotoRegions]], list[tuple[str, str]]]:
    """Photos of a data set that a region file knows, with their names there; others, in words."""
    index = NameIndex({**dataset.images, **dataset.query_images})
    photos: dict[str, tuple[str, PhotoRegions]] = {}
    others: dict[str, list[str]] = {"no photo": [], "more than one photo": []}
    for given, photo in read_regions(path).items():
        found = index.match(given, anywhere=True)
        if len(found) != 1:
            others["more than one photo" if found else "no photo"].append(given)
            continue
        (name,) = found
        if name in photos:
            raise ValueError(
                f"{path} names {photos[name][0]!r} and {given!r}, but both would be the photo "
                f"{name!r} of {dataset.name}; keep one of them."
            )
        photos[name] = given, photo
    told = [
        f"{len(names)} of its names, {names[0]!r} for one, are {what} of {dataset.name}"
        for what, names in others.items()
        if names
    ]
    return photos, [(path.name, words) for words in told]
