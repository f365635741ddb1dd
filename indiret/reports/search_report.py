"""The page that ``indiret search --html`` writes: every hit with its evidence, in one file.

Nothing is loaded from elsewhere and no script runs: it can be mailed, and opened years later.

Chapter: *Quick tour*.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indiret.evidence import Evidence
from indiret.figures import jpeg, overlay, patch_centre, shrink_picture
from indiret.images import Picture
from indiret.reports.pages import write_page
from indiret.retrieval import Hit

_LONG_SIDE = 480  # pixels; two pictures a hit at this size keep ten hits below 2 MB
_GAP = 24  # between the two pictures, in the units of the drawing
_WIDE_HEIGHT, _TALL_WIDTH = 300.0, 340.0
_EXTENTS = ("x", "width"), ("y", "height")


class ReportHit(NamedTuple):
    """One hit of a search, its photo of any size, and why it was found."""

    hit: Hit
    picture: Picture
    evidence: Evidence  # its target is this picture


def write_search_report(
    path: str | Path, query_name: str, query: Picture, hits: Iterable[ReportHit],
    note: str = "", pairs: int = 10,
) -> Path:  # fmt: skip
    """Write the self-contained page of a search, whole or not at all, and return its path.

    The query is cropped to its box; ``hits``, best first, are taken one at a time, so that a
    generator need not hold all pictures. The strongest ``pairs`` of patches are joined by lines,
    dashed where the place of the query's patch is probably wrong.

    Examples
    --------
    >>> import tempfile, torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> evidence = Evidence(3.2, torch.rand(4, 4, 4, 4))
    >>> hit = ReportHit(Hit("a<b>.jpg", 3.2, 0.96), grey, evidence)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_search_report(f"{folder}/report.html", "q.jpg", grey, [hit]).read_text()
    >>> "a&lt;b&gt;.jpg" in page, "a<b>" in page
    (True, False)
    """
    drawn = (_draw(rank, query, hit, pairs) for rank, hit in enumerate(hits, start=1))
    values = {"query_name": query_name, "note": note, "pairs": pairs, "hits": drawn}
    title = f"Photos like {query_name}"
    write_page(path := Path(path), "search_report.html.j2", title=title, **values)
    return path


def _draw(rank: int, query: Picture, found: ReportHit, pairs: int) -> dict[str, Any]:
    """What the template shows of a hit: each picture once, and two drawings that use them."""
    evidence, symbols = found.evidence, []
    for side, picture, evidence_map in (
        ("query", query, evidence.query_map),
        ("target", found.picture, evidence.target_map),
    ):
        small = shrink_picture(picture, _LONG_SIDE)
        height, width = small.shape[:2]
        shown = jpeg(overlay(small, evidence_map))
        symbols.append({"id": f"{side}{rank}", "width": width, "height": height, "jpeg": shown})
    layouts = [_layout(name, symbols, evidence, pairs) for name in ("wide", "tall")]
    values = found.hit._asdict() | {"judged": found.hit.judged}
    return values | {"symbols": symbols, "layouts": layouts}


def _layout(
    name: str, symbols: list[dict[str, Any]], evidence: Evidence, pairs: int
) -> dict[str, Any]:
    """Both pictures and the lines between them, side by side (wide) or one above the other."""
    aspects = [symbol["width"] / symbol["height"] for symbol in symbols]
    if name == "wide":
        sizes = [(_WIDE_HEIGHT, _WIDE_HEIGHT * aspect) for aspect in aspects]
        corners = (0.0, 0.0), (sizes[0][1] + _GAP, 0.0)
    else:
        sizes = [(_TALL_WIDTH / aspect, _TALL_WIDTH) for aspect in aspects]
        corners = (0.0, 0.0), (0.0, sizes[0][0] + _GAP)
    parts = [
        {"symbol": symbol["id"], "x": x, "y": y, "width": width, "height": height}
        for symbol, (x, y), (height, width) in zip(symbols, corners, sizes, strict=True)
    ]
    grids, lines = (evidence.query_map.shape, evidence.target_map.shape), []
    for match in reversed(matches := evidence.matches(pairs)):
        cells = (match.k, match.l), (match.i, match.j)
        (x1, y1), (x2, y2) = (
            np.add(corner, patch_centre(*cell, grid, size))
            for cell, grid, size, corner in zip(cells, grids, sizes, corners, strict=True)
        )
        strength = 0.8 + 1.7 * match.value / matches[0].value
        known = evidence.probability
        doubtful = known is not None and bool(known[match.k, match.l] < 0.5)
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        lines.append(ends | {"width": strength, "doubtful": doubtful})
    width, height = (max(part[at] + part[of] for part in parts) for at, of in _EXTENTS)
    return {"name": name, "width": width, "height": height, "parts": parts, "lines": lines}
