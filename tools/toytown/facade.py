"""Façade vocabulary: windows with surrounds, courses, battlements, porches.

Each function adds parts to a :class:`~tools.toytown.solids.Solid` in a wall frame.
"""

from __future__ import annotations

import math


def surround(b, f, s, z, w, h, kind):
    """Stone around an opening: jambs, sill and a head of the given kind."""
    t = min(0.35, 0.14 * w)
    b.box(f, s - w / 2 - t, s - w / 2, 0, 0.28, z, z + h, "trim")
    b.box(f, s + w / 2, s + w / 2 + t, 0, 0.28, z, z + h, "trim")
    b.box(f, s - w / 2 - 1.6 * t, s + w / 2 + 1.6 * t, 0, 0.42, z - 0.3, z, "trim")
    if kind == "lintel":
        b.box(f, s - w / 2 - 1.8 * t, s + w / 2 + 1.8 * t, 0, 0.4, z + h, z + h + 0.4, "trim")
    elif kind == "pediment":
        b.box(f, s - w / 2 - 1.8 * t, s + w / 2 + 1.8 * t, 0, 0.4, z + h, z + h + 0.25, "trim")
        b.gable(
            f,
            s - w / 2 - 1.8 * t,
            s + w / 2 + 1.8 * t,
            0,
            0.42,
            z + h + 0.25,
            z + h + 0.25 + 0.32 * w,
            "trim",
            "trim",
            0.08,
        )
    elif kind == "arch":
        b.arch(f, s, z + h - 0.15 * w, w / 2, w / 2 + 1.4 * t, 0, 0.34, "trim")
    elif kind == "hood":
        b.arch(f, s, z + h - 0.3 * w, w / 2, w / 2 + 1.2 * t, 0, 0.4, "trim", pointed=0.5)
    else:
        b.box(f, s - w / 2 - t, s + w / 2 + t, 0, 0.28, z + h, z + h + 0.25, "trim")


def window(b, f, s, z, w, h, cell, kind):
    """A painted window (or niche) with its surround."""
    b.panel(f, s, z, w, h, cell)
    surround(b, f, s, z, w, h, kind)


def course(b, f, s0, s1, z, kind):
    """A horizontal band: plain string, corbels, dentils or a painted frieze."""
    if kind == "string":
        b.box(f, s0 - 0.15, s1 + 0.15, -0.1, 0.22, z, z + 0.35, "trim")
    elif kind == "corbels":
        b.box(f, s0 - 0.2, s1 + 0.2, -0.1, 0.5, z + 0.45, z + 0.8, "trim")
        count = max(2, round((s1 - s0) / 1.1))
        for k in range(count):
            s = s0 + (k + 0.5) * (s1 - s0) / count
            b.box(f, s - 0.2, s + 0.2, 0, 0.42, z, z + 0.45, "trim")
    else:
        count = max(1, round((s1 - s0) / 3))
        width = (s1 - s0) / count
        cell = b.rng.choice([20, 21])
        for k in range(count):
            b.panel(f, s0 + (k + 0.5) * width, z, width, 0.95, int(cell), 0.12)
        b.box(f, s0 - 0.2, s1 + 0.2, -0.1, 0.4, z + 0.95, z + 1.25, "trim")


def battlements(b, f, s0, s1, d0, z, kind="merlons"):
    """A parapet: merlons, a balustrade, pinnacles or steps."""
    if kind == "merlons":
        count = max(2, round((s1 - s0) / 2.1))
        pitch = (s1 - s0) / count
        b.box(f, s0, s1, d0, d0 + 0.5, z, z + 0.6, "wall")
        for k in range(count):
            s = s0 + (k + 0.5) * pitch
            b.box(
                f,
                s - 0.29 * pitch,
                s + 0.29 * pitch,
                d0,
                d0 + 0.5,
                z + 0.6,
                z + 1.6,
                "wall",
                "trim",
            )
    elif kind == "balustrade":
        count = max(3, round((s1 - s0) / 0.8))
        b.box(f, s0, s1, d0, d0 + 0.4, z + 1.0, z + 1.25, "trim")
        for k in range(count):
            s = s0 + (k + 0.5) * (s1 - s0) / count
            b.box(f, s - 0.17, s + 0.17, d0 + 0.05, d0 + 0.35, z, z + 1.0, "trim")
    elif kind == "pinnacles":
        count = max(2, round((s1 - s0) / 4))
        b.box(f, s0, s1, d0, d0 + 0.4, z, z + 0.7, "trim")
        for k in range(count + 1):
            pinnacle(b, f, s0 + k * (s1 - s0) / count, d0 + 0.2, z, 0.5, 2.6)


def pinnacle(b, f, s, d, z, w, h):
    """A small square shaft with a spirelet and a ball."""
    b.box(f, s - w / 2, s + w / 2, d - w / 2, d + w / 2, z, z + 0.5 * h, "trim")
    b.pyramid(f, s - 0.65 * w, s + 0.65 * w, d - 0.65 * w, d + 0.65 * w, z + 0.5 * h, z + h, "trim")


def buttress(b, f, s, w, depth, z):
    """A buttress in two stages with sloping set-offs."""
    b.box(f, s - w / 2, s + w / 2, 0, depth, 0, 0.55 * z, "wall")
    b.wedge(f, s - w / 2, s + w / 2, 0.55 * depth, depth, 0.55 * z, 0.55 * z + 0.8)
    b.box(f, s - w / 2, s + w / 2, 0, 0.55 * depth, 0.55 * z, 0.88 * z, "wall")
    b.wedge(f, s - w / 2, s + w / 2, 0, 0.55 * depth, 0.88 * z, z)


