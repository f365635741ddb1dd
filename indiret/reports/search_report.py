"""The page that ``indiret search --html`` writes: every hit with its evidence, in one file.

Pictures are inside the page, nothing is loaded from elsewhere and no script runs, so that it can be
mailed, archived and opened years later.

Chapter: *Quick tour*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indiret.evidence import Evidence
from indiret.figures import Picture, jpeg, overlay, patch_centre, shrink
from indiret.reports.pages import write_page

LONG_SIDE = 480  # pixels; two pictures a hit at this size keep ten hits below 2 MB
GAP = 24  # between the two pictures, in the units of the drawing
WIDE_HEIGHT, TALL_WIDTH = 300.0, 340.0


@dataclass(frozen=True)
class ReportHit:
    """One hit of a search and why it was found.

    Attributes
    ----------
    name
        Shown as text, escaped.
    picture
        (H, W, 3) uint8 RGB of any size.
    score
        The margin z_relevant − z_irrelevant.
    probability
        Calibrated, 0 … 1, or None.
    evidence
        From `indiret.evidence.explain`, target = this picture.
    """

    name: str
    picture: Picture
    score: float
    probability: float | None
    evidence: Evidence


def write_search_report(
    path: str | Path,
    query_name: str,
    query: Picture,
    hits: Iterable[ReportHit],
    note: str = "",
    pairs: int = 10,
) -> Path:
    """Write the self-contained page of a search.

    Parameters
    ----------
    path
        The file to write, whole or not at all; its folder is made where it is missing.
    query_name
        Shown as text, escaped.
    query
        (H, W, 3) uint8 RGB as it was searched for (cropped to its box).
    hits
        Best first. Taken one at a time, so a generator need not hold all pictures in memory.
    note
        A sentence above the hits, such as that nothing was found.
    pairs
        How many of the strongest patch pairs are joined by lines.

    Returns
    -------
    Path
        ``path``.

    Examples
    --------
    >>> import tempfile, torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> hit = ReportHit("a<b>.jpg", grey, 3.2, 0.96, Evidence(3.2, torch.rand(4, 4, 4, 4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_search_report(f"{folder}/report.html", "q.jpg", grey, [hit]).read_text()
    >>> "a&lt;b&gt;.jpg" in page, "a<b>" in page
    (True, False)
    """
    path = Path(path)
    write_page(
        path,
        "search_report.html.j2",
        title=f"Photos like {query_name}",
        query_name=query_name,
        note=note,
        pairs=pairs,
        hits=(_hit(rank, query, hit, pairs) for rank, hit in enumerate(hits, start=1)),
    )
    return path


def _hit(rank: int, query: Picture, hit: ReportHit, pairs: int) -> dict[str, Any]:
    """What the template shows of a hit: each picture once, and two drawings that use them."""
    pictures = [shrink(picture, LONG_SIDE) for picture in (query, hit.picture)]
    maps = hit.evidence.query_map, hit.evidence.target_map
    symbols = []
    for side, picture, evidence_map in zip(("query", "target"), pictures, maps, strict=True):
        height, width = picture.shape[:2]
        shown = jpeg(overlay(picture, evidence_map.detach().cpu().numpy()))
        symbols.append({"id": f"{side}{rank}", "width": width, "height": height, "jpeg": shown})
    layouts = [_layout(name, symbols, hit.evidence, pairs) for name in ("wide", "tall")]
    values = {"name": hit.name, "score": hit.score, "probability": hit.probability}
    return values | {"symbols": symbols, "layouts": layouts}


def _layout(
    name: str, symbols: list[dict[str, Any]], evidence: Evidence, pairs: int
) -> dict[str, Any]:
    """Both pictures and the lines between them, side by side (wide) or one above the other."""
    aspects = [symbol["width"] / symbol["height"] for symbol in symbols]
    if name == "wide":
        sizes = [(WIDE_HEIGHT, WIDE_HEIGHT * aspect) for aspect in aspects]
        corners = [(0.0, 0.0), (sizes[0][1] + GAP, 0.0)]
    else:
        sizes = [(TALL_WIDTH / aspect, TALL_WIDTH) for aspect in aspects]
        corners = [(0.0, 0.0), (0.0, sizes[0][0] + GAP)]
    parts = [
        {"symbol": symbol["id"], **_rounded(x=x, y=y, width=width, height=height)}
        for symbol, (x, y), (height, width) in zip(symbols, corners, sizes, strict=True)
    ]
    grids = evidence.query_map.shape, evidence.target_map.shape
    lines = []
    matches = evidence.matches(pairs)
    for match in reversed(matches):
        cells = (match.k, match.l), (match.i, match.j)
        (x1, y1), (x2, y2) = (
            np.add(corner, patch_centre(*cell, grid, size))
            for cell, grid, size, corner in zip(cells, grids, sizes, corners, strict=True)
        )
        strength = 0.8 + 1.7 * match.value / matches[0].value
        lines.append({**_rounded(x1=x1, y1=y1, x2=x2, y2=y2), "width": strength})
    (x, y), (height, width) = corners[1], sizes[1]
    size = _rounded(width=max(x + width, sizes[0][1]), height=max(y + height, sizes[0][0]))
    return {"name": name, **size, "parts": parts, "lines": lines}


def _rounded(**lengths: float) -> dict[str, float]:
    return {name: round(float(value), 1) for name, value in lengths.items()}
