"""Which of several planes is right: the one along which finer patches agree, both ways.

The plane with the most votes may lie a window too far aside. So templates name a few planes, and
each is asked again in the largest sizes that show the thing alike: a patch of one photo looks at
the 7 × 7 patches of the other around where the plane puts it, and its neighbours must agree on the
move. By how much the best move is above the mean of all is the patch's support. The plane with the
most support in both directions is right, and the moves bend it to where the patches lie.

A plane is given as the affine map, (3, 2), of places (y, x, 1) of the query into the target.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.planes import voting
from indiret.planes.correspondence import PlaneCorrespondence, fit_affine, move_places
from indiret.planes.features import PlaneFeatures, Template, turn_back
from indiret.planes.geometry import grid_places
from indiret.planes.gradients import PATCH_CELLS
from indiret.planes.matches import PlaneMatch, without_frame

NAMED = 4  # planes of a large template
NAMED_CLOSE = 1  # of a close one
APART = 5  # translations around a plane, among which it has the most votes
REACH = 3  # patches by which a patch may lie beside the plane, down and across
COARSE_STEP, COARSE_AROUND = 2, 3  # every second patch, and 3 × 3 of those, while planes compete
FINE_STEP, FINE_AROUND = 1, 5  # every patch, and 5 × 5, for the plane that won
LEAST_AREA = 1e-4  # of one photo in the other
_UNIT = torch.eye(3, dtype=torch.float32, device="cpu")  # whatever the caller's defaults are


class VerifiedPlane(NamedTuple):
    """A plane, and where it puts the patches of either photo in the other."""

    plane: Tensor  # (3, 2)
    forward: PlaneCorrespondence  # of the query's patches in the target
    backward: PlaneCorrespondence

    def refit(self) -> Tensor:
        """The plane that fits best where both directions' patches lie, by their support."""
        there, back = self.forward, self.backward
        here = [there.template_points.flatten(0, 1), back.matched_points.flatten(0, 1)]
        far = [there.matched_points.flatten(0, 1), back.template_points.flatten(0, 1)]
        weights = [one.support.flatten() / one.support.numel() for one in (there, back)]
        fitted = fit_affine(torch.cat(here), torch.cat(far), torch.cat(weights)).float()
        return fitted if _has_area(fitted) else self.plane

    @property
    def support(self) -> float:
        """Mean support of a patch, of both directions."""
        return float(self.forward.support.mean() + self.backward.support.mean())


