"""Regions of interest: boxes and polygons that say where in a photo its landmark is.

They are kept in a COCO json file, so that other tools can show them. A region is drawn, is the box
of a query, or was proposed (`indiret.baselines.region_proposals`) and waits to be accepted.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.datasets.files import MAX_CORNERS, read_json, without_collector
from indiret.datasets.names import composed
from indiret.datasets.writing import write_atomically
from indiret.images import MIN_BOX_SIDE

ORIGINS = ("drawn", "query", "sift")  # by a person, the box of a query, projected
STATES = ("accepted", "open", "rejected")  # open: nobody has looked at it yet
MAKER = "indiret"
OWN = ("origin", "state", "inliers")  # what no other program knows of an annotation
NAMELESS = "region"  # COCO wants a category, and a plain folder has no landmarks

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Region:
    """One region of a photo: 3 to 500 corners, in pixels from its top left corner.

    Examples
    --------
    >>> Region(((0, 0), (8, 0), (0, 8))).area
    32.0
    """

    points: Outline  # corners (x, y) along the outline
    landmark: str = ""  # what is seen there; empty if the photo can show one thing only
    origin: str = "drawn"  # one of ORIGINS
    state: str = "accepted"  # one of STATES
    inliers: int | None = None  # how many matches speak for a proposal

    def __post_init__(self) -> None:
        try:
            points = tuple((float(x), float(y)) for x, y in self.points)
        except (TypeError, ValueError):
            points = ((float("nan"), 0.0),)
        if not all(map(isfinite, chain.from_iterable(points))):
            raise ValueError("the corners of a region must be pairs of finite numbers, x and y.")
        if not 3 <= len(points) <= MAX_CORNERS:
            raise ValueError(
                f"a region has {len(points)} corners; give 3 to {MAX_CORNERS}, or a box."
            )
        for value, known in ((self.origin, ORIGINS), (self.state, STATES)):
            if value not in known:
                raise ValueError(f"{value!r} is not known; choose one of {', '.join(known)}.")
        object.__setattr__(self, "points", points)

    @classmethod
    def from_box(cls, box: Sequence[float], **others: Any) -> Region:
        """The region of a box ``(x1, y1, x2, y2)``."""
        x1, y1, x2, y2 = box
        return cls(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), **others)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The smallest box around it, ``(x1, y1, x2, y2)``."""
        x, y = zip(*self.points, strict=True)
        return min(x), min(y), max(x), max(y)

    @property
    def area(self) -> float:
        """Square pixels inside; where the outline goes round twice is outside.

        Between two heights at which edges end or cross, what is inside are trapezoids.
        """
        start = np.array(self.points)
        end = np.roll(start, -1, axis=0)
        step = end - start
        away = start[None] - start[:, None]  # [i, j] from the start of edge i to that of edge j
        across = step[:, None, 0] * step[None, :, 1] - step[:, None, 1] * step[None, :, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            along = (away[..., 0] * step[None, :, 1] - away[..., 1] * step[None, :, 0]) / across
        i, j = np.nonzero((along > 0) & (along < 1) & (along.T > 0) & (along.T < 1))
        heights = np.unique([*start[:, 1], *(start[i, 1] + along[i, j] * step[i, 1])])
        total = 0.0
        for low, high in pairwise(heights.tolist()):
            middle = (low + high) / 2
            met = (start[:, 1] <= middle) != (end[:, 1] <= middle)  # `start + step` may be rounded
            x = start[met, 0] + (middle - start[met, 1]) / step[met, 1] * step[met, 0]
            x.sort()
            total += (high - low) * float((x[1::2] - x[::2]).sum())
        return total

    def within(self, shape: Sequence[int]) -> Region:
        """The part of the region that is in a picture of this shape, height first.

        Raises ValueError if it is less than 4 pixels wide or high.
        """
        (height, width), points = shape[:2], self.points
        left, top, right, bottom = self.box
        if left < 0 or right > width:
            points = _cut(_cut(points, 0, 0, 1), 0, width, -1)
        if top < 0 or bottom > height:
            points = _cut(_cut(points, 1, 0, 1), 1, height, -1)
        x, y = zip(*points or ((0.0, 0.0),), strict=True)
        if min(max(x) - min(x), max(y) - min(y)) < MIN_BOX_SIDE:
            raise ValueError(
                f"only {max(x) - min(x):.0f} x {max(y) - min(y):.0f} pixels of a region lie in "
                f"the picture, which is {width} pixels wide and {height} high; {MIN_BOX_SIDE} x "
                f"{MIN_BOX_SIDE} is the least."
            )
        return self if points is self.points else replace(self, points=points)


def _cut(points: Outline, axis: int, edge: float, side: int) -> Outline:
    """What of an outline lies on one side of a straight edge (Sutherland and Hodgman)."""
    kept = []
    for one, other in zip(points, points[1:] + points[:1], strict=True):
        inside = side * (one[axis] - edge) >= 0
        if inside:
            kept.append(one)
        if inside != (side * (other[axis] - edge) >= 0):
            share = (edge - one[axis]) / (other[axis] - one[axis])
            crossing = [a + share * (b - a) for a, b in zip(one, other, strict=True)]
            crossing[axis] = edge
            kept.append((crossing[0], crossing[1]))
    return tuple(kept)


@dataclass
class PhotoRegions:
    """All that is known of one photo's regions."""

    shape: tuple[int, int]  # height and width
    regions: list[Region] = field(default_factory=list)
    nothing: bool = False  # somebody looked and there is nothing to mark
    tried: bool = False  # proposals were looked for
    file: str = field(default="", compare=False)  # the photo's name for other programs
    left_out: list[str] = field(default_factory=list)  # why, of annotations that are no region

    @property
    def done(self) -> bool:
        """Whether a person, or a query's box, has decided: nothing is open, something is said."""
        states = {region.state for region in self.regions}
        return "open" not in states and ("accepted" in states or self.nothing)


def region_mask(regions: Iterable[Region], shape: Sequence[int]) -> NDArray[np.bool_]:
    """The pixels whose centre lies in one of the regions of a photo of this shape, (H, W) bool.

    Where an outline crosses itself, what it goes round twice is outside.

    Examples
    --------
    >>> region_mask([Region.from_box((1, 0, 3, 2))], (3, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    height, width = shape[:2]
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    mask = np.zeros((height, width), dtype=bool)
    for region in regions:
        corners = np.array(region.points)
        columns = slice(*np.searchsorted(x, (corners[:, 0].min(), corners[:, 0].max())))
        inside = np.zeros_like(mask[:, columns])
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            rows = slice(*np.searchsorted(y, sorted((y1, y2))))  # that this edge crosses
            crossing = x1 + (y[rows] - y1) / ((y2 - y1) or 1) * (x2 - x1)
            inside[rows] ^= x[columns] >= crossing[:, None]
        mask[:, columns] |= inside
    return mask


@dataclass
class _Category:
    id: int | str
    name: str


@dataclass
class _Photo:
    id: int | str
    file_name: str
    height: int
    width: int
    name: str | None = None  # as the data set names it, of this program
    nothing: bool = False
    tried: bool = False


@dataclass
class _Annotation:
    image_id: int | str
    category_id: int | str
    bbox: list[float] | None = None
    segmentation: list[list[float]] | dict[str, Any] | None = None
    origin: str = "drawn"
    state: str = "accepted"
    inliers: int | None = None


@dataclass
class _Coco:
    images: list[_Photo]
    annotations: list[_Annotation]
    categories: list[_Category]
    info: Any = None


def read_regions(path: str | os.PathLike[str]) -> dict[str, PhotoRegions]:
    """Read a COCO json file of boxes and polygons, of this program or of another.

    What comes back goes by the photo's name: as the data set names it where the file says so, else
    its file name. A region that does not say otherwise counts as drawn and accepted. An annotation
    that is no region, such as a run-length mask, is named in ``left_out``.
    """
    with without_collector():
        return _photos(Path(path), read_json(path, _Coco, "region file"))


def _photos(path: Path, data: _Coco) -> dict[str, PhotoRegions]:
    landmarks = {entry.id: composed(entry.name) for entry in data.categories}
    photos: dict[str, PhotoRegions] = {}
    names: dict[int | str, str] = {}
    for image in data.images:
        name = image.name or image.file_name
        if name in photos or image.id in names:
            raise ValueError(f"{path}: the photo {name!r} stands there twice.")
        if min(image.height, image.width) < 1:
            raise ValueError(f"{path}: {name!r} is {image.width} x {image.height} pixels.")
        names[image.id], shape = name, (image.height, image.width)
        photos[name] = PhotoRegions(shape, [], image.nothing, image.tried, image.file_name)
    for number, entry in enumerate(data.annotations):
        if entry.image_id not in names or entry.category_id not in landmarks:
            raise ValueError(f"{path}: image_id or category_id of annotation {number} is unknown.")
        photo, landmark = photos[names[entry.image_id]], landmarks[entry.category_id]
        try:
            photo.regions += _regions(entry, "" if landmark == NAMELESS else landmark)
        except ValueError as error:
            photo.left_out.append(f"annotation {number}: {error}")
    return photos


def _regions(entry: _Annotation, landmark: str) -> list[Region]:
    """The regions of a COCO annotation, one a polygon."""
    if isinstance(entry.segmentation, dict):
        raise ValueError("its segmentation is a run-length mask; boxes and polygons can be read")
    own: Any = {name: getattr(entry, name) for name in OWN} | {"landmark": landmark}
    if any(len(flat) % 2 for flat in entry.segmentation or ()):
        raise ValueError("a polygon of it has an odd number of coordinates")
    if entry.segmentation:
        outlines = [tuple(zip(flat[::2], flat[1::2], strict=True)) for flat in entry.segmentation]
        return [Region(outline, **own) for outline in outlines]
    if entry.bbox is None or len(entry.bbox) != 4:
        raise ValueError("it has neither a polygon nor a box of four numbers")
    x, y, width, height = entry.bbox
    if width <= 0 or height <= 0:
        raise ValueError(f"its box is {width:g} x {height:g} pixels")
    return [Region.from_box((x, y, x + width, y + height), **own)]


def write_regions(path: str | os.PathLike[str], photos: Mapping[str, PhotoRegions]) -> None:
    """Write a COCO json file, whole or not at all; its folder is made where it is missing."""
    landmarks = sorted({r.landmark for photo in photos.values() for r in photo.regions})
    category = {landmark: number for number, landmark in enumerate(landmarks, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, photo) in enumerate(photos.items(), start=1):
        height, width = photo.shape
        entry = {"id": number, "file_name": photo.file or name, "name": name}
        entry |= {"width": width, "height": height, "nothing": photo.nothing}
        images.append(entry | {"tried": photo.tried})
        for region in photo.regions:
            x1, y1, x2, y2 = region.box
            place = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": category[region.landmark],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": [[value for corner in region.points for value in corner]],
                "area": region.area,
                "iscrowd": 0,
            }
            annotations.append(place | {key: getattr(region, key) for key in OWN})
    data = {
        "info": {"description": "regions of interest", "made_by": MAKER},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name or NAMELESS} for name, n in category.items()],
    }
    with write_atomically(Path(path)) as part:
        part.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


class RegionFile:
    """A file of regions that grows as somebody works, and is never lost or mixed up.

    If it is there, it is gone on with; a file of another program is a ValueError, since saving
    would lose its other contents. ``photos`` are as `read_regions` gives them.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.photos: dict[str, PhotoRegions] = {}
        if self.path.exists():
            data = read_json(self.path, _Coco, "region file")
            self.photos = _photos(self.path, data)
            lost = [words for photo in self.photos.values() for words in photo.left_out]
            if lost or not isinstance(data.info, dict) or data.info.get("made_by") != MAKER:
                raise ValueError(
                    f"{self.path} was made by another program, and saving would lose what else it "
                    f"holds{f' ({lost[0]})' if lost else ''}; give the name of a new file."
                )
        self._seen = self._digest()

    def photo(self, name: str, shape: Sequence[int], file: str = "") -> PhotoRegions:
        """The entry of a photo, made where it is missing; checked by `check_shape`.

        ``file`` is the photo's name for other programs, `RetrievalDataset.file_name`.
        """
        height, width = shape[:2]
        known = self.photos.setdefault(name, PhotoRegions((height, width)))
        check_shape(self.path, name, known, (height, width))
        known.file = file or known.file
        return known

    def save(self) -> None:
        """Write the file, unless somebody else has written it meanwhile: then a ValueError."""
        if self._digest() != self._seen:
            raise ValueError(f"{self.path} was changed by somebody else meanwhile; open it again.")
        write_regions(self.path, self.photos)
        self._seen = self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.exists() else ""


def check_shape(path: Path, name: str, photo: PhotoRegions, shape: tuple[int, int]) -> None:
    """Raise a ValueError if a file's photo has another size than the photo itself."""
    if photo.shape != shape:
        raise ValueError(
            f"{path} knows {name} as {photo.shape[1]} x {photo.shape[0]} pixels, but the photo is "
            f"{shape[1]} x {shape[0]}; the file belongs to other photos."
        )
