"""T sampled along the best plane of either direction: pictures of the template, and a few numbers.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.planes.geometry import refine_plane
from indiret.planes.matching import (
    CLOSE_WEIGHT,
    PRODUCT,
    STEP,
    PairMatch,
    PlaneFeatures,
    PlaneMatch,
    PlaneRetriever,
    Template,
    to_float32,
    voted_plane,
)
from indiret.planes.voting import COSINE_THRESHOLD, responses, sample_pooled

CHANNELS = (
    "response",  # the best of 3 × 3 patches around the place that the plane gives
    "cosine",  # at the place itself
    "unrefined",  # the response along the plane as it was voted for
    "gap",  # by how much the best target patch of all is better
    "rank",  # of the place among all target patches, 1 for the best
    "reverse_rank",  # of the template's patch among all, for what lies at the place
    "norm",  # of the template's patch, less on flat ground
    "inside",  # whether the place lies in the target
)
NUMBERS = (  # of a plane as a whole
    "votes",
    "z_score",
    "refined_votes",
    "level",
    "log_area",
    "shear",
    "score",  # of this direction, over the root of the background score
    "log_background",
)
READS = CHANNELS + NUMBERS
DIRECTIONS = 2  # the query's template in the target, and the target's in the query


class PlaneSample(NamedTuple):
    """What is known along one plane: `CHANNELS` (C, K, L), `NUMBERS` (G,), and the points.

    ``template_points`` and ``matched_points`` are (K, L, 2), y and x from 0 to 1 in their photos.
    """

    maps: Tensor
    numbers: Tensor
    template_points: Tensor
    matched_points: Tensor


def sample_along_plane(
    retriever: PlaneRetriever,
    template: Template,
    searched: PlaneFeatures,
    match: PlaneMatch,
    background_score: float = 1.0,
) -> PlaneSample:
    """T of a template and the size in which a plane was found, sampled along that plane.

    Arguments are those of `PlaneRetriever.plane_correspondence`, with the pyramid in float32, and
    the background score of the target, whichever of the two photos that is.
    """
    cosines = responses(searched.pyramid[match.level], template.patches, PRODUCT)
    rows, columns, K, L = cosines.shape
    start = voted_plane(cosines.shape, match)
    plane = refine_plane(cosines, start, floor=COSINE_THRESHOLD)
    places = plane.places(K, L)
    inside = ((places >= 0) & (places <= torch.tensor([rows - 1, columns - 1]))).all(-1)
    response, cosine = sample_pooled(cosines, plane)
    maps = torch.stack(
        [
            response,
            cosine,
            sample_pooled(cosines, start)[0],
            cosines.amax((0, 1)) - cosine,
            _rank(_count_above(cosines, cosine).sum((0, 1)), rows * columns),
            _rank(_better_patches(cosines, cosine, places), K * L),
            template.patches.norm(dim=-1),
            inside.float(),
        ]
    )
    maps[:6] *= inside
    (down, across), (along, right) = (plane.matrix / STEP).tolist()
    numbers = torch.tensor(
        [
            10 * match.votes,
            match.z_score / 10,
            10 * plane.votes * (CLOSE_WEIGHT if match.close else 1),
            match.level / len(searched.pyramid),
            math.log(max(down * right - across * along, 1e-2)),
            abs(across) + abs(along) + abs(down - right),
            match.score / math.sqrt(background_score),
            math.log(background_score),
        ]
    )
    matched = retriever.matched_points(plane, (K, L), searched, match)
    return PlaneSample(maps, numbers, template.points, matched)


def _rank(better: Tensor, among: int) -> Tensor:
    """1 for the best of so many, 0 for the last, even steps in the logarithm.

    Examples
    --------
    >>> _rank(torch.tensor([0, 9, 99]), 100)
    tensor([1.0000, 0.5011, 0.0022])
    """
    return 1 - (better + 1.0).log() / math.log(among + 1)


def _count_above(values: Tensor, least: Tensor) -> Tensor:
    """1.0 where values are larger; sums of floats are five times as fast as those of bools."""
    return torch.gt(values, least, out=torch.empty_like(values))


def _better_patches(cosines: Tensor, cosine: Tensor, places: Tensor) -> Tensor:
    """How many of the template's patches are more like what lies at each patch's place: (K, L)."""
    rows, columns, K, L = cosines.shape
    nearest = places.round().long()
    flat = nearest[..., 0].clamp(0, rows - 1) * columns + nearest[..., 1].clamp(0, columns - 1)
    there = cosines.view(-1, K * L).index_select(0, flat.flatten())  # places × template patches
    return _count_above(there, cosine.view(-1, 1)).sum(1).view(K, L)


def sample_pair(
    retriever: PlaneRetriever,
    query: PlaneFeatures,
    target: PlaneFeatures,
    match: PairMatch | None = None,
) -> tuple[PlaneSample, PlaneSample]:
    """Samples along the best planes of query in target and of target in query.

    ``match`` is that of `PlaneRetriever.match_both`, where it is known.
    """
    query, target = to_float32(query), to_float32(target)
    match = match or retriever.match_both(query, target)
    template, background = match.forward.template(query, match.turn), match.background_score
    forward = sample_along_plane(retriever, template, target, match.forward, background)
    template = match.backward.template(target, -match.turn)
    return forward, sample_along_plane(retriever, template, query, match.backward, background)


def collate(pairs: Sequence[Sequence[PlaneSample]]) -> tuple[Tensor, Tensor]:
    """Maps and numbers of B pairs in both directions: (B, 2, C, K, L) and (B, 2, G).

    Templates of different shapes are padded with zeros.
    """
    directed = len(pairs), DIRECTIONS
    maps = pad_maps([one.maps for pair in pairs for one in pair])
    numbers = torch.stack([one.numbers for pair in pairs for one in pair])
    return maps.unflatten(0, directed), numbers.float().unflatten(0, directed)


def pad_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps (..., K, L) of several shapes as one float tensor, with zeros where one ends.

    Examples
    --------
    >>> pad_maps([torch.ones(1, 2), torch.ones(2, 1)]).tolist()
    [[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]
    """
    K, L = (max(one.shape[axis] for one in maps) for axis in (-2, -1))
    return torch.stack(
        [F.pad(one.float(), (0, L - one.shape[-1], 0, K - one.shape[-2])) for one in maps]
    )
