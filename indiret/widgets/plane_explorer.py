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

from indiret import planes
from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import ground_truth_points
from indiret.experiments.evidence_protocol import pair_geometry
from indiret.images import Picture
from indiret.planes import PATCH_CELLS, Plane, PlaneRetriever
from indiret.widgets.base import PageWidget, module_source, pair_trait, traitlets
from indiret.widgets.payload import pack, pack_both

_SETTINGS = ("size", "turn", "stretch", "shear")


class PlaneResponses(NamedTuple):
    """What a plane can be moved over."""

    values: Tensor  # (I, J, K, L) ≥ 0: how target patch (i, j) responds to query patch (k, l)
    # (2, 2) each: where patch (0, 0) lies in its photo, and the step to the next, y and x in 0 … 1.
    query_grid: NDArray[np.float64]
    target_grid: NDArray[np.float64]
    best: Plane  # that the vote finds, fitted
    truth: NDArray[np.float64]  # (K, L, 2): true target patch of each query patch; NaN if unknown

    @property
    def middle(self) -> Tensor:
        """The middle of the query's patches, (k, l)."""
        K, L = self.values.shape[2:]
        return torch.tensor([K - 1.0, L - 1.0]) / 2


def plane_responses(
    query: Picture, target: Picture, truth: Callable[[NDArray[np.float64]], ArrayLike] | None = None
) -> PlaneResponses:
    """Responses of a target to a query's template, in the size in which the vote finds it.

    ``truth`` maps places (K, L, 2) of the query, y and x from 0 to 1, to the target's, or NaN.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    >>> plane_responses(picture, picture).values.shape[2:]
    torch.Size([9, 13])
    """
    retriever = PlaneRetriever()
    encoded, views = retriever.encode_query(query), retriever.encode(target)
    pyramid = [patches.float() for patches in views.pyramid]
    template = encoded.template
    found = retriever.best_plane(template, pyramid)
    placed = retriever.plane_correspondence(template, views._replace(pyramid=tuple(pyramid)), found)
    cells = torch.tensor(planes.cell_grid(*views.shape, retriever.config.pyramid[found.level]))
    places = placed.matched_points * cells - PATCH_CELLS / 2
    matrix = torch.stack([places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]], 1)
    values = planes.threshold_relu_(planes.responses(pyramid[found.level], template.patches))
    where = template.points.double().numpy()
    steps = [where[0, 0], where[1, 1] - where[0, 0]]
    sides = cells.double().numpy()
    true = np.full(where.shape, np.nan) if truth is None else np.asarray(truth(where), dtype=float)
    return PlaneResponses(
        F.max_pool2d(values.permute(2, 3, 0, 1), 3, 1, 1).permute(2, 3, 0, 1),
        np.array(steps),
        np.array([PATCH_CELLS / 2 / sides, 1 / sides]),
        Plane(matrix, places[0, 0], found.votes),
        true * sides - PATCH_CELLS / 2,
    )


def known_plane_responses(dataset: RetrievalDataset, query: Query, name: str) -> PlaneResponses:
    """`plane_responses` of a query and a photo of its landmark, with true places where known.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> query = town.queries[0]
    >>> found = known_plane_responses(town, query, min(query.good - {query.image}))
    >>> found.truth.shape[:2] == found.values.shape[2:]
    True
    """
    pictures = dataset.read_query(query), dataset.read(name)
    if (known := pair_geometry(dataset, query, name)) is None:
        return plane_responses(*pictures)
    query_geometry, target_geometry, (x1, y1, x2, y2) = known
    shape = pictures[1].shape

    def truth(where: NDArray[np.float64]) -> NDArray[np.float64]:
        points = where[..., ::-1] * [x2 - x1, y2 - y1] + [x1, y1]
        found = ground_truth_points(query_geometry, target_geometry, points, shape)
        return found[..., ::-1] / shape[:2]

    return plane_responses(*pictures, truth)


