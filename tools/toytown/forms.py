"""The eight forms of building; each function fills a solid from a generator and a size."""

from __future__ import annotations

import math

import numpy as np

from . import facade as fc
from .parts import block, plan, round_tower, tower
from .solids import Frame


def church(b, rng, k):
    w, z, depth = k * rng.uniform(11, 16), k * rng.uniform(9, 13), k * rng.uniform(18, 26)
    f = Frame(0, 0, 0)
    b.box(f, -w / 2, w / 2, -depth, 0, 0, z)
    peak = z + w * rng.uniform(0.45, 0.8)
    b.gable(f, -w / 2, w / 2, -depth, 0, z, peak)
    rose = 0.46 * w
    fc.window(b, f, 0, 0.05, 0.26 * w, 0.38 * z, "door", "hood")
    b.arch(f, 0, 0.3 * z, 0.16 * w, 0.22 * w, 0, 0.8, pointed=0.5)
    b.panel(f, 0, z * 0.98 - 0.5 * rose, rose, rose, "rose", 0.08)
    b.arch(f, 0, z * 0.98, 0.5 * rose, 0.5 * rose + 0.5, 0, 0.4, steps=10)
    for s in (-0.33 * w, 0.33 * w):
        fc.window(b, f, s, 0.12 * z, 0.17 * w, 0.6 * z, "window", "hood")
    b.panel(f, 0, z + 0.5 * (peak - z), 0.16 * w, 0.3 * (peak - z), "statue", 0.1)
    fc.course(b, f, -w / 2, w / 2, 0.47 * z, str(rng.choice(["frieze", "corbels"])))
    p = plan(rng, depth, z)
    for side in (Frame(w / 2, depth / 2, math.pi / 2), Frame(-w / 2, depth / 2, -math.pi / 2)):
        fc.wall_face(b, side, -depth / 2, depth / 2, 0, z, p)
        for s in np.arange(-depth / 2 + 1, depth / 2, 4.5):
            fc.buttress(b, side, float(s), 0.9, 1.5, z)
    side, tw = rng.choice([-1, 1, 0, 2]), k * rng.uniform(5.5, 8)
    tz = k * rng.uniform(15, 22)
    places = [(-1 - 0), (1)] if side == 2 else [side]
    for q in places:
        if q == 0:
            tower(b, rng, 0, depth * 0.6, tw * 1.2, tz + 3)
        else:
            state = rng.bit_generator.state if side == 2 and q == -1 else None
            tower(
                b, rng, q * (w / 2 + tw / 2), -rng.uniform(0, 1.5), tw, tz * rng.uniform(0.9, 1.1)
            )
            if state is not None and rng.random() < 0.6:
                rng.bit_generator.state = state


def hall(b, rng, k):
    w, z, depth = k * rng.uniform(22, 30), k * rng.uniform(9, 13), k * rng.uniform(10, 14)
    f, *_ = block(b, -w / 2, w / 2, 0, depth, z, rng, skip_front=True)
    low = 0.36 * z
    fc.arcade(
        b,
        f,
        -w / 2 + 0.6,
        w / 2 - 0.6,
        0,
        low + 0.6,
        int(rng.integers(5, 9)),
        rng.uniform(0, 0.8),
        float(rng.choice([0, 0.4])),
    )
    fc.course(b, f, -w / 2, w / 2, low + 0.7, str(rng.choice(["frieze", "corbels"])))
    fc.wall_face(b, f, -w / 2, w / 2, low + 1.6, z, plan(rng, w, z - low))
    fc.course(b, f, -w / 2, w / 2, z - 1.2, str(rng.choice(["frieze", "corbels", "string"])))
    fc.battlements(
        b, f, -w / 2, w / 2, -0.2, z, str(rng.choice(["balustrade", "merlons", "pinnacles"]))
    )
    b.ridge(
        f, -w / 2, w / 2, -depth, -0.6, z, z + rng.uniform(4, 7), hip=float(rng.choice([0, 3, 5]))
    )
    if rng.random() < 0.7:
        tower(
            b,
            rng,
            float(rng.choice([0, 0, -0.36, 0.36])) * w,
            rng.uniform(-0.8, 1.5),
            k * rng.uniform(5, 7),
            z + k * rng.uniform(6, 12),
        )
    else:
        g, x = rng.uniform(5, 8), rng.uniform(-0.3, 0.3) * w
        b.box(f, x - g / 2, x + g / 2, -3, 0.5, z - 1, z + 3)
        b.gable(f, x - g / 2, x + g / 2, -3, 0.5, z + 3, z + 3 + 0.8 * g)
        b.panel(f, x, z - 0.3, 0.6 * g, 0.6 * g, "clock", 0.56)
    for _ in range(int(rng.integers(2, 5))):
        x = rng.uniform(-0.45, 0.45) * w
        b.box(f, x - 0.6, x + 0.6, -depth / 2 - 0.6, -depth / 2 + 0.6, z, z + rng.uniform(7, 9.5))


