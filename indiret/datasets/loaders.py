"""Load data sets by the layout of their folder.

Toytown, the Oxford and Paris benchmarks, original and revisited, and samples of them, pairs of
query and reference folders, a plain folder of photos, and pairs with clicked points.

Chapter: *Reproducing the tables*.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indiret.datasets.dataset import Query, RetrievalDataset, why_gone
from indiret.datasets.files import read_json, read_text, reason
from indiret.datasets.folders import find_images
from indiret.datasets.groundtruth import (
    BENCHMARKS,
    OFFICIAL_LAYOUT,
    Benchmark,
    read_pickled,
    read_query,
    rename,
)
from indiret.datasets.names import NameIndex, composed
from indiret.datasets.toytown import SPLITS, TOYTOWN
from indiret.images import check_image, image_size, pixel_box


def load_dataset(
    name: str, root: str | os.PathLike[str] | None = None, split: str = "test"
) -> RetrievalDataset:
    """Load a data set by the name of its layout.

    ========== ====================================================================================
    toytown    the embedded rendered set, or a copy in `root`; `split` train, validation or test
    oxford5k   ``root/images/*.jpg`` and ``root/groundtruth/*_{query,good,ok,junk}.txt``, whole or
    paris6k    a sample; instead of the texts ``root/gnd_oxford5k.pkl``, ``root/gnd_paris6k.pkl``
    roxford5k  the photos likewise and ``root/gnd_roxford5k.pkl``, ``root/gnd_rparis6k.pkl``; the
    rparis6k   queries' photos are no part of the database
    pairs      ``root/Query`` and ``root/Reference``, or such pairs of folders one level deeper; a
               query's answer is the reference with the same file name
    folder     every photo in `root` and its subfolders; no queries
    ========== ====================================================================================

    The headers of all photos are checked. Photos that are broken, or named by a ground-truth file
    but absent (samples), are left out and listed in ``skipped``, and so are the twenty corrupt ones
    of Paris. The folder of photos may be called ``jpg``, too. Images are named by the stem of their
    file, in pairs and folder by their path below ``root``.

    Raises ValueError for an unknown name or a broken ground truth, FileNotFoundError for another
    layout.

    Examples
    --------
    >>> data = load_dataset("toytown")
    >>> len(data.images), len(data.queries), data.queries[0].image
    (273, 55, 'chapel_tower_681872')
    """
    if name not in LOADERS:
        raise ValueError(f"There is no data set {name!r}; choose one of {', '.join(LOADERS)}.")
    if name == "toytown":
        if split not in SPLITS:
            raise ValueError(f"Toytown has no split {split!r}; choose one of {', '.join(SPLITS)}.")
        return _load_official(f"toytown/{split}", Path(root or TOYTOWN) / split)
    if root is None:
        raise ValueError(f"The data set {name} needs root, the folder that holds it.")
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give the folder of the data set.")
    return LOADERS[name](name, folder)


@dataclass(frozen=True)
class ClickedPair:
    """Two photos of one scene, and points that somebody clicked in both."""

    name: str  # the scene's folder, such as WGABS/kyiv
    query: Path
    target: Path
    query_points: NDArray[np.float64]  # (N, 2), x and y in pixels
    target_points: NDArray[np.float64]  # the same points of the scene, row by row


@dataclass(frozen=True)
class _Size:
    orig: tuple[int, int]  # width and height


@dataclass(frozen=True)
class _SceneSizes:
    images: dict[str, _Size]


def load_clicked_pairs(root: str | os.PathLike[str]) -> list[ClickedPair]:
    """Read scenes in the layout of WxBS: ``GROUP/SCENE/{01,02}.jpg`` and ``corrs.txt``.

    Each line of ``corrs.txt`` starts with x1 y1 x2 y2, in pixels of the original photos. Where the
    photos were made smaller, ``root/sizes.json`` gives the original widths and heights.
    """
    folder = Path(root)
    files = sorted(folder.glob("*/*/corrs.txt"))
    if not files:
        expected = f"expected are {folder}/GROUP/SCENE with 01.jpg, 02.jpg and corrs.txt."
        raise FileNotFoundError(f"{folder} holds no scene; {expected}")
    sizes_file = folder / "sizes.json"
    sizes = read_json(sizes_file, dict[str, _SceneSizes]) if sizes_file.exists() else {}
    index = NameIndex(sizes)
    pairs = []
    for file in files:
        name = _below(folder, file.parent)
        try:
            lines = [line.split()[:4] for line in read_text(file).splitlines() if line.strip()]
            points = np.array(lines, dtype=float).reshape(len(lines), 2, 2)
            if not np.isfinite(points).all():
                raise ValueError("a number is not finite")
        except ValueError as error:
            raise ValueError(
                f"{file} does not hold x1 y1 x2 y2 in each line ({reason(error)})."
            ) from error
        photos = file.with_name("01.jpg"), file.with_name("02.jpg")
        known = {one: size for key in index.match(name) for one, size in sizes[key].images.items()}
        clicked = []
        for side, photo in enumerate(photos):
            height, width = image_size(photo)
            original = known[photo.name].orig if photo.name in known else (width, height)
            if min(original) < 1:
                raise ValueError(f"{sizes_file} gives {photo} the size {original}.")
            clicked.append(points[:, side] * (np.array([width, height]) / original))
        pairs.append(ClickedPair(name, *photos, *clicked))
    return pairs


def _load_folder(name: str, root: Path) -> RetrievalDataset:
    images = {_below(root, path): path for path in find_images(root)}
    return _readable(RetrievalDataset(name, root, images, (), {}), images)


