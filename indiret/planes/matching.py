"""A retriever without learning: two photos are alike if many patches agree on one plane of T.

Each photo is kept twice: once small, every second patch (its *template*), and in several sizes
with every patch (its *pyramid*). The query's template votes in the target's pyramid (forward), and
the target's in the query's (backward), since nobody knows which of the two the thing fills.

With v the votes of the best plane and z their z-score among all planes of the pair, a direction
scores s = v z + ½ mean of v z over the quarters of the template, each with a best plane of its own;
a pair scores (s_forward + s_backward) / √b, where b is the target's *background score*: the median
s_forward of sixteen impostors, pictures of other things. The 30 % of photos with the lowest
forward scores are not matched backward, and stay below the others.

A query may show a smaller part of the target than any size of the pyramid makes room for. So a
*close* template of few patches votes in the largest size; the higher of both scores counts. A
*coarse* template is cheap: with ``turns`` it is rotated in steps, and the large template votes in
the turn that it found.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.planes.correspondence import (
    PlaneCorrespondence,
    smooth_support,
    splat,
    transfer_points,
)
from indiret.planes.geometry import Plane, grid_places, refine_plane
from indiret.planes.gradients import (
    CELL,
    PATCH_CELLS,
    cell_grid,
    dense_rootsift,
    fitted_tensors,
    whiten,
)
from indiret.planes.voting import (
    COSINE_THRESHOLD,
    POPULARITY_FLOOR,
    ScratchBuffer,
    hough_votes_by_quarter,
    max_pool_stride2,
    normalise_by_popularity_,
    responses,
    sample_pooled,
    threshold_relu_,
    translation_grid,
)
from indiret.reranking import Scores, best, lift

STEP = 2  # every second patch of a template votes, which is a quarter of all
BACKWARD_SHARE = 0.7  # of the photos, those with the highest forward scores
QUARTER_WEIGHT = 0.5  # of the quarters' mean score beside that of the whole
IMPOSTORS = 16  # pictures of other things that are matched with every photo beforehand
CLOSE_WEIGHT = 0.5  # of a vote of a close template beside one of a large template
UPRIGHT_WEIGHT = 2.0  # of an upright pair beside a turned one with equal votes
PRODUCT = ScratchBuffer()


@dataclass(frozen=True)
class PlaneConfig:
    """How large photos are made, and which turns are tried; see book/decisions/0008_planes."""

    template: int = 112  # pixels of a template's longer side: 25 patches
    pyramid: tuple[int, ...] = (70, 88, 111, 140, 176, 222, 280)  # 5/8 to 5/2 of a template
    close: int = 56  # pixels of the templates that vote in the largest size alone, for its fifth
    turns: int = 1  # evenly round the circle; 1 is upright alone
    coarse: int = 70  # pixels of the templates that choose the turn
    coarse_levels: int = 5  # sizes of the pyramid, from the smallest, in which those vote

    def __post_init__(self) -> None:
        sides = (self.template, self.close, self.coarse, *self.pyramid)
        fewest = min(len(self.pyramid), self.turns, self.coarse_levels)
        if fewest < 1 or min(sides) < CELL * PATCH_CELLS:
            raise ValueError(
                f"{self} does not make planes: give sides of at least {CELL * PATCH_CELLS} pixels, "
                "and at least one size and one turn."
            )


PLANE_CONFIGS = {  # by retriever's name
    "planes": PlaneConfig(),
    "planes-turned": PlaneConfig(turns=12),
}


class Template(NamedTuple):
    """``patches`` (K, L, D) that vote, and ``points`` (K, L, 2), their centres in the photo.

    Points are y and x from 0 to 1.
    """

    patches: Tensor
    points: Tensor

    # SHIM
    @property
    def where(self) -> Tensor:
        return self.points

    # END SHIM


class PlaneFeatures(NamedTuple):
    """What is kept of a photo: templates for each turn, and the patches of its pyramid.

    ``close`` are the templates that look for the photo in a small part of another, ``coarse`` the
    small ones. ``pyramid`` has (rows, columns, D) half for each size; ``shape`` is the photo's
    height and width. ``background_score`` is that of `PlaneRetriever.background_score`.
    """

    templates: tuple[Template, ...]
    close: tuple[Template, ...]
    coarse: tuple[Template, ...]
    pyramid: tuple[Tensor, ...]
    shape: tuple[int, int]
    background_score: float = 1.0


class PlaneMatch(NamedTuple):
    """The best plane of a template in a pyramid.

    ``votes`` is its mean response, times `CLOSE_WEIGHT` if a close template found it (``close``),
    and ``z_score`` how far that lies above the mean of all planes, in their standard deviations;
    ``level`` is the number of the size that it lies in, and ``translation`` its number among those
    of that size. ``quarters`` is the mean of votes × z-score over the quarters of the template.
    """

    votes: float
    z_score: float
    level: int
    translation: int
    close: bool = False
    quarters: float = 0.0

    @property
    def score(self) -> float:
        """Mean response × z-score, of the whole and of its quarters."""
        return self.votes * self.z_score + QUARTER_WEIGHT * self.quarters

    # SHIM
    @property
    def size(self) -> int:
        return self.level

    # END SHIM

    def template(self, features: PlaneFeatures, turn: int) -> Template:
        """The template of a photo that found it."""
        return (features.close if self.close else features.templates)[turn]


NO_MATCH = PlaneMatch(0.0, 0.0, 0, 0)


class PairMatch(NamedTuple):
    """The best planes of query in target and of target in query, in the turn that suits both."""

    turn: int
    forward: PlaneMatch
    backward: PlaneMatch
    background_score: float = 1.0  # of the target

    @property
    def score(self) -> float:
        """The sum of both directions over the root of the target's background score.

        Higher for an upright pair: few photos lie turned.
        """
        both = self.forward.score + self.backward.score
        return both * (1.0 if self.turn else UPRIGHT_WEIGHT) / math.sqrt(self.background_score)


class PlaneRetriever:
    """Votes for planes as a retriever; see `indiret.ranking.Method`.

    Examples
    --------
    >>> retriever = PlaneRetriever()
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> picture = picture.repeat(10, axis=0).repeat(10, axis=1)
    >>> features = retriever.encode(picture)
    >>> scores = retriever.score(features, [features, retriever.encode(picture[::-1])])
    >>> bool(scores[0] > 2 * scores[1])
    True
    """

    evidence_kinds: tuple[str, ...] = ("planes",)
    transfers_points = True
    split = 2  # parts of a template, up and down and aside, that have planes of their own

    def __init__(self, config: PlaneConfig = PLANE_CONFIGS["planes"]):
        self.config = config

    def encode(self, picture: Picture) -> PlaneFeatures:
        """Templates and pyramid, 1 MB for a photo of 4 : 3 and 46 KB for each turn."""
        features = self.encode_query(picture)
        return features._replace(background_score=self.background_score(features))

    def encode_query(self, picture: Picture) -> PlaneFeatures:
        """The same without the background score, which only a target needs."""
        config, turns = self.config, range(self.config.turns)
        templates, close, coarse = (
            tuple(self._template(picture, turn, side) for turn in turns)
            for side in (config.template, config.close, config.coarse)
        )
        pyramid = tuple(self.patches(picture, side).half() for side in config.pyramid)
        return PlaneFeatures(templates, close, coarse, pyramid, picture.shape[:2])

    def patches(self, picture: Picture, long_side: int) -> Tensor:
        """(rows, columns, D): descriptors of a picture made ``long_side`` pixels long."""
        return whiten(dense_rootsift(picture, long_side))

    @torch.inference_mode()
    def background_score(self, features: PlaneFeatures) -> float:
        """The median forward score of `IMPOSTORS` pictures of other things in this photo.

        A photo full of windows has good planes for any query; how good, is known beforehand.
        """
        features = to_float32(features)
        scores = [self.match(impostor, features, 0).score for impostor in self.impostors]
        return max(float(np.median(scores)), POPULARITY_FLOOR)

    @cached_property
    def impostors(self) -> Sequence[PlaneFeatures]:
        """The pictures of `background_score`: those that are shipped, whatever the config."""
        return shipped_impostors()

    def _template(self, picture: Picture, number: int, long_side: int) -> Template:
        """The template of a photo turned anticlockwise; patches that look past its edge are 0."""
        turn = 360 * number / self.config.turns
        turned = Image.fromarray(picture).rotate(turn, Image.Resampling.BILINEAR, expand=True)
        height, width = picture.shape[:2]
        # a turned photo grows with its frame, so that things in it keep their size
        side = round(long_side * max(turned.size) / max(height, width))
        patches = self.patches(np.asarray(turned), side)[::STEP, ::STEP]
        rows, columns = cell_grid(turned.height, turned.width, side)
        centres = STEP * grid_places(*patches.shape[:2]) + PATCH_CELLS / 2
        pixels = centres / torch.tensor([rows, columns]) * torch.tensor(turned.size[::-1])
        back = np.deg2rad(turn)
        rotation = torch.tensor([[np.cos(back), np.sin(back)], [-np.sin(back), np.cos(back)]])
        from_middle = pixels - torch.tensor(turned.size[::-1]) / 2
        sides = torch.tensor([height, width])
        points = (from_middle @ rotation.float().mT + sides / 2) / sides
        reach = PATCH_CELLS * CELL / 2 / long_side * max(height, width) / sides
        inside = ((points >= reach * 0.7) & (points <= 1 - reach * 0.7)).all(-1) | (turn % 90 == 0)
        return Template((patches * inside[..., None]).contiguous(), points)

    def pooled_responses(self, template: Template, patches: Tensor) -> Tensor:
        """T around every second patch of a picture (I, J, D): (I', J', K, L), halves rounded up."""
        pooled = max_pool_stride2(responses(patches, template.patches, PRODUCT))
        return normalise_by_popularity_(threshold_relu_(pooled))

    def best_plane(self, template: Template, pyramid: Sequence[Tensor]) -> PlaneMatch:
        """The best plane of a template in all sizes of a photo."""
        levels = []
        for patches in pyramid:
            pooled = self.pooled_responses(template, patches)
            quarters = hough_votes_by_quarter(pooled, split=self.split)
            levels.append(quarters.flatten(2).flatten(0, 1))
        quarters = torch.cat(levels, 1)  # (4, planes)
        votes = torch.cat([quarters.sum(0, keepdim=True), len(quarters) * quarters])
        deviation, mean = torch.std_mean(votes, 1)
        highest, at = votes.max(1)
        z_scores = (highest - mean) / (deviation + 1e-9)
        starts = np.cumsum([0, *(level.shape[1] for level in levels)])
        level = int(np.searchsorted(starts, int(at[0]), side="right")) - 1
        translation = int(at[0]) - int(starts[level])
        of_quarters = float((highest * z_scores)[1:].mean())
        found = float(highest[0]), float(z_scores[0]), level, translation
        return PlaneMatch(*found, quarters=of_quarters)

    def match(self, source: PlaneFeatures, searched: PlaneFeatures, turn: int) -> PlaneMatch:
        """The best plane of one photo in another: of its large template, or of its close one."""
        large = self.best_plane(source.templates[turn], searched.pyramid)
        return self.match_close(source, searched, turn, large)

    def match_close(
        self, source: PlaneFeatures, searched: PlaneFeatures, turn: int, match: PlaneMatch
    ) -> PlaneMatch:
        """A match, or the best plane of the close template if that scores higher."""
        close = self.best_plane(source.close[turn], searched.pyramid[-1:])
        votes, level = CLOSE_WEIGHT * close.votes, len(searched.pyramid) - 1
        close = PlaneMatch(votes, close.z_score, level, close.translation, True, match.quarters)
        return max(match, close, key=lambda one: one.score)

    def coarse_match(self, query: PlaneFeatures, target: PlaneFeatures) -> PairMatch:
        """The best planes of coarse templates in the smaller sizes, in the turn that suits both.

        A query that must be turned anticlockwise to be like the target is found by its template of
        that turn, and the target by its template turned the other way.
        """
        few = self.config.coarse_levels
        return max(
            (
                PairMatch(
                    turn,
                    self.best_plane(template, target.pyramid[:few]),
                    self.best_plane(target.coarse[-turn], query.pyramid[:few]),
                    target.background_score,
                )
                for turn, template in enumerate(query.coarse)
            ),
            key=lambda match: match.score,
        )

    def match_forward(
        self, query: PlaneFeatures, target: PlaneFeatures, turn: int | None = None
    ) -> PairMatch:
        """The best plane of query in target, in a turn that is given or that `coarse_match` finds.

        Photos are in float32; see `to_float32`.
        """
        if turn is None:
            turn = self.coarse_match(query, target).turn if len(query.coarse) > 1 else 0
        forward = self.match(query, target, turn)
        return PairMatch(turn, forward, NO_MATCH, target.background_score)

    def match_backward(
        self, query: PlaneFeatures, target: PlaneFeatures, match: PairMatch
    ) -> PairMatch:
        """A match with the best plane of target in query."""
        return match._replace(backward=self.match(target, query, -match.turn))

    def match_both(
        self, query: PlaneFeatures, target: PlaneFeatures, turn: int | None = None
    ) -> PairMatch:
        """`match_forward`, then `match_backward`."""
        return self.match_backward(query, target, self.match_forward(query, target, turn))

    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Scores of the best planes of both directions, (len(database),); see `score_all`."""
        return self.score_all(query, database)[0]

    def score_all(
        self, query: PlaneFeatures, database: Sequence[PlaneFeatures]
    ) -> tuple[Scores, dict[int, PairMatch]]:
        """Scores of photos, and by their places the matches of both directions.

        A share `BACKWARD_SHARE` of the photos, those with the highest forward scores and
        `indiret.reranking.LEAST` at least, are matched backward, too; the others keep their order
        below.
        """
        if not database:
            return np.empty(0), {}
        query = to_float32(query)
        forward = [self.match_forward(query, to_float32(one)) for one in database]
        scores = np.array([match.score for match in forward])
        places = best(scores, BACKWARD_SHARE)
        matches = {
            int(at): self.match_backward(query, to_float32(database[at]), forward[at])
            for at in places
        }
        return lift(scores, places, [match.score for match in matches.values()]), matches

    def explain(
        self, query: PlaneFeatures, target: PlaneFeatures, kind: str | None = None
    ) -> Evidence:
        """Which patches the best planes of both directions put where; see `Evidence`.

        Each direction has the part that it has in the score of the pair, and its support is
        averaged by `smooth_support`. The grids have 14 patches along the longer sides.

        Raises
        ------
        ValueError
            If ``kind`` is not one of `evidence_kinds`.
        """
        self._check_kind(kind)
        query, target = to_float32(query), to_float32(target)
        match = self.match_both(query, target)
        forward, backward = self.correspondences(query, target, match)
        smooth = [smooth_support(one.support) for one in (forward, backward)]
        weights = [
            direction.score * support / support.sum().clamp_min(1e-12)
            for direction, support in zip(match[1:3], smooth, strict=True)
        ]
        parts = (
            (weights[0], forward.matched_points, forward.template_points),
            (weights[1], backward.template_points, backward.matched_points),
        )
        return Evidence(match.score, splat(parts, target.shape, query.shape))

    def _check_kind(self, kind: str | None) -> None:
        if kind not in (None, *self.evidence_kinds):
            known = ", ".join(self.evidence_kinds)
            raise ValueError(f"evidence {kind!r} is not known here; choose from {known}.")

    def transfer_points(
        self, query: PlaneFeatures, target: PlaneFeatures, points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Where the better direction's plane puts points of the query, (N, 2) y and x, 0 to 1."""
        query, target = to_float32(query), to_float32(target)
        match = self.match_both(query, target)
        forward, backward = self.correspondences(query, target, match)
        if match.forward.score >= match.backward.score:
            return transfer_points(points, forward.template_points, forward.matched_points)
        return transfer_points(points, backward.matched_points, backward.template_points)

    def correspondences(
        self, query: PlaneFeatures, target: PlaneFeatures, match: PairMatch
    ) -> tuple[PlaneCorrespondence, PlaneCorrespondence]:
        """Where the query's template lies in the target, and the target's in the query."""
        return (
            self.plane_correspondence(
                match.forward.template(query, match.turn), target, match.forward
            ),
            self.plane_correspondence(
                match.backward.template(target, -match.turn), query, match.backward
            ),
        )

    def plane_correspondence(
        self, template: Template, searched: PlaneFeatures, match: PlaneMatch
    ) -> PlaneCorrespondence:
        """Where a template's patches lie by a match's plane, fitted to the responses near it."""
        cosines = responses(searched.pyramid[match.level], template.patches)
        plane = refine_plane(cosines, voted_plane(cosines.shape, match), floor=COSINE_THRESHOLD)
        support, _ = sample_pooled(cosines, plane)
        matched = self.matched_points(plane, support.shape, searched, match)
        return PlaneCorrespondence(template.points, matched, support)

    def matched_points(
        self, plane: Plane, grid: Sequence[int], searched: PlaneFeatures, match: PlaneMatch
    ) -> Tensor:
        """(K, L, 2): where a plane puts the patches of a template of a grid (K, L) in the photo."""
        cells = torch.tensor(cell_grid(*searched.shape, self.config.pyramid[match.level]))
        return (plane.places(*grid) + PATCH_CELLS / 2) / cells

    # SHIM: names before the protocol of retrievers, and those that the explorer of planes uses
    prepare, prepare_query, carry = encode, encode_query, transfer_points
    find, land = best_plane, plane_correspondence

    def evidence(self, query: PlaneFeatures, target: PlaneFeatures) -> dict[str, Tensor]:
        return {self.evidence_kinds[0]: self.explain(query, target).pairs}

    # END SHIM


def voted_plane(shape: Sequence[int], match: PlaneMatch) -> Plane:
    """The plane of a match as it was voted for, in responses of a shape (I, J, K, L)."""
    rows, columns, K, L = shape
    _, wide = translation_grid(((rows + 1) // 2, (columns + 1) // 2, K, L))
    a, b = divmod(match.translation, wide)
    offset = 2.0 * torch.tensor([a - K // 2, b - L // 2])  # every second patch has a response
    return Plane(STEP * torch.eye(2), offset, match.votes)


def to_float32(features: PlaneFeatures) -> PlaneFeatures:
    """The same with a pyramid of float32, which is kept as half."""
    return features._replace(pyramid=tuple(patches.float() for patches in features.pyramid))


@cache
def shipped_impostors() -> tuple[PlaneFeatures, ...]:
    """Large and close templates of `IMPOSTORS` queries of Toytown's training part.

    Examples
    --------
    >>> len(shipped_impostors()), shipped_impostors()[0].templates[0].patches.shape[2]
    (16, 64)
    """
    found = []
    for number in range(IMPOSTORS):
        large, close = (
            Template(fitted_tensors()[f"impostor.{number}.{kind}"], torch.empty(0))
            for kind in ("template", "close")
        )
        found.append(PlaneFeatures((large,), (close,), coarse=(), pyramid=(), shape=(0, 0)))
    return tuple(found)
