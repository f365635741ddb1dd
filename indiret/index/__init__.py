"""Collections on disk: each photo encoded once, few of them verified for a query.

Chapter: *From pairs to collections*.
"""

from indiret.index.collection import Changes, Collection, Stats
from indiret.index.pixels import PixelShortlist
from indiret.index.shortlist import SHORTLISTS, Segment, Shortlist, build_shortlist
from indiret.index.vectors import VectorShortlist

__all__ = [
    "SHORTLISTS", "Changes", "Collection", "PixelShortlist", "Segment", "Shortlist", "Stats",
    "VectorShortlist", "build_shortlist",
]  # fmt: skip
