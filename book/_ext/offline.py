"""Make the built pages work from a disk, with no server and no error in the browser's console.

- Jupyter Book always loads sphinx-thebe, which names a server and writes its inline script into
  every page twice (a syntax error). The book has no live cells, so its scripts are taken out.
- A browser may not load a font file for a page that lies on a disk. The theme's icon fonts move
  into their style sheet, and the pages no longer ask for the files beforehand.
"""

from __future__ import annotations

import base64
import re
from functools import partial
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FONT_PRELOAD = re.compile(r'\s*<link rel="preload" as="font"[^>]*>')
FONT_FACE = re.compile(r"@font-face\{.*?\}")
FONT_FAMILIES = (r"Font Awesome\ 6 Free", r"Font Awesome\ 6 Brands")


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Take thebe's scripts and styles out of one page."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            item
            for item in context[kind]
            if "thebe" not in f"{item} {getattr(item, 'attributes', '')}".lower()
        ]


def inline_font(css_folder: Path, face: re.Match[str]) -> str:
    """Return a @font-face rule with its woff2 file inside, or nothing for an unused family."""
    rule = face[0]
    if not any(family in rule for family in FONT_FAMILIES):
        return ""
    found = re.search(r"url\(([^)]+\.woff2)\)", rule)
    if found is None:
        return rule
    data = base64.b64encode((css_folder / found[1]).read_bytes()).decode()
    source = f'src:url(data:font/woff2;base64,{data}) format("woff2")}}'
    return rule[: rule.index("src:")] + source


def finish(app: Sphinx, error: Exception | None) -> None:
    """Inline the icon fonts and remove the links that load them."""
    if error is not None or app.builder.format != "html":
        return
    built = Path(app.outdir)
    for sheet in built.glob("_static/vendor/fontawesome/*/css/all.min.css"):
        css = sheet.read_text(encoding="utf-8")
        sheet.write_text(FONT_FACE.sub(partial(inline_font, sheet.parent), css), encoding="utf-8")
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(FONT_PRELOAD.sub("", text), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    # After the theme and sphinx-thebe (priority 500) have added theirs.
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
