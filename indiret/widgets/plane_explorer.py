"""Move a plane through the tensor by hand, and watch the vote.

Like `indiret.explorer`, it is a widget in a live notebook and a page of its own elsewhere: the same
ES module (``plane_explorer.js``) is inlined with its data, and counts the votes there.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.correspondence import true_places
from indiret.datasets import Query, RetrievalDataset
from indiret.images import image_size, pixel_box
from indiret.planes import PARTS, Plane, cell_grid, sample_plane
from indiret.planevote import PlanesMethod, responses, weigh
from indiret.report import Picture, jpeg, shrink

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        "The explorer needs anywidget, which is not installed; install the extra book: "
        "pip install 'indiret[book]'."
    ) from error

MODULE = (Path(__file__).parent / "plane_explorer.js").read_text(encoding="utf-8")
LONG_SIDE = 400  # pixels of a packed picture
STATE = ("size", "turn", "stretch", "shear", "middle", "truth")


class Board(NamedTuple):
    """What a plane can be moved over.

    Attributes
    ----------
    answers
        (K, L, I, J) float ≥ 0: how target patch (i, j) answers query patch (k, l).
    asked, answering
        (2, 2): where patch (0, 0) lies in its photo, and the step to the next, y and x from 0 to 1.
    best
        The plane that the vote finds, fitted.
    truth
        (K, L, 2), the true place of each query patch in patches of the target; NaN where unknown.
    """

    answers: Tensor
    asked: NDArray[np.float64]
    answering: NDArray[np.float64]
    best: Plane
    truth: NDArray[np.float64]


def lay_out(
    query: Picture,
    target: Picture,
    truth: Callable[[NDArray[np.float64]], ArrayLike] | None = None,
    method: PlanesMethod | None = None,
) -> Board:
    """Answers of a target to a query's template, in the size in which the vote finds it.

    Parameters
    ----------
    query, target
        (H, W, 3) uint8 RGB.
    truth
        From places (K, L, 2) of the query, y and x from 0 to 1, to true places of the target, NaN
        where there is none.
    method
        The vote; upright by default.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> picture = picture.repeat(10, axis=0).repeat(10, axis=1)
    >>> board = lay_out(picture, picture)
    >>> board.answers.shape[:2], float(sample_plane(board.answers, board.best).mean()) > 0.2
    (torch.Size([9, 13]), True)
    """
    method = method or PlanesMethod()
    asked, views = method.prepare_query(query), method.prepare(target)
    pyramid = [patches.float() for patches in views.pyramid]
    template = asked.templates[0]
    found = method.find(template, pyramid)
    landing = method.land(template, views._replace(pyramid=tuple(pyramid)), found)
    cells = torch.tensor(cell_grid(*views.shape, method.config.pyramid[found.size]))
    K, L = template.patches.shape[:2]
    places = landing.places * cells - PARTS / 2
    matrix = torch.stack([places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]], 1)
    answers = weigh(responses(template, pyramid[found.size]).contiguous())
    where = template.where.double().numpy()
    steps = [where[0, 0], [where[1, 0, 0] - where[0, 0, 0], where[0, 1, 1] - where[0, 0, 1]]]
    sides = cells.double().numpy()
    true = np.full((K, L, 2), np.nan)
    if truth is not None:
        true = np.asarray(truth(where), dtype=float) * sides - PARTS / 2
    return Board(
        F.max_pool2d(answers, 3, 1, 1),
        np.array(steps),
        np.array([PARTS / 2 / sides, 1 / sides]),
        Plane(matrix, places[0, 0], found.votes),
        true,
    )


def lay_out_known(
    dataset: RetrievalDataset, query: Query, name: str, method: PlanesMethod | None = None
) -> Board:
    """`lay_out` of a query and a photo of its landmark, with their true places where known.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> query = town.queries[0]
    >>> board = lay_out_known(town, query, min(query.good - {query.image}))
    >>> board.truth.shape[:2] == board.answers.shape[:2]
    True
    """
    asked, target = dataset.read_query(query), dataset.read(name)
    here, there = dataset.geometry(query.image), dataset.geometry(name)
    if here is None or there is None or name not in query.positives | query.junk:
        return lay_out(asked, target, method=method)
    height, width = image_size(dataset.path(query.image))
    x1, y1, x2, y2 = pixel_box(query.box or (0, 0, width, height), (height, width))

    def truth(where: NDArray[np.float64]) -> NDArray[np.float64]:
        points = where[..., ::-1] * [x2 - x1, y2 - y1] + [x1, y1]
        found = true_places(here, there, points, target.shape)
        return found[..., ::-1] / target.shape[:2]

    return lay_out(asked, target, truth, method)


def compose(size: float, turn: float, stretch: float, shear: float) -> Tensor:
    """A (2, 2): so many times as large, turned anticlockwise by degrees, stretched and sheared.

    Examples
    --------
    >>> compose(2.0, 90.0, 1.0, 0.0).round(decimals=3).tolist()
    [[0.0, -2.0], [2.0, 0.0]]
    """
    angle, wide = math.radians(turn), math.sqrt(stretch)
    rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return size * torch.tensor(rotation) @ torch.tensor([[1 / wide, shear], [0.0, wide]])


def decompose(matrix: Tensor) -> dict[str, float]:
    """The settings of `compose` that make a matrix.

    Raises
    ------
    ValueError
        If the matrix mirrors.

    Examples
    --------
    >>> settings = decompose(compose(1.5, 10.0, 0.8, 0.1))
    >>> {name: round(value, 3) for name, value in settings.items()}
    {'size': 1.5, 'turn': 10.0, 'stretch': 0.8, 'shear': 0.1}
    """
    (a, b), (c, d) = matrix.tolist()
    if a * d - b * c <= 0:
        raise ValueError(f"{[[a, b], [c, d]]} mirrors what it maps, or flattens it; no view does.")
    size, angle = math.sqrt(a * d - b * c), math.atan2(c, a)
    narrow = math.hypot(a, c) / size
    shear = (b * math.cos(angle) + d * math.sin(angle)) / size
    settings = size, math.degrees(angle), 1 / narrow**2, shear
    return dict(zip(STATE, settings, strict=False))


class PlaneExplorer(anywidget.AnyWidget):
    """Two pictures, and a plane that sends patches of the one to places in the other.

    Sliders set A; a click in the target, dragging, or the arrow keys set t. Over the target lies
    what the vote would be if the middle of the query were there.

    Parameters
    ----------
    query_name, query, target_name, target
        (H, W, 3) uint8 pictures and what they are called.
    board
        From `lay_out` of the two.

    Attributes
    ----------
    size, turn, stretch, shear
        Settings of `compose`; can be set.
    middle
        Where the plane puts the middle of the query's patches, (i, j); can be set.
    truth
        Whether the true places are shown; can be set.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> picture = picture.repeat(10, axis=0).repeat(10, axis=1)
    >>> explorer = PlaneExplorer("a", picture, "b", picture, lay_out(picture, picture))
    >>> before = explorer.vote
    >>> explorer.take(explorer.board.best)
    >>> explorer.vote > before
    True
    """

    _esm = MODULE
    payload = traitlets.Bytes().tag(sync=True)
    size = traitlets.CFloat(1.0, min=0.25, max=8.0).tag(sync=True)
    turn = traitlets.CFloat(0.0, min=-180.0, max=180.0).tag(sync=True)
    stretch = traitlets.CFloat(1.0, min=0.25, max=4.0).tag(sync=True)
    shear = traitlets.CFloat(0.0, min=-1.0, max=1.0).tag(sync=True)
    middle = traitlets.Tuple(traitlets.CFloat(), traitlets.CFloat(), default_value=(0.0, 0.0)).tag(
        sync=True
    )
    truth = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, query_name: str, query: Picture, target_name: str, target: Picture, board: Board
    ) -> None:
        self.board = board
        rows, columns = board.answers.shape[2:]
        super().__init__(
            payload=pack(query_name, query, target_name, target, board),
            middle=((rows - 1) / 2, (columns - 1) / 2),
        )

    @property
    def plane(self) -> Plane:
        """The plane as it is set, with its vote."""
        plane = _plane(self.board, *(getattr(self, name) for name in STATE[:5]))
        return plane._replace(votes=float(sample_plane(self.board.answers, plane).mean()))

    @property
    def vote(self) -> float:
        """The mean answer along the plane."""
        return self.plane.votes

    def take(self, plane: Plane) -> None:
        """Set everything to a plane, such as ``board.best``."""
        settings = decompose(plane.matrix)
        middle = plane.matrix @ _middle(self.board) + plane.offset
        with self.hold_sync():
            for name, value in settings.items():
                setattr(self, name, value)
            self.middle = tuple(middle.tolist())

    def to_html(self) -> str:
        """The explorer in its present state as a piece of HTML, whole and working by itself."""
        state = escape(json.dumps({name: getattr(self, name) for name in STATE}))
        payload = base64.b64encode(self.payload).decode()
        return (
            f'<div class="indiret-planes" data-state="{state}" data-payload="{payload}">'
            "<noscript>Moving the plane needs JavaScript.</noscript></div>\n"
            f'<script type="module">\n{MODULE}\nrenderPage();\n</script>\n'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The live widget, and the HTML for pages and for notebooks without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | {"text/html": self.to_html()}, metadata


def _middle(board: Board) -> Tensor:
    K, L = board.answers.shape[:2]
    return torch.tensor([K - 1.0, L - 1.0]) / 2


def _plane(
    board: Board,
    size: float,
    turn: float,
    stretch: float,
    shear: float,
    middle: tuple[float, float],
) -> Plane:
    matrix = compose(size, turn, stretch, shear)
    return Plane(matrix, torch.tensor(middle) - matrix @ _middle(board), 0.0)


def pack(query_name: str, query: Picture, target_name: str, target: Picture, board: Board) -> bytes:
    """Pictures and answers as ``plane_explorer.js`` unpacks them.

    Deflated as a whole: the length of the header (uint32, little-endian), the header (JSON), both
    JPEGs, and the answers in C order, ``high · byte / 255`` each.

    Raises
    ------
    ValueError
        If the answers are not finite, (K, L, I, J) and ≥ 0.
    """
    answers = board.answers.double().numpy()
    if answers.ndim != 4 or not answers.size or not (np.isfinite(answers) & (answers >= 0)).all():
        raise ValueError(
            f"answers of shape {answers.shape} cannot be shown; give finite ones ≥ 0, (K, L, I, J)."
        )
    high = float(answers.max()) or 1.0
    steps = np.rint(answers / high * 255).astype(np.uint8)
    pictures = [jpeg(shrink(picture, LONG_SIDE)) for picture in (query, target)]
    middle = board.best.matrix @ _middle(board) + board.best.offset
    known = np.isfinite(board.truth).all(-1).ravel().tolist()
    places = board.truth.reshape(-1, 2).tolist()
    header = {
        "grid": answers.shape,
        "high": high,
        "pictures": [
            {"name": name, "size": picture.shape[:2], "jpeg": len(encoded)}
            for name, picture, encoded in zip(
                (query_name, target_name), (query, target), pictures, strict=True
            )
        ],
        "asked": board.asked.tolist(),
        "answering": board.answering.tolist(),
        "best": decompose(board.best.matrix) | {"middle": middle.tolist()},
        "truth": [place if there else None for place, there in zip(places, known, strict=True)],
    }
    text = json.dumps(header, allow_nan=False).encode()
    parts = [struct.pack("<I", len(text)), text, *pictures, steps.tobytes()]
    return zlib.compress(b"".join(parts), level=9)
