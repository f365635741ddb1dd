"""Regions of interest: boxes and polygons that say where in a photo its landmark is.

They are kept in a COCO json file, so that other tools can show them. A region is drawn, is the box
of a query, or was proposed (`indiret.baselines.region_proposals`) and waits to be accepted.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indiret.images import MIN_BOX_SIDE

ORIGINS = ("drawn", "query", "sift")  # by a person, the box of a query, projected
STATES = ("accepted", "open", "rejected")  # open: nobody has looked at it yet
MOST_CORNERS = 500
MOST_BYTES = 200_000_000  # of a file: a thousand bytes a region leaves room for 200,000
MAKER = "indiret"
NAMELESS = "region"  # COCO wants a category, and a plain folder has no landmarks

Outline = tuple[tuple[float, float], ...]


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` that takes its place if all goes well, and else stays to go on with.

    `indiret.checkpoints.write_atomically` is for all that comes after the data sets.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    os.replace(part, path)


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
        corners = np.array(self.points, dtype=float)
        if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise ValueError("the corners of a region must be pairs of finite numbers, x and y.")
        if not 3 <= len(corners) <= MOST_CORNERS:
            raise ValueError(
                f"a region has {len(corners)} corners; give 3 to {MOST_CORNERS}, or a box."
            )
        for value, known in ((self.origin, ORIGINS), (self.state, STATES)):
            if value not in known:
                raise ValueError(f"{value!r} is not known; choose one of {', '.join(known)}.")
        object.__setattr__(self, "points", tuple(map(tuple, corners.tolist())))

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
        """Square pixels inside the outline, which must not cross itself."""
        x, y = np.array(self.points).T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)

    def within(self, shape: Sequence[int]) -> Region:
        """The region with its corners moved into a picture of this shape, height first.

        Raises ValueError if less than 4 × 4 pixels of it are in the picture.
        """
        height, width = shape[:2]
        corners = np.clip(np.array(self.points), 0, (width, height))
        clipped = replace(self, points=tuple(map(tuple, corners.tolist())))
        x1, y1, x2, y2 = clipped.box
        if min(x2 - x1, y2 - y1) < MIN_BOX_SIDE or clipped.area < MIN_BOX_SIDE**2 / 2:
            raise ValueError(
                f"only {x2 - x1:.0f} x {y2 - y1:.0f} pixels of a region lie in the picture, which "
                f"is {width} pixels wide and {height} high; {MIN_BOX_SIDE} x {MIN_BOX_SIDE} is "
                "the least."
            )
        return clipped


@dataclass
class PhotoRegions:
    """All that is known of one photo's regions."""

    shape: tuple[int, int]  # height and width
    regions: list[Region] = field(default_factory=list)
    nothing: bool = False  # somebody looked and there is nothing to mark
    tried: bool = False  # proposals were looked for

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
        inside = np.zeros_like(mask)
        corners = np.array(region.points)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            rows = np.flatnonzero((y1 <= y) != (y2 <= y))  # that this edge crosses
            if len(rows):
                crossing = x1 + (y[rows] - y1) / (y2 - y1) * (x2 - x1)
                inside[rows] ^= x >= crossing[:, None]
        mask |= inside
    return mask


def read_regions(path: str | os.PathLike[str]) -> dict[str, PhotoRegions]:
    """Read a COCO json file of boxes and polygons, of this program or of another.

    What comes back goes by the photo's name: as the data set names it where the file says so, else
    its file name. A region that does not say otherwise counts as drawn and accepted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give a COCO json file of regions.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES // 10**6} MB; that is no region file.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a json file ({error}).") from error
    kinds = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(kind), list) for kind in kinds):
        raise ValueError(
            f"{path} is not a region file: COCO json holds the lists images, annotations and "
            "categories."
        )
    photos: dict[str, PhotoRegions] = {}
    names: dict[int, str] = {}
    entry: Any = None
    try:
        landmarks = {entry["id"]: str(entry["name"]) for entry in data["categories"]}
        for entry in data["images"]:
            name = str(entry.get("name", entry["file_name"]))
            if name in photos or entry["id"] in names:
                raise ValueError(f"the photo {name!r} stands there twice")
            height, width = int(entry["height"]), int(entry["width"])
            if min(height, width) < 1:
                raise ValueError(f"the photo {name!r} is {width} x {height} pixels")
            nothing, tried = (entry.get(key) is True for key in ("nothing", "tried"))
            names[entry["id"]] = name
            photos[name] = PhotoRegions((height, width), [], nothing, tried)
        for entry in data["annotations"]:
            photo = photos[names[entry["image_id"]]]
            landmark = landmarks[entry["category_id"]]
            photo.regions.append(_region(entry, "" if landmark == NAMELESS else landmark))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = str(error).strip(".") + " is missing or unknown" * isinstance(error, KeyError)
        raise ValueError(
            f"{path} is not a region file that can be read: {problem}, in {str(entry)[:120]}."
        ) from error
    return photos


def _region(entry: Mapping[str, Any], landmark: str) -> Region:
    """A region of a COCO annotation; the first polygon of several, no run-length masks."""
    outline = entry.get("segmentation") or []
    if isinstance(outline, dict):
        raise ValueError("its segmentation is a run-length mask; boxes and polygons can be read")
    others = {
        "landmark": landmark,
        "origin": entry.get("origin", "drawn"),
        "state": entry.get("state", "accepted"),
        "inliers": int(entry["inliers"]) if entry.get("inliers") is not None else None,
    }
    if len(outline) > 1:
        raise ValueError("its segmentation has several polygons; give each a region of its own")
    if outline:
        flat = [float(value) for value in outline[0]]
        return Region(tuple(zip(flat[::2], flat[1::2], strict=True)), **others)
    x, y, width, height = map(float, entry["bbox"])
    if width <= 0 or height <= 0:
        raise ValueError(f"its box is {width:g} x {height:g} pixels")
    return Region.from_box((x, y, x + width, y + height), **others)


def write_regions(path: str | os.PathLike[str], photos: Mapping[str, PhotoRegions]) -> None:
    """Write a COCO json file, whole or not at all; its folder is made where it is missing."""
    landmarks = sorted({r.landmark for photo in photos.values() for r in photo.regions})
    category = {landmark: number for number, landmark in enumerate(landmarks, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, photo) in enumerate(photos.items(), start=1):
        height, width = photo.shape
        entry = {"id": number, "file_name": name, "name": name, "width": width, "height": height}
        images.append(entry | {"nothing": photo.nothing, "tried": photo.tried})
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
            own = ("origin", "state", "inliers")  # of this program
            annotations.append(place | {key: getattr(region, key) for key in own})
    data = {
        "info": {"description": "regions of interest", "made_by": MAKER},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name or NAMELESS} for name, n in category.items()],
    }
    with write_whole(Path(path)) as part:
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
            self.photos = read_regions(self.path)
            made_by = json.loads(self.path.read_text(encoding="utf-8")).get("info")
            if not isinstance(made_by, dict) or made_by.get("made_by") != MAKER:
                raise ValueError(
                    f"{self.path} was made by another program, and saving would lose what else it "
                    "holds; give the name of a new file."
                )
        self._seen = self._digest()

    def photo(self, name: str, shape: Sequence[int]) -> PhotoRegions:
        """The entry of a photo, made where it is missing; checked by `check_shape`."""
        height, width = shape[:2]
        known = self.photos.setdefault(name, PhotoRegions((height, width)))
        check_shape(self.path, name, known, (height, width))
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
