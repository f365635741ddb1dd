"""What stands where in one picture: camera, neighbours, trees, people, light.

A :class:`View` is plain data drawn from a generator; :mod:`tools.toytown.render`
turns it into a picture. The landmark always stands at the origin, so its local
coordinates are the world's, the same in every view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from .camera import Camera, aim

SIZES = (
    (320, 240),
    (320, 214),
    (240, 320),
    (320, 240),
    (214, 320),
    (320, 300),
    (320, 200),
    (256, 320),
)
GROUNDS = ("grass", "cobbles", "gravel", "paving")
# Plain colours of leaves, bark, clothes, skin, metal: one row of a small bitmap.
SWATCHES = np.array(
    [
        (0.20, 0.30, 0.11),
        (0.27, 0.38, 0.14),
        (0.34, 0.44, 0.18),
        (0.42, 0.50, 0.24),
        (0.30, 0.22, 0.15),
        (0.86, 0.70, 0.58),
        (0.55, 0.36, 0.27),
        (0.60, 0.16, 0.14),
        (0.18, 0.27, 0.48),
        (0.85, 0.82, 0.74),
        (0.16, 0.16, 0.18),
        (0.78, 0.62, 0.22),
        (0.24, 0.42, 0.38),
        (0.46, 0.30, 0.42),
        (0.35, 0.36, 0.38),
        (0.52, 0.60, 0.62),
    ],
    np.float32,
)


@dataclass
class View:
    """One picture's recipe; ``wanted`` bounds the landmark's visible fraction."""

    camera: Camera
    neighbours: list = field(default_factory=list)  # (pool index, x, y, angle)
    props: tuple = ()  # vertices, faces, swatch index of each vertex
    ground: str = "grass"
    sun: tuple = (0.0, 0.7, 3.0, 3.0)  # azimuth, elevation, turbidity, sun : sky
    clouds: int = 0
    exposure: float = 0.0
    balance: tuple = (1.0, 1.0)
    fog: float = 0.0  # extinction a metre, from the lens on
    blur: float = 0.0  # of the lens, sigma in pixels


def triangles(parts):
    """Join (vertices, faces, swatches) parts into one mesh."""
    vertices, faces, swatches, start = [], [], [], 0
    for v, f, s in parts:
        vertices.append(v)
        faces.append(np.asarray(f) + start)
        swatches.append(np.broadcast_to(s, len(v)))
        start += len(v)
    return (
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces).astype(np.uint32),
        np.concatenate(swatches),
    )


def lathe(x, y, profile, sides=7):
    """Vertices and faces of a solid turned about a vertical axis."""
    t = 2 * np.pi * np.arange(sides) / sides
    v = np.concatenate(
        [
            np.column_stack([x + r * np.cos(t), y + r * np.sin(t), np.full(sides, z)])
            for r, z in profile
        ]
    )
    k = np.arange(sides)
    n = (k + 1) % sides
    rows = [
        np.column_stack([a + k, a + n, b + n])
        for a, b in ((i * sides, (i + 1) * sides) for i in range(len(profile) - 1))
    ]
    rows += [
        np.column_stack([a + k, b + n, b + k])
        for a, b in ((i * sides, (i + 1) * sides) for i in range(len(profile) - 1))
    ]
    return v, np.concatenate(rows)


def tree(rng, x, y, height):
    """A tree: trunk and leaves in clumps; cypress-like, round or spreading."""
    slim = rng.choice([0.18, 0.34, 0.42])
    bole = height * (0.12 if slim < 0.2 else rng.uniform(0.22, 0.34))
    parts = [(*lathe(x, y, [(0.03 * height, 0), (0.018 * height, bole * 1.5)], 6), 4)]
    clumps = int(rng.integers(9, 15))
    u = rng.standard_normal((clumps, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True) + 1e-9
    half = (height - bole) / 2
    centres = u * rng.uniform(0.35, 0.85, (clumps, 1)) * [
        slim * height * 0.8,
        slim * height * 0.8,
        half * 0.85,
    ] + [x, y, bole + half]
    count = 1500
    owner = rng.integers(0, clumps, count)
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = centres[owner] + direction * rng.uniform(0.75, 1, (count, 1)) * [
        slim * height * 0.45,
        slim * height * 0.45,
        half * 0.38,
    ]
    a = np.cross(direction, rng.standard_normal((count, 3)))
    a /= np.linalg.norm(a, axis=1, keepdims=True) + 1e-9
    c = np.cross(direction, a)
    size = rng.uniform(0.025, 0.042, (count, 1)) * height
    corners = np.stack(
        [middle - a * size, middle + c * size, middle + a * size, middle - c * size], 1
    ).reshape(-1, 3)
    base = 4 * np.arange(count)[:, None]
    faces = np.concatenate([base + np.array([0, 1, 2]), base + np.array([0, 2, 3])])
    tone = np.clip(owner % 3 + rng.integers(0, 2, count), 0, 3)
    return [*parts, (corners, faces, np.repeat(tone, 4))]


def person(rng, x, y):
    """A little walker: legs, coat, head, sometimes a hat."""
    h = rng.uniform(0.92, 1.08)
    coat, legs = int(rng.choice([7, 8, 9, 10, 11, 12, 13])), int(rng.choice([8, 10, 14, 4]))
    parts = [
        (*lathe(x - 0.1, y, [(0.10, 0), (0.12, 0.85 * h)], 5), legs),
        (*lathe(x + 0.12, y + 0.1, [(0.10, 0), (0.12, 0.85 * h)], 5), legs),
        (
            *lathe(x, y, [(0.27, 0.75 * h), (0.24, 1.1 * h), (0.28, 1.38 * h), (0.08, 1.5 * h)], 7),
            coat,
        ),
        (
            *lathe(
                x, y, [(0.02, 1.46 * h), (0.13, 1.58 * h), (0.12, 1.68 * h), (0.02, 1.76 * h)], 6
            ),
            int(rng.choice([5, 6])),
        ),
    ]
    if rng.random() < 0.4:
        parts.append(
            (
                *lathe(
                    x, y, [(0.24, 1.68 * h), (0.13, 1.7 * h), (0.11, 1.82 * h), (0.0, 1.83 * h)], 7
                ),
                int(rng.choice([4, 10, 9])),
            )
        )
    return parts


def lamp(x, y):
    """A street lamp."""
    return [
        (
            *lathe(
                x,
                y,
                [(0.16, 0), (0.07, 0.5), (0.06, 3.4), (0.22, 3.5), (0.28, 4.0), (0.05, 4.3)],
                6,
            ),
            10,
        )
    ]


def hills(rng):
    """Hazy hills on the horizon, a ring of slopes 260 m away."""
    count = 72
    t = 2 * np.pi * np.arange(count) / count
    rise = 12 + 9 * np.sin(3 * t + rng.uniform(0, 6)) + 6 * np.sin(7 * t + rng.uniform(0, 6))
    low = np.column_stack([260 * np.cos(t), 260 * np.sin(t), np.full(count, -1.0)])
    high = np.column_stack([320 * np.cos(t), 320 * np.sin(t), rise.clip(2)])
    k = np.arange(count)
    n = (k + 1) % count
    return [
        (
            np.concatenate([low, high]),
            np.concatenate(
                [np.column_stack([k, n, n + count]), np.column_stack([k, n + count, k + count])]
            ),
            15,
        )
    ]


def frame_share(camera, vertices):
    """Hull area of a building over the frame's area, and its share inside the frame."""
    pixels, depth = camera.project(vertices)
    if (depth < 0.5).any():
        return 9.0, 0.0
    hull = cv2.convexHull(pixels.astype(np.float32))
    area = cv2.contourArea(hull)
    frame = np.array(
        [[0, 0], [camera.width, 0], [camera.width, camera.height], [0, camera.height]], np.float32
    )
    inside, _ = cv2.intersectConvexConvex(hull, frame)
    return area / (camera.width * camera.height), inside / max(area, 1e-6)


