"""Three steps, each dearer and better than the last, on ever fewer photos.

Coarse templates match every photo of the database, large ones the best of them, and the network
judges the best of those. All three read the same features of a photo. What a step leaves out keeps
its order, below what it keeps.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from indiret.planes.matching import (
    PLANE_CONFIGS,
    PairMatch,
    PlaneConfig,
    PlaneFeatures,
    to_float32,
)
from indiret.planes.network import NAME, PlaneNetRetriever, PlaneNetwork, load_plane_network
from indiret.reranking import Scores, best, lift

VOTED, JUDGED = 0.3, 0.15  # shares of the database; see book/decisions/0016_plane_network


class PlaneCascadeRetriever(PlaneNetRetriever):
    """Coarse votes for all photos, votes for the best, the network for the best of those.

    Parameters
    ----------
    network
        As for `PlaneNetRetriever`.
    config
        Of the votes.
    voted, judged
        Shares of the database for large templates and for the network, `indiret.reranking.LEAST`
        photos at least.

    Raises
    ------
    ValueError
        If the network should judge more than is voted on, or a share is not between 0 and 1.

    Examples
    --------
    >>> retriever = PlaneCascadeRetriever(PlaneNetwork(), judged=0.1)
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> features = retriever.encode(picture.repeat(10, axis=0).repeat(10, axis=1))
    >>> retriever.score(features, [features, features]).shape
    (2,)
    """

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANE_CONFIGS["planes"],
        voted: float = VOTED,
        judged: float = JUDGED,
    ):
        if not 0 <= judged <= voted <= 1:
            raise ValueError(
                f"voted={voted} and judged={judged} are no cascade; give shares of the database "
                "from 0 to 1, and no larger one to the network than to the votes."
            )
        super().__init__(network, config, judged)
        self.voted = voted

    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Higher for what a later step has kept, shape (len(database),); no unit.

        Among those that the network has judged, differences are those of its margins.
        """
        if not database:
            return np.empty(0)
        query = to_float32(query)
        coarse = [self.match_coarse(query, target) for target in database]
        scores = np.array([match.score for match in coarse])
        kept = best(scores, self.voted)
        matches = {at: self.match_large(query, database[at], coarse[at]) for at in kept}
        scores = lift(scores, kept, [match.score for match in matches.values()])
        kept = best(scores, self.judged)
        return lift(scores, kept, self.margins(query, [(database[at], matches[at]) for at in kept]))

    def match_coarse(self, query: PlaneFeatures, target: PlaneFeatures) -> PairMatch:
        """The match of coarse templates and the query's close one."""
        target = to_float32(target)
        match = self.coarse_match(query, target)
        return match._replace(forward=self.match_close(query, target, match.turn, match.forward))

    def match_large(
        self, query: PlaneFeatures, target: PlaneFeatures, coarse: PairMatch
    ) -> PairMatch:
        """The match of large templates, in the turn of the coarse ones."""
        return self.match_both(query, to_float32(target), coarse.turn)


PLANE_NETWORKS: dict[str, tuple[type[PlaneNetRetriever], str]] = {  # by name, with a description
    NAME: (PlaneNetRetriever, "votes for planes, judged by a small network over its samples"),
    "plane-cascade": (
        PlaneCascadeRetriever,
        "coarse votes for all photos, votes for the best, plane-net for the best of those",
    ),
}


def load_plane_retriever(name: str) -> PlaneNetRetriever:
    """One of `PLANE_NETWORKS` by name, or the network of a file as ``plane-net``.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `indiret.planes.network.load_plane_network`.
    """
    if name not in PLANE_NETWORKS:
        return PlaneNetRetriever(load_plane_network(name))
    return PLANE_NETWORKS[name][0](load_plane_network())
