"""Photos that lie turned, or are seen from aside: a cheap vote finds how, then planes are sought.

A disc in the middle of the query votes in 24 turns at once, and squeezed to a half and to a third
of its width, in five sizes of the target and in every second patch of those. Where one of these
views stands out, the query is turned or squeezed so, and the pair is matched again; the higher
score counts. Targets are encoded, and kept on disk, as without turns.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from itertools import compress

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.planes import voting
from indiret.planes.features import STEP, PlaneFeatures
from indiret.planes.geometry import grid_places
from indiret.planes.gradients import CELL, PATCH_CELLS
from indiret.planes.matching import PRODUCT, PlaneRetriever
from indiret.planes.network import NAME, PlaneNetRetriever, load_plane_network
from indiret.planes.voting import float32_on_cpu, normalise_by_popularity_, threshold_relu_
from indiret.retrieval import Points, Retriever, Scores, register_retriever

TURNED = f"{NAME}-turned"
DISC_TURNS = 24  # evenly round the circle
SQUEEZED = 0.5, 0.35  # of the query's width, as if seen from 60 and 70 degrees aside
DISC = 8  # patches across the disc
DISC_SIDE = 128  # pixels of the longer side of the photo that it is cut from
SIZES = True, True, True, False, True, True  # of the target's pyramid, in which it votes
NEAR_TURNS = 2  # 30°: discs turned by less see some of the same
CLEAR = 12.0  # least score of a view, times its ratio to any turn more than `NEAR_TURNS` away


class TurnedQuery:
    """A query: its discs, and its photo in each view, encoded when a pair first asks for it."""

    def __init__(self, retriever: PlaneRetriever, picture: Picture):
        prepared = retriever.prepare(picture)
        self.upright = retriever.encode_query(picture)
        squeezed = [squeeze(prepared, width) for width in SQUEEZED]
        discs = (encode_discs(retriever, one, turns=1) for one in squeezed)
        self.discs = torch.cat([encode_discs(retriever, prepared), *discs])
        self.turned = cache(partial(encode_turned, retriever, prepared))
        self.squeezed = cache(partial(encode_squeezed, retriever, prepared))

    def view(self, number: int) -> PlaneFeatures:
        """The photo turned anticlockwise by so many of `DISC_TURNS` steps, then squeezed ones."""
        if number >= DISC_TURNS:
            return self.squeezed(SQUEEZED[number - DISC_TURNS])
        return self.turned(number) if number else self.upright


AnyQuery = PlaneFeatures | TurnedQuery  # one that was encoded as a target is upright


class TurnedPlaneRetriever(Retriever):
    """A retriever by planes for queries that may lie turned, or are seen from aside; see record 24.

    Targets are encoded, kept and scored as by the upright retriever, and probabilities are its own.

    Examples
    --------
    >>> retriever = TurnedPlaneRetriever(PlaneRetriever())
    >>> blobs = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> picture = np.asarray(Image.fromarray(blobs).resize((320, 240)))
    >>> database = [retriever.encode(np.rot90(picture, turn)) for turn in range(4)]
    >>> retriever.views(retriever.encode_query(picture), database)
    [0, 6, 12, 18]
    """

    transfers_points = True

    def __init__(self, retriever: PlaneRetriever):
        self.retriever, self.evidence_kinds = retriever, retriever.evidence_kinds

    def encode(self, picture: Picture) -> PlaneFeatures:
        """A target, as the upright retriever encodes it."""
        return self.retriever.encode(picture)

    @float32_on_cpu()
    def encode_query(self, picture: Picture) -> TurnedQuery:
        """The photo as it lies and its discs."""
        return TurnedQuery(self.retriever, picture)

    def encode_to_pack(self, picture: Picture) -> PlaneFeatures:
        """A target without its background score."""
        return self.retriever.encode_to_pack(picture)

    def pack(self, features: PlaneFeatures) -> bytes:
        """Codes of a target, those of the upright retriever."""
        return self.retriever.pack(features)

    def unpack(self, packed: bytes | memoryview) -> PlaneFeatures:
        """A target of its codes."""
        return self.retriever.unpack(packed)

    def fingerprint(self) -> str:
        """That of the upright retriever, which encodes."""
        return self.retriever.fingerprint()

    def probability(self, scores: Scores) -> Scores | None:
        """As the upright retriever says."""
        return self.retriever.probability(scores)

    def structure(self, features: AnyQuery) -> float:
        """Share of patches that can be judged."""
        return self.retriever.structure(_view(features, 0))

    @float32_on_cpu()
    @torch.inference_mode()
    def views(self, query: AnyQuery, database: Sequence[PlaneFeatures]) -> list[int]:
        """The number of the view that each target shows of the query, mostly 0, as it lies."""
        if isinstance(query, PlaneFeatures):
            return [0] * len(database)
        return [find_view(query.discs, target) for target in database]

    @float32_on_cpu()
    def score(self, query: AnyQuery, database: Sequence[PlaneFeatures]) -> Scores:
        """Scores of the query as it lies or in the view of a target, the higher of both."""
        views, scores = self.views(query, database), self.retriever.score(_view(query, 0), database)
        for number in sorted({*views} - {0}):
            places = [place for place, view in enumerate(views) if view == number]
            targets = [database[place] for place in places]
            seen = self.retriever.score(_view(query, number), targets)
            scores[places] = np.maximum(scores[places], seen)
        return scores

    def score_roughly(self, query: AnyQuery, database: Sequence[PlaneFeatures]) -> Scores:
        """Votes of the query as it lies."""
        return self.retriever.score_roughly(_view(query, 0), database)

    def explain(self, query: AnyQuery, target: PlaneFeatures, kind: str | None = None) -> Evidence:
        """Evidence of the query as it lies or is turned, whichever scores more."""
        return self.retriever.explain(self.best_view(query, target), target, kind)

    def transfer_points(self, query: AnyQuery, target: PlaneFeatures, points: Points) -> Points:
        """Where points of the query, as it lies, are in the target."""
        return self.retriever.transfer_points(self.best_view(query, target), target, points)

    @float32_on_cpu()
    def best_view(self, query: AnyQuery, target: PlaneFeatures) -> PlaneFeatures:
        """The query as it lies or as it is turned for a target, whichever scores more."""
        views = [_view(query, number) for number in {0, *self.views(query, [target])}]
        return max(views, key=lambda view: self.retriever.score(view, [target])[0])


def _view(query: AnyQuery, number: int) -> PlaneFeatures:
    return query if isinstance(query, PlaneFeatures) else query.view(number)


def encode_turned(retriever: PlaneRetriever, picture: Picture, number: int) -> PlaneFeatures:
    """Features of a prepared photo turned anticlockwise by a number of steps."""
    shape, config, turn = picture.shape[:2], retriever.config, 360 * number / DISC_TURNS
    image = Image.fromarray(picture).rotate(turn, Image.Resampling.BILINEAR, expand=True)
    encode = partial(retriever.turned_patches, np.asarray(image), shape, turn)
    large, close = (encode(side) for side in (config.template, config.close))
    pyramid = tuple(encode(side, step=1).patches.half() for side in config.pyramid)
    return PlaneFeatures(large, close, pyramid, shape, turn=turn)


def squeeze(picture: Picture, width: float) -> np.ndarray:
    """A picture made narrower, to a share of its width."""
    height, old = picture.shape[:2]
    sides = max(round(width * old), 1), height
    return np.asarray(Image.fromarray(picture).resize(sides, Image.Resampling.LANCZOS))


def encode_squeezed(retriever: PlaneRetriever, picture: Picture, width: float) -> PlaneFeatures:
    """Features of a prepared photo squeezed to a share of its width; places are relative."""
    return retriever.encode_query(squeeze(picture, width))._replace(shape=picture.shape[:2])


def encode_discs(retriever: PlaneRetriever, picture: Picture, turns: int = DISC_TURNS) -> Tensor:
    """(M, DISC, DISC, D): patches of a disc in the middle of a picture in the first turns.

    Patches outside of the disc, or that look past the picture's edge, are 0.
    """
    window = (STEP * (DISC - 1) + PATCH_CELLS) * CELL  # its pixels
    scale = DISC_SIDE / max(picture.shape[:2])
    sides = torch.tensor([max(round(side * scale), 1) for side in picture.shape[:2]])
    small = Image.fromarray(picture).resize(sides.flip(0).tolist(), Image.Resampling.BILINEAR)
    centres = (STEP * grid_places(DISC, DISC) + PATCH_CELLS / 2) * CELL - window / 2
    near = centres.norm(dim=-1) <= window / 2
    reach = 0.7 * PATCH_CELLS * CELL / 2
    discs = []
    for number in range(turns):
        angle = 2 * math.pi * number / DISC_TURNS
        cos, sin = math.cos(angle), math.sin(angle)
        back = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float32)
        y, x = (sides / 2 - back.sum(1) * window / 2).tolist()  # of the window's corner
        matrix = cos, -sin, x, sin, cos, y
        affine, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        view = small.transform((window, window), affine, matrix, smooth)
        patches = retriever.patches(np.asarray(view), window)[::STEP, ::STEP]
        points = centres @ back.mT + sides / 2
        inside = ((points >= reach) & (points <= sides - reach)).all(-1)
        discs.append(patches * (near & inside)[..., None])
    return torch.stack(discs)


def find_view(discs: Tensor, target: PlaneFeatures) -> int:
    """The number of the view in which a query's discs match a target; 0 if none stands out."""
    scores = disc_scores(discs, list(compress(target.pyramid, SIZES)))
    best = int(scores.argmax())
    turn = best if best < DISC_TURNS else 0
    others = scores[:DISC_TURNS].roll(-turn)[NEAR_TURNS + 1 : -NEAR_TURNS].max()
    return best if scores[best].square() >= CLEAR * others else 0


def disc_scores(discs: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
    """Votes × z-score of the best plane of each disc (M, K, L, D) in all sizes: (M,)."""
    cosines = (voting.responses(size[::STEP, ::STEP], discs, PRODUCT) for size in pyramid)
    found = (normalise_by_popularity_(threshold_relu_(one)) for one in cosines)
    votes = torch.cat([voting.hough_votes(one).flatten(1) for one in found], 1)
    deviation, mean = torch.std_mean(votes, 1)
    highest = votes.amax(1)
    return highest * (highest - mean) / (deviation + 1e-9)


register_retriever(
    TURNED,
    f"{NAME}, also for things that lie turned or are seen from aside, at about twice the cost",
    lambda: TurnedPlaneRetriever(PlaneNetRetriever(load_plane_network())),
)
