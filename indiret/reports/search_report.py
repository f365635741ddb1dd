"""The page that ``indiret search --html`` writes: every hit with its evidence, in one file.

Pictures are inside the page, nothing is loaded from elsewhere and no script runs, so that it can be
mailed, archived and opened years later.

Chapter: *Quick tour*.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from indiret.evidence import Evidence
from indiret.figures import overlay, patch_centre

Picture = NDArray[np.uint8]

LONG_SIDE = 480  # pixels; two pictures a hit at this size keep ten hits below 2 MB
JPEG_QUALITY = 80
GAP = 24  # between the two pictures, in the units of the drawing
WIDE_HEIGHT, TALL_WIDTH = 300.0, 340.0

STYLE = """
:root { color-scheme: light dark;
        --ink: #22252b; --paper: #fbfaf7; --soft: #62676f; --line: #ddd8ce; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --paper: #17191d; --soft: #a3a8b0; --line: #363a41; }
}
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
       font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-bottom: 0; }
h1, h2, p { overflow-wrap: anywhere; }
p { margin: .3rem 0 .8rem; } .soft { color: var(--soft); }
article { border-top: 1px solid var(--line); padding: .6rem 0 1.2rem; }
svg.wide, svg.tall { display: block; width: 100%; height: auto; }
svg.wide { max-height: 24rem; }
svg.tall { display: none; }
@media (max-width: 40rem) { svg.wide { display: none; } svg.tall { display: block; } }
.casing { stroke: #22252b; } .pair { stroke: #ffb000; } .casing, .pair { stroke-linecap: round; }
circle { fill: #ffb000; stroke: #22252b; }
"""


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


def write_report(
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
    ...     page = write_report(f"{folder}/report.html", "q.jpg", grey, [hit]).read_text()
    >>> "a&lt;b&gt;.jpg" in page, "a<b>" in page
    (True, False)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    articles = [
        _article(rank, query_name, query, hit, pairs) for rank, hit in enumerate(hits, start=1)
    ]
    note = f"<p><strong>{escape(note)}</strong></p>" if note else ""
    body = f"""{note}
<p class="soft">For each photo found: the query and the photo, both grey where the network saw no
evidence and warm where it saw much, and lines between the patches that spoke most for a match.</p>
{"".join(articles)}"""
    page = html_page(f"Photos like {query_name}", body)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(page, encoding="utf-8", errors="replace")
    os.replace(unfinished, path)
    return path


def html_page(title: str, body: str, style: str = "") -> str:
    """A page that loads nothing and runs no script: its title, as text, over a body of HTML.

    Examples
    --------
    >>> page = html_page("a<b>", "<p>text</p>")
    >>> "<h1>a&lt;b&gt;</h1>\\n<p>text</p>" in page, "<b>" in page
    (True, False)
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def _article(rank: int, query_name: str, query: Picture, hit: ReportHit, pairs: int) -> str:
    sides = {
        f"query{rank}": shrink(query),
        f"target{rank}": shrink(hit.picture),
    }
    maps = (hit.evidence.query_map, hit.evidence.target_map)
    symbols = "".join(
        f'<symbol id="{name}" viewBox="0 0 {picture.shape[1]} {picture.shape[0]}">'
        f'<image width="{picture.shape[1]}" height="{picture.shape[0]}" '
        f'href="data:image/jpeg;base64,{_under_map(picture, values)}"/>'
        "</symbol>"
        for (name, picture), values in zip(sides.items(), maps, strict=True)
    )
    described = escape(
        f"The query {query_name} and hit {rank}, {hit.name}, under their evidence maps, with lines "
        f"between their {pairs} strongest pairs of patches at most."
    )
    drawings = "".join(
        _drawing(layout, list(sides), list(sides.values()), hit.evidence, pairs, described)
        for layout in ("wide", "tall")
    )
    probability = "" if hit.probability is None else f"{hit.probability:.1%} likely relevant · "
    return f"""<article>
<h2>{rank}. {escape(hit.name)}</h2>
<p class="soft">{probability}score {hit.score:.2f}</p>
<svg width="0" height="0" style="position:absolute" aria-hidden="true">{symbols}</svg>
{drawings}
</article>
"""


def _drawing(
    layout: str,
    names: list[str],
    pictures: list[Picture],
    evidence: Evidence,
    pairs: int,
    described: str,
) -> str:
    """Both pictures and the lines between them, side by side (wide) or one above the other."""
    shapes = [picture.shape[:2] for picture in pictures]
    if layout == "wide":
        sizes = [(WIDE_HEIGHT, WIDE_HEIGHT * width / height) for height, width in shapes]
        corners = [(0.0, 0.0), (sizes[0][1] + GAP, 0.0)]
        total = (WIDE_HEIGHT, sizes[0][1] + GAP + sizes[1][1])
    else:
        sizes = [(TALL_WIDTH * height / width, TALL_WIDTH) for height, width in shapes]
        corners = [(0.0, 0.0), (0.0, sizes[0][0] + GAP)]
        total = (sizes[0][0] + GAP + sizes[1][0], TALL_WIDTH)
    uses = "".join(
        f'<use href="#{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        for name, (x, y), (height, width) in zip(names, corners, sizes, strict=True)
    )
    matches = evidence.matches(pairs)
    grids = evidence.query_map.shape, evidence.target_map.shape
    lines = dots = ""
    for match in reversed(matches):
        cells = (match.k, match.l), (match.i, match.j)
        (x1, y1), (x2, y2) = (
            (corner[0] + x, corner[1] + y)
            for cell, grid, size, corner in zip(cells, grids, sizes, corners, strict=True)
            for x, y in [patch_centre(*cell, grid, size)]
        )
        width = 0.8 + 1.7 * match.value / matches[0].value
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        lines += (
            f'<line class="casing" {ends} stroke-width="{width + 1.5:.2f}"/>'
            f'<line class="pair" {ends} stroke-width="{width:.2f}"/>'
        )
        dots += "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in ((x1, y1), (x2, y2))
        )
    return (
        f'<svg class="{layout}" viewBox="0 0 {total[1]:.1f} {total[0]:.1f}" role="img" '
        f'aria-label="{described}">{uses}{lines}{dots}</svg>\n'
    )


def shrink(picture: Picture, long_side: int = LONG_SIDE) -> Picture:
    """The picture with at most so many pixels on its long side.

    Examples
    --------
    >>> shrink(np.zeros((100, 200, 3), dtype=np.uint8), 50).shape
    (25, 50, 3)
    """
    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side))
    return np.asarray(image)


def jpeg(picture: Picture) -> bytes:
    """The picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _under_map(picture: Picture, values: Tensor) -> str:
    return base64.b64encode(jpeg(overlay(picture, values.detach().cpu().numpy()))).decode()
