"""Widgets that live in a notebook with a kernel, and as plain HTML in a page without one.

One ES module serves both: a live notebook loads it beside its model, a page has it inlined behind
its data and needs no server and no other file.

Chapters: *Quick tour*, *Your own photos*.
"""

from __future__ import annotations

from html import escape
from typing import Any

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        "The explorer and the annotator need anywidget, which is not installed; install the extra "
        "book: pip install 'indiret[book]'."
    ) from error

__all__ = ["PageWidget", "traitlets"]


class PageWidget(anywidget.AnyWidget):
    """A live widget that also knows what a page shows in its place.

    The module of a subclass, ``_esm``, exports ``render`` for anywidget and defines
    ``renderPage()``, which brings the elements of its class in a page to life.
    """

    def to_html(self) -> str:
        """A piece of HTML, whole and working by itself."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a page shows.")

    def _inlined(self, kind: str, **data: str) -> str:
        """The module behind an element of class ``indiret-<kind>`` with ``data-`` attributes."""
        attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
        return (
            f'<div class="indiret-{kind}"{attributes}>'
            f"<noscript>The {kind} needs JavaScript.</noscript></div>\n"
            f'<script type="module">\n{self._esm}\nrenderPage();\n</script>\n'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The live widget, and the HTML for pages and for notebooks without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | {"text/html": self.to_html()}, metadata
