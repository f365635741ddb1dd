"""Data sets for retrieval: photos, queries with their boxes, and which photos answer them.

`load_dataset` reads the embedded Toytown, the Oxford and Paris benchmarks, original and revisited,
and samples of them, pairs of query and reference folders, and a plain folder of photos.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indiret.groundtruth import (
    BENCHMARKS,
    OFFICIAL_LAYOUT,
    Query,
    read_pickled,
    read_query,
)
from indiret.images import (
    ImageError,
    Picture,
    check_image,
    find_images,
    image_size,
    pixel_box,
    read_image,
)
from indiret.images import crop as crop_to_box
from indiret.regions import Region, check_shape, read_regions, region_mask

__all__ = [
    "TOYTOWN",
    "ClickedPair",
    "Geometry",
    "Query",
    "RetrievalDataset",
    "load_clicked_pairs",
    "load_dataset",
    "use_regions",
]

TOYTOWN = Path(__file__).parent / "data" / "toytown"
SPLITS = ("train", "validation", "test")
NOT_LANDMARK = 65535  # in geometry.npz, all three coordinates of a cell


@dataclass(frozen=True)
class Geometry:
    """Where each coarse cell of a Toytown picture lies on its landmark.

    Attributes
    ----------
    positions : numpy.ndarray
        Shape (rows, columns, 3), float64: the landmark-local surface point seen at the centre of
        the cell, ``(cell * column + cell / 2, cell * row + cell / 2)`` pixels; NaN where the
        landmark is not seen. The same physical point has the same coordinates in every view.
    camera : numpy.ndarray
        Shape (3, 4), float64: P with ``[u * w, v * w, w] = P @ [x, y, z, 1]``, u and v in pixels.
    cell : int
        Side of a cell in pixels.
    """

    positions: NDArray[np.float64]
    camera: NDArray[np.float64]
    cell: int = 10


@dataclass(frozen=True)
class RetrievalDataset:
    """A database of photos, and queries with their answers.

    Attributes
    ----------
    name : str
        Such as ``toytown/test``.
    root : Path
        The folder that holds everything.
    images : mapping of str to Path
        The database in the order of its names.
    queries : tuple of Query
        In the order of their names; empty for a plain folder.
    query_images : mapping of str to Path
        The queries' photos: the database's own paths where they lie in it.
    skipped : tuple of (str, str)
        What the loader had to leave out: file or query, and the reason.
    revisited : bool
        Whether the answers are of the revisited benchmark: ``good`` easy, ``ok`` hard.
    regions : mapping of str to tuple of Region, or None
        Regions of interest from a file, see `use_regions`; None for the set's own.
    regions_used : str
        Where the regions of interest come from, in words for a report.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (32, 24)).save(Path(folder, "a.png"))
    ...     Path(folder, "b.png").write_text("not an image")
    ...     data = load_dataset("folder", folder)
    12
    >>> list(data.images), [name for name, reason in data.skipped]
    (['a.png'], ['b.png'])
    """

    name: str
    root: Path
    images: Mapping[str, Path]
    queries: tuple[Query, ...]
    query_images: Mapping[str, Path]
    skipped: tuple[tuple[str, str], ...] = ()
    revisited: bool = False
    regions: Mapping[str, tuple[Region, ...]] | None = None
    regions_used: str = "the boxes of the queries"

    @property
    def landmarks(self) -> tuple[str, ...]:
        """The landmarks that queries ask for, in order of name."""
        return tuple(sorted({query.landmark for query in self.queries}))

    def path(self, name: str) -> Path:
        """Where the photo of this name lies, in the database or among the queries.

        Raises
        ------
        ValueError
            If there is no such photo.
        """
        found = self.images.get(name) or self.query_images.get(name)
        if found is None:
            raise ValueError(
                f"The data set {self.name} has no image named {name!r}; its names are like "
                f"{next(iter(self.images))!r}."
            )
        return found

    def read(self, name: str) -> Picture:
        """The photo of this name, shape (H, W, 3), uint8; raises as `path` and `read_image`."""
        return read_image(self.path(name))

    def read_query(self, query: Query, crop: bool = True) -> Picture:
        """The photo of a query, cut to its box unless `crop` is False; raises as `read`."""
        picture = self.read(query.image)
        return crop_to_box(picture, query.box) if crop and query.box else picture

    def roi(self, name: str, landmark: str | None = None) -> NDArray[np.bool_] | None:
        """The region of interest of a photo: where its landmark is.

        What a file of regions says, if one is used (`use_regions`); otherwise the pixel mask where
        the set has one (Toytown), or the boxes of the queries on the photo.

        Parameters
        ----------
        name : str
            A photo.
        landmark : str, optional
            Only the file's regions of this landmark, and those that name none.

        Returns
        -------
        numpy.ndarray or None
            Shape (H, W), bool; None where no region is known.

        Raises
        ------
        ValueError
            If there is no such photo.
        """
        path = self.path(name)
        if self.regions is not None:
            chosen = [
                region
                for region in self.regions.get(name, ())
                if landmark is None or region.landmark in ("", landmark)
            ]
            return region_mask(chosen, image_size(path)) if chosen else None
        mask = self.root / "masks" / f"{name}.png"
        if mask.is_file():
            with Image.open(mask) as image:
                return np.asarray(image.convert("1"), dtype=bool)
        boxes = [query.box for query in self.queries if query.image == name and query.box]
        if not boxes:
            return None
        inside = np.zeros(image_size(path), dtype=bool)
        for box in boxes:
            x1, y1, x2, y2 = pixel_box(box, inside.shape)
            inside[y1:y2, x1:x2] = True
        return inside

    def geometry(self, name: str) -> Geometry | None:
        """The surface points and the camera of a Toytown photo.

        Parameters
        ----------
        name : str
            A photo.

        Returns
        -------
        Geometry or None
            None for a photo without a landmark, and in other data sets.

        Raises
        ------
        ValueError
            If there is no such photo.
        """
        self.path(name)
        archive = self.root / "geometry.npz"
        if not archive.is_file():
            return None
        with np.load(archive, allow_pickle=False) as stored:
            if f"positions/{name}" not in stored:
                return None
            steps = stored[f"positions/{name}"]
            low, high = stored["lo"], stored["hi"]
            camera = stored[f"cameras/{name}"]
        positions = low + steps / (NOT_LANDMARK - 1) * (high - low)
        positions[(steps == NOT_LANDMARK).all(axis=-1)] = np.nan
        return Geometry(positions, camera)

    def manifest_hash(self) -> str:
        """A SHA-256 that tells which data a result was made with.

        For Toytown, of its frozen manifest, which holds a hash of every file; otherwise of the
        names and sizes of the photos and of the queries.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        manifest = self.root.parent / "MANIFEST.sha256"
        if self.name.startswith("toytown") and "+" not in self.name and manifest.is_file():
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        photos = {**self.images, **self.query_images}
        lines = [f"{name} {photos[name].stat().st_size}" for name in sorted(photos)]
        for query in self.queries:
            answers = [sorted(names) for names in (query.good, query.ok, query.junk)]
            lines.append(f"{query.name} {query.image} {query.box} {answers}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_dataset(
    name: str, root: str | os.PathLike[str] | None = None, split: str = "test"
) -> RetrievalDataset:
    """Load a data set by the name of its layout.

    ========== ====================================================================================
    toytown    the embedded rendered set, or a copy in `root`; `split` train, validation or test
    oxford5k   ``root/images/*.jpg`` and ``root/groundtruth/*_{query,good,ok,junk}.txt``, whole or
    paris6k    a sample; instead of the texts ``root/gnd_oxford5k.pkl``, ``root/gnd_paris6k.pkl``
    roxford5k  the photos likewise and ``root/gnd_roxford5k.pkl``, ``root/gnd_rparis6k.pkl``; the
    rparis6k   photos that ask are no part of the database
    pairs      ``root/Query`` and ``root/Reference``, or such pairs of folders one level deeper; a
               query's answer is the reference with the same file name
    folder     every photo in `root` and its subfolders; no queries
    ========== ====================================================================================

    The headers of all photos are checked. Photos that are broken, or named by a ground-truth file
    but absent (samples), are left out and listed in ``skipped``, and so are the twenty corrupt ones
    of Paris. The folder of photos may be called ``jpg``, too. No code in a pickle is run.

    Parameters
    ----------
    name : str
        One of those above.
    root : path, optional
        The folder; only Toytown has one of its own.
    split : str
        Only for Toytown.

    Returns
    -------
    RetrievalDataset
        Images are named by the stem of their file in toytown and oxford5k, and by their path
        below `root` in pairs and folder.

    Raises
    ------
    ValueError
        For an unknown name or split, a missing `root`, or a broken ground-truth file.
    FileNotFoundError
        If the folder has another layout.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for side in ("Query", "Reference"):
    ...         Path(folder, side).mkdir()
    ...         Image.new("RGB", (32, 24)).save(Path(folder, side, "001.jpg"))
    ...     data = load_dataset("pairs", folder)
    >>> data.queries[0].image, sorted(data.queries[0].positives)
    ('Query/001.jpg', ['Reference/001.jpg'])
    """
    if name not in LAYOUTS:
        raise ValueError(f"There is no data set {name!r}; choose one of {', '.join(LAYOUTS)}.")
    if name == "toytown":
        if split not in SPLITS:
            raise ValueError(f"Toytown has no split {split!r}; choose one of {', '.join(SPLITS)}.")
        return _load_official(f"toytown/{split}", Path(root or TOYTOWN) / split)
    if root is None:
        raise ValueError(f"The data set {name} needs root, the folder that holds it.")
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give the folder of the data set.")
    return LAYOUTS[name](name, folder)