def gatehouse(b, rng, k):
    gap, z, r = k * rng.uniform(8, 12), k * rng.uniform(11, 16), k * rng.uniform(3, 4.2)
    f, *_ = block(b, -gap / 2 - 1, gap / 2 + 1, 0, 8, z, rng, skip_front=True)
    arch = 0.36 * gap
    b.panel(f, 0, 0, 2 * arch, 0.55 * z, "door" if rng.random() < 0.5 else "dark", 0.05)
    b.arch(f, 0, 0.32 * z, arch, arch + 0.9, 0, 1.0, pointed=float(rng.choice([0, 0.4])))
    fc.course(b, f, -gap / 2, gap / 2, 0.6 * z, "frieze")
    fc.wall_face(b, f, -gap / 2, gap / 2, 0.66 * z, z, plan(rng, gap, 0.34 * z))
    b.panel(f, 0, 0.5 * z, 0.2 * gap, 0.2 * gap, "arms", 0.3)
    fc.battlements(b, f, -gap / 2, gap / 2, -0.2, z, str(rng.choice(["merlons", "balustrade"])))
    if rng.random() < 0.4:
        b.ridge(f, -gap / 2, gap / 2, -8, -0.6, z, z + 4)
    sides, head = int(rng.choice([8, 16])), str(rng.choice(["cone", "merlons"]))
    tz = z + k * rng.uniform(1, 6)
    for q in (-1, 1):
        round_tower(
            b,
            rng,
            f,
            q * (gap / 2 + 0.8 * r),
            -0.3 * r,
            r,
            tz * (1 if rng.random() < 0.7 else 0.85),
            sides,
            head,
        )
    if rng.random() < 0.6:
        for q in (-1, 1):
            x = q * (gap / 2 + 1.8 * r + 3)
            g = Frame(x, 2, 0)
            b.box(g, -3.5, 3.5, -2, 0, 0, 0.5 * z)
            fc.battlements(b, g, -3.5, 3.5, -0.4, 0.5 * z)
            fc.window(b, g, 0, 0.14 * z, 1.6, 0.2 * z, "small", "arch")


def temple(b, rng, k):
    w, z, depth = k * rng.uniform(20, 28), k * rng.uniform(9, 12), k * rng.uniform(12, 16)
    f, *_ = block(b, -w / 2, w / 2, 0, depth, z, rng)
    fc.course(b, f, -w / 2, w / 2, z - 1.2, str(rng.choice(["frieze", "corbels"])))
    fc.battlements(b, f, -w / 2, w / 2, -0.3, z, str(rng.choice(["balustrade", "pinnacles"])))
    if rng.random() < 0.8:
        fc.portico(
            b,
            f,
            float(rng.choice([0, 0, -0.2, 0.2])) * w,
            w * rng.uniform(0.4, 0.65),
            0.4,
            z * rng.uniform(0.6, 0.85),
            int(rng.integers(4, 8)),
        )
    if rng.random() < 0.7:
        r, base = w * rng.uniform(0.17, 0.25), z + 0.5
        d = -depth / 2
        up = base + rng.uniform(2.5, 5)
        b.drum(
            f, 0, d, [(r, base - 0.5), (r, up), (1.08 * r, up), (1.08 * r, up + 0.5)], 16, "wall"
        )
        fc.round_windows(
            b, f, 0, d, r, base + 0.5, 0.35 * r, 0.65 * (up - base), "window", "arch", 10
        )
        b.drum(
            f,
            0,
            d,
            [
                (r * math.cos(t), up + 0.5 + r * rng.uniform(0.95, 1.05) * math.sin(t))
                for t in (0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.4)
            ],
            16,
            "roof",
        )
        b.drum(
            f,
            0,
            d,
            [(0.2 * r, up + 0.9 * r), (0.2 * r, up + 1.4 * r), (0, up + 1.9 * r)],
            8,
            "trim",
        )
    else:
        b.ridge(f, -w / 2, w / 2, -depth, -0.5, z, z + rng.uniform(3, 5), hip=4)
        for q in (-1, 1):
            if rng.random() < 0.7:
                tower(b, rng, q * w * 0.42, 0.5, k * 4.5, z + k * 5, ("dome", "spire"))


