"""Which pictures there are, what they are called, and the files they become.

Everything here is pure: the catalogue follows from the maker's seed alone.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .buildings import Spec, random_spec, twin_spec

SEED = 2026
SPLITS = ("test", "validation", "train")
# landmarks, distractors, neighbours on offer, and the roles of a landmark's views
PLAN = {
    "test": (11, 130, 14, ["query"] * 5 + ["good"] * 4 + ["ok"] * 2 + ["junk"] * 2),
    "validation": (16, 30, 12, ["query"] * 3 + ["good"] * 2 + ["ok"] + ["junk"]),
    "train": (160, 0, 16, ["query"] * 2 + ["good"] * 4),
}
TWINS = 3  # colour twins of each test landmark
GOOD, OK = 0.60, 0.25  # least visible fractions

_FIRST = (
    "mill corn bridge market abbey harbour orchard heron willow beacon castle priory chapel "
    "ferry linden rowan quarry hazel lantern otter larch tanner weaver cooper baker miller "
    "shepherd falcon raven curlew st_osyth st_elfin st_brannoc st_morwen st_tamsin st_aldric "
    "kings queens bishops canons friars pilgrim old_well high_cross low_water north_gate "
    "south_quay east_hill west_field upper_town "
).split()
_SECOND = (
    "gate hall tower house court lodge arch rooms steps cross exchange guildhall keep spire "
    "library college "
).split()


def landmark_names(count):
    """``count`` different pleasant names in snake case, in a fixed shuffled order."""
    every = [f"{a}_{b}" for a in _FIRST for b in _SECOND]
    if count > len(every):
        raise ValueError(f"{count} landmark names were asked for; only {len(every)} can be made")
    order = np.random.default_rng([SEED, 1]).permutation(len(every))
    return [every[k] for k in order[:count]]


def generator(*key):
    """An independent generator for a key of words and numbers."""
    return np.random.default_rng([SEED, zlib.crc32(repr(key).encode())])


@dataclass(frozen=True)
class Picture:
    """One picture to make: its file name, the role its view was drawn for."""

    name: str
    role: str
    index: int


@dataclass(frozen=True)
class Subject:
    """A building and its pictures; ``landmark`` is empty for a distractor."""

    split: str
    landmark: str
    spec: Spec
    pictures: tuple
    twin_of: str = ""


def catalogue(split):
    """Every subject of a split, landmarks first; names never tell roles."""
    if split not in PLAN:
        raise ValueError(f"split {split!r} is not known; use one of {', '.join(SPLITS)}")
    names = landmark_names(sum(PLAN[s][0] for s in SPLITS))
    start = sum(PLAN[s][0] for s in SPLITS[: SPLITS.index(split)])
    count, distractors, _, roles = PLAN[split]
    numbers = iter(generator("numbers", split).permutation(900_000) + 100_000)
    subjects = []
    for name in names[start : start + count]:
        rng = generator("landmark", split, name)
        pictures = tuple(
            Picture(f"{name}_{next(numbers):06d}", role, k) for k, role in enumerate(roles)
        )
        subjects.append(Subject(split, name, random_spec(rng), pictures))
    for k in range(distractors):
        rng = generator("distractor", split, k)
        name = f"town_{next(numbers):06d}"
        if split == "test" and k < TWINS * count:
            original = subjects[k // TWINS]
            spec, twin, role = twin_spec(original.spec, rng), original.landmark, "good"
        else:
            spec, twin, role = random_spec(rng), "", "street" if k % 4 == 0 else "good"
        subjects.append(Subject(split, "", spec, (Picture(name, role, 0),), twin))
    return subjects


def neighbour_specs(split):
    """The specs of the smaller buildings that stand around in a split."""
    rng = generator("neighbours", split)
    return [random_spec(rng, rng.uniform(0.6, 0.85)) for _ in range(PLAN[split][2])]


def visible_class(fraction):
    """``good``, ``ok`` or ``junk`` by the landmark's visible fraction."""
    return "good" if fraction >= GOOD else "ok" if fraction >= OK else "junk"


def mask_box(mask):
    """Box (x1, y1, x2, y2) in pixels of a mask, without its outermost half per cent."""
    rows, cols = np.nonzero(mask)
    if len(rows) == 0:
        raise ValueError(
            "the mask is empty, so it has no box; the landmark is not seen in this picture"
        )
    x1, x2 = np.percentile(cols, [0.5, 99.5])
    y1, y2 = np.percentile(rows, [0.5, 99.5])
    return float(x1), float(y1), float(x2 + 1), float(y2 + 1)


def quantise(points, low, high):
    """uint16 codes of points: lo + code / 65534 * (hi - lo); 65535 where NaN.

    Codes are rounded to multiples of 8 (about 1 cm), so that they compress.
    """
    missing = np.isnan(points).any(-1)
    scaled = (np.nan_to_num(points) - low) / (high - low) * 65534
    codes = (np.round(scaled / 8) * 8).clip(0, 65528).astype(np.uint16)
    codes[missing] = 65535
    return codes


def write_atomic(path, data):
    """Write bytes so that no reader ever sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_groundtruth(folder, landmark, queries, classes):
    """Write one landmark's query, good, ok and junk files.

    ``queries`` lists (image, box); ``classes`` maps image to good, ok or junk.
    """
    for n, (image, box) in enumerate(queries, start=1):
        line = image + "".join(f" {v:.1f}" for v in box) + "\n"
        write_atomic(Path(folder) / f"{landmark}_{n}_query.txt", line.encode())
        for kind in ("good", "ok", "junk"):
            members = sorted(i for i, c in classes.items() if c == kind)
            write_atomic(
                Path(folder) / f"{landmark}_{n}_{kind}.txt",
                "".join(f"{m}\n" for m in members).encode(),
            )
