"""Planes of the tensor, (i, j) = A (k, l) + t: read T along one, and fit one to T.

A flat thing seen from afar by two cameras is the same picture but for an affine map, so its pairs
of patches fill a two-dimensional plane in the four dimensions of T, not a sphere.

Chapter: *Sphere or plane?*
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Plane(NamedTuple):
    """Query patch (k, l) lies at (i, j) = ``matrix`` (k, l) + ``offset`` of the target."""

    matrix: Tensor  # (2, 2)
    offset: Tensor  # (2,)
    votes: float  # its mean response

    def places(self, rows: int, columns: int) -> Tensor:
        """Where the plane puts each patch of a query grid: (rows, columns, 2)."""
        return grid_places(rows, columns) @ self.matrix.mT + self.offset


@cache
def grid_places(rows: int, columns: int) -> Tensor:
    """(rows, columns, 2): the indices of every patch of a grid, float."""
    indices = torch.ones(rows, columns, device="cpu").nonzero()
    return indices.view(rows, columns, 2).to(torch.float32)


def sample_plane(responses: Tensor, plane: Plane) -> Tensor:
    """(K, L): responses along a plane, bilinear between patches, 0 outside the target.

    Examples
    --------
    >>> responses = torch.arange(4.0).view(1, 4, 1, 1).expand(3, 4, 1, 2)
    >>> sample_plane(responses, Plane(torch.eye(2), torch.tensor([1.0, 0.5]), 0.0)).tolist()
    [[0.5, 1.5]]
    """
    places = plane.places(*responses.shape[2:])
    sampled = responses.new_zeros(responses.shape[2:])
    low = places.floor()
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + torch.tensor(corner)
        weight = (1 - (places - at).abs()).prod(-1)
        sampled += weight * read_at(responses, at.long())
    return sampled


def read_at(responses: Tensor, at: Tensor) -> Tensor:
    """responses[at[k, l], k, l], 0 outside the target; ``at`` is (K, L, ..., 2) whole numbers."""
    rows, columns, K, L = responses.shape
    i, j = at.unbind(-1)
    row, column = i.clamp(0, rows - 1), j.clamp(0, columns - 1)
    inside = (row == i) & (column == j)
    patch = torch.arange(K * L).view(K, L, *[1] * (i.ndim - 2))
    return responses.flatten().take((row * columns + column) * (K * L) + patch) * inside


def refine_plane(
    responses: Tensor, plane: Plane, reach: int = 2, rounds: int = 3, floor: float = 0.0
) -> Plane:
    """Fit a plane to the responses near it: shear, stretch and places between patches.

    Within ``reach`` of where the plane puts a query patch, the centroid of the squared responses
    above ``floor`` is where it should lie, and their maximum its weight. A ridge of a tenth of all
    weight holds A, so that a few patches in a row do not tilt it. ``votes`` are the maxima's mean.
    """
    K, L = responses.shape[2:]
    places = grid_places(K, L)
    middle = places[-1, -1] / 2
    x = torch.cat([places - middle, places.new_ones(K, L, 1)], -1).flatten(0, 1)
    held = torch.diag(0.1 * x.square().mean(0) * x.new_tensor([1.0, 1.0, 0.0]) + 1e-6)
    around = grid_places(2 * reach + 1, 2 * reach + 1).flatten(0, 1) - reach
    for _ in range(rounds):
        start = plane.places(K, L).round()
        near = start.long()[:, :, None] + around.long()
        found = (read_at(responses, near) - floor).clamp_min(0)
        pull = found.square()
        centre = start + pull @ around / pull.sum(2, keepdim=True).clamp_min(1e-12)
        weight = found.amax(2).flatten()
        if weight.sum() <= 0:
            return plane._replace(votes=0.0)
        y = centre.flatten(0, 1)
        weighted = (x * (weight / weight.sum())[:, None]).mT
        before = torch.cat([plane.matrix.mT, (plane.matrix @ middle + plane.offset)[None]])
        fitted = torch.linalg.solve(weighted @ x + held, weighted @ y + held @ before)
        matrix = fitted[:2].mT.contiguous()
        plane = Plane(matrix, fitted[2] - matrix @ middle, float(weight.mean()))
    return plane