def compose(size: float, turn: float, stretch: float, shear: float) -> Tensor:
    """A (2, 2): so many times as large, turned anticlockwise by degrees, stretched and sheared."""
    angle, wide = math.radians(turn), math.sqrt(stretch)
    rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return size * torch.tensor(rotation) @ torch.tensor([[1 / wide, shear], [0.0, wide]])


def decompose(matrix: Tensor) -> dict[str, float]:
    """The settings of `compose` that make a matrix; ValueError if it mirrors."""
    (a, b), (c, d) = matrix.tolist()
    if a * d - b * c <= 0:
        raise ValueError(f"{[[a, b], [c, d]]} mirrors what it maps, or flattens it; no view does.")
    size, angle = math.sqrt(a * d - b * c), math.atan2(c, a)
    narrow = math.hypot(a, c) / size
    shear = (b * math.cos(angle) + d * math.sin(angle)) / size
    settings = size, math.degrees(angle), 1 / narrow**2, shear
    return dict(zip(_SETTINGS, settings, strict=True))


class PlaneExplorer(PageWidget):
    """Two pictures, and a plane that sends patches of the one to places in the other.

    Sliders set A, by the settings of `compose`; a click in the target, dragging, or the arrow keys
    set t, so that the middle of the query's patches lands on ``middle``, (i, j). Over the target
    lies what the vote would be if the middle of the query were there. ValueError unless the
    responses are finite, (I, J, K, L) and ≥ 0.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    >>> explorer = PlaneExplorer("a", picture, "b", picture, plane_responses(picture, picture))
    >>> before = explorer.vote
    >>> explorer.set_plane(explorer.responses.best)
    >>> explorer.vote > before
    True
    """

    _esm = module_source("plane_explorer")
    kind = "planes"
    page_state = (*_SETTINGS, "middle", "truth")
    size = traitlets.CFloat(1.0, min=0.25, max=8.0).tag(sync=True)
    turn = traitlets.CFloat(0.0, min=-180.0, max=180.0).tag(sync=True)
    stretch = traitlets.CFloat(1.0, min=0.25, max=4.0).tag(sync=True)
    shear = traitlets.CFloat(0.0, min=-1.0, max=1.0).tag(sync=True)
    middle = pair_trait(traitlets.CFloat, 0.0)
    truth = traitlets.Bool(False).tag(sync=True)  # whether the true places are shown

    def __init__(
        self,
        query_name: str,
        query: Picture,
        target_name: str,
        target: Picture,
        responses: PlaneResponses,
    ) -> None:
        self.responses = responses
        values = responses.values.double().numpy()
        if values.ndim != 4 or not values.size or not (np.isfinite(values) & (values >= 0)).all():
            given = f"responses of shape {values.shape} cannot be shown"
            raise ValueError(f"{given}; give finite ones ≥ 0, (I, J, K, L).")
        high = float(values.max()) or 1.0
        # As ``plane_explorer.js`` unpacks them: (K, L, I, J) in C order, high · byte / 255 each.
        steps = np.rint(values / high * 255).astype(np.uint8).transpose(2, 3, 0, 1)
        pictures, encoded = pack_both(query_name, query, target_name, target)
        places = responses.truth.reshape(-1, 2)
        header = {
            "grid": steps.shape,
            "high": high,
            "pictures": pictures,
            "query_grid": responses.query_grid.tolist(),
            "target_grid": responses.target_grid.tolist(),
            "best": _settings(responses.best, responses),
            "truth": [place.tolist() if np.isfinite(place).all() else None for place in places],
        }
        payload = pack(header, [*encoded, steps.tobytes()])
        rows, columns = values.shape[:2]
        super().__init__(payload=payload, middle=((rows - 1) / 2, (columns - 1) / 2))

    @property
    def plane(self) -> Plane:
        """The plane as it is set, with its vote."""
        matrix = compose(self.size, self.turn, self.stretch, self.shear)
        plane = Plane(matrix, torch.tensor(self.middle) - matrix @ self.responses.middle, 0.0)
        return plane._replace(votes=float(planes.sample_plane(self.responses.values, plane).mean()))

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
