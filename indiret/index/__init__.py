"""Collections on disk: each photo encoded once, few of them verified for a query.

Chapter: *From pairs to collections*.
"""

from indiret.index.collection import Changes, Collection, Stats
from indiret.index.shortlist import SHORTLISTS, Segment, Shortlist

__all__ = ["SHORTLISTS", "Changes", "Collection", "Segment", "Shortlist", "Stats"]
