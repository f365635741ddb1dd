"""Figures for chapters and reports, in one style that reads on light and dark pages.

Every drawing function returns a matplotlib ``Figure`` that is closed for pyplot: as the last line
of a notebook cell it is shown once, and nothing is left open.
"""

from indiret.figures.diagrams import (
    bars,
    curves,
    heat_table,
    histograms,
    interval_rows,
    line_chart,
    matrices,
    plane_fit,
    reported_and_measured,
    shortlist_curves,
    trajectories,
)
from indiret.figures.pictures import (
    RankedPicture,
    draw_evidence_pairs,
    evidence_columns,
    jpeg,
    map_strip,
    overlay,
    patch_centre,
    patch_mosaic,
    patch_responses,
    patch_windows,
    plain_array,
    ranked_lists,
    ranked_strip,
    shrink_picture,
)
from indiret.figures.style import BACKGROUND, BAD, GOOD, INK, LINE, STYLE, subplots

__all__ = [
    "BACKGROUND", "BAD", "GOOD", "INK", "LINE", "STYLE", "RankedPicture", "bars",
    "curves", "draw_evidence_pairs", "evidence_columns", "heat_table", "histograms",
    "interval_rows", "jpeg", "line_chart", "map_strip", "matrices", "overlay", "patch_centre",
    "patch_mosaic", "patch_responses", "patch_windows", "plain_array", "plane_fit", "ranked_lists",
    "ranked_strip", "reported_and_measured", "shortlist_curves", "shrink_picture", "subplots",
    "trajectories",
]  # fmt: skip
