"""Procedural bitmaps: stone, brick, timber, tiles and painted ornaments.

Every function takes a ``numpy.random.Generator`` and returns float32 pictures in
[0, 1] that *modulate* a palette colour. Colour never identifies a building: form,
bond, stains and ornaments do, because each wall is painted once, without tiling.
"""

from __future__ import annotations

import cv2
import numpy as np

# Few palettes shared by all buildings: (wall, trim, roof, woodwork), linear-ish sRGB.
PALETTES = {
    "honey": ((0.66, 0.55, 0.39), (0.74, 0.66, 0.51), (0.36, 0.31, 0.28), (0.24, 0.19, 0.14)),
    "grey": ((0.55, 0.54, 0.50), (0.68, 0.66, 0.61), (0.33, 0.34, 0.37), (0.22, 0.21, 0.20)),
    "brick": ((0.55, 0.34, 0.26), (0.70, 0.63, 0.52), (0.38, 0.32, 0.29), (0.25, 0.20, 0.17)),
    "plaster": ((0.69, 0.63, 0.52), (0.61, 0.55, 0.46), (0.47, 0.31, 0.24), (0.25, 0.18, 0.13)),
}

ATLAS_WIDTH = 1024
# name: (first row, rows, pixels a metre); decals hold 3 x 8 cells of 128 pixels.
REGIONS = {"wall": (0, 560, 20.0), "roof": (560, 256, 18.0), "trim": (816, 192, 22.0)}
DECAL_ROW, DECAL_CELL = 1008, 128
ATLAS_HEIGHT = DECAL_ROW + 3 * DECAL_CELL

WALLS = ("ashlar", "brick", "rubble", "banded", "timber", "chequer", "diaper", "patched")


