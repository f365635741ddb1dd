"""Move a plane through the tensor by hand, and watch the vote, which the page counts itself.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.correspondence import true_places
from indiret.datasets import Query, RetrievalDataset
from indiret.figures import Picture
from indiret.images import image_size, pixel_box
from indiret.planes import PARTS, Plane, cell_grid, sample_plane
from indiret.planevote import PlanesMethod, responses, weigh
from indiret.widgets.base import PageWidget, module_source, traitlets
from indiret.widgets.payload import pack, pack_picture

PLANE_STATE = ("size", "turn", "stretch", "shear", "middle")


class PlaneResponses(NamedTuple):
    """What a plane can be moved over.

    Attributes
    ----------
    values
        (K, L, I, J) float ≥ 0: how target patch (i, j) responds to query patch (k, l).
    query_grid, target_grid
        (2, 2): where patch (0, 0) lies in its photo, and the step to the next, y and x from 0 to 1.
    best
        The plane that the vote finds, fitted.
    truth
        (K, L, 2), the true place of each query patch in patches of the target; NaN where unknown.
    """

    values: Tensor
    query_grid: NDArray[np.float64]
    target_grid: NDArray[np.float64]
    best: Plane
    truth: NDArray[np.float64]

    @property
    def middle(self) -> Tensor:
        """Of the query's patches, (k, l)."""
        K, L = self.values.shape[:2]
        return torch.tensor([K - 1.0, L - 1.0]) / 2


def plane_responses(
    query: Picture,
    target: Picture,
    truth: Callable[[NDArray[np.float64]], ArrayLike] | None = None,
    method: PlanesMethod | None = None,
) -> PlaneResponses:
    """Responses of a target to a query's template, in the size in which the vote finds it.

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
    >>> found = plane_responses(picture, picture)
    >>> found.values.shape[:2], float(sample_plane(found.values, found.best).mean()) > 0.2
    (torch.Size([9, 13]), True)
    """
    method = method or PlanesMethod()
    encoded, views = method.prepare_query(query), method.prepare(target)
    pyramid = [patches.float() for patches in views.pyramid]
    template = encoded.templates[0]
    found = method.find(template, pyramid)
    landing = method.land(template, views._replace(pyramid=tuple(pyramid)), found)
    cells = torch.tensor(cell_grid(*views.shape, method.config.pyramid[found.size]))
    K, L = template.patches.shape[:2]
    places = landing.places * cells - PARTS / 2
    matrix = torch.stack([places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]], 1)
    values = weigh(responses(template, pyramid[found.size]).contiguous())
    where = template.where.double().numpy()
    steps = [where[0, 0], [where[1, 0, 0] - where[0, 0, 0], where[0, 1, 1] - where[0, 0, 1]]]
    sides = cells.double().numpy()
    true = np.full((K, L, 2), np.nan)
    if truth is not None:
        true = np.asarray(truth(where), dtype=float) * sides - PARTS / 2
    return PlaneResponses(
        F.max_pool2d(values, 3, 1, 1),
        np.array(steps),
        np.array([PARTS / 2 / sides, 1 / sides]),
        Plane(matrix, places[0, 0], found.votes),
        true,
    )


def known_plane_responses(
    dataset: RetrievalDataset, query: Query, name: str, method: PlanesMethod | None = None
) -> PlaneResponses:
    """`plane_responses` of a query and a photo of its landmark, with true places where known.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> query = town.queries[0]
    >>> found = known_plane_responses(town, query, min(query.good - {query.image}))
    >>> found.truth.shape[:2] == found.values.shape[:2]
    True
    """
    pictures = dataset.read_query(query), dataset.read(name)
    query_geometry, target_geometry = dataset.geometry(query.image), dataset.geometry(name)
    of_landmark = name in query.positives | query.junk
    if query_geometry is None or target_geometry is None or not of_landmark:
        return plane_responses(*pictures, method=method)
    height, width = image_size(dataset.path(query.image))
    x1, y1, x2, y2 = pixel_box(query.box or (0, 0, width, height), (height, width))
    shape = pictures[1].shape

    def truth(where: NDArray[np.float64]) -> NDArray[np.float64]:
        points = where[..., ::-1] * [x2 - x1, y2 - y1] + [x1, y1]
        found = true_places(query_geometry, target_geometry, points, shape)
        return found[..., ::-1] / shape[:2]

    return plane_responses(*pictures, truth, method)


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
    return dict(zip(PLANE_STATE, settings, strict=False))


