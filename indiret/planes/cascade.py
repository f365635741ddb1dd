"""Three steps, each dearer and better than the last, on ever fewer photos.

Coarse templates match every photo, large ones the best of them, and the network judges the best of
those, all from the same features. What a step leaves out keeps its order, below what it keeps.

Chapter: *Sphere or plane?*
"""

from collections.abc import Sequence

import numpy as np
import torch

from indiret.planes.features import PLANE_CONFIGS, PlaneConfig, PlaneFeatures
from indiret.planes.matches import PairMatch
from indiret.planes.network import PlaneNetRetriever, PlaneNetwork, load_plane_network
from indiret.planes.voting import float32_on_cpu
from indiret.retrieval import Scores, register_retriever, splice_scores, top_share


class PlaneCascadeRetriever(PlaneNetRetriever):
    """Coarse votes for all photos, votes for the best, the network for the best of those.

    ``voted`` and ``judged`` are shares of the database, `indiret.retrieval.LEAST` photos at least;
    see record 16. Raises ValueError unless 0 ≤ judged ≤ voted ≤ 1.

    Examples
    --------
    >>> retriever = PlaneCascadeRetriever(PlaneNetwork(), judged=0.1)
    >>> features = retriever.encode(np.zeros((120, 160, 3), dtype=np.uint8))
    >>> retriever.score(features, [features, features]).shape
    (2,)
    """

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANE_CONFIGS["planes"],
        voted: float = 0.3,
        judged: float = 0.15,
    ):
        if not 0 <= judged <= voted <= 1:
            raise ValueError(
                f"voted={voted} and judged={judged} are no cascade; give shares of the database "
                "from 0 to 1, and no larger one to the network than to the votes."
            )
        super().__init__(network, config, judged)
        self.voted = voted

    @float32_on_cpu()
    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Margins of what the network has judged, less for what an earlier step has left out."""
        if not database:
            return np.empty(0)
        coarse = [self.match_coarse(query, target) for target in database]
        scores = np.array([match.score for match in coarse])
        kept = top_share(scores, self.voted)
        matches = {at: self.match_large(query, database[at], coarse[at]) for at in kept}
        scores = splice_scores(scores, kept, [match.score for match in matches.values()])
        kept = top_share(scores, self.judged)
        margins = self.margins(query, [(database[at], matches[at]) for at in kept])
        return splice_scores(scores, kept, margins)

    def match_coarse(self, query: PlaneFeatures, target: PlaneFeatures) -> PairMatch:
        """The match of coarse templates and the query's close one."""
        match = self.coarse_match(query, target)
        return match._replace(forward=self.match_close(query, target, match.turn, match.forward))

    def match_large(
        self, query: PlaneFeatures, target: PlaneFeatures, coarse: PairMatch
    ) -> PairMatch:
        """The match of large templates, in the turn of the coarse ones."""
        return self.match_both(query, target, self.match_forward(query, target, coarse.turn))


register_retriever(
    "plane-cascade",
    "coarse votes for all photos, votes for the best, plane-net for the best of those",
    lambda: PlaneCascadeRetriever(load_plane_network()),
)
