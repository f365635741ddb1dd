"""The best planes of a pair of photos, and what they score.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from indiret.planes.features import PlaneFeatures, Template
from indiret.planes.frames import cut_same, share_frame

QUARTER_WEIGHT = 0.5  # of the quarters' mean score beside that of the whole
CLOSE_WEIGHT = 0.5  # of a vote of a close template beside one of a large template


class PlaneMatch(NamedTuple):
    """The best plane of a template in a pyramid."""

    votes: float  # its mean response, times `CLOSE_WEIGHT` for a close template
    z_score: float  # among all planes of the pair
    level: int  # the number of its size in the pyramid
    translation: int  # its number among those of that size
    close: bool = False  # whether a close template found it
    quarters: float = 0.0  # mean of votes × z-score over the quarters of the template

    @property
    def score(self) -> float:
        """Mean response × z-score, of the whole and of its quarters."""
        return self.votes * self.z_score + QUARTER_WEIGHT * self.quarters


class PairMatch(NamedTuple):
    """The best planes of query in target and of target in query."""

    forward: PlaneMatch
    backward: PlaneMatch = PlaneMatch(0.0, 0.0, 0, 0)
    background_score: float = 1.0  # of the target

    @property
    def score(self) -> float:
        """Twice the sum of both directions over the root of the target's background score."""
        return 2 * (self.forward.score + self.backward.score) / math.sqrt(self.background_score)

    def directions(
        self, query: PlaneFeatures, target: PlaneFeatures
    ) -> Iterator[tuple[Template, PlaneFeatures, PlaneMatch]]:
        """The template that found each plane, the photo it was found in, and its match."""
        for source, searched, match in (
            (query, target, self.forward),
            (target, query, self.backward),
        ):
            source = without_frame(source, searched)
            yield source.close if match.close else source.template, searched, match


def have_frame(source: PlaneFeatures, searched: PlaneFeatures) -> bool:
    """Whether two photos share a frame; see `indiret.planes.frames`."""
    return share_frame(source.template.patches, searched.template.patches)


def without_frame(source: PlaneFeatures, searched: PlaneFeatures) -> PlaneFeatures:
    """The templates of a photo, less a frame that it shares with the other photo."""
    if not have_frame(source, searched):
        return source
    large, close = (
        one._replace(patches=cut_same(one.patches, other.patches))
        for one, other in ((source.template, searched.template), (source.close, searched.close))
    )
    return source._replace(template=large, close=close)