class PlaneExplorer(PageWidget):
    """Two pictures, and a plane that sends patches of the one to places in the other.

    Sliders set A; a click in the target, dragging, or the arrow keys set t. Over the target lies
    what the vote would be if the middle of the query were there.

    Parameters
    ----------
    query_name, query, target_name, target
        (H, W, 3) uint8 pictures and what they are called.
    responses
        From `plane_responses` of the two.

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
    >>> explorer = PlaneExplorer("a", picture, "b", picture, plane_responses(picture, picture))
    >>> before = explorer.vote
    >>> explorer.set_plane(explorer.responses.best)
    >>> explorer.vote > before
    True
    """

    _esm = module_source("plane_explorer")
    kind = "planes"
    page_state = (*PLANE_STATE, "truth")
    size = traitlets.CFloat(1.0, min=0.25, max=8.0).tag(sync=True)
    turn = traitlets.CFloat(0.0, min=-180.0, max=180.0).tag(sync=True)
    stretch = traitlets.CFloat(1.0, min=0.25, max=4.0).tag(sync=True)
    shear = traitlets.CFloat(0.0, min=-1.0, max=1.0).tag(sync=True)
    middle = traitlets.Tuple(traitlets.CFloat(), traitlets.CFloat(), default_value=(0.0, 0.0)).tag(
        sync=True
    )
    truth = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        query_name: str,
        query: Picture,
        target_name: str,
        target: Picture,
        responses: PlaneResponses,
    ) -> None:
        self.responses = responses
        rows, columns = responses.values.shape[2:]
        super().__init__(
            payload=pack_planes(query_name, query, target_name, target, responses),
            middle=((rows - 1) / 2, (columns - 1) / 2),
        )

    @property
    def plane(self) -> Plane:
        """The plane as it is set, with its vote."""
        matrix = compose(self.size, self.turn, self.stretch, self.shear)
        plane = Plane(matrix, torch.tensor(self.middle) - matrix @ self.responses.middle, 0.0)
        return plane._replace(votes=float(sample_plane(self.responses.values, plane).mean()))

    @property
    def vote(self) -> float:
        """The mean response along the plane."""
        return self.plane.votes

    def set_plane(self, plane: Plane) -> None:
        """Set everything to a plane, such as ``responses.best``."""
        with self.hold_sync():
            for name, value in _settings(plane, self.responses).items():
                setattr(self, name, value)


def _settings(plane: Plane, responses: PlaneResponses) -> dict[str, Any]:
    middle = plane.matrix @ responses.middle + plane.offset
    return decompose(plane.matrix) | {"middle": middle.tolist()}


def pack_planes(
    query_name: str, query: Picture, target_name: str, target: Picture, responses: PlaneResponses
) -> bytes:
    """Pictures and responses as ``plane_explorer.js`` unpacks them.

    After the header come both JPEGs, and the responses in C order, ``high · byte / 255`` each.

    Raises
    ------
    ValueError
        If the responses are not finite, (K, L, I, J) and ≥ 0.
    """
    values = responses.values.double().numpy()
    if values.ndim != 4 or not values.size or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            f"responses of shape {values.shape} cannot be shown; give finite ones ≥ 0, "
            "(K, L, I, J)."
        )
    high = float(values.max()) or 1.0
    steps = np.rint(values / high * 255).astype(np.uint8)
    named = (query_name, query), (target_name, target)
    pictures, encoded = zip(*(pack_picture(*one) for one in named), strict=True)
    known = np.isfinite(responses.truth).all(-1).ravel().tolist()
    places = responses.truth.reshape(-1, 2).tolist()
    header = {
        "grid": values.shape,
        "high": high,
        "pictures": pictures,
        "query_grid": responses.query_grid.tolist(),
        "target_grid": responses.target_grid.tolist(),
        "best": _settings(responses.best, responses),
        "truth": [
            place if is_known else None for place, is_known in zip(places, known, strict=True)
        ],
    }
    return pack(header, [*encoded, steps.tobytes()])
