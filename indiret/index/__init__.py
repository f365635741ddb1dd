"""Collections on disk: each photo encoded once, few of them verified for a query.

Chapter: *From pairs to collections*.
"""

from indiret.index.collection import Changes, Collection, Stats
from indiret.index.duplicates import find_duplicates
from indiret.index.memory import MemoryCollection
from indiret.index.shortlist import SHORTLISTS, Segment, Shortlist

__all__ = [
    "SHORTLISTS", "Changes", "Collection", "MemoryCollection", "Segment", "Shortlist", "Stats",
    "find_duplicates",
]  # fmt: skip
