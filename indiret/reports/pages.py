"""Pages from jinja2 templates: text of users is escaped, and a file is written whole or not at all.

Chapters: *Quick tour*, *Reproducing the tables*.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def _markdown_text(text: str) -> str:
    """Text that Markdown takes for text."""
    return re.sub(r"([*_`\[\]|])", r"\\\1", escape(text, quote=False).replace("\n", " "))


TEMPLATES = Environment(
    loader=PackageLoader("indiret.reports", ""),
    autoescape=lambda name: name is None or ".html" in name,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["markdown_text"] = _markdown_text
TEMPLATES.filters["base64"] = lambda data: base64.b64encode(data).decode()


def render(template: str, **values: Any) -> str:
    """A page as text.

    Examples
    --------
    >>> page = render("page.html.j2", title="a<b>")
    >>> "<h1>a&lt;b&gt;</h1>" in page, "<b>" in page
    (True, False)
    """
    return TEMPLATES.get_template(template).render(**values)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page piece by piece, so that what it iterates over need not be in memory at once."""
    stream = TEMPLATES.get_template(template).stream(**values)
    _write(path, (text.encode("utf-8", "replace") for text in stream))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that a page shows."""
    _write(path, [data])


def _write(path: Path, parts: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            file.writelines(parts)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
