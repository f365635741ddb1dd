"""What makes the pages easier to read, whatever page it is.

- An exercise's starter says "not yet" when it runs; a page shows the starter and not that.
- An interval in a table, ``(0.64 … 0.76)``, stays on one line, and a line ends with a slash.
- Wide figures get the class ``wide``: on a phone they scroll in their own box and stay legible.
- In the dark, figures turn dark. Plots, of class ``plot``, do so by a filter of the page; those
  with photos have a second picture, in which ground and text are turned and photos are not.
- What scrolls sideways is a stop of the Tab key, so that arrow keys scroll it.
- Signatures name types as the code does: ``ArrayLike``, ``NDArray[float64]``, and of a command's
  parameter its type alone. A protocol, and typer's command, has none.
- The fields of a named tuple are told by its docstring, so "Alias for field number 0" is left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from docutils import nodes
from numpy.typing import ArrayLike
from PIL import Image, ImageColor
from scipy import ndimage
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

from indiret.figures import BACKGROUND

TYPES = {
    r"~\w+\.Annotated\[(.*?), <typer[^>]*>\]": r"\1",
    re.escape(stringify_annotation(ArrayLike, "smart")): "ArrayLike",
    r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[(.*?)\]\]": r"NDArray[\1]",
}
INTERVAL = re.compile(r"\([^()]*…[^()]*\)")
# What a page's filter hue-rotate(180deg) does, here and for plots after invert(0.9).
HALF_TURN = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
SCROLLING = """addEventListener("load", () => {
  const mark = ({ target: box }) => {
    const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto";
    scrolls ? box.setAttribute("tabindex", 0) : box.removeAttribute("tabindex");
  };
  const observer = new ResizeObserver((boxes) => boxes.forEach(mark));
  const may = ".bd-article :is(figure, table, pre, div.math, div.cell_output)";
  document.querySelectorAll(may).forEach((box) => observer.observe(box));
});"""
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
    """Put no-break spaces into the intervals of a text, and before its slashes.

    >>> hold_together("0.70 (0.64 … 0.76) / 0.7").split(" ")
    ['0.70', '(0.64\\xa0…\\xa00.76)\\xa0/', '0.7']
    """
    held = INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return held.replace(" /", "\N{NO-BREAK SPACE}/")


def hold_intervals_together(app: Sphinx, doctree: nodes.document) -> None:
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(hold_together(text)))


def dark_form(picture: Image.Image) -> Image.Image | None:
    """A figure with ground and text turned dark, and photos, heat maps and colour bars as they are.

    These are what stands on the ground, nearly fills its box, or fills half of it with many
    colours. None of a figure that has none.

    >>> plot, photo = Image.new("RGB", (90, 60), BACKGROUND), Image.new("RGB", (30, 30), "grey")
    >>> dark_form(plot)
    >>> plot.paste(photo, (40, 20))
    >>> dark = dark_form(plot)
    >>> [dark.getpixel(place) for place in ((0, 0), (50, 30))]
    [(30, 30, 27), (128, 128, 128)]
    """
    pixels = np.asarray(picture.convert("RGB"))
    labels, _ = ndimage.label((pixels != ImageColor.getrgb(BACKGROUND)).any(-1), np.ones((3, 3)))
    kept = np.zeros(labels.shape, bool)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box] == number
        least, most = sorted(part.shape)
        if (least >= 24 and part.mean() > 0.85) or (
            least >= 9
            and most >= 60
            and part.mean() > 0.6
            and len(np.unique(pixels[box][part], axis=0)) > 64
        ):
            whole = part | ndimage.binary_closing(part)  # photos have pixels of the ground's colour
            kept[box] |= ndimage.binary_opening(whole, np.ones((9, 9)))  # without lines between
    if not kept.any():
        return None
    turned = ((229.5 - 0.8 * pixels) @ HALF_TURN.T).clip(0, 255)
    return Image.fromarray(np.where(kept[..., None], pixels, turned).round().astype(np.uint8))


def mark_figures(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        if path.suffix not in (".png", ".jpg") or not path.is_file():
            continue
        with Image.open(path) as picture:
            image["classes"] += ["wide"] if picture.width >= WIDE else []
            if path.suffix == ".jpg":  # a photo
                continue
            dark = dark_form(picture)
        if dark is None:
            image["classes"] += ["plot"]
            continue
        uri = str(Path(image["uri"]).with_suffix(".dark.webp"))
        dark.save(Path(app.srcdir, uri), quality=90)
        app.env.images.add_file(page, uri)
        second = image.copy()
        second.update_all_atts({"uri": uri, "candidates": {"*": uri}}, replace=True)
        image["classes"] += ["light-form"]
        second["classes"] += ["dark-form"]
        image.parent.insert(image.parent.index(image) + 1, second)


def skip_field_alias(
    app: Sphinx, what: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    return True if (value.__doc__ or "").startswith("Alias for field number") else None


def short_types(signature: str | None) -> str | None:
    """A signature with the types' names instead of what they stand for.

    >>> short_types("(x: ~typing.Annotated[int, <typer.Info object at 0x7f>] = 1)")
    '(x: int = 1)'
    """
    for long, short in TYPES.items():
        signature = signature and re.sub(long, short, signature)
    return signature


def shorten_signature(
    app: Sphinx, what: str, name: str, value: object, options: object, *signature: str | None
) -> tuple[str | None, ...]:
    made = str(getattr(getattr(value, "__init__", None), "__module__", None))
    if what == "class" and made.startswith("typ"):  # of typing or typer
        return "", None
    return tuple(map(short_types, signature))


def keep_colons(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Napoleon would take what stands before a property's first colon for its type's text."""
    if what in ("attribute", "property"):
        lines.insert(0, "")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_js_file(None, body=SCROLLING)
    app.connect("source-read", drop_starters_outputs)
    app.connect("doctree-read", hold_intervals_together)
    app.connect("doctree-resolved", mark_figures)
    app.connect("autodoc-skip-member", skip_field_alias)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