def join(first: RetrievalDataset, second: RetrievalDataset) -> RetrievalDataset:
    """The photos and queries of two data sets as one, to learn from both.

    Regions of interest are those of the first. A photo of one set answers no query of the other.

    Raises
    ------
    ValueError
        If they share the name of a photo, a query or a landmark.

    Examples
    --------
    >>> town = load_dataset("toytown", split="validation")
    >>> len(join(town, load_dataset("toytown")).landmarks)
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
    """The data set with its regions of interest taken from a file, and from nowhere else.

    Parameters
    ----------
    dataset : RetrievalDataset
        Any.
    path : path
        A COCO json file; photos in it that the data set lacks are passed over.
    unreviewed : bool
        Take proposals that nobody has accepted or rejected, too.

    Returns
    -------
    RetrievalDataset
        ``regions_used`` says what was taken: counts by origin, and the file's SHA-256.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, knows a photo in another size, or has no region for this data set.

    Examples
    --------
    >>> import tempfile
    >>> from indiret.regions import PhotoRegions, write_regions
    >>> town = load_dataset("toytown", split="validation")
    >>> name = town.queries[0].image
    >>> region = Region.from_box((10, 20, 110, 120))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "regions.json")
    ...     write_regions(file, {name: PhotoRegions(image_size(town.path(name)), [region])})
    ...     drawn = use_regions(town, file)
    >>> int(drawn.roi(name).sum()), drawn.regions_used
    (10000, 'regions.json (SHA-256 ...): 1 photos; regions: 1 drawn')
    """
    path = Path(path)
    states = {"accepted", "open"} if unreviewed else {"accepted"}
    regions: dict[str, tuple[Region, ...]] = {}
    left = 0
    for given, photo in read_regions(path).items():
        name = given if given in dataset.images else Path(given).stem
        if name not in dataset.images and name not in dataset.query_images:
            continue
        check_shape(path, name, photo, image_size(dataset.path(name)))
        left += sum(region.state == "open" for region in photo.regions)
        try:
            chosen = [one.within(photo.shape) for one in photo.regions if one.state in states]
        except ValueError as error:
            raise ValueError(f"{path}, photo {given}: {error}") from error
        if chosen:
            regions[name] = (*regions.get(name, ()), *chosen)
    if not regions:
        remedy = f"; {left} proposals in it wait to be accepted" if left else ""
        raise ValueError(f"{path} has no region for a photo of {dataset.name}{remedy}.")
    origins = [
        ("sift, unreviewed" if region.state == "open" else region.origin)
        for of_photo in regions.values()
        for region in of_photo
    ]
    counts = ", ".join(f"{origins.count(one)} {one}" for one in sorted(set(origins)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    used = f"{path.name} (SHA-256 {digest[:16]}): {len(regions)} photos; regions: {counts}"
    return replace(dataset, regions=regions, regions_used=used)


@dataclass(frozen=True)
class ClickedPair:
    """Two photos of one scene, and points that somebody clicked in both.

    Attributes
    ----------
    name : str
        The scene's folder, such as ``WGABS/kyiv``.
    query, target : Path
        The photos.
    query_points, target_points : numpy.ndarray
        Shape (N, 2), float64: x and y in pixels; row by row the same point of the scene.
    """

    name: str
    query: Path
    target: Path
    query_points: NDArray[np.float64]
    target_points: NDArray[np.float64]


def load_clicked_pairs(root: str | os.PathLike[str]) -> list[ClickedPair]:
    """Read scenes in the layout of WxBS: ``GROUP/SCENE/{01,02}.jpg`` and ``corrs.txt``.

    Each line of ``corrs.txt`` starts with x1 y1 x2 y2, in pixels of the original photos. Where the
    photos were made smaller, ``root/sizes.json`` gives the original widths and heights.

    Parameters
    ----------
    root : path
        The folder of the groups.

    Returns
    -------
    list of ClickedPair
        In order of name.

    Raises
    ------
    FileNotFoundError
        If there is no scene.
    ValueError
        If a file of points cannot be understood.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scene = Path(folder, "easy", "wall")
    ...     scene.mkdir(parents=True)
    ...     for name in ("01.jpg", "02.jpg"):
    ...         Image.new("RGB", (32, 24)).save(scene / name)
    ...     scene.joinpath("corrs.txt").write_text("1 2 3 4")
    ...     load_clicked_pairs(folder)[0].target_points.tolist()
    7
    [[3.0, 4.0]]
    """
    folder = Path(root)
    files = sorted(folder.glob("*/*/corrs.txt"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no scene; expected are {folder}/GROUP/SCENE with 01.jpg, 02.jpg and "
            "corrs.txt."
        )
    sizes_file = folder / "sizes.json"
    sizes = json.loads(sizes_file.read_text()) if sizes_file.is_file() else {}
    pairs = []
    for file in files:
        name = _below(folder, file.parent)
        try:
            points = np.loadtxt(file, ndmin=2)[:, :4].reshape(-1, 2, 2)
        except ValueError as error:
            raise ValueError(f"{file} does not hold x1 y1 x2 y2 in each line: {error}") from error
        query, target = file.with_name("01.jpg"), file.with_name("02.jpg")
        known = sizes.get(name, {}).get("images", {})
        scales = []
        for photo in (query, target):
            height, width = image_size(photo)
            original = known.get(photo.name, {}).get("orig", (width, height))
            scales.append(np.array([width, height]) / original)
        pairs.append(
            ClickedPair(name, query, target, points[:, 0] * scales[0], points[:, 1] * scales[1])
        )
    return pairs


def _load_folder(name: str, root: Path) -> RetrievalDataset:
    images, skipped = _readable({_below(root, path): path for path in find_images(root)})
    _require_images(images, root, skipped)
    return RetrievalDataset(name, root, images, (), {}, skipped)


def _load_pairs(name: str, root: Path) -> RetrievalDataset:
    groups = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    groups = [group for group in groups if (group / "Query").is_dir()]
    if not groups:
        raise FileNotFoundError(
            f"{root} holds no pairs; expected are {root / 'Query'} and {root / 'Reference'} with "
            "photos of the same file names, or folders that have these two in them."
        )
    photos: dict[str, Path] = {}
    references: dict[str, Path] = {}
    for group in groups:
        for side, found in (("Query", photos), ("Reference", references)):
            for path in find_images(group / side):
                key = _below(root, group / path.relative_to(group / side).with_suffix(""))
                _add_once(found, key, path)
    images, skipped = _readable({_below(root, path): path for path in references.values()})
    query_images, skipped_queries = _readable(
        {_below(root, path): path for path in photos.values()}
    )
    _require_images(images, root, skipped)
    skipped += skipped_queries
    queries = []
    for key, path in photos.items():
        image = _below(root, path)
        if image not in query_images:
            continue
        if key in references and (answer := _below(root, references[key])) in images:
            queries.append(Query(key, image, None, key, frozenset({answer})))
        else:
            skipped += ((image, "no reference that can be read has the same file name"),)
            del query_images[image]
    return RetrievalDataset(name, root, images, tuple(queries), query_images, skipped)


def _load_official(name: str, root: Path) -> RetrievalDataset:
    folder, truth = _official_places(name, root)
    photos: dict[str, Path] = {}
    for path in find_images(folder):
        _add_once(photos, path.stem, path)
    corrupt = photos.keys() & BENCHMARKS[name].corrupt if name in BENCHMARKS else set()
    images, skipped = _readable({key: photos[key] for key in sorted(photos.keys() - corrupt)})
    skipped += tuple((image, "corrupt in the published archive") for image in sorted(corrupt))
    if truth.is_dir():
        files = sorted(path for path in truth.glob("*_query.txt") if path.name[0] != ".")
        listed = [read_query(path) for path in files]
        mentioned = set().union(*({q.image} | q.positives | q.junk for q in listed))
        database = images
    else:
        named, listed = read_pickled(truth, name)
        mentioned = {*named, *(query.image for query in listed)}
        database = {key: images[key] for key in sorted(images.keys() & set(named))}
        strangers = sorted(images.keys() - mentioned)
        skipped += tuple((image, f"not named in {truth}") for image in strangers)
    absent = sorted(mentioned - photos.keys())
    skipped += tuple((image, f"named in {truth} but not in {folder}") for image in absent)
    queries = []
    for query in listed:
        good, ok, junk = (names & database.keys() for names in (query.good, query.ok, query.junk))
        if query.image not in images:
            skipped += ((query.name, f"its photo {query.image} is absent or broken"),)
        elif not good | ok:
            skipped += ((query.name, "none of its positives is there"),)
        else:
            queries.append(replace(query, good=good, ok=ok, junk=junk))
    if not queries:
        raise FileNotFoundError(
            f"None of the {len(listed)} queries in {truth} can be asked of the {len(database)} "
            f"images in {folder}; expected in {root} are {_official_layout(name)}."
        )
    for query in queries:
        try:
            pixel_box(query.box or (), image_size(images[query.image]))
        except ValueError as error:
            texts = truth.is_dir()
            source = f"{truth / query.name}_query.txt" if texts else f"{truth}, query {query.name}"
            raise ValueError(f"{source}: {error}") from error
    query_images = {query.image: images[query.image] for query in queries}
    revisited = name in BENCHMARKS and BENCHMARKS[name].revisited
    found = RetrievalDataset(name, root, database, tuple(queries), query_images, skipped, revisited)
    own = "the data set's own masks"
    return replace(found, regions_used=own) if (root / "masks").is_dir() else found


def _official_places(name: str, root: Path) -> tuple[Path, Path]:
    """The folder of photos; the folder of texts, or the pickle."""
    folders = [root / "images", root / "jpg"]
    truths = [root / "groundtruth", root / f"gnd_{name}.pkl"]
    if name in BENCHMARKS and BENCHMARKS[name].revisited:
        del truths[0]  # it may be there, of the original set
    found = []
    for places in (folders, truths):
        there = [place for place in places if place.exists()]
        if not there:
            kind = "file" if places[0].suffix else "folder"
            raise FileNotFoundError(
                f"There is no {kind} {places[0]}; expected in {root} are {_official_layout(name)}."
            )
        found.append(there[0])
    return found[0], found[1]


def _official_layout(name: str) -> str:
    if name in BENCHMARKS and BENCHMARKS[name].revisited:
        return f"images/*.jpg or jpg/*.jpg, and gnd_{name}.pkl, as the revisited benchmark has them"
    return OFFICIAL_LAYOUT


def _readable(
    photos: Mapping[str, Path],
) -> tuple[dict[str, Path], tuple[tuple[str, str], ...]]:
    """Split photos by what their headers say: those to use, and (name, reason) of the others."""
    images = {}
    skipped = []
    for name, path in photos.items():
        try:
            check_image(path)
        except (ImageError, OSError) as error:  # OSError: a link to nowhere
            skipped.append((name, str(error)))
        else:
            images[name] = path
    return images, tuple(skipped)


def _require_images(images: Mapping[str, Path], root: Path, skipped: Sequence[object]) -> None:
    if not images:
        raise FileNotFoundError(f"None of the {len(skipped)} images in {root} can be read.")


def _add_once(found: dict[str, Path], name: str, path: Path) -> None:
    if name in found:
        raise ValueError(
            f"{found[name]} and {path} would both be named {name}; rename or remove one."
        )
    found[name] = path


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


LAYOUTS: Mapping[str, Callable[[str, Path], RetrievalDataset]] = {
    "toytown": _load_official,
    **dict.fromkeys(BENCHMARKS, _load_official),
    "pairs": _load_pairs,
    "folder": _load_folder,
}
