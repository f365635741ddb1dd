"""Pages from jinja2 templates: text of users is escaped, and a file is written whole or not at all.

Chapters: *Quick tour*, *Reproducing the tables*.
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from indiret.checkpoints import write_atomically


def _html_text(text: str) -> Markup:
    """One line of text that HTML takes for text, also of a ``call`` block, which seems safe."""
    return Markup(escape(" ".join(str.split(text))))


def _markdown_text(text: str) -> str:
    """The same for Markdown."""
    line = escape(" ".join(str.split(text)), quote=False)
    return re.sub(r"([*_`\[\]|])", r"\\\1", line)


_TEMPLATES = Environment(
    loader=PackageLoader("indiret.reports", ""),
    autoescape=lambda name: name is None or ".html" in name,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"html_text": _html_text, "markdown_text": _markdown_text}
_TEMPLATES.filters["base64"] = lambda data: base64.b64encode(data).decode()


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page piece by piece, so that what it iterates over need not be in memory at once."""
    with write_atomically(path) as part:
        _TEMPLATES.get_template(template).stream(**values).dump(str(part), "utf-8", "replace")