def houses(b, rng, k):
    count, x = int(rng.integers(2, 5)), 0.0
    widths = [k * rng.uniform(6, 9.5) for _ in range(count)]
    x = -sum(widths) / 2
    for w in widths:
        z, depth, y = k * rng.uniform(9, 15), k * rng.uniform(9, 12), rng.uniform(-0.7, 0.7)
        f, *_ = block(b, x, x + w, y, y + depth, z, rng, skip_front=True)
        low = 0.26 * z
        if rng.random() < 0.5:
            fc.arcade(b, f, x + 0.4, x + w - 0.4, 0, low + 0.4, int(rng.integers(2, 4)))
        else:
            fc.window(b, f, x + 0.3 * w, 0.05, 0.3 * w, 0.8 * low, "door", "lintel")
            fc.window(b, f, x + 0.72 * w, 0.25 * low, 0.34 * w, 0.6 * low, "window", "plain")
        p = plan(rng, w, z - low)
        p["bay"] = w / int(rng.integers(2, 4))
        fc.wall_face(b, f, x, x + w, low + 0.9, z, p)
        fc.course(b, f, x, x + w, low + 0.5, str(rng.choice(["frieze", "string", "corbels"])))
        peak, mid = z + w * rng.uniform(0.6, 1.05), x + w / 2
        if rng.random() < 0.5:
            steps = int(rng.integers(3, 6))
            for q in range(steps):
                h = w / 2 * (1 - q / steps)
                b.box(
                    f,
                    mid - h,
                    mid + h,
                    -0.6,
                    0.12,
                    z + q * (peak - z) / steps,
                    z + (q + 1) * (peak - z) / steps,
                    "wall",
                    "trim",
                )
            b.gable(f, x, x + w, -depth, -0.6, z, peak - 0.6)
        elif rng.random() < 0.6:
            b.gable(f, x, x + w, -depth, 0, z, peak)
        else:
            fc.course(b, f, x, x + w, z - 0.6, "corbels")
            b.ridge(f, x, x + w, -depth, 0, z, z + 0.5 * w)
            peak = z
        if peak > z:
            b.panel(
                f,
                mid,
                z + 0.12 * (peak - z),
                0.34 * w,
                0.4 * (peak - z),
                str(rng.choice(["small", "arms", "window", "clock", "carving"])),
                0.16,
            )
        b.box(
            f,
            x + 0.8,
            x + 2.0,
            -depth / 2,
            -depth / 2 + 1.2,
            z,
            peak + rng.uniform(1, 2.5) + (0.4 * w if peak == z else 0),
        )
        x += w


def keep(b, rng, k):
    w, z = k * rng.uniform(11, 15), k * rng.uniform(15, 21)
    f, *_ = block(b, -w / 2, w / 2, 0, w, z, rng)
    fc.window(b, f, 0, 0.05, 0.25 * w, 0.22 * z, "door", str(rng.choice(["hood", "arch"])))
    for q in (-1, 1):
        if rng.random() < 0.5:
            round_tower(
                b,
                rng,
                f,
                q * w / 2,
                0,
                k * rng.uniform(1.9, 2.7),
                z + k * rng.uniform(1, 4),
                8,
                str(rng.choice(["cone", "merlons"])),
            )
        else:
            fc.buttress(b, f, q * (w / 2 - 0.8), 1.6, 2.0, 0.9 * z)
    fc.course(b, f, -w / 2, w / 2, z - 1, "corbels")
    fc.battlements(b, f, -w / 2, w / 2, -0.1, z, "merlons")
    if rng.random() < 0.6:
        tower(b, rng, rng.uniform(-0.2, 0.2) * w, 0.45 * w, 0.36 * w, z + k * rng.uniform(5, 8))
    wing = k * rng.uniform(7, 12)
    for q in (-1, 1):
        if rng.random() < 0.75:
            x0, x1 = sorted((q * w / 2, q * (w / 2 + wing)))
            h = z * rng.uniform(0.35, 0.55)
            g, *_ = block(b, x0, x1, 1.5, 9, h, rng)
            if rng.random() < 0.5:
                fc.battlements(b, g, x0, x1, -0.2, h)
            else:
                b.ridge(g, x0, x1, -7.5, 0, h, h + rng.uniform(3, 5))