def place_camera(rng, vertices, role):
    """Draw a camera for a role: good, query, ok, junk, street."""
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    low, high = vertices.min(0), vertices.max(0)
    target = np.array([(low[0] + high[0]) / 2, low[1] + 2.0, high[2] * rng.uniform(0.42, 0.52)])
    sample = vertices[rng.integers(0, len(vertices), 400)]
    oblique = (
        rng.choice([-1, 1]) * rng.uniform(17, 38) if rng.random() < 0.8 else rng.uniform(-17, 17)
    )
    azimuth = np.radians(oblique if role != "street" else rng.uniform(-50, 50))
    eye = 1.7 if rng.random() < 0.45 else rng.uniform(2.5, 14)
    focal = 160 / np.tan(np.radians(rng.uniform(36, 70)) / 2)
    fill = rng.uniform(0.22, 0.58) if role != "street" else rng.uniform(0.12, 0.3)
    reach = {"ok": 0.55, "junk": 0.72}.get(role, 0.2)
    floor = {"ok": 0.3, "junk": 0.5}.get(role, 0.0)
    side = rng.choice([-1, 1])
    pixel = (
        width * (0.5 + side * rng.uniform(floor, reach)),
        height * (0.5 + rng.uniform(-0.10, 0.14)),
    )
    near, far = 8.0, 160.0
    for _ in range(12):
        distance = np.sqrt(near * far)
        position = target + distance * np.array([np.sin(azimuth), -np.cos(azimuth), 0])
        position[2] = eye
        camera = aim(position, target, (width / 2, height / 2), focal, width, height)
        area, _ = frame_share(camera, sample)
        near, far = (distance, far) if area > fill else (near, distance)
    return aim(
        position, target, pixel, focal, width, height, np.radians(rng.normal(0, 1.2))
    ), sample


