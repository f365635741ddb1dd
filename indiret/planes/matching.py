"""A method without learning: two photos are alike if many patches agree on one plane of the tensor.

Each photo is kept twice: once small, every second patch of it a voter (its *template*), and once in
several sizes, every patch of which may answer (its *pyramid*). The query's template votes in the
target's pyramid, and the target's in the query's, since the one that the thing fills is the better
voter. A patch that many claim is shared. A plane counts by its mean response and by how far it
stands above all others, and so do the planes of the template's quarters, each by itself; a pair
counts by the sum of both directions. The photos in which the query finds least are not asked in
return, and a photo in which strangers find much counts less. Votes say which patch lies where, so
every score comes with its evidence.

A query may be a smaller part of the target than any size makes room for. So a *close* template of
few patches looks in the largest size for its fifth; whichever of the two is worth more counts.

A small template gives a cheap first look. A photo may lie turned: with ``turns`` the small template
is turned round in steps, and the large one votes in the turn that it found.

Chapter: *Sphere or plane?*
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from indiret.datasets import load_dataset
from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.landing import carried, fill, spread
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
    vote_in_parts,
    whiten,
)
from indiret.reranking import Scores, best, lift

ANSWERING = 0.7  # share of the photos that vote in the query, those in which it finds most
QUARTERS = 0.5  # what the planes of a template's quarters are worth, of that of the whole
STRANGERS = 16  # pictures that every photo is asked for, to know what chance finds in it
CLOSE = 0.5  # what a vote of a close template is worth of a large one's
UPRIGHT = 2.0  # what an upright pair is worth of a turned one with equal votes
UNRELATED = 0.3  # a cosine of whitened patches that says nothing yet
UNCLAIMED = 0.001  # added to a patch's mean answer before it is shared
EVIDENCE_CELLS = 14  # of the longer side of an evidence map, as networks have them


@dataclass(frozen=True)
class PlaneConfig:
    """How large photos are made, and which turns are tried; see book/decisions/0008_planes."""

    template: int = 112  # pixels of a template's longer side: 25 patches
    step: int = 2  # even; every second of them votes, which is a quarter of all
    pyramid: tuple[int, ...] = (70, 88, 111, 140, 176, 222, 280)  # 5/8 to 5/2 of a template
    close: int = 56  # pixels of the templates that look in the largest size alone, for its fifth
    turns: int = 1  # evenly round the circle; 1 is upright alone
    small: int = 70  # pixels of the templates of a first look, which chooses the turn
    small_sizes: int = 5  # sizes of the pyramid, from the smallest, in which those vote

    def __post_init__(self) -> None:
        sides = (self.template, self.close, self.small, *self.pyramid)
        odd = self.step < 2 or self.step % 2
        few = min(len(self.pyramid), self.turns, self.small_sizes) < 1
        if few or min(sides) < CELL * PARTS or odd:
            raise ValueError(
                f"{self} does not make planes: give sides of at least {CELL * PARTS} pixels, an "
                "even step, and at least one size and one turn."
            )


PLANES = {  # by method's name
    "planes": PlaneConfig(),
    "planes-turned": PlaneConfig(turns=12),
}


class Template(NamedTuple):
    """``patches`` (K, L, D) that vote, and ``where`` (K, L, 2) their centres lie in the photo.

    Places are y and x from 0 to 1.
    """

    patches: Tensor
    where: Tensor


class PlaneViews(NamedTuple):
    """What is kept of a photo: templates for each turn, and the patches of its pyramid.

    ``close`` are the templates that look for the photo in a small part of another, ``small`` those
    of a first look. ``pyramid`` has (rows, columns, D) half for each size; ``shape`` is the photo's
    height and width. ``chance`` is what a stranger finds in it; see `PlanesMethod.chance`.
    """

    templates: tuple[Template, ...]
    close: tuple[Template, ...]
    small: tuple[Template, ...]
    pyramid: tuple[Tensor, ...]
    shape: tuple[int, int]
    chance: float = 1.0


class Found(NamedTuple):
    """The best plane of a template in a pyramid.

    ``votes`` is its mean response, times `CLOSE` if a close template found it (``close``), and
    ``standing`` how far that lies above the mean of all planes, in their standard deviations;
    ``size`` is the number of the pyramid's size that it lies in, and ``place`` its number among the
    planes of that size. ``quarters`` is the mean of votes × standing of the quarters of the
    template, each of its own best plane.
    """

    votes: float
    standing: float
    size: int
    place: int
    close: bool = False
    quarters: float = 0.0

    @property
    def worth(self) -> float:
        """Mean response × standing, of the whole and of its quarters."""
        return self.votes * self.standing + QUARTERS * self.quarters

    def template(self, views: PlaneViews, turn: int) -> Template:
        """The template of a photo that found it."""
        return (views.close if self.close else views.templates)[turn]


NOTHING = Found(0.0, 0.0, 0, 0)


class Agreement(NamedTuple):
    """The best planes of query in target and of target in query, in the turn that suits both."""

    turn: int
    there: Found
    back: Found
    chance: float = 1.0  # of the target

    @property
    def worth(self) -> float:
        """The sum of both directions over the root of what chance finds in the target.

        More for an upright pair: few photos lie turned.
        """
        both = self.there.worth + self.back.worth
        return both * (1.0 if self.turn else UPRIGHT) / math.sqrt(self.chance)


class Landing(NamedTuple):
    """Where a template's patches lie in the other photo, to a fraction of a patch.

    ``voters`` and ``places`` are (K, L, 2), y and x from 0 to 1 in their photos; ``values`` (K, L)
    ≥ 0 are the responses there.
    """

    voters: Tensor
    places: Tensor
    values: Tensor


class Room(threading.local):
    """Memory of a thread that is used again.

    Fresh memory of this size comes from the system a page at a time, which takes as long as the
    product that fills it, and ten times as long as floats of a photo.
    """

    numbers = torch.empty(0)

    def of(self, *shape: int) -> Tensor:
        """Numbers of a shape, to be written over; what the last call gave is lost."""
        size = math.prod(shape)
        if self.numbers.numel() < size:
            with torch.inference_mode(False):  # so that it may be written to outside of it, too
                self.numbers = torch.empty(size)
        return self.numbers[:size].view(shape)


PRODUCT, PHOTO = Room(), Room()


def responses(template: Template, patches: Tensor, into: Room | None = None) -> Tensor:
    """(K, L, I, J): the cosines of a template's patches and those of a picture (I, J, D).

    In memory the template's patches come last, which makes `tolerate` twice as fast; it is fresh
    or that of ``into``.
    """
    (K, L, _), (rows, columns, _) = template.patches.shape, patches.shape
    room = None if into is None else into.of(rows * columns, K * L)
    products = torch.mm(patches.flatten(0, 1), template.patches.flatten(0, 1).mT, out=room)
    return products.view(rows, columns, K, L).permute(2, 3, 0, 1)


def weigh(responses: Tensor) -> Tensor:
    """What is above `UNRELATED`; the rest counts nothing. In place.

    Examples
    --------
    >>> weigh(torch.tensor([-1.0, 0.25, 0.75]))
    tensor([0.0000, 0.0000, 0.4500])
    """
    return responses.sub_(UNRELATED).clamp_min_(0)


def share(answers: Tensor) -> Tensor:
    """(K, L, I, J) ≥ 0: answers divided by the root of each target patch's mean answer.

    A patch of foliage or of a row of windows answers many voters, and says little to each. In
    place.

    Examples
    --------
    >>> share(torch.tensor([[1.0, 1.0], [0.0, 1.0]]).view(2, 1, 1, 2)).flatten(1)
    tensor([[1.4128, 0.9995],
            [0.0000, 0.9995]])
    """
    return answers.mul_((answers.mean((0, 1)) + UNCLAIMED).rsqrt_())


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

    split = 2  # parts of a template, up and down and aside, that vote apart

    def __init__(self, config: PlaneConfig | None = None):
        self.config = config or PlaneConfig()

    def prepare(self, picture: Picture) -> PlaneViews:
        """Templates and pyramid, 1 MB for a photo of 4 : 3 and 46 KB for each turn, and chance."""
        views = self.prepare_query(picture)
        return views._replace(chance=self.chance(views))

    def prepare_query(self, picture: Picture) -> PlaneViews:
        """The same without chance, of which only a target has use."""
        turns = range(self.config.turns)
        return PlaneViews(
            tuple(self._template(picture, turn, self.config.template) for turn in turns),
            tuple(self._template(picture, turn, self.config.close) for turn in turns),
            tuple(self._template(picture, turn, self.config.small) for turn in turns),
            tuple(whiten(slope_patches(picture, side)).half() for side in self.config.pyramid),
            (picture.shape[0], picture.shape[1]),
        )

    @torch.inference_mode()
    def chance(self, views: PlaneViews) -> float:
        """What a stranger finds in a photo: a median over `STRANGERS` queries of Toytown's.

        A photo full of windows has something for everybody. What the median stranger finds there
        says how much, and is known before anybody asks.
        """
        views = floats(views, PHOTO)
        found = [self.seek(stranger, views, 0).worth for stranger in self.strangers]
        return max(float(np.median(found)), UNCLAIMED)

    @cached_property
    def strangers(self) -> list[PlaneViews]:
        """Queries of Toytown's training part, evenly spread over its landmarks."""
        town = load_dataset("toytown", split="train")
        asking = town.queries[:: -(-len(town.queries) // STRANGERS)]
        upright = type(self)(replace(self.config, turns=1))
        return [upright.prepare_query(town.read_query(query)) for query in asking]

    def _template(self, picture: Picture, number: int, long_side: int) -> Template:
        """The template of a photo turned anticlockwise; patches that look past its edge are 0."""
        turn = 360 * number / self.config.turns
        turned = Image.fromarray(picture).rotate(turn, Image.Resampling.BILINEAR, expand=True)
        height, width = picture.shape[:2]
        # a turned photo grows with its frame, so that things in it keep their size
        side = round(long_side * max(turned.size) / max(height, width))
        step = self.config.step
        patches = whiten(slope_patches(np.asarray(turned), side)[::step, ::step])
        rows, columns = cell_grid(turned.height, turned.width, side)
        centres = step * grid_places(*patches.shape[:2]) + PARTS / 2
        pixels = centres / torch.tensor([rows, columns]) * torch.tensor(turned.size[::-1])
        back = np.deg2rad(turn)
        rotation = torch.tensor([[np.cos(back), np.sin(back)], [-np.sin(back), np.cos(back)]])
        from_middle = pixels - torch.tensor(turned.size[::-1]) / 2
        sides = torch.tensor([height, width])
        where = (from_middle @ rotation.float().mT + sides / 2) / sides
        reach = PARTS * CELL / 2 / long_side * max(height, width) / sides
        inside = ((where >= reach * 0.7) & (where <= 1 - reach * 0.7)).all(-1) | (turn % 90 == 0)
        return Template((patches * inside[..., None]).contiguous(), where)

    @property
    def shift(self) -> int:
        """Neighbouring voters land so many answers apart: one lies around every second patch."""
        return self.config.step // 2

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        """(K, L, I', J'): what counts of the responses around every second patch of a picture."""
        return share(weigh(tolerate(responses(template, patches, PRODUCT))))

    def find(self, template: Template, pyramid: Sequence[Tensor]) -> Found:
        """The best plane of a template in all sizes of a photo."""
        levels = []
        for patches in pyramid:
            votes = vote_in_parts(self.answers(template, patches), self.split, self.shift)
            levels.append(votes.flatten(2).flatten(0, 1))
        quarters = torch.cat(levels, 1)  # (4, planes)
        votes = torch.cat([quarters.sum(0, keepdim=True), len(quarters) * quarters])
        deviation, mean = torch.std_mean(votes, 1)
        best, at = votes.max(1)
        standing = (best - mean) / (deviation + 1e-9)
        starts = np.cumsum([0, *(level.shape[1] for level in levels)])
        size = int(np.searchsorted(starts, int(at[0]), side="right")) - 1
        place = int(at[0]) - int(starts[size])
        apart = float((best * standing)[1:].mean())
        return Found(float(best[0]), float(standing[0]), size, place, quarters=apart)

    def glance(self, query: PlaneViews, target: PlaneViews) -> Agreement:
        """The best planes of small templates in the smaller sizes, in the turn that suits both.

        A query that must be turned anticlockwise to be like the target is found by its template of
        that turn, and the target by its template turned the other way.
        """
        few = self.config.small_sizes
        return max(
            (
                Agreement(
                    turn,
                    self.find(asked, target.pyramid[:few]),
                    self.find(target.small[-turn], query.pyramid[:few]),
                    target.chance,
                )
                for turn, asked in enumerate(query.small)
            ),
            key=lambda agreed: agreed.worth,
        )

    def agree(self, query: PlaneViews, target: PlaneViews, turn: int | None = None) -> Agreement:
        """The best planes of both directions, in a turn that is given or that `glance` finds."""
        return self.answer(query, target, self.ask(query, target, turn))

    def ask(self, query: PlaneViews, target: PlaneViews, turn: int | None = None) -> Agreement:
        """The best plane of query in target alone."""
        if turn is None:
            turn = self.glance(query, target).turn if len(query.small) > 1 else 0
        return Agreement(turn, self.seek(query, target, turn), NOTHING, target.chance)

    def answer(self, query: PlaneViews, target: PlaneViews, asked: Agreement) -> Agreement:
        """The same with the best plane of target in query."""
        return asked._replace(back=self.seek(target, query, -asked.turn))

    def seek(self, asked: PlaneViews, searched: PlaneViews, turn: int) -> Found:
        """The best plane of one photo in another: of its large template, or of its close one."""
        large = self.find(asked.templates[turn], searched.pyramid)
        return self.seek_closer(asked, searched, turn, large)

    def seek_closer(
        self, asked: PlaneViews, searched: PlaneViews, turn: int, found: Found
    ) -> Found:
        """What was found, or the best plane of the close template if that is worth more."""
        close = self.find(asked.close[turn], searched.pyramid[-1:])
        votes, size = CLOSE * close.votes, len(searched.pyramid) - 1
        close = Found(votes, close.standing, size, close.place, True, found.quarters)
        return max(found, close, key=lambda one: one.worth)

    @torch.inference_mode()
    def score(self, query: PlaneViews, database: Sequence[PlaneViews]) -> Scores:
        """(len(database),): what the best planes of both directions are worth; see `survey`."""
        return self.survey(query, database)[0]

    def survey(
        self, query: PlaneViews, database: Sequence[PlaneViews]
    ) -> tuple[Scores, dict[int, Agreement]]:
        """Scores of photos, and by their places what was found in those that answer.

        The query votes in every photo. A share `ANSWERING` of them, those in which it finds most
        and `indiret.reranking.LEAST` at least, votes in the query in return; the others keep their
        order below.
        """
        if not database:
            return np.empty(0), {}
        query = floats(query)
        asked = [self.ask(query, floats(target, PHOTO)) for target in database]
        found = np.array([one.worth for one in asked])
        answering = best(found, ANSWERING)
        agreed = {
            int(place): self.answer(query, floats(database[place], PHOTO), asked[place])
            for place in answering
        }
        return lift(found, answering, [one.worth for one in agreed.values()]), agreed

    def explain(self, query: PlaneViews, target: PlaneViews) -> Evidence:
        """Which patches the best planes of both directions put where; see `Evidence`.

        Each direction has the part that it has in what the pair is worth, and what is near each
        other has one support; see `fill`. The grids have 14 patches along the longer sides, and a
        vote is shared between the four patches nearest to it on either side.
        """
        query, target = floats(query), floats(target)
        agreed = self.agree(query, target)
        there = self.land(agreed.there.template(query, agreed.turn), target, agreed.there)
        back = self.land(agreed.back.template(target, -agreed.turn), query, agreed.back)
        target_grid, query_grid = (
            patch_grid(*views.shape, (EVIDENCE_CELLS, EVIDENCE_CELLS), "keep")
            for views in (target, query)
        )
        pairs = torch.zeros(*target_grid, *query_grid)
        for at, asked, values, found in (
            (there.places, there.voters, there.values, agreed.there),
            (back.voters, back.places, back.values, agreed.back),
        ):
            filled = fill(values)
            counted = found.worth * filled / filled.sum().clamp_min(1e-12)
            pairs += spread(counted, at, target_grid, asked, query_grid)
        return Evidence(agreed.worth, pairs)

    def carry(
        self, query: PlaneViews, target: PlaneViews, points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Where the better direction's plane puts points of the query; see `carried`."""
        query, target = floats(query), floats(target)
        agreed = self.agree(query, target)
        if agreed.there.worth >= agreed.back.worth:
            there = self.land(agreed.there.template(query, agreed.turn), target, agreed.there)
            return carried(points, there.voters, there.places)
        back = self.land(agreed.back.template(target, -agreed.turn), query, agreed.back)
        return carried(points, back.places, back.voters)

    def evidence(self, query: PlaneViews, target: PlaneViews) -> dict[str, Tensor]:
        """The pairs of `explain`, by the name under which `measure_maps` lists them."""
        return {"planes": self.explain(query, target).pairs}

    def land(self, template: Template, searched: PlaneViews, found: Found) -> Landing:
        """The plane that was found, fitted to all answers near it."""
        level = weigh(responses(template, searched.pyramid[found.size]).contiguous())
        plane = refine_plane(level, self.start(level.shape, found))
        values = sample_plane(F.max_pool2d(level, 3, 1, 1), plane)
        return Landing(template.where, self.places(plane, values.shape, searched, found), values)

    def start(self, shape: Sequence[int], found: Found) -> Plane:
        """The plane as it was voted for, in responses of a shape (K, L, I, J)."""
        K, L, rows, columns = shape
        _, wide = planes_of((K, L, (rows + 1) // 2, (columns + 1) // 2), self.shift)
        a, b = divmod(found.place, wide)
        offset = 2 * torch.tensor([a - self.shift * K // 2, b - self.shift * L // 2])
        return Plane(self.config.step * torch.eye(2), offset.float(), found.votes)

    def places(
        self, plane: Plane, grid: Sequence[int], searched: PlaneViews, found: Found
    ) -> Tensor:
        """(K, L, 2): where a plane puts the patches of a template of a grid (K, L) in the photo."""
        cells = torch.tensor(cell_grid(*searched.shape, self.config.pyramid[found.size]))
        return (plane.places(*grid) + PARTS / 2) / cells


def floats(views: PlaneViews, into: Room | None = None) -> PlaneViews:
    """The same with a pyramid of float32, which is kept as half.

    In fresh memory, or in that of ``into``, where it lasts until that is used again.
    """
    if into is None:
        return views._replace(pyramid=tuple(patches.float() for patches in views.pyramid))
    sizes = [patches.numel() for patches in views.pyramid]
    rooms = into.of(sum(sizes)).split(sizes)
    return views._replace(
        pyramid=tuple(
            room.view(patches.shape).copy_(patches)
            for room, patches in zip(rooms, views.pyramid, strict=True)
        )
    )
