"""Solid parts in a wall's own frame: boxes, arches, drums, domes, panels.

A :class:`Frame` stands on the ground and looks outwards from a wall: ``s`` runs to
the right along the wall, ``d`` outwards, ``z`` up, all in metres. A :class:`Solid`
collects textured quads; :meth:`Solid.arrays` gives what a renderer needs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .ornaments import CELLS
from .textures import ATLAS_HEIGHT, ATLAS_WIDTH, DECAL_CELL, DECAL_ROW, REGIONS


class Frame:
    """A vertical wall's frame; angle 0 faces -y (towards the usual camera)."""

    def __init__(self, x=0.0, y=0.0, angle=0.0):
        self.x, self.y, self.angle = x, y, angle
        self.cos, self.sin = math.cos(angle), math.sin(angle)

    def point(self, s, d, z):
        """Local (s, d, z) to building coordinates (x, y, z)."""
        return (self.x + s * self.cos + d * self.sin, self.y + s * self.sin - d * self.cos, z)

    def moved(self, s=0.0, d=0.0, turn=0.0):
        """A frame at local (s, d), turned by ``turn`` radians."""
        x, y, _ = self.point(s, d, 0)
        return Frame(x, y, self.angle + turn)


class Solid:
    """Textured quads of one building; ``rng`` places walls on the painted atlas."""

    def __init__(self, rng):
        self.rng, self.points, self.uv = rng, [], []

    def quad(self, corners, uv):
        """Add four points (lower left, lower right, upper right, upper left) with uv."""
        self.points.append(corners)
        self.uv.append(uv)

    def patch_uv(self, mat, width, height):
        """A random place of the region ``mat`` that is width x height metres large."""
        first, rows, scale = REGIONS[mat]
        w, h = min(width * scale, ATLAS_WIDTH - 8), min(height * scale, rows - 8)
        x = self.rng.uniform(3, ATLAS_WIDTH - 4 - w)
        y = first + self.rng.uniform(3, rows - 4 - h)
        x0, x1 = x / ATLAS_WIDTH, (x + w) / ATLAS_WIDTH
        y0, y1 = y / ATLAS_HEIGHT, (y + h) / ATLAS_HEIGHT
        return ((x0, y1), (x1, y1), (x1, y0), (x0, y0))

    def face(self, frame, corners, mat):
        """A quad from four local (s, d, z) corners, textured at its real size."""
        world = [frame.point(*c) for c in corners]
        width = math.dist(world[0], world[1]) or math.dist(world[2], world[3])
        height = max(math.dist(world[0], world[3]), math.dist(world[1], world[2]))
        self.quad(world, self.patch_uv(mat, width, height))

    def box(self, f, s0, s1, d0, d1, z0, z1, mat="wall", top=None):
        """A box; its top takes the material ``top`` (default: the same)."""
        self.face(f, ((s0, d1, z0), (s1, d1, z0), (s1, d1, z1), (s0, d1, z1)), mat)
        self.face(f, ((s1, d1, z0), (s1, d0, z0), (s1, d0, z1), (s1, d1, z1)), mat)
        self.face(f, ((s0, d0, z0), (s0, d1, z0), (s0, d1, z1), (s0, d0, z1)), mat)
        self.face(f, ((s1, d0, z0), (s0, d0, z0), (s0, d0, z1), (s1, d0, z1)), mat)
        self.face(f, ((s0, d1, z1), (s1, d1, z1), (s1, d0, z1), (s0, d0, z1)), top or mat)

    def wedge(self, f, s0, s1, d0, d1, z0, z1, mat="trim"):
        """A slope falling outwards from height z1 at d0 to z0 at d1."""
        self.face(f, ((s0, d1, z0), (s1, d1, z0), (s1, d0, z1), (s0, d0, z1)), mat)
        self.face(f, ((s0, d0, z0), (s0, d1, z0), (s0, d1, z0), (s0, d0, z1)), mat)
        self.face(f, ((s1, d1, z0), (s1, d0, z0), (s1, d0, z1), (s1, d1, z0)), mat)

    def gable(self, f, s0, s1, d0, d1, z0, z1, mat="wall", cover="roof", over=0.3):
        """A pitched roof whose gables face +d and -d."""
        mid = (s0 + s1) / 2
        for d in (d1, d0):
            self.face(f, ((s0, d, z0), (s1, d, z0), (mid, d, z1), (mid, d, z1)), mat)
        drop = over * (z1 - z0) / ((s1 - s0) / 2)
        for s in (s0 - over, s1 + over):
            self.face(
                f,
                (
                    (s, d1 + over, z0 - drop),
                    (s, d0 - over, z0 - drop),
                    (mid, d0 - over, z1 + 0.1),
                    (mid, d1 + over, z1 + 0.1),
                ),
                cover,
            )

    def ridge(self, f, s0, s1, d0, d1, z0, z1, mat="wall", cover="roof", hip=0.0):
        """A pitched roof whose slopes face +d and -d; ``hip`` draws in the ridge."""
        mid, o = (d0 + d1) / 2, 0.3
        self.face(
            f,
            ((s0 - o, d1 + o, z0), (s1 + o, d1 + o, z0), (s1 - hip, mid, z1), (s0 + hip, mid, z1)),
            cover,
        )
        self.face(
            f,
            ((s1 + o, d0 - o, z0), (s0 - o, d0 - o, z0), (s0 + hip, mid, z1), (s1 - hip, mid, z1)),
            cover,
        )
        side = cover if hip else mat
        k = o if hip else 0.0
        self.face(
            f,
            ((s1 + k, d1 + k, z0), (s1 + k, d0 - k, z0), (s1 - hip, mid, z1), (s1 - hip, mid, z1)),
            side,
        )
        self.face(
            f,
            ((s0 - k, d0 - k, z0), (s0 - k, d1 + k, z0), (s0 + hip, mid, z1), (s0 + hip, mid, z1)),
            side,
        )

    def drum(self, f, s, d, profile, sides, mat="wall", turn=0.0):
        """A solid of ``sides`` faces around (s, d); ``profile`` lists (radius, z)."""
        angles = [turn + 2 * math.pi * k / sides for k in range(sides + 1)]
        for (r0, z0), (r1, z1) in pairwise(profile):
            height = math.hypot(z1 - z0, r1 - r0)
            around = 2 * math.pi * max(r0, r1)
            (u0, v0), (u1, _), (_, v1), _ = self.patch_uv(mat, around, height)
            for k in range(sides):
                a, b = angles[k], angles[k + 1]
                ring = [
                    (s + r * math.sin(t), d + r * math.cos(t), z)
                    for r, z, t in ((r0, z0, a), (r0, z0, b), (r1, z1, b), (r1, z1, a))
                ]
                ua, ub = u0 + (u1 - u0) * k / sides, u0 + (u1 - u0) * (k + 1) / sides
                self.quad([f.point(*p) for p in ring], ((ua, v0), (ub, v0), (ub, v1), (ua, v1)))

    def pyramid(self, f, s0, s1, d0, d1, z0, z1, mat="roof"):
        """A four-sided spire over a rectangle."""
        tip = ((s0 + s1) / 2, (d0 + d1) / 2, z1)
        ring = ((s0, d1, z0), (s1, d1, z0), (s1, d0, z0), (s0, d0, z0))
        for k in range(4):
            self.face(f, (ring[k], ring[(k + 1) % 4], tip, tip), mat)

    def arch(self, f, s, z, inner, outer, d0, d1, mat="trim", pointed=0.0, steps=8):
        """A ring of voussoirs over an opening, springing at height z."""

        def ring(radius, k):
            t = math.pi * k / steps
            lift = 1 + pointed * math.sin(t) ** 3
            return s - radius * math.cos(t), z + radius * math.sin(t) * lift

        for k in range(steps):
            (a, b), (c, e) = ring(inner, k), ring(inner, k + 1)
            (p, q), (u, v) = ring(outer, k), ring(outer, k + 1)
            self.face(f, ((a, d1, b), (c, d1, e), (u, d1, v), (p, d1, q)), mat)
            self.face(f, ((p, d1, q), (u, d1, v), (u, d0, v), (p, d0, q)), mat)
            self.face(f, ((a, d0, b), (c, d0, e), (c, d1, e), (a, d1, b)), mat)

    def panel(self, f, s, z, width, height, cell, d=0.04):
        """A painted ornament of the named kind, lower edge at z, centred on s."""
        index = int(self.rng.choice(list(CELLS[cell]))) if isinstance(cell, str) else cell
        row, col = divmod(index, 8)
        x0, x1 = (col * DECAL_CELL + 1) / ATLAS_WIDTH, ((col + 1) * DECAL_CELL - 1) / ATLAS_WIDTH
        y0 = (DECAL_ROW + row * DECAL_CELL + 1) / ATLAS_HEIGHT
        y1 = (DECAL_ROW + (row + 1) * DECAL_CELL - 1) / ATLAS_HEIGHT
        l, r = s - width / 2, s + width / 2
        corners = [
            f.point(*p) for p in ((l, d, z), (r, d, z), (r, d, z + height), (l, d, z + height))
        ]
        self.quad(corners, ((x0, y1), (x1, y1), (x1, y0), (x0, y0)))

    def arrays(self):
        """Vertices (n, 3), triangles (m, 3) and uv (n, 2), float32 / uint32."""
        vertices = np.asarray(self.points, np.float32).reshape(-1, 3)
        uv = np.asarray(self.uv, np.float32).reshape(-1, 2)
        base = 4 * np.arange(len(self.points), dtype=np.uint32)[:, None]
        faces = np.concatenate(
            [base + np.array([[0, 1, 2]], np.uint32), base + np.array([[0, 2, 3]], np.uint32)]
        )
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-7
        return vertices, faces[solid], uv
