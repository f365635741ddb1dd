"""A retriever without learning: two photos are alike if many patches agree on one plane of T.

Each photo is kept twice: small, every second patch (its *template*), and in several sizes, every
patch (its *pyramid*). The query's template votes in the target's pyramid (forward), and the
target's in the query's (backward), since nobody knows which of the two the thing fills.

With v the votes of the best plane and z their z-score among all planes of the pair, a direction
scores s = v z + ½ mean of v z over the quarters of the template, each with a best plane of its own;
a pair scores 2 (s_forward + s_backward) / √b, where b is the target's *background score*: the
median s_forward of sixteen impostors, pictures of other things, `BACKGROUND_FLOOR` at least. The
30 % of photos with the lowest forward scores are not matched backward, and stay below the others.

A query may show a smaller part of the target than any size of the pyramid makes room for. So a
*close* template of few patches votes in the largest size; the higher of both scores counts.

Chapter: *Sphere or plane?*
"""

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from indiret.checkpoints import WEIGHTS, hash_tensors
from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.planes import voting
from indiret.planes.code_voting import best_planes, match_codes
from indiret.planes.codes import (
    LAYOUT,
    code_query,
    is_coded,
    pack_codes,
    round_patches,
    unpack_codes,
    with_background,
)
from indiret.planes.confidence import patch_probability
from indiret.planes.correspondence import (
    PlaneCorrespondence,
    fit_affine,
    move_places,
    move_points,
    smooth_support,
    splat,
)
from indiret.planes.features import (
    PLANE_CONFIG,
    STEP,
    PlaneConfig,
    PlaneFeatures,
    Template,
    detail,
    structured_share,
    template_points,
    turn_back,
)
from indiret.planes.geometry import Plane, refine_plane
from indiret.planes.gradients import PATCH_CELLS, dense_rootsift, fitted_tensors, shrink, whiten
from indiret.planes.matches import CLOSE_WEIGHT, PairMatch, PlaneMatch, without_frame
from indiret.planes.verification import VerifiedPlane, candidate_planes, verify
from indiret.planes.voting import float32_on_cpu
from indiret.retrieval import (
    LITTLE_STRUCTURE,
    Points,
    Retriever,
    Scores,
    check_kind,
    register_retriever,
    splice_scores,
    top_share,
)

BACKWARD_SHARE = 0.7  # of the photos, those with the highest forward scores
IMPOSTORS = 16  # pictures of other things that are matched with every photo beforehand
BACKGROUND_FLOOR = 1.5  # less than any photo with structure scores; see record 18
MIDDLE_SIZES = slice(1, 5)  # in which impostors look for coded photos, for half the time
MIDDLE_WEIGHT = 2.1  # of the root of their scores there: the best guess of that in all sizes
IMPOSTOR_GRID = 9, 12  # patches of those, so that all vote together
LEAST_STRUCTURE = 0.01  # with less, the floor rises no further
BY_FINER_PATCHES = "verified"  # the evidence of `indiret.planes.verification`
PRODUCT = voting.ScratchBuffer()
CALIBRATION = WEIGHTS.parent / "calibration.json"  # of tools.fit_calibration


