"""Three looks, each dearer and better than the last, at ever fewer photos.

Small templates glance at every photo of the database, large ones vote in the best of them, and the
network judges the best of those. All three read the same views of a photo. What a look leaves out
keeps its order, below what it keeps.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from indiret.planenet import NAME, PlaneNetMethod, PlaneNetwork, load_plane_network
from indiret.planevote import PHOTO, PLANES, Agreement, PlaneConfig, PlaneViews, floats
from indiret.reranking import Scores, best, lift

VOTED, JUDGED = 0.3, 0.15  # shares of the database; see book/decisions/0016_plane_network


class PlaneCascade(PlaneNetMethod):
    """A glance at all, the plane vote on the best, the network on the best of those.

    Parameters
    ----------
    network
        As for `indiret.planenet.PlaneNetMethod`.
    config
        Of the vote.
    voted, judged
        Shares of the database that the vote and the network look at, `indiret.reranking.LEAST`
        photos at least.

    Raises
    ------
    ValueError
        If the network should judge more than is voted on, or a share is not between 0 and 1.

    Examples
    --------
    >>> method = PlaneCascade(PlaneNetwork(), judged=0.1)
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> views = method.prepare(picture.repeat(10, axis=0).repeat(10, axis=1))
    >>> method.score(views, [views, views]).shape
    (2,)
    """

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANES["planes"],
        voted: float = VOTED,
        judged: float = JUDGED,
    ):
        if not 0 <= judged <= voted <= 1:
            raise ValueError(
                f"voted={voted} and judged={judged} are no cascade; give shares of the database "
                "from 0 to 1, and no larger one to the network than to the vote."
            )
        super().__init__(network, config, judged)
        self.voted = voted

    @torch.inference_mode()
    def score(self, query: PlaneViews, database: Sequence[PlaneViews]) -> Scores:
        """Higher for what a later look has kept, shape (len(database),); no unit.

        Among those that the network has seen, differences are those of its margins.
        """
        if not database:
            return np.empty(0)
        query = floats(query)
        seen = [self.glance(query, target) for target in database]
        scores = np.array([agreed.worth for agreed in seen])
        kept = best(scores, self.voted)
        votes = {place: self.vote(query, database[place], seen[place]) for place in kept}
        scores = lift(scores, kept, [agreed.worth for agreed in votes.values()])
        kept = best(scores, self.judged)
        pairs = [(database[place], votes[place]) for place in kept]
        return lift(scores, kept, self.judge(query, pairs))

    def glance(self, query: PlaneViews, target: PlaneViews) -> Agreement:
        """What small templates see, and the query's close one."""
        target = floats(target, PHOTO)
        seen = self.planes.glance(query, target)
        there = self.planes.seek_closer(query, target, seen.turn, seen.there)
        return seen._replace(there=there)

    def vote(self, query: PlaneViews, target: PlaneViews, seen: Agreement) -> Agreement:
        """What large templates find, in the turn that small ones saw."""
        return self.planes.agree(query, floats(target, PHOTO), seen.turn)


def load_plane_method(name: str) -> PlaneNetMethod:
    """`PLANE_METHODS` by name, or the network of a file as ``plane-net``.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `indiret.planenet.load_plane_network`.
    """
    if name not in PLANE_METHODS:
        return PlaneNetMethod(load_plane_network(name))
    return PLANE_METHODS[name][0](load_plane_network())


PLANE_METHODS: dict[str, tuple[type[PlaneNetMethod], str]] = {  # by name, with a description
    NAME: (PlaneNetMethod, "the plane vote, judged by a small network over its samples"),
    "plane-cascade": (
        PlaneCascade,
        "a glance at all photos, the plane vote on the best, plane-net on the best of those",
    ),
}