def rotunda(b, rng, k):
    r, z = k * rng.uniform(8, 10.5), k * rng.uniform(8, 12)
    sides = int(rng.choice([8, 12, 20]))
    f = Frame(0, r, 0)
    flat, turn = r * math.cos(math.pi / sides), math.pi / sides
    b.drum(
        f,
        0,
        0,
        [(r * 1.06, 0), (r * 1.06, 1), (r, 1), (r, z), (r * 1.07, z), (r * 1.07, z + 0.8)],
        sides,
        "wall",
        turn,
    )
    count = 8 if sides == 8 else sides
    rows = int(rng.integers(1, 3))
    for row in range(rows):
        fc.round_windows(
            b,
            f,
            0,
            0,
            flat + 0.03,
            1.6 + row * (z - 1.4) / rows,
            0.9 * math.pi * r / count,
            0.62 * (z - 1.4) / rows,
            str(rng.choice(["window", "small", "statue"])),
            str(rng.choice(["arch", "hood", "pediment"])),
            count,
            math.pi / 2 / count * 0,
        )
    if rng.random() < 0.6:
        for q in range(count):
            t = 2 * math.pi * q / count
            fc.column(b, f, (r + 0.5) * math.sin(t), (r + 0.5) * math.cos(t), 0.38, 0, z)
    if rng.random() < 0.6:
        fc.portico(b, Frame(0, 0.3, 0), 0, r * rng.uniform(0.9, 1.2), 0.3, 0.7 * z, 4)
    r2, z2 = r * rng.uniform(0.6, 0.8), z + k * rng.uniform(3, 6)
    b.drum(f, 0, 0, [(r, z + 0.8), (r2, z + 1.6)], sides, "roof", turn)
    b.drum(
        f, 0, 0, [(r2, z), (r2, z2), (1.08 * r2, z2), (1.08 * r2, z2 + 0.5)], sides, "wall", turn
    )
    fc.round_windows(
        b,
        f,
        0,
        0,
        r2 * math.cos(math.pi / sides) + 0.03,
        z + 1.7,
        0.3 * r2,
        0.6 * (z2 - z - 1),
        "small",
        "arch",
        8,
    )
    lift = rng.uniform(0.7, 1.3)
    if rng.random() < 0.6:
        b.drum(
            f,
            0,
            0,
            [
                (r2 * math.cos(t), z2 + 0.5 + lift * r2 * math.sin(t))
                for t in (0, 0.3, 0.6, 0.9, 1.2, 1.4)
            ],
            sides,
            "roof",
            turn,
        )
    else:
        b.drum(
            f, 0, 0, [(1.1 * r2, z2 + 0.5), (0.15 * r2, z2 + 1.3 * lift * r2)], sides, "roof", turn
        )
    b.drum(
        f,
        0,
        0,
        [
            (0.18 * r2, z2 + 0.9 * lift * r2),
            (0.18 * r2, z2 + 1.5 * lift * r2),
            (0, z2 + 1.9 * lift * r2),
        ],
        8,
        "trim",
    )
    for q in (-1, 1):
        if rng.random() < 0.5:
            x0, x1 = sorted((q * 0.8 * r, q * (r + k * rng.uniform(5, 9))))
            h = 0.7 * z
            g, *_ = block(b, x0, x1, 0.8 * r, 1.5 * r, h, rng)
            fc.battlements(b, g, x0, x1, -0.2, h, "balustrade")


def market(b, rng, k):
    w, depth, low = k * rng.uniform(20, 26), k * rng.uniform(9, 12), k * rng.uniform(3.6, 4.8)
    z = low + k * rng.uniform(5, 7)
    f = Frame(0, 0, 0)
    b.box(f, -w / 2, w / 2, -depth, -0.8, 0, low)
    fc.arcade(b, f.moved(0, -0.8), -w / 2, w / 2, 0, low, int(rng.integers(5, 9)), 0.3)
    block(b, -w / 2, w / 2, -0.5, depth, z, rng, z0=low)
    g = Frame(0, -0.5, 0)
    b.ridge(g, -w / 2, w / 2, -depth - 0.5, 0, z, z + rng.uniform(4, 6.5))
    gables = int(rng.integers(1, 4))
    offset = rng.uniform(-0.12, 0.12) * w
    for q in range(gables):
        s = offset + (q + 0.5) * w / gables - w / 2
        s = min(max(s, -w / 2 + 3.5), w / 2 - 3.5)
        h = rng.uniform(2.4, 3.6)
        b.box(g, s - h, s + h, -3, 0.3, z - 0.6, z + 1.5)
        b.gable(g, s - h, s + h, -5, 0.3, z + 1.5, z + 1.5 + h * rng.uniform(1, 1.5))
        fc.window(b, g.moved(0, 0.3), s, z - 0.1, h, 1.9, "window", "lintel")
    if rng.random() < 0.7:
        x = float(rng.choice([-0.4, 0, 0.4])) * w
        b.drum(g, x, -depth / 2, [(1.8, z), (1.8, z + 7), (2.3, z + 7), (0, z + 12)], 8, "wall")
        fc.round_windows(b, g, x, -depth / 2, 1.68, z + 4.6, 1.0, 1.9, "small", "arch", 8)
    if rng.random() < 0.5:
        tower(
            b,
            rng,
            float(rng.choice([-1, 1])) * (w / 2 + 2.4),
            -0.5,
            k * 4.8,
            z + k * rng.uniform(3, 8),
        )


BUILDERS = {
    "church": church,
    "hall": hall,
    "gatehouse": gatehouse,
    "temple": temple,
    "houses": houses,
    "keep": keep,
    "rotunda": rotunda,
    "market": market,
}