def draw_view(rng, vertices, pool, role):
    """Draw a whole :class:`View` of the building with ``vertices``.

    ``pool`` lists the half-widths of the neighbours on offer. Roles good and query
    keep most of the building in the frame; ok and junk cut or hide it.
    """
    for _ in range(30):
        hidden = role in ("ok", "junk") and rng.random() < 0.4
        camera, sample = place_camera(rng, vertices, "good" if hidden else role)
        _, inside = frame_share(camera, sample)
        bounds = {
            "good": (0.74, 1.01),
            "query": (0.8, 1.01),
            "ok": (0.25, 0.72),
            "junk": (0.04, 0.4),
        }.get(role, (0.3, 1.01))
        if hidden or bounds[0] <= inside <= bounds[1]:
            break
    low, high = vertices.min(0), vertices.max(0)
    eye = camera.position
    neighbours, parts = [], hills(rng)
    order = rng.permutation(len(pool))
    for side, which in zip((-1, 1), order[:2], strict=True):
        if rng.random() < 0.85:
            edge = high[0] if side > 0 else -low[0]
            neighbours.append(
                (
                    int(which),
                    side * (edge + rng.uniform(1, 9) + pool[which]),
                    rng.uniform(-1.5, 8),
                    rng.normal(0, 0.12),
                )
            )
    x = -70.0 + rng.uniform(0, 20)
    for which in order[2:8]:
        x += pool[which]
        neighbours.append((int(which), x, high[1] + rng.uniform(14, 40), rng.normal(0, 0.3)))
        x += pool[which] + rng.uniform(1, 14)
    ahead = np.array([0, low[1], 0]) - eye
    across = np.array([-ahead[1], ahead[0], 0]) / (np.hypot(ahead[0], ahead[1]) + 1e-6)
    if hidden:
        for _ in range(int(rng.integers(2, 5)) + 2 * (role == "junk")):
            spot = eye + ahead * rng.uniform(0.35, 0.75) + across * rng.normal(0, 4.0)
            parts += tree(rng, spot[0], spot[1], rng.uniform(10, 17))
    elif rng.random() < 0.55:
        spot = (
            eye + ahead * rng.uniform(0.4, 0.85) + across * rng.choice([-1, 1]) * rng.uniform(2, 11)
        )
        parts += tree(rng, spot[0], spot[1], rng.uniform(4, 9))
    for _ in range(int(rng.integers(2, 6))):
        side = rng.choice([-1, 1])
        edge = high[0] if side > 0 else -low[0]
        parts += tree(
            rng,
            side * (edge + rng.uniform(0, 22)),
            rng.uniform(-9, 12) if rng.random() < 0.6 else high[1] + rng.uniform(3, 10),
            rng.uniform(6, 14),
        )
    for _ in range(int(rng.integers(3, 13))):
        spot = eye + ahead * rng.uniform(0.3, 0.95) + across * rng.normal(0, 9)
        parts += person(rng, spot[0], min(spot[1], low[1] - 0.8))
    for _ in range(int(rng.integers(0, 3))):
        spot = eye + ahead * rng.uniform(0.4, 0.9) + across * rng.normal(0, 9)
        parts += lamp(spot[0], min(spot[1], low[1] - 1.0))
    weather = rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2])
    ratio = (rng.uniform(3.0, 6.5), rng.uniform(0.8, 1.8), 0.04)[weather]
    sun = (
        np.radians(rng.uniform(-110, 110)),
        np.radians(rng.choice([14, 20, 28, 38, 50, 60])),
        float(rng.choice([2.5, 4, 6])),
        float(ratio),
    )
    return View(
        camera,
        neighbours,
        triangles(parts),
        str(rng.choice(GROUNDS)),
        sun,
        int(rng.integers(2**31)),
        float(rng.uniform(-0.6, 0.5)),
        (float(rng.uniform(0.93, 1.08)), float(rng.uniform(0.92, 1.06))),
        float(rng.uniform(0.002, 0.006)) if rng.random() < 0.2 else 0.0,
        float(rng.uniform(0, 0.9)),
    )