def candidate_planes(
    source: PlaneFeatures, searched: PlaneFeatures
) -> Iterator[tuple[Template, PlaneMatch]]:
    """The planes with the most votes that lie apart, of a photo's templates in another."""
    source, last = without_frame(source, searched), len(searched.pyramid) - 1
    for template, first, many, close in (
        (source.template, 0, NAMED, False),
        (source.close, last, NAMED_CLOSE, True),
    ):
        found = []
        for level in range(first, last + 1):
            cosines = voting.responses(searched.pyramid[level], template.patches)
            votes = voting.hough_votes(voting.pool_responses(cosines))
            highest = votes == F.max_pool2d(votes[None], APART, 1, APART // 2)[0]
            places = (highest & (votes > 0)).flatten().nonzero()[:, 0].tolist()
            found += [
                PlaneMatch(float(votes.flatten()[at]), 0.0, level, at, close) for at in places
            ]
        yield from ((template, match) for match in sorted(found, reverse=True)[:many])


def verify(
    planes: Sequence[Tensor], query: PlaneFeatures, target: PlaneFeatures
) -> VerifiedPlane | None:
    """The plane with the most support, None where none is given; see the head of this file.

    Examples
    --------
    >>> here, far = torch.eye(3)[:, :2], torch.tensor([[1.0, 0], [0, 1], [0.2, 0.5]])
    >>> from indiret.planes.matching import PlaneRetriever
    >>> picture = torch.rand(120, 160, 3).mul(255).byte().numpy()
    >>> features = PlaneRetriever().encode(picture)
    >>> verify([far, here], features, features).plane.allclose(here, atol=0.01)
    True
    """
    there, back = Direction(query, target), Direction(target, query)

    def ask(plane: Tensor, step: int, around: int) -> VerifiedPlane:
        ways = there.along(plane, step, around), back.along(inverse_plane(plane), step, around)
        return VerifiedPlane(plane, *ways)

    asked = (ask(plane, COARSE_STEP, COARSE_AROUND) for plane in planes if _has_area(plane))
    best = max(asked, key=lambda one: one.support, default=None)
    if best is None:
        return None
    fine = ask(best.refit(), FINE_STEP, FINE_AROUND)
    return fine._replace(plane=fine.refit())


def _has_area(plane: Tensor) -> bool:
    return abs(float(plane[:2].det())) > LEAST_AREA


def inverse_plane(plane: Tensor) -> Tensor:
    """The map, (3, 2), of places in the target into the query."""
    matrix = plane[:2].inverse()
    return torch.cat([matrix, -plane[2:] @ matrix])


class Direction:
    """One photo, whose patches look for themselves in the other."""

    def __init__(self, source: PlaneFeatures, searched: PlaneFeatures):
        self.source, self.searched = source, searched
        self.own, self.other = _turned_back(source), _turned_back(searched)
        self.read: dict[int, tuple[Tensor, Tensor]] = {}

    def along(self, plane: Tensor, step: int, around: int) -> PlaneCorrespondence:
        """What every ``step``-th patch finds near a plane; ``around`` × ``around`` must agree."""
        plane = _chain(self.own, plane, inverse_plane(self.other))  # of photos as they were turned
        own, other = self.alike_levels(plane)
        patches = self.source.pyramid[own].float()[::step, ::step]
        points = _centres(self.source.pyramid[own])[::step, ::step]
        others, weights = self.read_level(other)
        cells = _cells(others)
        start = (move_places(points, plane) * cells - PATCH_CELLS / 2).round()
        moves = grid_places(2 * REACH + 1, 2 * REACH + 1).flatten(0, 1) - REACH
        i, j = (start[:, :, None] + moves).long().unbind(-1)
        rows, columns = others.shape[:2]
        row, column = i.clamp(0, rows - 1), j.clamp(0, columns - 1)
        places = (row * columns + column).flatten()
        there, lengths, weights = (  # of the patches around each place
            values.flatten(0, 1).index_select(0, places).view(*i.shape, -1)
            for values in (others, others.norm(dim=-1, keepdim=True), weights[..., None])
        )
        lengths = lengths[..., 0] * patches.norm(dim=-1, keepdim=True)
        cosines = (there @ patches[..., None])[..., 0]
        found = (cosines - voting.COSINE_THRESHOLD * lengths).clamp_min(0) * weights[..., 0]
        found *= (row == i) & (column == j)
        agree = F.avg_pool2d(
            found.permute(2, 0, 1), around, 1, around // 2, count_include_pad=False
        ).permute(1, 2, 0)
        highest, best = agree.max(-1)
        near = (moves - moves[best][:, :, None]).abs().amax(-1) <= 1
        pull = agree.square() * near
        move = pull @ moves / pull.sum(-1, keepdim=True).clamp_min(1e-12)
        matched = (start + move + PATCH_CELLS / 2) / cells
        points, matched = move_places(points, self.own), move_places(matched, self.other)
        return PlaneCorrespondence(points, matched, highest - agree.mean(-1))

    def alike_levels(self, plane: Tensor) -> tuple[int, int]:
        """The largest sizes of both photos, by number, in which the plane shows a thing alike."""
        area = abs(float(plane[:2].det()))
        mine, theirs = (
            [math.prod(_cells(patches).tolist()) for patches in one.pyramid]
            for one in (self.source, self.searched)
        )
        last = len(mine) - 1
        pairs = [(a, last) for a in range(last)] + [(last, b) for b in range(last + 1)]
        return min(pairs, key=lambda pair: abs(math.log(area * theirs[pair[1]] / mine[pair[0]])))

    def read_level(self, level: int) -> tuple[Tensor, Tensor]:
        """The patches of one size of the other photo, and 1 / √ of how popular each of them is."""
        if level not in self.read:
            others = self.searched.pyramid[level].float()
            responses = voting.responses(others, self.source.template.patches)
            popularity = voting.threshold_relu_(responses).mean((2, 3))
            self.read[level] = others, (popularity + voting.POPULARITY_FLOOR).rsqrt()
        return self.read[level]


def _turned_back(features: PlaneFeatures) -> Tensor:
    """The map of places in a photo as it was turned to those in the photo itself."""
    corners = grid_places(2, 2).flatten(0, 1)
    if not features.turn:
        return _UNIT[:, :2]
    return fit_affine(corners, turn_back(corners, features.shape, features.turn)).float()


def _chain(*maps: Tensor) -> Tensor:
    """The map that moves by each of several in turn."""
    whole = _UNIT
    for one in maps:
        whole = whole @ torch.cat([one, _UNIT[:, 2:]], 1)
    return whole[:, :2]


def _cells(patches: Tensor) -> Tensor:
    """Rows and columns of the cells of a photo with so many patches."""
    return torch.tensor(patches.shape[:2]) + PATCH_CELLS - 1


def _centres(patches: Tensor) -> Tensor:
    """(rows, columns, 2): y and x of the patches' centres, from 0 to 1."""
    return (grid_places(*patches.shape[:2]) + PATCH_CELLS / 2) / _cells(patches)