def smooth_noise(rng, height, width, scale):
    """Value noise in [-1, 1] whose features are about ``scale`` pixels wide."""
    rows, cols = max(2, round(height / scale) + 2), max(2, round(width / scale) + 2)
    coarse = rng.uniform(-1, 1, (rows, cols)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def courses(rng, height, width, row_px, block_px, joint=1, spread=0.2, regular=False):
    """Blocks laid in courses: a value map (1 = base) with joints and per-block tone."""
    value = np.empty((height, width), np.float32)
    y, course = 0, 0
    while y < height:
        rise = row_px if regular else max(4, round(row_px * rng.uniform(0.7, 1.4)))
        if regular:
            ends = np.arange(-(course % 2) * (block_px / 2), width + block_px, block_px)
        else:
            ends = (
                np.cumsum(block_px * rng.uniform(0.55, 1.6, int(width / block_px * 2) + 4))
                - block_px
            )
        ends = np.round(ends).astype(int)
        block = np.searchsorted(ends, np.arange(width), side="right")
        tone = 1 + spread * rng.standard_normal(len(ends) + 2).clip(-2.2, 1.8)
        line = tone[block].astype(np.float32)
        edge = np.zeros(width, bool)
        for shift in range(joint):
            inside = ends + shift
            edge[inside[(inside >= 0) & (inside < width)]] = True
        line[edge] = 0.58
        value[y : y + rise] = line
        value[y : y + joint] = 0.60
        if not regular and rise > 7:  # a lit upper arris gives each stone relief
            value[y + joint : y + joint + 1] *= 1.12
        y += rise
        course += 1
    return value


def rubble(rng, height, width, size):
    """Irregular stones: a jittered grid of seeds, nearest seed wins, dark joints."""
    rows, cols = height // size + 3, width // size + 3
    seeds = rng.uniform(0.1, 0.9, (rows, cols, 2)).astype(np.float32)
    tone = (1 + 0.24 * rng.standard_normal((rows, cols)).clip(-2, 1.7)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / size
    gy, gx = y.astype(int) + 1, x.astype(int) + 1
    best = np.full((height, width), 9.0, np.float32)
    second = best.copy()
    value = np.ones_like(best)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cell = seeds[gy + dy, gx + dx]
            distance = np.hypot((gy + dy - 1) + cell[..., 0] - y, (gx + dx - 1) + cell[..., 1] - x)
            nearer = distance < best
            second = np.where(nearer, best, np.minimum(second, distance))
            value = np.where(nearer, tone[gy + dy, gx + dx], value)
            best = np.minimum(best, distance)
    return np.where(second - best < 0.1, 0.52, value * (1.06 - 0.25 * best))


def timber(rng, height, width):
    """Half-timbering: dark posts, rails and braces over light plaster; 1 = plaster."""
    value = 1 + 0.07 * smooth_noise(rng, height, width, 9)
    beam = int(rng.integers(5, 8))
    storey = int(rng.integers(38, 60))
    for y in range(0, height + storey, storey):
        x = 0
        while x < width:
            bay = int(rng.integers(18, 46))
            kind = rng.integers(0, 6)
            corners = [(x, y), (x + bay, y), (x + bay, y + storey), (x, y + storey)]
            dark = float(rng.uniform(0.24, 0.34))
            if kind in (0, 1):
                cv2.line(value, corners[kind], corners[kind + 2], dark, beam - 1)
            elif kind == 2:
                cv2.line(value, corners[0], corners[2], dark, beam - 2)
                cv2.line(value, corners[1], corners[3], dark, beam - 2)
            elif kind == 3:
                cv2.ellipse(
                    value,
                    (x + bay // 2, y + storey),
                    (bay // 2, storey // 2),
                    0,
                    180,
                    360,
                    dark,
                    beam - 2,
                )
            elif kind == 4:
                cv2.line(value, (x, y + storey // 2), (x + bay, y + storey // 2), dark, beam - 2)
            cv2.line(value, (x, y), (x, y + storey), dark, beam)
            x += bay
        cv2.line(value, (0, y), (width, y), 0.27, beam + 2)
    return value


def wall(rng, kind, height, width):
    """Return the value map of one wall kind, weathered so that no two yards agree."""
    row, block = int(rng.integers(11, 18)), int(rng.integers(20, 36))
    if kind == "ashlar":
        value = courses(rng, height, width, row, block, 2, 0.17)
    elif kind == "brick":
        value = courses(rng, height, width, 7, int(rng.integers(14, 19)), 1, 0.24, regular=True)
    elif kind == "rubble":
        value = rubble(rng, height, width, int(rng.integers(13, 21)))
    elif kind == "banded":
        value = courses(rng, height, width, row, block, 2, 0.13)
        period = int(rng.integers(40, 90))
        bands = (np.arange(height) % period) < rng.uniform(0.25, 0.5) * period
        value = value * np.where(bands, rng.uniform(0.55, 0.7), 1.08)[:, None]
    elif kind == "timber":
        value = timber(rng, height, width)
    elif kind == "chequer":
        size = int(rng.integers(16, 28))
        y, x = np.mgrid[0:height, 0:width]
        dark = ((y // size + x // size) % 2).astype(bool)
        value = np.where(dark, 0.72, 1.05) * courses(
            rng, height, width, size, size, 1, 0.2, regular=True
        )
        value = value * np.where(dark, rubble(rng, height, width, 9), 1)
    elif kind == "diaper":  # brick with a lozenge pattern of burnt headers
        value = courses(rng, height, width, 7, 16, 1, 0.18, regular=True)
        period = int(rng.integers(50, 90))
        y, x = np.mgrid[0:height, 0:width]
        lozenge = (((x + y) % period) < 9) | (((x - y) % period) < 9)
        value = value * np.where(lozenge, 0.55, 1.04)
    else:  # plaster fallen off in patches to the brick below
        brick = courses(rng, height, width, 7, 16, 1, 0.22, regular=True) * 0.78
        patch = smooth_noise(rng, height, width, 55) + 0.4 * smooth_noise(rng, height, width, 14)
        value = np.where(patch > 0.12, brick, 1.06 + 0.06 * smooth_noise(rng, height, width, 7))
        value = np.where(np.abs(patch - 0.12) < 0.035, 0.6, value)
    stain = 0.16 * smooth_noise(rng, height, width, 90) + 0.10 * smooth_noise(
        rng, height, width, 24
    )
    streak = cv2.resize(
        rng.uniform(-1, 1, (height // 60 + 2, width // 5)).astype(np.float32), (width, height)
    )
    grain = rng.standard_normal((height, width)).astype(np.float32)
    return (value * (1 + stain + 0.09 * streak + 0.05 * grain)).astype(np.float32)


def roof(rng, height, width):
    """Tiles or slates in courses, with mossy patches; sometimes a pattern in two tones."""
    value = courses(
        rng,
        height,
        width,
        int(rng.integers(7, 11)),
        int(rng.integers(9, 15)),
        1,
        0.22,
        regular=True,
    )
    if rng.random() < 0.4:
        y, x = np.mgrid[0:height, 0:width]
        period = int(rng.integers(36, 70))
        value = value * np.where(
            ((x + y) % period < period // 3) ^ ((x - y) % period < period // 3), 0.62, 1.1
        )
    return value * (1 + 0.22 * smooth_noise(rng, height, width, 50))


def colourise(rng, value, colour, hue=0.05):
    """Multiply a value map into a colour with a slow drift of warm and cold."""
    height, width = value.shape
    drift = smooth_noise(rng, height, width, 60) * hue
    picture = value[..., None] * np.asarray(colour, np.float32)
    picture[..., 0] *= 1 + drift
    picture[..., 2] *= 1 - drift
    return picture.clip(0.015, 0.93)


def atlas(rng, palette, wall_kind):
    """Paint the one bitmap that holds all of a building's surfaces.

    Returns float32 sRGB of shape (ATLAS_HEIGHT, ATLAS_WIDTH, 3).
    """
    from .ornaments import decals

    wall_colour, trim_colour, roof_colour, wood = (
        np.asarray(c, np.float32) for c in PALETTES[palette]
    )
    tint = rng.uniform(0.975, 1.025, 3).astype(np.float32) * rng.uniform(0.9, 1.08)
    wall_colour, trim_colour = wall_colour * tint, trim_colour * tint
    picture = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, 3), np.float32)
    for name, colour in (("wall", wall_colour), ("roof", roof_colour), ("trim", trim_colour)):
        first, rows, _ = REGIONS[name]
        if name == "wall":
            value = wall(rng, wall_kind, rows, ATLAS_WIDTH)
        elif name == "roof":
            value = roof(rng, rows, ATLAS_WIDTH)
        else:
            value = wall(rng, "ashlar", rows, ATLAS_WIDTH) * 1.02
        picture[first : first + rows] = colourise(rng, value, colour)
    for index, cell in enumerate(decals(rng, trim_colour, wall_colour, wood)):
        row, col = divmod(index, 8)
        y, x = DECAL_ROW + row * DECAL_CELL, col * DECAL_CELL
        picture[y : y + DECAL_CELL, x : x + DECAL_CELL] = cell
    return picture.clip(0.015, 0.93)


def ground(rng, kind, size=512):
    """A tile of ground (12 m wide): grass, cobbles, gravel or paving, sRGB float32."""
    noise = lambda scale: smooth_noise(rng, size, size, scale)  # noqa: E731
    if kind == "grass":
        value = 1 + 0.18 * noise(40) + 0.22 * noise(5) + 0.12 * rng.standard_normal((size, size))
        colour = (0.33, 0.40, 0.19)
    elif kind == "cobbles":
        value, colour = rubble(rng, size, size, 16) * (1 + 0.12 * noise(60)), (0.47, 0.45, 0.42)
    elif kind == "gravel":
        value = 1 + 0.10 * noise(70) + 0.10 * noise(4) + 0.07 * rng.standard_normal((size, size))
        colour = (0.62, 0.56, 0.46)
    elif kind == "paving":
        value, colour = (
            courses(rng, size, size, 38, 56, 2, 0.09) * (1 + 0.1 * noise(60)),
            (0.56, 0.53, 0.48),
        )
    else:
        raise ValueError(f"ground kind {kind!r} is not known; use grass, cobbles, gravel or paving")
    return colourise(rng, value.astype(np.float32), colour)
