"""Make the built pages work from a disk, with no server and no error in the browser's console.

- Jupyter Book always loads sphinx-thebe, which names a server and writes its inline script into
  every page twice (a syntax error). The book has no live cells, so its scripts are taken out.
- MathJax, 2 MB, is loaded by pages with mathematics alone.
- A browser may not load a font file for a page that lies on a disk. The theme's icon fonts move
  into their style sheet, and the pages no longer ask for the files beforehand, nor for the script
  that would draw the same icons once more (1.5 MB).
- The search page has excerpts of all pages in a script, since it could not fetch them.
- For screen readers, the arrows that unfold the theme's menus and the bar with the book's title get
  a name, the bibliography's entries the role of items of their list, and a table's empty corner is
  no header.
"""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FONT_LINKS = re.compile(
    r'\s*<link rel="preload" as="font"[^>]*>'
    r'|\s*<link rel="preload" as="script"[^>]*fontawesome[^>]*>'
    r"|\s*<script[^>]*fontawesome[^>]*></script>"
)
UNNAMED = '<summary><span class="toctree-toggle"'
BAR = '<div class="bd-sidebar-primary bd-sidebar'
ROLES = {
    UNNAMED: UNNAMED.replace(">", ' aria-label="pages within">', 1),
    BAR: BAR.replace(" ", ' role="navigation" aria-label="Book" ', 1),
    'role="doc-biblioentry"': 'role="listitem"',
}
EMPTY_HEADER = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")
FONT_FACE = re.compile(r"@font-face\{.*?\}")
FONT_FAMILIES = (r"Font Awesome\ 6 Free", r"Font Awesome\ 6 Brands")


def drop_unused(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Take thebe's scripts and styles out of one page, and MathJax's where it has no use."""
    mathematics = app.env.domaindata["math"]["has_equations"]
    unused = ["thebe"] if mathematics.get(page) else ["thebe", "mathjax"]
    for kind in ("script_files", "css_files"):
        context[kind] = [
            item
            for item in context[kind]
            if not any(n in f"{item} {getattr(item, 'attributes', '')}".lower() for n in unused)
        ]


def load_excerpts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let the search page, and no other, load what `finish` writes."""
    if page == "search":
        app.add_js_file("excerpts.js")


def article_text(page: str) -> str:
    """What can be read in a page's article, without code, data and links to headings.

    >>> article_text("<nav>x</nav><article>A <b>map</b>, &lt; 1<script>y</script></article><p>z")
    'A map, < 1'
    """
    article = re.search(r"<article.*?</article>", page, re.DOTALL)
    hidden = r'<(script|style|pre)\b.*?</\1>|<a class="headerlink".*?</a>|<[^>]*>'
    text = re.sub(hidden, "", article[0] if article else "", flags=re.DOTALL)
    return " ".join(unescape(text).split())


def for_screen_readers(page: str) -> str:
    """A page with the names and roles that the theme leaves out.

    >>> for_screen_readers('<tr><th class="head"><p></p></th><th class="head"><p>mAP</p></th></tr>')
    '<tr><td class="head"></td><th class="head"><p>mAP</p></th></tr>'
    """
    for given, meant in ROLES.items():
        page = page.replace(given, meant)
    return EMPTY_HEADER.sub(r"<td\1></td>", page)


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
    """Inline the icon fonts and remove what else would load icons."""
    if error is not None or app.builder.format != "html":
        return
    built = Path(app.outdir)
    for sheet in built.glob("_static/vendor/fontawesome/*/css/all.min.css"):
        css = sheet.read_text(encoding="utf-8")
        sheet.write_text(FONT_FACE.sub(partial(inline_font, sheet.parent), css), encoding="utf-8")
    for script in built.glob("_static/vendor/fontawesome/*/js/*"):
        script.unlink()
    excerpts = {}
    for page in sorted(built.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        page.write_text(for_screen_readers(FONT_LINKS.sub("", text)), encoding="utf-8")
        excerpts[page.relative_to(built).as_posix()] = article_text(text)
    script = f"var EXCERPTS = {json.dumps(excerpts, ensure_ascii=False)};\n"
    (built / "_static" / "excerpts.js").write_text(script, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    # After the theme and sphinx-thebe (priority 500) have added theirs.
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("html-page-context", load_excerpts)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
