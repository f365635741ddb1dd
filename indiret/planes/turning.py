"""Photos that lie turned: a cheap vote finds by how much, and only then planes are looked for.

A disc in the middle of the query votes in twelve turns at once, in the smaller sizes of the target
and in every second patch of those. Where one turn stands out, the query is turned by it, and the
pair is matched as an upright one is; all other pairs are matched as they lie. Targets are encoded,
and kept on disk, as without turns.

Chapter: *Sphere or plane?*
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.planes.features import STEP, PlaneFeatures
from indiret.planes.geometry import grid_places
from indiret.planes.gradients import CELL, PATCH_CELLS
from indiret.planes.matching import PlaneRetriever
from indiret.planes.network import NAME, PlaneNetRetriever, load_plane_network
from indiret.planes.voting import COSINE_THRESHOLD, POPULARITY_FLOOR, float32_on_cpu
from indiret.retrieval import Points, Retriever, Scores, register_retriever

TURNED = f"{NAME}-turned"
TURNS = 12  # evenly round the circle
DISC = 8  # patches across the disc
DISC_SIDE = 96  # pixels of the longer side of the photo that it is cut from
SIZES = slice(0, 5)  # of the target's pyramid, in which it votes
CLEAR = 1.7  # least score of the best turn, in those of turns two steps away from it or more
LEAST_SCORE = 4.0  # of the best turn


class TurnedQuery:
    """A query: its photo upright, its discs, and its photo in each turn, encoded if asked for."""

    def __init__(self, retriever: PlaneRetriever, picture: Picture):
        self.upright = retriever.encode_query(picture)
        prepared = retriever.prepare(picture)
        self.discs = encode_discs(retriever, prepared)
        self.view: Callable[[int], PlaneFeatures] = cache(
            lambda number: self._turned(retriever, prepared, number)
        )

    def _turned(self, retriever: PlaneRetriever, picture: Picture, number: int) -> PlaneFeatures:
        if number == 0:
            return self.upright
        shape, config, turn = picture.shape[:2], retriever.config, 360 * number / TURNS
        turned = np.asarray(
            Image.fromarray(picture).rotate(turn, Image.Resampling.BILINEAR, expand=True)
        )
        large, close = (
            (retriever.turned_patches(turned, shape, turn, side),)
            for side in (config.template, config.close)
        )
        pyramid = tuple(
            retriever.turned_patches(turned, shape, turn, side, step=1).patches.half()
            for side in config.pyramid
        )
        return PlaneFeatures(large, close, (), pyramid, shape, turn=turn)


class TurnedPlaneRetriever(Retriever):
    """A retriever by planes for queries that may lie turned; see record 24.

    A query that was encoded as a target, by `encode`, is upright.

    Examples
    --------
    >>> retriever = TurnedPlaneRetriever(PlaneRetriever())
    >>> blobs = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> picture = np.asarray(Image.fromarray(blobs).resize((320, 240)))
    >>> database = [retriever.encode(np.rot90(picture, turn)) for turn in range(4)]
    >>> query = retriever.encode_query(picture)
    >>> [find_turn(query.discs, target) for target in database]
    [0, 3, 6, 9]
    """

    transfers_points = True

    def __init__(self, upright: PlaneRetriever):
        self.retriever = upright
        self.evidence_kinds = upright.evidence_kinds
        self.encode, self.encode_to_pack = upright.encode, upright.encode_to_pack
        self.probability, self.fingerprint = upright.probability, upright.fingerprint
        self.pack, self.unpack = upright.pack, upright.unpack

    @float32_on_cpu()
    def encode_query(self, picture: Picture) -> TurnedQuery:
        """The upright photo and its discs; turned photos are encoded when a pair asks for them."""
        return TurnedQuery(self.retriever, picture)

    def structure(self, features: PlaneFeatures | TurnedQuery) -> float:
        """As the upright retriever says."""
        return self.retriever.structure(upright(features))

    @float32_on_cpu()
    @torch.inference_mode()
    def turns(self, query: PlaneFeatures | TurnedQuery, database: Sequence[PlaneFeatures]) -> NDArray[np.int64]:
        """By how many steps the query is turned anticlockwise for each target: (len(database),)."""
        if isinstance(query, PlaneFeatures):
            return np.zeros(len(database), np.int64)
        return np.array([find_turn(query.discs, target) for target in database], np.int64)

    def score(self, query: PlaneFeatures | TurnedQuery, database: Sequence[PlaneFeatures]) -> Scores:
        """Scores of the upright retriever, each for the query in the turn that was found."""
        turns, scores = self.turns(query, database), np.empty(len(database))
        for turn in np.unique(turns):
            (places,) = np.nonzero(turns == turn)
            targets = [database[place] for place in places]
            scores[places] = self.retriever.score(turned(query, turn), targets)
        return scores

    def explain(
        self, query: PlaneFeatures | TurnedQuery, target: PlaneFeatures, kind: str | None = None
    ) -> Evidence:
        """Evidence of the upright retriever, of the query in the turn that was found."""
        (turn,) = self.turns(query, [target])
        return self.retriever.explain(turned(query, turn), target, kind)

    def transfer_points(
        self, query: PlaneFeatures | TurnedQuery, target: PlaneFeatures, points: Points
    ) -> Points:
        """Where the plane puts points of the query, in the turn that was found."""
        (turn,) = self.turns(query, [target])
        return self.retriever.transfer_points(turned(query, turn), target, points)


def turned(query: PlaneFeatures | TurnedQuery, turn: int) -> PlaneFeatures:
    return query if isinstance(query, PlaneFeatures) else query.view(int(turn))


def upright(query: PlaneFeatures | TurnedQuery) -> PlaneFeatures:
    return turned(query, 0)


def encode_discs(retriever: PlaneRetriever, picture: Picture) -> Tensor:
    """(TURNS, DISC, DISC, D): patches of a disc in the middle of a picture in each turn.

    Patches outside of the disc, or that look past the picture's edge, are 0.
    """
    window = (STEP * (DISC - 1) + PATCH_CELLS) * CELL  # its pixels
    height, width = picture.shape[:2]
    scale = DISC_SIDE / max(height, width)
    sides = torch.tensor([max(round(side * scale), 1) for side in (height, width)])
    small = Image.fromarray(picture).resize(sides.flip(0).tolist(), Image.Resampling.BILINEAR)
    centres = (STEP * grid_places(DISC, DISC) + PATCH_CELLS / 2) * CELL - window / 2
    inside = centres.norm(dim=-1) <= window / 2
    discs = []
    for number in range(TURNS):
        back = 2 * np.pi * number / TURNS
        cos, sin = np.cos(back), np.sin(back)
        corner = sides / 2 - torch.tensor([cos + sin, cos - sin]) * window / 2
        matrix = (cos, -sin, float(corner[1]), sin, cos, float(corner[0]))
        view = small.transform((window, window), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        patches = retriever.patches(np.asarray(view), window)[::STEP, ::STEP]
        rotation = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float32)
        points = centres @ rotation.mT + sides / 2
        reach = 0.7 * PATCH_CELLS * CELL / 2
        seen = ((points >= reach) & (points <= sides - reach)).all(-1) & inside
        discs.append(patches * seen[..., None])
    return torch.stack(discs)


def find_turn(discs: Tensor, target: PlaneFeatures) -> int:
    """The number of the turn in which a query's discs match a target; 0 if none stands out."""
    scores = turn_scores(discs, target.pyramid[SIZES])
    best = int(scores.argmax())
    steps = (torch.arange(TURNS) - best + TURNS // 2) % TURNS - TURNS // 2
    others = float(scores[steps.abs() > 1].max())
    clear = float(scores[best]) > max(LEAST_SCORE, CLEAR * others)
    return best if clear else 0


def turn_scores(discs: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
    """Votes × z-score of the best plane of each disc (M, K, L, D) in all sizes: (M,)."""
    votes = torch.cat([_hough_votes(_responses(discs, size)).flatten(1) for size in pyramid], 1)
    deviation, mean = torch.std_mean(votes, 1)
    highest = votes.amax(1)
    return highest * (highest - mean) / (deviation + 1e-9)


def _responses(discs: Tensor, patches: Tensor) -> Tensor:
    """Thresholded responses of every second target patch, normalised: (I, J, M, K, L)."""
    few = patches[::STEP, ::STEP]
    cosines = few.flatten(0, 1).float() @ discs.flatten(0, 2).mT
    found = cosines.sub_(COSINE_THRESHOLD).clamp_min_(0).view(len(cosines), len(discs), -1)
    found *= (found.mean(2, keepdim=True) + POPULARITY_FLOOR).rsqrt_()
    return found.view(*few.shape[:2], *discs.shape[:3])


def _hough_votes(responses: Tensor) -> Tensor:
    """As `indiret.planes.voting.hough_votes`, of M templates (I, J, M, K, L): (M, I', J')."""
    I, J, M, K, L = responses.shape
    above, aside = K // 2, L // 2
    padded = F.pad(responses, (0, 0) * 3 + (aside, aside))
    i, j, m, k, l = padded.stride()
    wide, tall = J + 2 * aside - L + 1, I + 2 * above - K + 1
    along = padded.as_strided((I, wide, M, K, L), (i, j, m, k, l + j)).sum(4)
    lines = F.pad(along, (0, 0) * 3 + (above, above))
    i, j, m, k = lines.stride()
    votes = lines.as_strided((tall, wide, M, K), (i, j, m, k + i)).sum(3)
    return votes.permute(2, 0, 1) / (K * L)


register_retriever(
    TURNED,
    f"{NAME} for photos that may lie turned, at little more cost",
    lambda: TurnedPlaneRetriever(PlaneNetRetriever(load_plane_network())),
)
