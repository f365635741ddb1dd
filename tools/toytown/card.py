"""The data card, the licence, the manifest of hashes, contact sheets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .layout import SEED, SPLITS, TWINS, catalogue, visible_class, write_atomic

VERSION = "1.0"
LICENCE = """Toytown: rendered pictures, masks, geometry and ground truth.

Licensed under Creative Commons Attribution 4.0 International (CC BY 4.0):
https://creativecommons.org/licenses/by/4.0/

You may share and adapt them for any purpose if you give appropriate credit
("Toytown, the indiret project"), link to the licence and say what you changed.
They were made by tools/toytown; no photograph and no third-party material is in them.
"""


def _spread(values):
    """Least, quartiles, greatest and mean of some numbers."""
    low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100])
    return {
        k: round(float(v), 4)
        for k, v in (
            ("min", low),
            ("q1", first),
            ("median", middle),
            ("q3", third),
            ("max", high),
            ("mean", np.mean(values)),
        )
    }


def describe(records):
    """Counts, sizes, frame fill, visibility and place of the landmark of one split."""
    shown = [r for r in records if r["landmark"]]
    classes = ["good" if r["role"] == "query" else visible_class(r["visible"]) for r in shown]
    queries = [r for r in shown if r["role"] == "query"]
    centre = [
        (
            (r["box"][0] + r["box"][2]) / 2 / r["width"],
            (r["box"][1] + r["box"][3]) / 2 / r["height"],
        )
        for r in queries
    ]
    shapes = [f"{r['width']}x{r['height']}" for r in records]
    return {
        "images": len(records),
        "landmarks": len({r["landmark"] for r in shown}),
        "landmark_views": len(shown),
        "queries": len(queries),
        "distractors": len(records) - len(shown),
        "good": classes.count("good"),
        "ok": classes.count("ok"),
        "junk": classes.count("junk"),
        "sizes": {s: shapes.count(s) for s in sorted(set(shapes))},
        "jpeg_bytes": _spread([r["bytes"] for r in records]),
        "frame_fill_good": _spread(
            [r["fill"] for r, c in zip(shown, classes, strict=True) if c == "good"]
        ),
        "visible_fraction": _spread([r["visible"] for r in shown]),
        "query_box_centre_x": _spread([c[0] for c in centre]),
        "query_box_centre_y": _spread([c[1] for c in centre]),
        "forms": {
            k: [r["form"] for r in shown].count(k) for k in sorted({r["form"] for r in shown})
        },
        "palettes": {
            k: [r["palette"] for r in shown].count(k) for k in sorted({r["palette"] for r in shown})
        },
    }


def freeze(work, data):
    """Write LICENSE, card.json and, last, MANIFEST.sha256."""
    from .make import QUALITY
    from .measures import baselines, chance

    data = Path(data)
    card: dict[str, Any] = {
        "name": "Toytown",
        "maker": VERSION,
        "seed": SEED,
        "licence": "CC BY 4.0",
        "jpeg_quality": QUALITY,
        "visible_fraction": "landmark pixels seen / its pixels when it stands alone "
        "in a frame three times as wide and high",
        "classes": "good: visible >= 0.60, or a query; ok: 0.25 to 0.60; junk: below 0.25",
        "splits": {},
        "colour_twins": {},
        "outside_baselines": {},
        "chance": {},
    }
    for split in SPLITS:
        subjects = catalogue(split)
        records = [
            json.loads((Path(work) / split / f"{p.name}.json").read_text())
            for s in subjects
            for p in s.pictures
        ]
        card["splits"][split] = describe(records)
        for subject in subjects:
            if subject.twin_of:
                card["colour_twins"].setdefault(subject.twin_of, []).append(
                    subject.pictures[0].name
                )
        if split != "train":
            card["outside_baselines"][split] = baselines(data / split)
            card["chance"][split] = chance(data / split)
    assert all(len(v) == TWINS for v in card["colour_twins"].values())
    write_atomic(data / "LICENSE", LICENCE.encode())
    card["bytes"] = sum(
        p.stat().st_size for p in files(data) if p.name not in ("card.json", "MANIFEST.sha256")
    )
    write_atomic(data / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    lines = [f"{digest(p)}  {p.relative_to(data).as_posix()}" for p in files(data)]
    write_atomic(data / "MANIFEST.sha256", ("\n".join(lines) + "\n").encode())
    print(json.dumps(card, indent=1))


def files(data):
    """Every file of the set except the manifest, in the order of its relative path."""
    data = Path(data)
    found = [
        p
        for p in data.rglob("*")
        if p.is_file() and p.name != "MANIFEST.sha256" and not p.name.startswith(".")
    ]
    return sorted(found, key=lambda p: p.relative_to(data).as_posix())


def digest(path):
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def verify(data):
    """Compare every file with the manifest; returns one sentence a disagreement."""
    data = Path(data)
    manifest = data / "MANIFEST.sha256"
    if not manifest.is_file():
        raise FileNotFoundError(
            f"{manifest} is missing; write it with `python -m tools.toytown freeze`"
        )
    wanted = {
        path: code
        for code, path in (line.split("  ", 1) for line in manifest.read_text().splitlines())
    }
    present = {p.relative_to(data).as_posix(): p for p in files(data)}
    wrong = [
        f"{name} is in the manifest but not on disk" for name in sorted(set(wanted) - set(present))
    ]
    wrong += [
        f"{name} is on disk but not in the manifest" for name in sorted(set(present) - set(wanted))
    ]
    return wrong + [
        f"{name} has changed"
        for name in sorted(set(wanted) & set(present))
        if digest(present[name]) != wanted[name]
    ]


def contact_sheet(data, splits, out, columns=9, rows=7, side=170):
    """A PNG of pictures drawn evenly from the splits' images, in order of name."""
    paths = [p for split in splits for p in sorted((Path(data) / split / "images").glob("*.jpg"))]
    if not paths:
        raise FileNotFoundError(
            f"no pictures under {data}; run `python -m tools.toytown make` first"
        )
    chosen = [
        paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, columns * rows).astype(int))
    ]
    sheet = Image.new("RGB", (columns * side, -(-len(chosen) // columns) * side), (32, 32, 32))
    for k, path in enumerate(chosen):
        picture = Image.open(path)
        picture.thumbnail((side - 4, side - 4), Image.Resampling.LANCZOS)
        sheet.paste(
            picture,
            (
                k % columns * side + (side - picture.width) // 2,
                k // columns * side + (side - picture.height) // 2,
            ),
        )
    sheet.save(out)
