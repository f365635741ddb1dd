"""What every widget is: live in a notebook with a kernel, and plain HTML in a page without one.

One ES module serves both: ``shared.js`` and the widget's own sources, one behind the other. A live
notebook loads it beside its model; a page has it inlined behind its data and needs no server, no
other file and no build step.

Chapters: *Quick tour*, *Your own photos*.
"""

from __future__ import annotations

import base64
import json
import re
from html import escape
from pathlib import Path
from typing import Any, ClassVar

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        "The widgets need anywidget, which is not installed; install the extra book: "
        "pip install 'indiret[book]'."
    ) from error

__all__ = ["PageWidget", "join_modules", "module_source", "pair_trait", "traitlets"]

_IMPORT = re.compile(r"^import [^;]+;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function |const |class )", re.MULTILINE)


def module_source(*names: str) -> str:
    """The ES module of a widget: what all share, and its own sources in this order."""
    return join_modules("shared", *names)


def join_modules(*names: str) -> str:
    """Modules one behind the other, which then neither import nor export each other's names."""
    folder = Path(__file__).parent
    sources = ((folder / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


def pair_trait(kind: Any, value: Any) -> Any:
    """Two values of a kind of trait, known to the page too."""
    return traitlets.Tuple(kind(), kind(), default_value=(value, value)).tag(sync=True)


class PageWidget(anywidget.AnyWidget):
    """A live widget that also knows what a page shows in its place.

    A subclass has ``kind``, which its sources give to ``defineWidget``, and ``_esm`` from
    `module_source`. In a page its state is that of ``page_state``, and its ``payload``.
    """

    kind: ClassVar[str]
    page_state: ClassVar[tuple[str, ...]] = ()
    payload = traitlets.Bytes().tag(sync=True)

    def to_html(self) -> str:
        """The widget in its present state as a piece of HTML, whole and working by itself."""
        return self._inlined({name: getattr(self, name) for name in self.page_state})

    def _inlined(self, state: dict[str, Any]) -> str:
        encoded = base64.b64encode(self.payload).decode()
        payload = f' data-payload="{encoded}"' if encoded else ""
        return (
            f'<div class="indiret-{self.kind}" data-state="{escape(json.dumps(state))}"{payload}>'
            "<noscript>This widget needs JavaScript.</noscript></div>\n"
            f'<script type="module">\n{self._esm}\nrenderPage();\n</script>\n'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The live widget, and the HTML for pages and for notebooks without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | {"text/html": self.to_html()}, metadata
