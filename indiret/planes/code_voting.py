"""Votes of coded photos, many pairs at a time, in whole numbers: no score feels its company.

As `indiret.planes.voting`. Coded patches are whole numbers of a byte but for a factor, so float32
holds sums of their products exactly, which are rounded once, to bfloat16. Normalised responses are
rounded to multiples of 1/`UNIT`, and float32 holds their sums exactly. So neither the batch, nor
the order of sums, nor the precision of the processor's products changes a score.

Chapter: *From pairs to collections*.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.planes.features import PlaneFeatures
from indiret.planes.matches import CLOSE_WEIGHT, PairMatch, PlaneMatch, have_frame, without_frame
from indiret.planes.voting import POPULARITY_FLOOR

THRESHOLD = 307 / 1024  # as `indiret.planes.voting.COSINE_THRESHOLD`, in 10 bits
SIGN_WEIGHT = 1.25  # of a vote among signs, whose responses are 0.8 of those of cosines
UNIT = 2048  # parts of 1 in which responses are counted
CACHE = 2**19  # responses that are made at once, so that they stay in a processor's cache
EXACT = torch.bfloat16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else torch.float32
ROWS = 512  # patches of a product, or a multiple: torch keeps what it makes for each number of them
QUARTERS = 2  # parts of a template, up and down and aside


def match_codes(query: PlaneFeatures, targets: Sequence[PlaneFeatures]) -> list[PairMatch]:
    """The best planes of a coded query in coded targets and of these in the query."""
    groups: dict[tuple[Hashable, int | None], list[int]] = defaultdict(list)
    for place, target in enumerate(targets):
        kept = *target.pyramid, target.template.patches, target.close.patches
        shapes = tuple(one.shape for one in kept)
        alone = place if have_frame(query, target) else None  # less a frame, it has no company
        groups[shapes, alone].append(place)
    matches = {}
    for (_, alone), places in groups.items():
        found, source = [targets[place] for place in places], query
        sources = found
        if alone is not None:
            source, sources = without_frame(query, found[0]), [without_frame(found[0], query)]
        forward, backward = best_matches([source], found), best_matches(sources, [query])
        for place, there, back in zip(places, forward, backward, strict=True):
            votes, quarters = SIGN_WEIGHT * there.votes, SIGN_WEIGHT * there.quarters
            there = there._replace(votes=votes, quarters=quarters)
            matches[place] = PairMatch(there, back, targets[place].background_score)
    return [matches[place] for place in range(len(targets))]


def best_matches(
    sources: Sequence[PlaneFeatures], searched: Sequence[PlaneFeatures]
) -> list[PlaneMatch]:
    """The best planes of one photo in several or of several in one.

    The several are of one shape. As `indiret.planes.matching.PlaneRetriever.match`.
    """
    large = best_planes(
        [one.template.patches for one in sources], [one.pyramid for one in searched]
    )
    close = best_planes(
        [one.close.patches for one in sources], [one.pyramid[-1:] for one in searched]
    )
    last = len(searched[0].pyramid) - 1
    matches = []
    for match, other in zip(large, close, strict=True):
        votes = CLOSE_WEIGHT * other.votes
        near = PlaneMatch(votes, other.z_score, last, other.translation, True, match.quarters)
        matches.append(max(match, near, key=lambda one: one.score))
    return matches


def best_planes(
    templates: Sequence[Tensor], pyramids: Sequence[Sequence[Tensor]]
) -> list[PlaneMatch]:
    """The best planes of one template in several pyramids or of several in one.

    The several are of one shape; see `indiret.planes.matching.PlaneRetriever.best_plane`.
    """
    sizes = _plane_votes(templates, pyramids)
    starts = np.cumsum([0, *(size.shape[2] for size in sizes)])
    whole, patches = torch.cat(sizes, 2), templates[0][..., 0].numel()
    matches = []
    for votes, z_scores, place in zip(*_highest(whole, patches), strict=True):
        level = int(np.searchsorted(starts, place, side="right")) - 1
        scores = [one * z_score for one, z_score in zip(votes[1:], z_scores[1:], strict=True)]
        quarters = math.fsum(scores) / len(scores)
        at = place - int(starts[level])
        matches.append(PlaneMatch(votes[0], z_scores[0], level, at, quarters=quarters))
    return matches


def _plane_votes(templates: Sequence[Tensor], pyramids: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Of each size the sums over all planes of each quarter, (pairs, 4, planes), whole numbers."""
    stacked = torch.stack([*templates])
    votes = []
    for size in zip(*pyramids, strict=True):
        few = max(1, CACHE // (size[0][..., 0].numel() * templates[0][..., 0].numel()))
        parts = [
            _hough_votes(_pooled_responses(torch.stack(size[at : at + few]), part))
            for at in range(0, len(size), few)
            for part in stacked.split(few)
        ]
        votes.append(torch.cat([part.flatten(0, 1) for part in parts]))
    return votes


def _highest(quarters: Tensor, patches: int) -> tuple[list[Any], list[Any], list[int]]:
    """Of (pairs, 4, planes): highest votes and z-scores, of the whole and quarters; the plane."""
    votes = torch.cat([quarters.sum(1, keepdim=True), quarters.shape[1] * quarters], 1)
    exact, planes = votes.double(), votes.shape[2]
    mean = exact.sum(2) / planes
    variance = (exact.square().sum(2) - planes * mean.square()) / (planes - 1)
    highest, places = votes.max(2)
    scale = UNIT * patches  # of sums to means
    z_scores = (highest - mean) / (variance.clamp_min(0).sqrt() + 1e-9 * scale)
    means = highest.double() / scale
    return means.tolist(), z_scores.tolist(), places[:, 0].tolist()


def _pooled_responses(patches: Tensor, templates: Tensor) -> Tensor:
    """(B, I', J', M, K, L): thresholded maxima of 3 × 3 patches, normalised, whole numbers."""
    template = templates.shape[:3]
    rows = patches.flatten(0, 2).to(EXACT)
    padded = F.pad(rows, (0, 0, 0, -len(rows) % ROWS))
    product = (padded @ templates.flatten(0, 2).to(EXACT).mT)[: len(rows)]
    pooled = _max_pool_stride2(product.bfloat16().view(*patches.shape[:3], -1))
    answers = pooled.float().sub_(THRESHOLD).clamp_min_(0).unflatten(3, (template[0], -1))
    popularity = answers.mean(4, keepdim=True).add_(POPULARITY_FLOOR).sqrt_()
    return answers.div_(popularity).mul_(UNIT).round_().unflatten(4, template[1:])


def _max_pool_stride2(responses: Tensor) -> Tensor:
    """As `indiret.planes.voting.max_pool_stride2`, of (B, I, J, N) bfloat16, where it is > 0.

    Positive numbers have the order of their bits, whose maxima take half of the time.
    """
    bits = responses.view(torch.int16)
    for axis in (1, 2):
        pooled, odd = (bits.transpose(axis, 1)[:, at::2].transpose(axis, 1) for at in (0, 1))
        pooled, many = pooled.clone(), odd.shape[axis]
        above, below = pooled.narrow(axis, 0, many), pooled.narrow(axis, 1, pooled.shape[axis] - 1)
        torch.maximum(above, odd, out=above)
        torch.maximum(below, odd.narrow(axis, 0, below.shape[axis]), out=below)
        bits = pooled
    return bits.view(torch.bfloat16)


def _hough_votes(responses: Tensor) -> Tensor:
    """Sums of (B, I, J, M, K, L) over the planes of each quarter: (B, M, 4, planes).

    As `indiret.planes.voting.hough_votes_by_quarter`, of many pairs.
    """
    B, I, J, M, K, L = responses.shape
    above, aside = K // 2, L // 2
    tall, wide = I + 2 * above - K + 1, J + 2 * aside - L + 1
    padded = F.pad(responses, (0, 0) * 3 + (aside, aside))
    b, i, j, m, k, l = padded.stride()
    shifted = padded.as_strided((B, I, wide, M, K, L), (b, i, j, m, k, l + j))
    along = torch.stack([part.sum(5) for part in shifted.tensor_split(QUARTERS, 5)])
    lines = F.pad(along, (0, 0) * 3 + (above, above))
    part, b, i, j, m, k = lines.stride()
    shifted = lines.as_strided((QUARTERS, B, tall, wide, M, K), (part, b, i, j, m, k + i))
    votes = torch.stack([part.sum(5) for part in shifted.tensor_split(QUARTERS, 5)])
    return votes.permute(2, 5, 0, 1, 3, 4).flatten(4).flatten(2, 3)
