"""Figures for chapters and reports, in one style that reads on light and dark pages.

Every drawing function returns a matplotlib ``Figure`` that is closed for pyplot: as the last line
of a notebook cell it is shown once, and nothing is left open. Only this wing, `indiret.reports` and
`indiret.widgets` import matplotlib.
"""

from indiret.figures.comparison import (
    RankedPicture,
    cascade_curve,
    ranked_lists,
    reported_and_measured,
)
from indiret.figures.diagrams import (
    bars,
    curves,
    heat_table,
    histograms,
    interval_rows,
    matrices,
    plane_fit,
    trajectories,
)
from indiret.figures.encoding import jpeg, shrink
from indiret.figures.pictures import (
    evidence_columns,
    evidence_pairs,
    map_strip,
    overlay,
    patch_centre,
    patch_mosaic,
    patch_responses,
    ranked_strip,
)
from indiret.figures.style import BAD, GOOD, INK, LINE, PAPER, STYLE, Picture, subplots

__all__ = [
    "BAD", "GOOD", "INK", "LINE", "PAPER", "STYLE", "Picture", "RankedPicture", "bars",
    "cascade_curve", "curves", "evidence_columns", "evidence_pairs", "heat_table",
    "histograms", "interval_rows", "jpeg", "map_strip", "matrices", "overlay", "patch_centre",
    "patch_mosaic", "patch_responses", "plane_fit", "ranked_lists", "ranked_strip",
    "reported_and_measured", "shrink", "subplots", "trajectories",
]  # fmt: skip
