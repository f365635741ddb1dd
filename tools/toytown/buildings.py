"""Whole buildings: eight forms, each drawn anew from a seed.

:func:`make_building` is the only entry; a building stands about the origin, faces
-y, and is described by :class:`Spec` so that a *colour twin* can share palette, form
and size while its proportions, openings and textures are others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .forms import BUILDERS
from .solids import Solid
from .textures import PALETTES, WALLS, atlas

FORMS = tuple(BUILDERS)


@dataclass(frozen=True)
class Spec:
    """What decides a building: form, palette and wall kind by name, size, seed."""

    form: str
    palette: str
    wall: str
    size: float  # 1 is about 24 m of front
    seed: int


@dataclass(frozen=True)
class Building:
    """Triangles with uv on one bitmap (sRGB float32), and the spec they came from."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    bitmap: np.ndarray
    spec: Spec


def random_spec(rng, size=None):
    """Draw a spec; every palette may meet every form and wall."""
    return Spec(
        str(rng.choice(FORMS)),
        str(rng.choice(list(PALETTES))),
        str(rng.choice(WALLS)),
        float(size or rng.uniform(0.85, 1.15)),
        int(rng.integers(2**31)),
    )


def twin_spec(spec, rng):
    """Same palette, form and size; another wall kind, other parts, other ornaments."""
    other = [w for w in WALLS if w != spec.wall]
    return Spec(
        spec.form, spec.palette, str(rng.choice(other)), spec.size, int(rng.integers(2**31))
    )


def make_building(spec):
    """Build the triangles and paint the bitmap that ``spec`` stands for."""
    if spec.form not in BUILDERS:
        raise ValueError(f"building form {spec.form!r} is not known; use one of {', '.join(FORMS)}")
    rng = np.random.default_rng([7, spec.seed])
    solid = Solid(np.random.default_rng([8, spec.seed]))
    BUILDERS[spec.form](solid, rng, spec.size)
    vertices, faces, uv = solid.arrays()
    return Building(
        vertices,
        faces,
        uv,
        atlas(np.random.default_rng([9, spec.seed]), spec.palette, spec.wall),
        spec,
    )