def _load_pairs(name: str, root: Path) -> RetrievalDataset:
    groups = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    groups = [group for group in groups if (group / "Query").is_dir()]
    if not groups:
        raise FileNotFoundError(
            f"{root} holds no pairs; expected are {root / 'Query'} and {root / 'Reference'} with "
            "photos of the same file names, or folders that have these two in them."
        )
    asking, references = (
        _once(
            (_below(root, group / path.relative_to(group / side).with_suffix("")), path)
            for group in groups
            for path in find_images(group / side)
        )
        for side in ("Query", "Reference")
    )
    index = NameIndex(references)
    photos: dict[str, Path] = {}
    queries = []
    for key, path in asking.items():
        answers = [_below(root, references[answer]) for answer in index.match(key)]
        if len(answers) > 1:
            raise ValueError(f"The reference of {path} may be {' or '.join(answers)}; rename one.")
        photos[_below(root, path)] = path
        queries.append(Query(key, _below(root, path), None, key, frozenset(answers)))
    images = {_below(root, path): path for path in references.values()}
    return _readable(RetrievalDataset(name, root, images, tuple(queries), photos), images | photos)


def _load_official(name: str, root: Path) -> RetrievalDataset:
    benchmark = BENCHMARKS.get(name, Benchmark(0, ()))
    expected = f"expected in {root} are {OFFICIAL_LAYOUT}."
    truths = [root / "groundtruth", root / f"gnd_{name}.pkl"]
    if benchmark.revisited:
        del truths[0]  # it may be there, of the original set
        expected = (
            f"expected in {root} are images/*.jpg or jpg/*.jpg, and gnd_{name}.pkl, as the "
            "revisited benchmark has them."
        )
    folder = _find([root / "images", root / "jpg"], expected)
    truth = _find(truths, expected)
    photos = _once((path.stem, path) for path in find_images(folder))
    index = NameIndex(photos)
    named, listed = (photos, _read_texts(truth)) if truth.is_dir() else read_pickled(truth, name)
    asked = [{query.image, *query.positives, *query.junk} for query in listed]
    written = {one: index.match(one, anywhere=True) for one in sorted(set().union(named, *asked))}
    known = {one: found[0] for one, found in written.items() if len(found) == 1}
    database = {known[one] for one in named if one in known}
    found = RetrievalDataset(
        name,
        root,
        {key: photos[key] for key in sorted(database)},
        tuple(rename(query, known, truth) for query in listed),
        photos,
        revisited=benchmark.revisited,
    ).without(_left_out(photos, written, benchmark.corrupt, folder, truth))
    found = found.without(why_gone(found.query_images, lambda name: image_size(found.path(name))))
    if not found.queries:
        raise FileNotFoundError(
            f"None of the {len(listed)} queries in {truth} has its photo and an answer among the "
            f"{len(found.images)} images in {folder}; {expected}"
        )
    for query in found.queries:
        try:
            pixel_box(query.box or (), image_size(photos[query.image]))
        except ValueError as error:
            form = "{}/{}_query.txt: {}" if truth.is_dir() else "{}, query {}: {}"
            raise ValueError(form.format(truth, query.name, error)) from error
    masks = (root / "masks").is_dir()
    return replace(found, regions_used="the data set's own masks") if masks else found


def _read_texts(folder: Path) -> list[Query]:
    """The queries of a folder of ground truth, four texts each."""
    texts = sorted(folder.glob("[!.]*_query.txt"))
    files = _once((composed(path.name), path) for path in texts)
    return [read_query(path) for path in files.values()]


def _left_out(
    photos: Mapping[str, Path],
    written: Mapping[str, Sequence[str]],
    corrupt: Set[str],
    folder: Path,
    truth: Path,
) -> dict[str, str]:
    """Why photos, and names that are written for them, are no part of a benchmark's data."""
    whole = sorted(photos.keys() - corrupt)
    left_out = why_gone(whole, lambda name: check_image(photos[name]))
    left_out |= dict.fromkeys(sorted(photos.keys() & corrupt), "corrupt in the published archive")
    clear = {found[0] for found in written.values() if len(found) == 1}
    left_out |= dict.fromkeys(sorted({*whole} - clear), f"not named in {truth}")
    for one, found in written.items():
        if len(found) > 1:
            several = " and ".join(map(repr, found))
            left_out[one] = f"named in {truth}, but it may be {several} in {folder}"
        elif not found:
            left_out[one] = f"named in {truth} but not in {folder}"
    return left_out


def _find(places: Sequence[Path], expected: str) -> Path:
    for place in places:
        if place.exists():
            return place
    kind = "file" if places[0].suffix else "folder"
    raise FileNotFoundError(f"There is no {kind} {places[0]}; {expected}")


def _readable(dataset: RetrievalDataset, photos: Mapping[str, Path]) -> RetrievalDataset:
    """The data set without those of its photos that cannot be read; one at least must be left."""
    found = dataset.without(why_gone(photos, lambda name: check_image(photos[name])))
    if not found.images:
        raise FileNotFoundError(
            f"None of the {len(dataset.images)} images in {dataset.root} can be read."
        )
    return found


def _once(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by their names; ValueError if two have one name."""
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            raise ValueError(
                f"{found[name]} and {path} would both be named {name}; rename or remove one."
            )
        found[name] = path
    return found


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


LOADERS: Mapping[str, Callable[[str, Path], RetrievalDataset]] = {
    "toytown": _load_official,
    **dict.fromkeys(BENCHMARKS, _load_official),
    "pairs": _load_pairs,
    "folder": _load_folder,
}