def column(b, f, s, d, r, z0, z1, sides=10):
    """A column with base and capital."""
    b.box(f, s - 1.35 * r, s + 1.35 * r, d - 1.35 * r, d + 1.35 * r, z0, z0 + 0.4, "trim")
    b.drum(f, s, d, [(r, z0 + 0.4), (0.86 * r, z1 - 0.7), (1.3 * r, z1 - 0.25)], sides, "trim")
    b.box(f, s - 1.45 * r, s + 1.45 * r, d - 1.45 * r, d + 1.45 * r, z1 - 0.25, z1, "trim")


def quoins(b, f, s, z0, z1, side):
    """Long-and-short corner stones on one edge of a wall."""
    z, long = z0, True
    while z + 0.6 < z1:
        w = 1.0 if long else 0.6
        b.box(f, min(s, s - side * w), max(s, s - side * w), -0.05, 0.14, z, z + 0.52, "trim")
        z, long = z + 0.64, not long


def arcade(b, f, s0, s1, z0, h, bays, depth=0.0, pointed=0.0):
    """A row of arches on columns before a dark wall (or painted windows)."""
    pitch = (s1 - s0) / bays
    r = 0.5 * pitch - 0.42
    spring = max(1.6, h - r * (1 + pointed) - 0.8)
    cell = b.rng.choice(["dark", "dark", "window", "door"])
    for k in range(bays):
        s = s0 + (k + 0.5) * pitch
        b.panel(f, s, z0, 2 * r + 0.3, h - 0.5, str(cell), 0.05)
        b.arch(f, s, z0 + spring, r, r + 0.45, 0, 0.55 + depth, "trim", pointed)
    for k in range(bays + 1):
        column(b, f, s0 + k * pitch, 0.35 + depth, 0.36, z0, z0 + spring)


def portico(b, f, s, w, z, h, columns, depth=3.0):
    """Steps, columns and a pediment with a carved panel."""
    for k in range(4):
        b.box(
            f,
            s - w / 2 - 1.2 + 0.3 * k,
            s + w / 2 + 1.2 - 0.3 * k,
            0,
            depth + 1.6 - 0.4 * k,
            0.28 * k,
            0.28 * (k + 1),
            "trim",
        )
    base = 1.12
    for k in range(columns):
        c = s - w / 2 + 0.6 + k * (w - 1.2) / (columns - 1)
        column(b, f, c, depth - 0.6, 0.5, base, z + h, 12)
    b.box(f, s - w / 2, s + w / 2, 0, depth, z + h, z + h + 1.0, "trim")
    course(b, f.moved(0, depth), s - w / 2, s + w / 2, z + h + 0.05, "frieze")
    rise = 0.2 * w
    b.gable(
        f,
        s - w / 2 - 0.3,
        s + w / 2 + 0.3,
        0,
        depth + 0.3,
        z + h + 1.3,
        z + h + 1.3 + rise,
        "trim",
        "roof",
        0.25,
    )
    b.panel(f, s, z + h + 1.5, 0.36 * w, 0.55 * rise, "carving", depth + 0.36)


def wall_face(b, f, s0, s1, z0, z1, plan):
    """Fill one wall between z0 and z1 with storeys, bays and bands as planned.

    ``plan`` is a dict with storeys, bay (metres), cells (one an storey), heads,
    band, pilasters, quoins, centre; see :func:`tools.toytown.buildings.plan`.
    """
    width, storeys = s1 - s0, plan["storeys"]
    bays = max(1, round(width / plan["bay"]))
    pitch, rise = width / bays, (z1 - z0) / storeys
    for row in range(storeys):
        z = z0 + row * rise
        cell, head = (
            plan["cells"][row % len(plan["cells"])],
            plan["heads"][row % len(plan["heads"])],
        )
        wide, tall = plan["size"][row % len(plan["size"])]
        for k in range(bays):
            s = s0 + (k + 0.5) * pitch
            kind = cell
            if plan["mixed"] and b.rng.random() < 0.3:
                kind = str(b.rng.choice(["statue", "carving", "arms", "small"]))
            w, h = min(pitch * wide, 3.6), rise * tall
            if kind in ("carving", "arms"):
                h = min(h, w)
            window(b, f, s, z + 0.24 * rise, w, h, kind, head)
        if row and plan["band"] != "none":
            course(b, f, s0, s1, z - 0.2, plan["band"])
    if plan["pilasters"]:
        for k in range(bays + 1):
            s = min(max(s0 + k * pitch, s0 + 0.3), s1 - 0.3)
            b.box(f, s - 0.3, s + 0.3, 0, 0.32, z0, z1, "trim")
    if plan["quoins"]:
        quoins(b, f, s0, z0, z1, -1)
        quoins(b, f, s1, z0, z1, 1)
    b.box(f, s0 - 0.1, s1 + 0.1, -0.1, 0.25, z0, z0 + 0.7, "trim")


def round_windows(b, f, s, d, r, z, w, h, cell, head, count=8, turn=0.0):
    """Windows around a drum or octagon, on its faces' middles."""
    for k in range(count):
        t = turn + 2 * math.pi * (k + 0.5) / count
        g = f.moved(s + r * math.sin(t), d + r * math.cos(t), t)
        window(b, g, 0, z, w, h, cell, head)
