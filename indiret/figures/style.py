"""One style for all figures: colours, axes, pictures with frames.

Chapter: all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from indiret.images import Picture

INK = "#22252b"
BACKGROUND = "#fbfaf7"  # figures bring their own, so they need no second, dark version
GOOD, BAD, LINE = "#1b8a5a", "#b3402e", "#ffb000"
STYLE: Any = {
    **{f"{part}.facecolor": BACKGROUND for part in ("figure", "axes", "savefig")},
    **{f"{part}color": INK for part in ("text.", "axes.edge", "axes.label", "xtick.", "ytick.")},
    "figure.dpi": 110,
    "font.size": 11.5,  # 16 pixels on a slide
    "axes.titlesize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dcd8cf",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # Okabe and Ito's colours, told apart by colour-blind readers too.
    "axes.prop_cycle": plt.cycler(
        color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
    ),
}


@contextmanager
def subplots(
    rows: int = 1, columns: int = 1, style: Any = None, **options: Any
) -> Iterator[tuple[Figure, Any]]:
    """A figure, closed for pyplot, and its (rows, columns) array of axes, to be drawn in the style.

    Examples
    --------
    >>> with subplots(1, 2) as (figure, axes):
    ...     axes.shape, plt.get_fignums()
    ((1, 2), [])
    """
    with plt.rc_context({**STYLE, **(style or {})}):
        figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", **options)
        plt.close(figure)
        yield figure, axes


def show_picture(ax: Axes, picture: Picture, title: str, relevant: bool | None = None) -> None:
    """A picture under its title: framed green and ticked if relevant, red and crossed if not."""
    ax.imshow(picture, aspect="equal")
    ax.axis("off")
    ax.set_title(title + {True: " ✓", False: " ✗", None: ""}[relevant])
    if relevant is not None:
        colour, (height, width) = GOOD if relevant else BAD, picture.shape[:2]
        ax.title.set_color(colour)
        ax.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, ec=colour, lw=3))
