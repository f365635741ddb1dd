"""Painted ornaments: windows, roses, doors, clocks, statues, carved panels.

:func:`decals` returns the 24 cells that a building's atlas needs; their places are
named in :data:`CELLS`. All drawing is done with OpenCV at the cell's resolution.
"""

from __future__ import annotations

import cv2
import numpy as np

SIZE = 128
# Which atlas cells hold which ornament; a builder picks one of a range at random.
CELLS = {
    "window": range(0, 6),
    "small": range(6, 10),
    "door": range(10, 12),
    "rose": range(12, 13),
    "clock": range(13, 14),
    "statue": range(14, 17),
    "carving": range(17, 20),
    "frieze": range(20, 22),
    "arms": range(22, 23),
    "dark": range(23, 24),
}


def _base(rng, colour):
    value = 1 + 0.06 * rng.standard_normal((SIZE // 8, SIZE // 8)).astype(np.float32)
    value = cv2.resize(value, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    return (value[..., None] * colour).astype(np.float32)


def _col(colour, gain=1.0):
    return tuple(float(c) * gain for c in colour)


def _arch_mask(kind):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if kind == "flat":
        cv2.rectangle(mask, (8, 8), (119, 127), 1, -1)
    elif kind == "round":
        cv2.ellipse(mask, (64, 52), (56, 46), 0, 180, 360, 1, -1)
        cv2.rectangle(mask, (8, 52), (119, 127), 1, -1)
    elif kind == "segment":
        cv2.ellipse(mask, (64, 34), (56, 28), 0, 180, 360, 1, -1)
        cv2.rectangle(mask, (8, 34), (119, 127), 1, -1)
    else:  # pointed: two arcs
        y, x = np.mgrid[0:SIZE, 0:SIZE]
        left, right = np.hypot(x - 8, (y - 66) * 1.6), np.hypot(x - 120, (y - 66) * 1.6)
        mask[((left < 112) & (right < 112) & (y <= 66)) | ((y > 66) & (x >= 8) & (x <= 120))] = 1
    return mask.astype(bool)


def _glass(rng):
    """Panes of unlike darkness: sky reflections, curtains, lamplight."""
    rows, cols = int(rng.integers(5, 10)), int(rng.integers(3, 7))
    panes = rng.choice(
        [0.05, 0.09, 0.14, 0.2, 0.3, 0.42], (rows, cols), p=[0.2, 0.22, 0.2, 0.16, 0.13, 0.09]
    )
    panes = cv2.resize(panes.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    slope = np.linspace(1.3, 0.7, SIZE, dtype=np.float32)[:, None]
    return (panes * slope)[..., None] * np.array([0.92, 1.0, 1.1], np.float32), (rows, cols)


def _window(rng, trim, wood, style, head):
    glass, (rows, cols) = _glass(rng)
    bar = (
        _col(trim, 0.95)
        if style in ("tracery", "lights")
        else _col(wood if rng.random() < 0.5 else trim, 1.05)
    )
    if style == "lattice":
        step = int(rng.integers(12, 20))
        for c in range(-SIZE, 2 * SIZE, step):
            cv2.line(glass, (c, 0), (c + SIZE, SIZE), bar, 2)
            cv2.line(glass, (c, 0), (c - SIZE, SIZE), bar, 2)
    elif style == "tracery":
        lights = int(rng.integers(2, 5))
        spacing = 112 / lights
        for c in range(1, lights):
            cv2.line(glass, (round(8 + c * spacing), 58), (round(8 + c * spacing), 127), bar, 5)
        for c in range(lights):
            centre = (round(8 + (c + 0.5) * spacing), 62)
            cv2.ellipse(glass, centre, (round(spacing / 2), 16), 0, 180, 360, bar, 4)
        foils = int(rng.integers(3, 8))
        for k in range(foils):
            a = 2 * np.pi * (k + 0.5) / foils
            cv2.circle(
                glass,
                (round(64 + 12 * np.cos(a)), round(32 + 10 * np.sin(a))),
                int(rng.integers(6, 10)),
                bar,
                3,
            )
        cv2.circle(glass, (64, 32), 24, bar, 4)
        cv2.line(glass, (8, 94), (120, 94), bar, 3)
    elif style == "lights":
        lights, transoms = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        for c in range(1, lights):
            cv2.line(glass, (8 + c * 112 // lights, 0), (8 + c * 112 // lights, 127), bar, 7)
        for r in range(1, transoms + 1):
            cv2.line(
                glass, (0, r * 128 // (transoms + 1)), (127, r * 128 // (transoms + 1)), bar, 6
            )
    else:  # sash
        for c in range(1, cols):
            cv2.line(glass, (c * SIZE // cols, 0), (c * SIZE // cols, 127), bar, 3)
        for r in range(1, rows):
            cv2.line(glass, (0, r * SIZE // rows), (127, r * SIZE // rows), bar, 3)
        if rng.random() < 0.5:
            cv2.rectangle(glass, (0, 60), (127, 66), bar, -1)
        if style == "shutters":
            for x0 in (8, 88):
                cv2.rectangle(glass, (x0, 8), (x0 + 32, 124), _col(wood, 1.7), -1)
                for y in range(14, 120, int(rng.integers(7, 12))):
                    cv2.line(glass, (x0 + 3, y), (x0 + 29, y), _col(wood, 0.7), 2)
    picture = _base(rng, trim)
    mask = _arch_mask(head)
    edge = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool)
    picture[edge] = np.asarray(_col(trim, 0.6))
    picture[mask] = glass[mask]
    return picture


def _rose(rng, trim):
    glass, _ = _glass(rng)
    picture = _base(rng, trim)
    spokes, rings = int(rng.integers(6, 15)), sorted(rng.uniform(14, 50, 2))
    disc = np.hypot(*(np.mgrid[0:SIZE, 0:SIZE] - 63.5)) < 58
    bar = _col(trim, 1.0)
    for k in range(spokes):
        a = 2 * np.pi * k / spokes
        end = (round(64 + 58 * np.cos(a)), round(64 + 58 * np.sin(a)))
        cv2.line(glass, (64, 64), end, bar, 3)
        b = a + np.pi / spokes
        cv2.circle(
            glass,
            (round(64 + 44 * np.cos(b)), round(64 + 44 * np.sin(b))),
            max(4, round(100 / spokes)),
            bar,
            3,
        )
    for r in rings:
        cv2.circle(glass, (64, 64), round(r), bar, 3)
    cv2.circle(glass, (64, 64), int(rng.integers(8, 14)), bar, -1)
    picture[disc] = glass[disc]
    cv2.circle(picture, (64, 64), 59, _col(trim, 0.55), 2)
    cv2.circle(picture, (64, 64), 62, _col(trim, 1.15), 3)
    return picture


def _door(rng, trim, wood, head):
    leaf = _base(rng, np.asarray(wood) * rng.uniform(1.2, 2.0))
    for x in range(0, SIZE, int(rng.integers(9, 18))):
        cv2.line(leaf, (x, 0), (x, 127), _col(wood, 0.5), 2)
    for y in (60, 108):
        cv2.rectangle(leaf, (14, y), (56, y + 5), (0.06, 0.06, 0.06), -1)
        cv2.rectangle(leaf, (72, y), (114, y + 5), (0.06, 0.06, 0.06), -1)
    cv2.line(leaf, (64, 0), (64, 127), (0.05, 0.05, 0.05), 3)
    tympanum = _carving(rng, trim)[:46]
    leaf[:46] = tympanum
    picture = _base(rng, trim)
    mask = _arch_mask(head)
    picture[cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)] = np.asarray(
        _col(trim, 0.5)
    )
    picture[mask] = leaf[mask]
    return picture


def _clock(rng, trim):
    picture = _base(rng, trim)
    face = (0.85, 0.83, 0.76) if rng.random() < 0.6 else (0.12, 0.13, 0.16)
    ink = (0.08, 0.08, 0.1) if face[0] > 0.5 else (0.85, 0.75, 0.45)
    cv2.circle(picture, (64, 64), 58, face, -1)
    cv2.circle(picture, (64, 64), 58, ink, 4)
    cv2.circle(picture, (64, 64), 36, ink, 2)
    for k in range(12):
        a = np.pi * k / 6
        cv2.line(
            picture,
            (round(64 + 40 * np.cos(a)), round(64 + 40 * np.sin(a))),
            (round(64 + 53 * np.cos(a)), round(64 + 53 * np.sin(a))),
            ink,
            int(rng.integers(3, 7)),
        )
    for length, thick in ((30, 6), (46, 4)):
        a = rng.uniform(0, 2 * np.pi)
        cv2.line(
            picture,
            (64, 64),
            (round(64 + length * np.cos(a)), round(64 + length * np.sin(a))),
            ink,
            thick,
        )
    return picture


def _statue(rng, trim):
    picture = _base(rng, trim)
    mask = _arch_mask("round")
    picture[mask] = np.asarray(_col(trim, 0.33))
    body = _col(trim, 1.12)
    lean = int(rng.integers(-8, 9))
    points = np.array(
        [
            [40, 122],
            [88, 122],
            [80 + lean, 70],
            [88 + lean, 48],
            [64 + lean, 40],
            [42 + lean, 50],
            [48 + lean, 74],
        ]
    )
    cv2.fillPoly(picture, [points.astype(np.int32)], body)
    cv2.circle(picture, (64 + lean, 30), 11, body, -1)
    for _ in range(4):  # folds
        x = int(rng.integers(46, 82))
        cv2.line(picture, (x, 118), (x + lean + int(rng.integers(-6, 7)), 62), _col(trim, 0.6), 2)
    end = (int(rng.choice([24, 104])), int(rng.integers(24, 90)))
    cv2.line(picture, (64 + lean, 56), end, body, 7)
    cv2.line(picture, (end[0], 20), (end[0], 116), _col(trim, 0.9), 3)
    return picture


def _carving(rng, trim):
    """A carved panel: random strokes mirrored left to right, lit from above."""
    height = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(int(rng.integers(9, 16))):
        x, y, r = int(rng.integers(8, 64)), int(rng.integers(10, 118)), int(rng.integers(5, 20))
        start = int(rng.integers(0, 360))
        cv2.ellipse(
            height,
            (x, y),
            (r, max(3, int(r * rng.uniform(0.4, 1)))),
            int(rng.integers(0, 180)),
            start,
            start + int(rng.integers(120, 360)),
            float(rng.uniform(0.4, 1)),
            int(rng.integers(3, 7)),
        )
    if rng.random() < 0.75:
        height = np.maximum(height, height[:, ::-1])
    relief = cv2.GaussianBlur(height, (0, 0), 1.2)
    light = 0.85 + 1.5 * (relief - np.roll(relief, 3, 0)) + 0.4 * (relief - np.roll(relief, 2, 1))
    picture = light.clip(0.35, 1.3)[..., None] * np.asarray(trim, np.float32)
    cv2.rectangle(picture, (2, 2), (125, 125), _col(trim, 0.55), 3)
    return picture.astype(np.float32)


def _frieze(rng, trim):
    picture = _base(rng, trim)
    count, kind = int(rng.integers(3, 7)), int(rng.integers(0, 4))
    step = SIZE / count
    for k in range(count):
        x = round((k + 0.5) * step)
        if kind == 0:
            cv2.circle(picture, (x, 64), round(step * 0.36), _col(trim, 0.45), 6)
        elif kind == 1:
            cv2.line(picture, (round(k * step), 100), (x, 28), _col(trim, 0.42), 8)
            cv2.line(picture, (x, 28), (round((k + 1) * step), 100), _col(trim, 0.42), 8)
        elif kind == 2:
            cv2.ellipse(
                picture, (x, 100), (round(step * 0.4), 70), 0, 180, 360, _col(trim, 0.4), -1
            )
        else:
            cv2.rectangle(
                picture,
                (x - round(step * 0.3), 24),
                (x + round(step * 0.3), 104),
                _col(trim, 0.45 + 0.1 * (k % 3)),
                -1,
            )
    cv2.line(picture, (0, 8), (127, 8), _col(trim, 0.5), 5)
    cv2.line(picture, (0, 120), (127, 120), _col(trim, 0.5), 5)
    return picture


def _arms(rng, trim):
    picture = _carving(rng, trim)
    shield = np.array([[34, 28], [94, 28], [94, 72], [64, 108], [34, 72]], np.int32)
    cv2.fillPoly(picture, [shield], _col(trim, 1.15))
    for k in range(2):
        part = shield.copy()
        part[:, 0] = np.clip(part[:, 0], 34 + 30 * k, 64 + 30 * k)
        if rng.random() < 0.6:
            cv2.fillPoly(picture, [part], _col(trim, rng.uniform(0.3, 0.9)))
    for _ in range(4):
        cv2.circle(
            picture,
            (int(rng.integers(42, 88)), int(rng.integers(36, 84))),
            int(rng.integers(3, 8)),
            _col(trim, rng.uniform(0.25, 1.3)),
            -1,
        )
    cv2.polylines(picture, [shield], True, _col(trim, 0.4), 4)
    return picture


def decals(rng, trim, wall, wood):
    """Return the 24 ornament cells (128, 128, 3), float32, in the order of CELLS."""
    trim = np.asarray(trim, np.float32)
    heads = ("flat", "round", "segment", "pointed")
    head_a, head_b, head_door = rng.choice(heads), rng.choice(heads), rng.choice(heads[1:])
    styles = ("tracery", "lights", "sash", "lattice", "shutters")
    style_a, style_b = rng.choice(styles), rng.choice(styles[1:])
    cells = [_window(rng, trim, wood, style_a, head_a) for _ in CELLS["window"]]
    cells += [_window(rng, trim, wood, style_b, head_b) for _ in CELLS["small"]]
    cells += [_door(rng, trim, wood, head_door) for _ in CELLS["door"]]
    cells += [_rose(rng, trim), _clock(rng, trim)]
    cells += [_statue(rng, trim) for _ in CELLS["statue"]]
    cells += [_carving(rng, trim) for _ in CELLS["carving"]]
    cells += [_frieze(rng, trim) for _ in CELLS["frieze"]]
    cells += [_arms(rng, trim)]
    dark = _base(rng, trim)
    dark[_arch_mask(head_door)] = np.array([0.05, 0.05, 0.06], np.float32)
    return [*cells, dark]
