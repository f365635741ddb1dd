"""Larger parts that all forms share: planned blocks, square and round towers, their tops."""

from __future__ import annotations

import math

from . import facade as fc
from .solids import Frame


def plan(rng, width, height):
    """Draw one wall's plan for :func:`tools.toytown.facade.wall_face`."""
    storeys = max(1, round(height / rng.uniform(4.2, 6.0)))
    pick = lambda options: str(rng.choice(options))  # noqa: E731
    return {
        "storeys": storeys,
        "bay": rng.uniform(3.2, 5.2),
        "cells": [pick(["window", "window", "small", "statue"]) for _ in range(storeys)],
        "heads": [pick(["lintel", "pediment", "arch", "hood", "plain"]) for _ in range(storeys)],
        "size": [(rng.uniform(0.42, 0.66), rng.uniform(0.46, 0.62)) for _ in range(storeys)],
        "band": pick(["string", "corbels", "frieze", "none"]),
        "mixed": rng.random() < 0.45,
        "pilasters": rng.random() < 0.35,
        "quoins": rng.random() < 0.35,
    }


def block(b, x0, x1, y0, y1, z, rng, front=None, z0=0.0, skip_front=False):
    """A block with planned walls on front and both sides; returns its frames."""
    f = Frame(0, y0, 0)
    b.box(f, x0, x1, y0 - y1, 0, z0, z)
    p = front or plan(rng, x1 - x0, z - z0)
    if not skip_front:
        fc.wall_face(b, f, x0, x1, z0, z, p)
    right, left = Frame(x1, (y0 + y1) / 2, math.pi / 2), Frame(x0, (y0 + y1) / 2, -math.pi / 2)
    half = (y1 - y0) / 2
    for side in (right, left):
        fc.wall_face(b, side, -half, half, z0, z, p)
    return f, right, left


def top(b, rng, x0, x1, y0, y1, z, kinds=("spire", "merlons", "pinnacles", "dome", "cap")):
    """Finish a square tower at height z."""
    f, kind = Frame(0, y0, 0), str(rng.choice(kinds))
    w, depth = x1 - x0, y1 - y0
    fc.course(b, f, x0, x1, z - 1.3, str(rng.choice(["corbels", "frieze", "string"])))
    if kind == "spire":
        if rng.random() < 0.5:
            b.drum(
                f,
                (x0 + x1) / 2,
                -depth / 2,
                [(0.56 * w, z), (0.0, z + w * rng.uniform(1.3, 2.3))],
                8,
                "roof",
                math.pi / 8,
            )
            for x in (x0, x1):
                fc.pinnacle(b, f, x, -0.3, z, 0.7, 3)
        else:
            b.pyramid(f, x0 - 0.4, x1 + 0.4, -depth - 0.4, 0.4, z, z + w * rng.uniform(0.8, 1.9))
    elif kind == "dome":
        r = 0.52 * w
        b.drum(
            f,
            (x0 + x1) / 2,
            -depth / 2,
            [(r, z), (r, z + 1.2)]
            + [
                (r * math.cos(t), z + 1.2 + r * math.sin(t) * 1.1)
                for t in (0.3, 0.6, 0.9, 1.2, 1.45)
            ]
            + [(0.12 * r, z + 1.1 * r + 3)],
            12,
            "roof",
        )
    elif kind == "cap":
        b.gable(f, x0, x1, -depth, 0, z, z + 0.7 * w)
        b.panel(f, (x0 + x1) / 2, z + 0.1 * w, 0.3 * w, 0.3 * w, "arms", 0.06)
    else:
        for g, a0, a1 in (
            (f, x0, x1),
            (Frame(x1, (y0 + y1) / 2, math.pi / 2), -depth / 2, depth / 2),
            (Frame(x0, (y0 + y1) / 2, -math.pi / 2), -depth / 2, depth / 2),
        ):
            fc.battlements(b, g, a0 - 0.2, a1 + 0.2, -0.3, z, kind)
        if rng.random() < 0.5:
            b.pyramid(f, x0 + 0.8, x1 - 0.8, 0.8 - depth, -0.8, z, z + w * rng.uniform(0.5, 1.2))


def tower(b, rng, x, y, w, z, kinds=None):
    """A square tower with planned faces, often a clock, and a top."""
    x0, x1 = x - w / 2, x + w / 2
    p = plan(rng, w, z)
    p["bay"] = w * float(rng.choice([0.5, 1.0]))
    f, right, left = block(b, x0, x1, y, y + w, z, rng, p)
    if rng.random() < 0.5:
        for g, s in ((f, x), (right, 0), (left, 0)):
            fc_z = z - 0.62 * w - 1.5
            b.box(g, s - 0.36 * w, s + 0.36 * w, 0, 0.36, fc_z - 0.1, fc_z + 0.62 * w, "trim")
            b.panel(g, s, fc_z, 0.6 * w, 0.6 * w, "clock", 0.4)
    if rng.random() < 0.5:
        for s in (x0 + 0.4, x1 - 0.4):
            fc.buttress(b, f, s, 0.9, 1.4, 0.8 * z)
    top(b, rng, x0, x1, y, y + w, z, kinds or ("spire", "merlons", "pinnacles", "dome", "cap"))


def round_tower(b, rng, f, s, d, r, z, sides, head):
    b.drum(
        f,
        s,
        d,
        [(r * 1.12, 0), (r, 2), (r, z - 1.4), (r * 1.12, z - 0.9), (r * 1.12, z)],
        sides,
        "wall",
        math.pi / sides,
    )
    rows, flat = int(rng.integers(2, 4)), r * math.cos(math.pi / sides)
    cell, kind = (
        str(rng.choice(["small", "window", "statue"])),
        str(rng.choice(["lintel", "arch", "hood"])),
    )
    for row in range(rows):
        fc.round_windows(
            b,
            f,
            s,
            d,
            flat + 0.02,
            2.6 + row * (z - 4) / rows,
            min(1.7, 0.7 * r),
            0.5 * (z - 4) / rows,
            cell,
            kind,
            8,
            math.pi / 8,
        )
    if head == "cone":
        b.drum(
            f,
            s,
            d,
            [(r * 1.25, z), (0, z + r * rng.uniform(1.5, 2.6))],
            sides,
            "roof",
            math.pi / sides,
        )
    else:
        count = 10
        for q in range(count):
            t = 2 * math.pi * q / count
            g = f.moved(s + 1.12 * r * math.sin(t), d + 1.12 * r * math.cos(t), t)
            b.box(g, -0.22 * r, 0.22 * r, -0.5, 0, z, z + 1.2, "wall", "trim")