class PlaneRetriever(Retriever):
    """Votes for planes as a retriever.

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

    evidence_kinds: tuple[str, ...] = (BY_FINER_PATCHES, "planes")
    transfers_points = True
    split = 2  # parts of a template, up and down and aside, that have planes of their own

    def __init__(
        self,
        config: PlaneConfig = PLANE_CONFIG,
        calibration: tuple[float, float] | None = None,  # a and b of sigmoid(a · score + b)
    ):
        self.config, self.calibration = config, calibration

    @float32_on_cpu()
    def encode(self, picture: Picture) -> PlaneFeatures:
        """What is kept of a target: 1 MB for a photo of 4 : 3."""
        features = self.encode_query(picture)
        return features._replace(background_score=self.background_score(features))

    @float32_on_cpu()
    def encode_query(self, picture: Picture) -> PlaneFeatures:
        """The same without the background score, which only a target needs."""
        config = self.config
        prepared = self.prepare(picture)
        shape = picture.shape[:2]
        large, close = (
            self.turned_patches(prepared, shape, 0.0, side)
            for side in (config.template, config.close)
        )
        pyramid = tuple(self.patches(prepared, side).half() for side in config.pyramid)
        small = shrink(prepared, min(config.template, max(shape)))
        structure = structured_share(large) * detail(small)
        return PlaneFeatures(large, close, pyramid, shape, structure=structure)

    def prepare(self, picture: Picture) -> np.ndarray:
        """What patches are cut from: the grey picture, so that it is made once for all sizes."""
        return np.asarray(Image.fromarray(picture).convert("L"))

    def fingerprint(self) -> str:
        """Hash of the configuration, the whitening, the impostors and the layout of codes."""
        return hash_tensors((self.config, LAYOUT), fitted_tensors())

    def encode_to_pack(self, picture: Picture) -> PlaneFeatures:
        """Features without the background score: codes have one of their own."""
        return self.encode_query(picture)

    @float32_on_cpu()
    def pack(self, features: PlaneFeatures) -> bytes:
        """Codes of `indiret.planes.codes`, 75 KB for a photo of 4 : 3, with a background score."""
        packed = pack_codes(features)
        return with_background(packed, self.background_score(self.unpack(packed)))

    @float32_on_cpu()
    def unpack(self, packed: bytes | memoryview) -> PlaneFeatures:
        """Features of those codes, which rank as well as the photo's own."""
        return unpack_codes(packed, self.config)

    @float32_on_cpu()
    def structure(self, features: PlaneFeatures) -> float:
        """Share of patches steeper than noise, and unlike others beside; less if all is smooth."""
        if features.structure is None:
            return structured_share(features.template)
        return features.structure

    def patches(self, picture: Picture, long_side: int) -> Tensor:
        """(rows, columns, D): descriptors of a picture made ``long_side`` pixels long."""
        return whiten(dense_rootsift(picture, long_side))

    @torch.inference_mode()
    def background_score(self, features: PlaneFeatures) -> float:
        """How good the planes of any query are in this photo: high if it is full of windows.

        Of a photo with little to judge, it is more than what was measured: two sheets of paper,
        lit alike, are no match.
        """
        if is_coded(features):
            sizes = features.pyramid[MIDDLE_SIZES]
            found = best_planes(self.coded_impostors, [sizes])
            background = MIDDLE_WEIGHT * float(np.median([match.score for match in found])) ** 0.5
        else:
            matches = [self.match(impostor, features) for impostor in self.impostors]
            background = float(np.median([match.score for match in matches]))
        little = LITTLE_STRUCTURE / max(self.structure(features), LEAST_STRUCTURE)
        return max(background, BACKGROUND_FLOOR * max(1.0, little))

    @cached_property
    def impostors(self) -> Sequence[PlaneFeatures]:
        """Templates of `IMPOSTORS` queries of Toytown's training part, whatever the config."""
        found, stored = [], fitted_tensors()
        for number in range(IMPOSTORS):
            of_one = (stored[f"impostor.{number}.{kind}"] for kind in ("template", "close"))
            large, close = (Template(patches, torch.empty(0)) for patches in of_one)
            found.append(PlaneFeatures(large, close, pyramid=(), shape=(0, 0)))
        return found

    @cached_property
    def coded_impostors(self) -> list[Tensor]:
        """Their large templates as codes, all cut to `IMPOSTOR_GRID`, without the smaller ones."""
        rows, columns = IMPOSTOR_GRID
        large = [round_patches(impostor.template.patches) for impostor in self.impostors]
        cut = [patches[:rows, :columns] for patches in large]
        return [patches for patches in cut if patches.shape[:2] == IMPOSTOR_GRID]

    def turned_patches(
        self, turned: Picture, shape: tuple[int, int], turn: float, long_side: int, step: int = STEP
    ) -> Template:
        """Every second patch, or all, of a photo (height, width) that was turned.

        Patches that look past its edge are 0.
        """
        # a turned photo grows with its frame, so that things in it keep their size
        side = round(long_side * max(turned.shape[:2]) / max(shape))
        patches = self.patches(turned, side)[::step, ::step]
        points, inside = template_points(shape, turn, long_side, step)
        return Template((patches * inside[..., None]).contiguous(), points)

    def pooled_responses(self, template: Template, patches: Tensor) -> Tensor:
        """T around every second patch of a picture (I, J, D): (I', J', K, L), halves rounded up."""
        return voting.pool_responses(voting.responses(patches, template.patches, PRODUCT))

    def best_plane(self, template: Template, pyramid: Sequence[Tensor]) -> PlaneMatch:
        """The best plane of a template in all sizes of a photo."""
        pooled = (self.pooled_responses(template, patches) for patches in pyramid)
        levels = [voting.hough_votes_by_quarter(one, split=self.split).flatten(2) for one in pooled]
        quarters = torch.cat(levels, 2).flatten(0, 1)  # (4, planes)
        votes = torch.cat([quarters.sum(0, keepdim=True), len(quarters) * quarters])
        deviation, mean = torch.std_mean(votes, 1)
        highest, at = votes.max(1)
        z_scores = (highest - mean) / (deviation + 1e-9)
        starts = np.cumsum([0, *(level.shape[2] for level in levels)])
        level = int(np.searchsorted(starts, int(at[0]), side="right")) - 1
        return PlaneMatch(
            float(highest[0]),
            float(z_scores[0]),
            level,
            translation=int(at[0]) - int(starts[level]),
            quarters=float((highest * z_scores)[1:].mean()),
        )

    def match(self, source: PlaneFeatures, searched: PlaneFeatures) -> PlaneMatch:
        """The best plane of one photo in another, of its large template or of its close one."""
        source = without_frame(source, searched)
        large = self.best_plane(source.template, searched.pyramid)
        close = self.best_plane(source.close, searched.pyramid[-1:])
        votes, level = CLOSE_WEIGHT * close.votes, len(searched.pyramid) - 1
        close = PlaneMatch(votes, close.z_score, level, close.translation, True, large.quarters)
        return max(large, close, key=lambda one: one.score)

    def match_forward(self, query: PlaneFeatures, target: PlaneFeatures) -> PairMatch:
        """The best plane of query in target."""
        forward = self.match(query, target)
        return PairMatch(forward, background_score=target.background_score)

    def match_both(
        self, query: PlaneFeatures, target: PlaneFeatures, match: PairMatch | None = None
    ) -> PairMatch:
        """A match of `match_forward`, made here if not given, and the best plane the other way."""
        if is_coded(target):
            return match_codes(code_query(query, target), [target])[0]
        match = match or self.match_forward(query, target)
        return match._replace(backward=self.match(target, query))

    @float32_on_cpu()
    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Scores of the best planes of both directions, (len(database),)."""
        return self.score_all(query, database)[0]

    @float32_on_cpu()
    @torch.inference_mode()
    def score_roughly(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Votes in all sizes but the largest, which takes two fifths of the time."""
        query, *database = (one._replace(pyramid=one.pyramid[:-1]) for one in (query, *database))
        return self.score_all(query, database)[0]

    def score_all(
        self, query: PlaneFeatures, database: Sequence[PlaneFeatures]
    ) -> tuple[Scores, dict[int, PairMatch]]:
        """Scores of photos, and by their places the matches of those also matched backward.

        Coded photos are all matched backward, which costs little once they are read.
        """
        if not database:
            return np.empty(0), {}
        query = code_query(query, database[0])
        if is_coded(query):
            both = match_codes(query, database)
            return np.array([match.score for match in both]), dict(enumerate(both))
        forward = [self.match_forward(query, one) for one in database]
        scores = np.array([match.score for match in forward])
        places = top_share(scores, BACKWARD_SHARE)
        kept = places.tolist()
        matches = {at: self.match_both(query, database[at], forward[at]) for at in kept}
        return splice_scores(scores, places, [match.score for match in matches.values()]), matches

    def probability(self, scores: Scores) -> Scores | None:
        """Calibrated probability that a pair is relevant, if one photo in thirty is; record 22."""
        if self.calibration is None:
            return None
        slope, offset = self.calibration
        # Not SciPy's: it takes a quarter of a second to import, and search waits for it.
        return torch.from_numpy(slope * scores + offset).sigmoid().numpy()

    @float32_on_cpu()
    @torch.inference_mode()
    def explain(
        self, query: PlaneFeatures, target: PlaneFeatures, kind: str | None = None
    ) -> Evidence:
        """Which patches lie where: ``verified`` by finer patches, or by the voted ``planes`` alone.

        Directions of the latter count as in the score.
        """
        kind = check_kind(self, kind)
        if kind == BY_FINER_PATCHES:
            match = self.match_both(code_query(query, target), target)
            return self.verified_evidence(match.score, query, target)
        match, found = self.correspondences(query, target)
        weighted = []
        for one, direction in zip(found, (match.forward, match.backward), strict=True):
            support = smooth_support(one.support)
            weights = direction.score * support / support.sum().clamp_min(1e-12)
            weighted.append(one._replace(support=weights))
        return Evidence(match.score, splat(weighted, target.shape, query.shape))

    def verified_evidence(
        self, score: float, query: PlaneFeatures, target: PlaneFeatures
    ) -> Evidence:
        """M* of the plane that was verified: roots of the support, as a map by votes has them."""
        best = self.verified(query, target)
        found = () if best is None else (best.forward, best.backward)
        roots = [one._replace(support=one.support.sqrt() / one.support.numel()) for one in found]
        known = None if best is None else patch_probability(best, query.shape, target.shape)
        return Evidence(score, splat(roots, target.shape, query.shape), known)

    def verified(self, query: PlaneFeatures, target: PlaneFeatures) -> VerifiedPlane | None:
        """The plane that finer patches agree with; None where nothing votes."""
        planes = []
        for backward, (source, searched) in enumerate(((query, target), (target, query))):
            for template, match in candidate_planes(source, searched):
                ends = template.points, self.fit_plane(template, searched, match)[-1]
                planes.append(fit_affine(*ends[::-1] if backward else ends).float())
        return verify(planes, query, target)

    @float32_on_cpu()
    @torch.inference_mode()
    def transfer_points(
        self, query: PlaneFeatures, target: PlaneFeatures, points: Points
    ) -> Points:
        """Where the plane that the default evidence shows puts points of the query."""
        query = code_query(query, target)
        if self.evidence_kinds[0] != BY_FINER_PATCHES:
            return self.move_by_votes(query, target, points)
        best = self.verified(query, target)
        if best is None:
            return np.full(np.shape(points), np.nan)
        return move_places(torch.from_numpy(np.array(points)), best.plane.double()).numpy()

    @float32_on_cpu()
    def move_by_votes(self, query: PlaneFeatures, target: PlaneFeatures, points: Points) -> Points:
        """Where the better direction's plane puts points of the query."""
        match, (forward, backward) = self.correspondences(query, target)
        if match.forward.score >= match.backward.score:
            return move_points(points, forward.template_points, forward.matched_points)
        return move_points(points, backward.matched_points, backward.template_points)

    def correspondences(
        self, query: PlaneFeatures, target: PlaneFeatures
    ) -> tuple[PairMatch, list[PlaneCorrespondence]]:
        """The match of a pair, and where it puts each template's patches in the other photo."""
        query = code_query(query, target)
        match = self.match_both(query, target)
        return match, [self.plane_correspondence(*one) for one in match.directions(query, target)]

    def plane_correspondence(
        self, template: Template, searched: PlaneFeatures, match: PlaneMatch
    ) -> PlaneCorrespondence:
        """Where a template's patches lie by the fitted plane of a match."""
        cosines, _, plane, matched = self.fit_plane(template, searched, match)
        support, _ = voting.sample_pooled(cosines, plane)
        return PlaneCorrespondence(template.points, matched, support)

    def fit_plane(
        self, template: Template, searched: PlaneFeatures, match: PlaneMatch
    ) -> tuple[Tensor, Plane, Plane, Tensor]:
        """A match's cosines (I, J, K, L), its plane as voted for, and as fitted to them.

        Last come the points, (K, L, 2), where the fitted one puts the template's patches.
        """
        cosines = voting.responses(searched.pyramid[match.level], template.patches, PRODUCT)
        rows, columns, K, L = cosines.shape
        _, wide = voting.translation_grid(((rows + 1) // 2, (columns + 1) // 2, K, L))
        a, b = divmod(match.translation, wide)
        exact = torch.float32  # whatever the default is
        offset = 2 * torch.tensor([a - K // 2, b - L // 2], dtype=exact)  # of every second patch
        voted = Plane(STEP * torch.eye(2, dtype=exact), offset, match.votes)
        fitted = refine_plane(cosines, voted, floor=voting.COSINE_THRESHOLD)
        cells = torch.tensor([rows, columns]) + PATCH_CELLS - 1
        points = (fitted.places(K, L) + PATCH_CELLS / 2) / cells
        if searched.turn:
            points = turn_back(points, searched.shape, searched.turn)
        return cosines, voted, fitted, points


def load_calibration() -> tuple[float, float]:
    """The line of the method ``planes``, as `tools.fit_calibration` stored it."""
    slope, offset = json.loads(CALIBRATION.read_text(encoding="utf-8"))["planes"]["line"]
    return slope, offset


register_retriever(
    "planes",
    "votes for planes of the tensor, from gradients alone",
    lambda: PlaneRetriever(calibration=load_calibration()),
)
