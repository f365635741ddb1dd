"""Collections on disk: each photo encoded once, few of them verified for a query.

Chapter: *From pairs to collections*.
"""

from indiret.index.collection import Changes, Collection, Stats
from indiret.index.duplicates import find_duplicates
from indiret.index.memory import MemoryCollection
from indiret.index.pixels import PixelShortlist
from indiret.index.shortlist import SHORTLISTS, Segment, Shortlist, build_shortlist
from indiret.index.vectors import VectorShortlist

__all__ = [
    "SHORTLISTS", "Changes", "Collection", "MemoryCollection", "PixelShortlist", "Segment",
    "Shortlist", "Stats", "VectorShortlist", "build_shortlist", "find_duplicates",
]  # fmt: skip
