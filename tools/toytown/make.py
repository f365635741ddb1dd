"""Render the pictures: one worker process a core, resumable picture by picture."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .buildings import make_building
from .layout import (
    PLAN,
    SPLITS,
    catalogue,
    generator,
    mask_box,
    neighbour_specs,
    quantise,
    visible_class,
    write_atomic,
    write_groundtruth,
)

QUALITY = 74
# what a role's visible fraction and frame fill must be: (least, most, least fill, most fill)
WANTED = {
    "good": (0.62, 1.01, 0.15, 0.62),
    "query": (0.65, 1.01, 0.17, 0.60),
    "ok": (0.27, 0.58, 0.06, 0.6),
    "junk": (0.04, 0.24, 0.01, 0.6),
}
_towns: dict[str, Any] = {}  # a worker's neighbours, by split


def jpeg(picture):
    """Encode as the set's JPEG: one quality, 4:2:0, progressive."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return out.getvalue()


def png_mask(mask):
    """Encode a mask as a 1-bit PNG."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


def town_of(split):
    """The neighbours of a split, built once in each process."""
    from .render import Town

    if split not in _towns:
        _towns[split] = Town([make_building(s) for s in neighbour_specs(split)])
    return _towns[split]


def make_subject(task):
    """Render a subject's missing pictures; returns how many pictures are now done."""
    subject, work = task
    work = Path(work) / subject.split
    missing = [p for p in subject.pictures if not (work / f"{p.name}.json").exists()]
    if not missing:
        return len(subject.pictures)
    from . import render
    from .scenes import draw_view

    mi, town, building = render.mitsuba(), town_of(subject.split), make_building(subject.spec)
    mesh = render.to_mesh(
        building.vertices, building.faces, building.uv, render.to_bsdf(building.bitmap)
    )
    alone = mi.load_dict({"type": "scene", "landmark": mesh})
    for picture in missing:
        best: Any = None
        low, high, thin, fat = WANTED.get(picture.role, (0.0, 1.01, 0.0, 1.0))
        for attempt in range(10):
            rng = generator("view", subject.split, picture.name, attempt)
            view = draw_view(rng, building.vertices, town.half_widths, picture.role)
            scene = render.load_scene(town, view, mesh)
            whole = render.whole_area(alone, view.camera, mesh)
            mask = render.visible_mask(scene, view.camera, mesh, 2)
            fraction, fill = float(mask.sum() * 4 / whole), float(mask.mean())
            off = max(low - fraction, fraction - high, 0) + max(thin - fill, fill - fat, 0)
            if best is None or off < best[0]:
                best = (off, view, scene, attempt, whole)
            if off == 0:
                break
        _, view, scene, attempt, whole = best
        mask = render.visible_mask(scene, view.camera, mesh)
        rng = generator("samples", subject.split, picture.name)
        data = jpeg(
            render.shoot(scene, view, int(rng.integers(2**31)), render.SAMPLES[subject.split])
        )
        record = {
            "name": picture.name,
            "landmark": subject.landmark,
            "role": picture.role,
            "twin_of": subject.twin_of,
            "form": subject.spec.form,
            "palette": subject.spec.palette,
            "wall": subject.spec.wall,
            "width": view.camera.width,
            "height": view.camera.height,
            "fill": float(mask.mean()),
            "visible": float(mask.sum() / whole),
            "bytes": len(data),
            "attempt": attempt,
            "variant": mi.variant(),
            "camera": view.camera.matrix().tolist(),
        }
        if subject.landmark:
            points = render.surface_positions(scene, view.camera, mesh)
            out = io.BytesIO()
            np.save(out, points)
            write_atomic(work / f"{picture.name}.npy", out.getvalue())
            write_atomic(work / f"{picture.name}.png", png_mask(mask))
            record["box"] = mask_box(mask) if mask.any() else None
            record["low"], record["high"] = (
                building.vertices.min(0).tolist(),
                building.vertices.max(0).tolist(),
            )
        write_atomic(work / f"{picture.name}.jpg", data)
        write_atomic(work / f"{picture.name}.json", json.dumps(record).encode())
    return len(subject.pictures)


def _start():
    os.nice(5)
    import cv2

    cv2.setNumThreads(1)


def make(work, splits=SPLITS, jobs=2, limit=None):
    """Render the splits into the work folder, landmarks in catalogue order."""
    from tqdm import tqdm

    tasks = [(s, str(work)) for split in splits for s in catalogue(split)[:limit]]
    total = sum(len(s.pictures) for s, _ in tasks)
    with (
        multiprocessing.get_context("spawn").Pool(jobs, _start) as pool,
        tqdm(total=total, unit="picture") as bar,
    ):
        for done in pool.imap_unordered(make_subject, tasks):
            bar.update(done)


def assemble(work, data, splits=SPLITS):
    """Copy finished pictures into the data folder and write truth, masks, geometry.

    Returns the records of each split. Raises FileNotFoundError if a picture is missing.
    """
    every = {}
    for split in splits:
        source, folder, records = Path(work) / split, Path(data) / split, {}
        for subject in catalogue(split):
            for picture in subject.pictures:
                path = source / f"{picture.name}.json"
                if not path.exists():
                    raise FileNotFoundError(
                        f"{path} is missing; run `python -m tools.toytown make --work {work}` first"
                    )
                records[picture.name] = json.loads(path.read_text())
        shown = [r for r in records.values() if r["landmark"]]
        low = np.min([r["low"] for r in shown], 0) - 0.05
        high = np.max([r["high"] for r in shown], 0) + 0.05
        geometry = {"lo": low, "hi": high}
        for name, record in records.items():
            write_atomic(folder / "images" / f"{name}.jpg", (source / f"{name}.jpg").read_bytes())
            if record["landmark"]:
                write_atomic(
                    folder / "masks" / f"{name}.png", (source / f"{name}.png").read_bytes()
                )
                geometry[f"positions/{name}"] = quantise(np.load(source / f"{name}.npy"), low, high)
                geometry[f"cameras/{name}"] = np.array(record["camera"])
        out = io.BytesIO()
        np.savez_compressed(out, **geometry)
        write_atomic(folder / "geometry.npz", out.getvalue())
        for landmark in dict.fromkeys(r["landmark"] for r in shown):
            own = [r for r in shown if r["landmark"] == landmark]
            classes = {
                r["name"]: "good" if r["role"] == "query" else visible_class(r["visible"])
                for r in own
            }
            write_groundtruth(
                folder / "groundtruth",
                landmark,
                [(r["name"], r["box"]) for r in own if r["role"] == "query"],
                classes,
            )
        every[split] = records
    return every


__all__ = ["PLAN", "assemble", "jpeg", "make", "make_subject", "png_mask"]
