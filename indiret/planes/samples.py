"""T sampled along the best plane of either direction: pictures of the template, and a few numbers.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.planes.features import STEP, PlaneFeatures, Template
from indiret.planes.matches import CLOSE_WEIGHT, PairMatch, PlaneMatch
from indiret.planes.matching import PlaneRetriever
from indiret.planes.voting import sample_pooled

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
NORM = CHANNELS.index("norm")


class PlaneSample(NamedTuple):
    """What is known along one plane."""

    maps: Tensor  # (C, K, L), the `CHANNELS`
    numbers: Tensor  # (G,), the `NUMBERS`
    template_points: Tensor  # (K, L, 2), y and x from 0 to 1
    matched_points: Tensor  # (K, L, 2), in the other photo


def sample_along_plane(
    retriever: PlaneRetriever,
    template: Template,
    searched: PlaneFeatures,
    match: PlaneMatch,
    background_score: float,
) -> PlaneSample:
    """T of a template and the size in which a plane was found, sampled along that plane."""
    cosines, voted, plane, matched = retriever.fit_plane(template, searched, match)
    rows, columns, K, L = cosines.shape
    places = plane.places(K, L)
    inside = ((places >= 0) & (places <= torch.tensor([rows - 1, columns - 1]))).all(-1)
    response, cosine = sample_pooled(cosines, plane)
    i, j = places.round().long().unbind(-1)
    nearest = i.clamp(0, rows - 1) * columns + j.clamp(0, columns - 1)
    there = cosines.view(-1, K * L).index_select(0, nearest.flatten())  # places × patches
    maps = (
        response,
        cosine,
        sample_pooled(cosines, voted)[0],
        cosines.amax((0, 1)) - cosine,
        _rank(cosines, cosine, (0, 1)),
        _rank(there, cosine.view(-1, 1), (1,)).view(K, L),
        template.patches.norm(dim=-1),
        inside.float(),
    )
    channels = torch.stack(maps)
    channels[:NORM] *= inside  # what is known of a place, not of the template
    (down, across), (along, right) = (plane.matrix / STEP).tolist()
    numbers = (
        10 * match.votes,
        match.z_score / 10,
        10 * plane.votes * (CLOSE_WEIGHT if match.close else 1),
        match.level / len(searched.pyramid),
        math.log(max(down * right - across * along, 1e-2)),
        abs(across) + abs(along) + abs(down - right),
        match.score / math.sqrt(background_score),
        math.log(background_score),
    )
    return PlaneSample(channels, template.points.new_tensor(numbers), template.points, matched)


def _rank(values: Tensor, least: Tensor, axes: tuple[int, ...]) -> Tensor:
    """1 where none of the values along axes is larger, 0 where all are, in logarithmic steps."""
    larger = torch.gt(values, least, out=torch.empty_like(values)).sum(axes)  # bools sum slowly
    return 1 - (larger + 1.0).log() / math.log(values.numel() // larger.numel() + 1)


def sample_pair(
    retriever: PlaneRetriever,
    query: PlaneFeatures,
    target: PlaneFeatures,
    match: PairMatch | None = None,
) -> list[PlaneSample]:
    """Samples along the best planes of query in target and of target in query."""
    match = match or retriever.match_both(query, target)
    background, directions = match.background_score, match.directions(query, target)
    return [sample_along_plane(retriever, *one, background) for one in directions]


def collate(pairs: Sequence[Sequence[PlaneSample]]) -> tuple[Tensor, Tensor]:
    """Maps and numbers of B pairs in both directions: (B, 2, C, K, K), padded, and (B, 2, G)."""
    maps = pad_maps([one.maps for pair in pairs for one in pair])
    numbers = torch.stack([one.numbers for pair in pairs for one in pair])
    return maps.unflatten(0, (-1, 2)), numbers.float().unflatten(0, (-1, 2))


def pad_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps (..., K, L) of several shapes as squares, with zeros where one ends.

    A network feels where zeros begin, so that is not left to what else is in the batch: templates
    have one longer side, and all are padded to its square, in training as in search.
    """
    side = max(max(one.shape[-2:]) for one in maps)
    ends = [(0, side - one.shape[-1], 0, side - one.shape[-2]) for one in maps]
    return torch.stack([F.pad(one.float(), end) for one, end in zip(maps, ends, strict=True)])
