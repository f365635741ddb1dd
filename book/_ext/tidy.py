"""What makes the pages easier to read, whatever page it is.

- An exercise's starter says "not yet" when it runs; a page shows the starter and not that.
- An interval in a table, ``(0.64 … 0.76)``, stays on one line.
- Wide figures get the class ``wide``: on a phone they scroll in their own box and stay legible.
  Those that are mostly their own ground get the class ``plot``: in the dark they turn dark.
- The fields of a named tuple are told by its docstring, so "Alias for field number 0" is left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from PIL import Image, ImageColor
from sphinx.application import Sphinx

from indiret.figures import BACKGROUND

INTERVAL = re.compile(r"\([^()]*…[^()]*\)")
WIDE = 730  # pixels, from which a figure's letters are too small at a phone's width


def drop_starters_outputs(app: Sphinx, page: str, source: list[str]) -> None:
    """Take the outputs of exercises' starters out of an executed chapter."""
    if not page.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if re.fullmatch(r"exercise-.*-starter", cell.get("id", "")):
            cell["outputs"] = []
    source[0] = json.dumps(notebook)


def hold_together(text: str) -> str:
    """Put no-break spaces into the intervals of a text.

    >>> hold_together("0.70 (0.64 … 0.76)").split(" ")
    ['0.70', '(0.64\\xa0…\\xa00.76)']
    """
    return INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def hold_intervals_together(app: Sphinx, doctree: nodes.document) -> None:
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(hold_together(text)))


def is_plot(picture: Image.Image) -> bool:
    """Whether most of a figure is the ground it is drawn on, as of plots and not of photos.

    >>> is_plot(Image.new("RGB", (9, 9), BACKGROUND)), is_plot(Image.new("RGB", (9, 9), "grey"))
    (True, False)
    """
    colours = picture.convert("RGB").getcolors(picture.width * picture.height) or []
    most, colour = max(colours)
    return colour == ImageColor.getrgb(BACKGROUND) and most > picture.width * picture.height / 2


def mark_figures(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".png" and path.is_file():
            with Image.open(path) as picture:
                image["classes"] += ["wide"] if picture.width >= WIDE else []
                image["classes"] += ["plot"] if is_plot(picture) else []


def skip_field_alias(
    app: Sphinx, what: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    return True if (value.__doc__ or "").startswith("Alias for field number") else None


def keep_colons(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Napoleon would take what stands before a property's first colon for its type's text."""
    if what in ("attribute", "property"):
        lines.insert(0, "")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", drop_starters_outputs)
    app.connect("doctree-read", hold_intervals_together)
    app.connect("doctree-resolved", mark_figures)
    app.connect("autodoc-skip-member", skip_field_alias)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
