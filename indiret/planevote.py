"""A method without learning: two photos are alike if many patches agree on one plane of the tensor.

Each photo is kept twice: once small, every second patch of it a voter (its *template*), and once in
several sizes, every patch of which may answer (its *pyramid*). The query's template votes in the
target's pyramid, and the target's in the query's, since the one that the thing fills is the better
voter. What counts is how far the best plane stands above all others, and a pair's score is the
product of both directions' standings. Votes say which patch lies where, so every score comes with
its evidence.

Chapter: *Sphere or plane?*
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.patches import patch_grid
from indiret.planes import (
    CELL,
    PARTS,
    Plane,
    cell_grid,
    grid_places,
    planes_of,
    refine_plane,
    sample_plane,
    slope_patches,
    tolerate,
    vote,
)

EVIDENCE_CELLS = 14  # of the longer side of an evidence map, as networks have them


@dataclass(frozen=True)
class PlaneConfig:
    """How large photos are made, and which turns are tried; see book/decisions/0008_planes."""

    template: int = 112  # pixels of a template's longer side: 25 patches
    step: int = 2  # even; every second of them votes, which is a quarter of all
    pyramid: tuple[int, ...] = (70, 88, 111, 140, 176, 222, 280)  # 5/8 to 5/2 of a template
    turns: tuple[float, ...] = (0.0,)  # degrees by which templates are turned

    def __post_init__(self) -> None:
        sides = (self.template, *self.pyramid)
        odd = self.step < 2 or self.step % 2
        if not self.pyramid or not self.turns or min(sides) < CELL * PARTS or odd:
            raise ValueError(
                f"template={self.template}, pyramid={self.pyramid}, step={self.step} and "
                f"turns={self.turns} do not make planes: give sides of at least {CELL * PARTS} "
                "pixels, an even step and at least one turn."
            )


class Template(NamedTuple):
    """``patches`` (K, L, D) that vote, and ``where`` (K, L, 2) their centres lie in the photo.

    Places are y and x from 0 to 1.
    """

    patches: Tensor
    where: Tensor


class PlaneViews(NamedTuple):
    """What is kept of a photo: a template for each turn, and the patches of its pyramid.

    ``pyramid`` is (N, D) half, the patches of all sizes less their mean, so that a patch like all
    others answers nothing; ``grids`` are their rows and columns.
    """

    templates: tuple[Template, ...]
    pyramid: Tensor
    grids: tuple[tuple[int, int], ...]
    shape: tuple[int, int]


class Found(NamedTuple):
    """The best plane of a template in a pyramid.

    ``votes`` is its mean response, ``standing`` how far that lies above the mean of all planes, in
    their standard deviations; ``turn`` is the template's number, ``place`` the plane's among all.
    """

    votes: float
    standing: float
    turn: int
    place: int


class Landing(NamedTuple):
    """Where a template's patches lie in the other photo, to a fraction of a patch.

    ``voters`` and ``places`` are (P, 2), y and x from 0 to 1 in their photos; ``values`` (P,) ≥ 0
    are the responses there.
    """

    voters: Tensor
    places: Tensor
    values: Tensor


def responses(template: Template, searched: PlaneViews) -> Iterator[Tensor]:
    """(K, L, I, J) for each size of the searched photo: how its patches answer the template's.

    Inner products with patches less the mean of all searched ones, so that a patch that is less
    alike than the mean answers below 0.
    """
    K, L, _ = template.patches.shape
    products = template.patches.flatten(0, 1) @ searched.pyramid.mT
    lengths = [rows * columns for rows, columns in searched.grids]
    for level, grid in zip(products.split(lengths, 1), searched.grids, strict=True):
        yield level.view(K, L, *grid)


def weigh(responses: Tensor) -> Tensor:
    """Squares of what is above 0: few good answers outweigh many fair ones. In place.

    Examples
    --------
    >>> weigh(torch.tensor([-1.0, 0.5, 2.0]))
    tensor([0.0000, 0.2500, 4.0000])
    """
    return responses.clamp_min_(0).square_()


class PlanesMethod:
    """The plane vote as a method; see `indiret.ranking.Method`.

    Examples
    --------
    >>> method = PlanesMethod()
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> picture = picture.repeat(10, axis=0).repeat(10, axis=1)
    >>> views = method.prepare(picture)
    >>> scores = method.score(views, [views, method.prepare(picture[::-1])])
    >>> bool(scores[0] > 2 * scores[1])
    True
    """

    def __init__(self, config: PlaneConfig | None = None):
        self.config = config or PlaneConfig()

    def prepare(self, picture: Picture) -> PlaneViews:
        """Templates and pyramid, 2.4 MB for a photo of 4 : 3."""
        levels = [slope_patches(picture, side) for side in self.config.pyramid]
        patches = torch.cat([level.flatten(0, 1) for level in levels])
        return PlaneViews(
            tuple(self._template(picture, turn) for turn in self.config.turns),
            (patches - patches.mean(0)).half(),
            tuple((level.shape[0], level.shape[1]) for level in levels),
            (picture.shape[0], picture.shape[1]),
        )

    def _template(self, picture: Picture, turn: float) -> Template:
        """The template of a photo turned anticlockwise; patches that look past its edge are 0."""
        turned = Image.fromarray(picture).rotate(turn, Image.Resampling.BILINEAR, expand=True)
        height, width = picture.shape[:2]
        # a turned photo grows with its frame, so that things in it keep their size
        side = round(self.config.template * max(turned.size) / max(height, width))
        step = self.config.step
        patches = slope_patches(np.asarray(turned), side)[::step, ::step]
        rows, columns = cell_grid(turned.height, turned.width, side)
        centres = step * grid_places(*patches.shape[:2]) + PARTS / 2
        pixels = centres / torch.tensor([rows, columns]) * torch.tensor(turned.size[::-1])
        back = np.deg2rad(turn)
        rotation = torch.tensor([[np.cos(back), np.sin(back)], [-np.sin(back), np.cos(back)]])
        from_middle = pixels - torch.tensor(turned.size[::-1]) / 2
        sides = torch.tensor([height, width])
        where = (from_middle @ rotation.float().mT + sides / 2) / sides
        reach = PARTS * CELL / 2 / self.config.template * max(height, width) / sides
        inside = ((where >= reach * 0.7) & (where <= 1 - reach * 0.7)).all(-1) | (turn % 90 == 0)
        return Template((patches * inside[..., None]).contiguous(), where)

    def find(self, templates: Sequence[Template], searched: PlaneViews) -> Found:
        """The best plane of any turn of a template in all sizes of a photo."""
        best = None
        for turn, template in enumerate(templates):
            levels = responses(template, searched)
            votes = [vote(weigh(tolerate(level)), self.config.step // 2) for level in levels]
            flat = torch.cat([level.flatten() for level in votes])
            deviation, mean = torch.std_mean(flat)
            most, at = flat.max(0)
            standing = float((most - mean) / (deviation + 1e-9))
            if best is None or standing > best.standing:
                best = Found(float(most), standing, turn, int(at))
        assert best is not None  # a configuration has at least one turn
        return best

    def score(self, query: PlaneViews, database: Sequence[PlaneViews]) -> NDArray[np.float64]:
        """(len(database),): the standings of both directions, multiplied."""
        query = query._replace(pyramid=query.pyramid.float())
        scores = np.empty(len(database))
        for number, kept in enumerate(database):
            target = kept._replace(pyramid=kept.pyramid.float())
            there, back = self.find(query.templates, target), self.find(target.templates, query)
            scores[number] = there.standing * back.standing
        return scores

    def explain(self, query: PlaneViews, target: PlaneViews) -> Evidence:
        """Which patches the best planes of both directions put where; see `Evidence`.

        Each direction has an equal part. The grids have 14 patches along the longer sides, and a
        vote is shared between the four patches nearest to it on either side.
        """
        query = query._replace(pyramid=query.pyramid.float())
        target = target._replace(pyramid=target.pyramid.float())
        there, found = self._land(query.templates, target)
        back, answered = self._land(target.templates, query)
        target_grid, query_grid = (
            patch_grid(*views.shape, (EVIDENCE_CELLS, EVIDENCE_CELLS), "keep")
            for views in (target, query)
        )
        pairs = torch.zeros(*target_grid, *query_grid)
        for at, asked, values in (
            (there.places, there.voters, there.values),
            (back.voters, back.places, back.values),
        ):
            share = values / values.sum().clamp_min(1e-12)
            cells = _shares(at, target_grid), _shares(asked, query_grid)
            pairs += torch.einsum("p,pij,pkl->ijkl", share, *cells)
        return Evidence(found.standing * answered.standing, pairs)

    def evidence(self, query: PlaneViews, target: PlaneViews) -> dict[str, Tensor]:
        """The pairs of `explain`, by the name under which `measure_maps` lists them."""
        return {"planes": self.explain(query, target).pairs}

    def _land(self, templates: Sequence[Template], searched: PlaneViews) -> tuple[Landing, Found]:
        """The best plane of a template, fitted to all answers near it."""
        found = self.find(templates, searched)
        template, step = templates[found.turn], self.config.step
        K, L = template.patches.shape[:2]
        halved = [((rows + 1) // 2, (columns + 1) // 2) for rows, columns in searched.grids]
        sizes = [planes_of((K, L, *grid), step // 2) for grid in halved]
        ends = np.cumsum([rows * columns for rows, columns in sizes])
        number = int(np.searchsorted(ends, found.place, side="right"))
        a, b = divmod(found.place - int(ends[number]), sizes[number][1])
        a += sizes[number][0]  # counted from the end of the level before
        offset = 2 * torch.tensor([a - step // 2 * K // 2, b - step // 2 * L // 2])
        start = Plane(step * torch.eye(2), offset.float(), found.votes)
        level = weigh(list(responses(template, searched))[number])
        plane = refine_plane(level, start)
        cells = torch.tensor(cell_grid(*searched.shape, self.config.pyramid[number]))
        places = (plane.places(K, L) + PARTS / 2) / cells
        values = sample_plane(F.max_pool2d(level, 3, 1, 1), plane)
        return Landing(*(x.flatten(0, 1) for x in (template.where, places, values))), found


def _shares(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """(P, rows, columns): how places (P, 2) from 0 to 1 are shared between the nearest patches."""
    near = []
    for axis, length in enumerate(grid):
        at = places[:, axis, None] * length - 0.5
        inside = (places >= 0).all(1) & (places <= 1).all(1)
        at = at.clamp(0, length - 1)
        near.append((1 - (at - torch.arange(length)).abs()).clamp_min(0) * inside[:, None])
    return torch.einsum("pi,pj->pij", *near)
