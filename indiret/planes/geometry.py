"""Matching patch pairs of a flat thing lie on a plane of the tensor, (i, j) = A (k, l) + t.

A roughly flat surface seen from afar by two cameras is the same picture twice but for an affine
map, so its pairs of patches fill a two-dimensional plane in the four dimensions of the tensor, not
a sphere. Planes are found by voting: for one A, every query patch votes for the translations t that
carry it to target patches like itself. A target cut at several sizes stands for several A; a plane
that was found is then fitted to its own votes, which gives it shear, stretch and a little rotation.

Here the query's patches come first, ``responses[k, l, i, j]``, since each votes by itself.

Chapter: *Sphere or plane?*
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from indiret.correlation import DIRECTIONS, FLAT_SLOPE
from indiret.patches import patch_grid

CELL = 4  # pixels along a cell of slopes
PARTS = 4  # cells along a patch
WHITENING = Path(__file__).parent / "data" / "weights" / "slopes.safetensors"


class Plane(NamedTuple):
    """Query patch (k, l) lies at (i, j) = ``matrix`` (k, l) + ``offset`` of the target.

    ``matrix`` is (2, 2) and ``offset`` (2,), float; places are patch indices and may lie between
    patches. ``votes`` is the plane's mean response.
    """

    matrix: Tensor
    offset: Tensor
    votes: float

    def places(self, rows: int, columns: int) -> Tensor:
        """Where the plane puts each patch of a query grid: (rows, columns, 2).

        Examples
        --------
        >>> Plane(2 * torch.eye(2), torch.tensor([0.5, 0.0]), 1.0).places(1, 2).tolist()
        [[[0.5, 0.0], [0.5, 2.0]]]
        """
        return grid_places(rows, columns) @ self.matrix.mT + self.offset


@cache
def grid_places(rows: int, columns: int) -> Tensor:
    """(rows, columns, 2): the indices of every patch of a grid, float."""
    return torch.stack(
        torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij"), -1
    )


def cell_grid(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Rows and columns of 4-pixel cells of a picture made ``long_side`` pixels long.

    Proportions are kept, but for a picture so long that its short side would not hold a patch.

    Examples
    --------
    >>> cell_grid(300, 400, 112)
    (21, 28)
    """
    most = long_side // CELL
    rows, columns = patch_grid(height, width, (most, most), aspect="keep")
    return max(rows, PARTS), max(columns, PARTS)


def slope_patches(picture: np.ndarray, long_side: int) -> Tensor:
    """Oriented slopes of every patch of 4 × 4 cells, one patch a cell: dense RootSIFT.

    What `indiret.correlation.oriented_gradients` gives for patches cut one by one, made for
    overlapping patches at once: the slopes of each cell are summed in eight directions, and a patch
    takes the sums of its cells. A slope counts in two directions and, unlike there, in the
    neighbouring cells too, so that sums change smoothly when the picture moves.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    long_side
        Pixels of the longer side after resizing; the aspect ratio is kept.

    Returns
    -------
    Tensor
        (rows, columns, 128) float32 ≥ 0, each of length 1 at most, less on flat ground.

    Examples
    --------
    >>> slope_patches(np.zeros((300, 400, 3), dtype=np.uint8), 112).shape
    torch.Size([18, 25, 128])
    """
    height, width = picture.shape[:2]
    rows, columns = cell_grid(height, width, long_side)
    size = (CELL * columns, CELL * rows)
    small = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BILINEAR)
    grey = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)
    wide = F.pad(grey[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    right = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
    down = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2
    angle = torch.atan2(down, right) * (DIRECTIONS / math.tau)
    apart = (angle - torch.arange(DIRECTIONS).view(-1, 1, 1)).remainder(DIRECTIONS)
    share = (1 - torch.minimum(apart, DIRECTIONS - apart)).clamp_min(0)
    slopes = share * torch.hypot(down, right)
    cells = F.unfold(_cell_sums(slopes)[None], PARTS)[0].T
    flat = FLAT_SLOPE * (PARTS * CELL) ** 2  # what noise alone would sum to is no structure
    roots = (cells / (cells.sum(1, keepdim=True) + flat)).sqrt()
    return roots.view(rows - PARTS + 1, columns - PARTS + 1, -1)


@cache
def _whitening() -> tuple[Tensor, Tensor]:
    """The mean patch (128,) and the matrix (128, 64) that `tools.whiten_slopes` has fitted."""
    stored = load_file(WHITENING)
    return stored["mean"], stored["matrix"]


def whiten(patches: Tensor) -> Tensor:
    """What is particular about patches: what most patches share is taken away.

    Slopes of cells side by side rise together, and edges along walls are everywhere. Along each of
    the 64 directions in which patches differ most they are divided by how much they do, so that
    unrelated patches are as good as orthogonal, whichever they are. The mean and the directions
    come from Toytown's training photos (`tools.whiten_slopes`).

    Parameters
    ----------
    patches
        (..., 128) from `slope_patches`.

    Returns
    -------
    Tensor
        (..., 64) float32, as long as the patches were: 1 at most, less on flat ground.

    Examples
    --------
    >>> patches = slope_patches(torch.randint(0, 256, (40, 60, 3)).byte().numpy(), 60)
    >>> whiten(patches).shape
    torch.Size([7, 12, 64])
    >>> torch.allclose(whiten(patches).norm(dim=-1), patches.norm(dim=-1))
    True
    """
    mean, matrix = _whitening()
    turned = F.normalize((patches - mean) @ matrix, dim=-1)
    return turned * patches.norm(dim=-1, keepdim=True)


def _cell_sums(slopes: Tensor) -> Tensor:
    """(8, H, W) → (8, H / 4, W / 4): sums over cells, weights falling off to their neighbours'."""
    ramp = torch.arange(0.5, CELL) / CELL  # over one cell: 1/8, 3/8, 5/8, 7/8
    weights = torch.cat([ramp, ramp.flip(0)])
    edges = (CELL // 2,) * 4
    sums = F.pad(slopes[:, None], edges, mode="replicate")
    sums = F.conv2d(sums, weights.view(1, 1, -1, 1), stride=(CELL, 1))
    return F.conv2d(sums, weights.view(1, 1, 1, -1), stride=(1, CELL))[:, 0]


def tolerate(responses: Tensor) -> Tensor:
    """The best of 3 × 3 target neighbours, around every second patch: (..., I, J) to halves.

    A plane is then allowed to miss by one patch, and with that freedom planes that lie one patch
    apart need not be told apart: three quarters of the votes need not be counted.

    Examples
    --------
    >>> tolerate(torch.arange(20.0).view(4, 5))
    tensor([[ 6.,  8.,  9.],
            [16., 18., 19.]])
    """
    for _ in range(2):  # up and down, then the same of the transposed
        best = responses[..., 0::2, :].clone()
        odd = responses[..., 1::2, :]
        above, below = best[..., : odd.shape[-2], :], best[..., 1:, :]
        torch.maximum(above, odd, out=above)
        torch.maximum(below, odd[..., : below.shape[-2], :], out=below)
        responses = best.mT
    return responses


def vote(responses: Tensor, step: int = 1) -> Tensor:
    """Mean responses along all planes (i, j) = step · (k, l) + t, by shifts of one memory.

    Parameters
    ----------
    responses
        (K, L, I, J): how target patch (i, j) answers query patch (k, l).
    step
        Target patches from one query patch to the next.

    Returns
    -------
    Tensor
        (I', J'): entry (a, b) belongs to t = (a − K', b − L') with K' = step · K // 2 and
        L' = step · L // 2, so that up to half the query may lie outside the target, where nothing
        answers. See `planes_of` for I' and J'.

    Raises
    ------
    ValueError
        If the responses are not 4-D or the step is below 1.

    Examples
    --------
    >>> responses = torch.zeros(2, 2, 5, 5)
    >>> for k, l in ((0, 0), (0, 1), (1, 0), (1, 1)):
    ...     responses[k, l, 1 + 2 * k, 2 * l] = 1.0
    >>> a, b = (vote(responses, step=2) == 1).nonzero()[0].tolist()
    >>> a - 2, b - 2
    (1, 0)
    """
    return vote_in_parts(responses, 1, step)[0, 0]


def vote_in_parts(responses: Tensor, parts: int, step: int = 1) -> Tensor:
    """What each part of the query's grid has in the votes of the whole, (parts, parts, I', J').

    First along each row k of the query's patches, then over the rows. The sum over all parts is
    `vote`, whose parameters and errors these are.

    Examples
    --------
    >>> responses = torch.rand(6, 5, 12, 9)
    >>> halves = vote_in_parts(responses, 2)
    >>> halves.shape, torch.allclose(halves.sum((0, 1)), vote(responses))
    (torch.Size([2, 2, 13, 9]), True)
    """
    if responses.ndim != 4 or step < 1:
        raise ValueError(
            f"responses of shape {tuple(responses.shape)} and step={step} do not fit: give "
            "(K, L, I, J) and a whole number of at least 1."
        )
    K, L, rows, columns = responses.shape
    above, aside = step * K // 2, step * L // 2
    many, wide = planes_of(responses.shape, step)
    padded = responses.new_zeros(rows, columns + 2 * aside, K, L)
    padded[:, aside : aside + columns].copy_(responses.permute(2, 3, 0, 1))
    i, j, k, l = padded.stride()
    # entry [i, b, k, l] of this view is padded[i, b + step l, k, l]
    shifted = padded.as_strided((rows, wide, K, L), (i, j, k, l + step * j))
    along = torch.stack([part.sum(3) for part in shifted.tensor_split(parts, 3)])
    lines = F.pad(along, (0, 0, 0, 0, above, above))
    part, i, j, k = lines.stride()
    # and entry [., a, b, k] of this one is lines[., a + step k, b, k]
    shifted = lines.as_strided((parts, many, wide, K), (part, i, j, k + step * i))
    return torch.stack([part.sum(3) for part in shifted.tensor_split(parts, 3)]) / (K * L)


def planes_of(shape: Sequence[int], step: int = 1) -> tuple[int, int]:
    """(I', J'): the translations that `vote` tries for responses of a shape (K, L, I, J).

    Examples
    --------
    >>> planes_of((4, 4, 20, 30), step=2)
    (22, 32)
    """
    rows, columns = (
        there + 2 * (step * here // 2) - step * (here - 1)
        for here, there in zip(shape[:2], shape[2:], strict=True)
    )
    return rows, columns


def sample_plane(responses: Tensor, plane: Plane) -> Tensor:
    """The responses along a plane as a picture of the query grid: (K, L).

    Between patches they are read bilinearly; outside the target they are 0.

    Examples
    --------
    >>> responses = torch.arange(4.0).expand(1, 2, 3, 4)
    >>> sample_plane(responses, Plane(torch.eye(2), torch.tensor([1.0, 0.5]), 0.0)).tolist()
    [[0.5, 1.5]]
    """
    places = plane.places(*responses.shape[:2])
    sampled = responses.new_zeros(responses.shape[:2])
    low = places.floor()
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + torch.tensor(corner)
        weight = (1 - (places - at).abs()).prod(-1)
        sampled += weight * read_at(responses, at.long())
    return sampled


def read_at(responses: Tensor, at: Tensor) -> Tensor:
    """responses[k, l, at[k, l]], 0 outside the target; ``at`` is (K, L, ..., 2) whole numbers.

    Examples
    --------
    >>> responses = torch.arange(6.0).view(1, 1, 2, 3)
    >>> read_at(responses, torch.tensor([[[[1, 2], [0, 3]]]])).tolist()
    [[[5.0, 0.0]]]
    """
    K, L, rows, columns = responses.shape
    i, j = at.unbind(-1)
    row, column = i.clamp(0, rows - 1), j.clamp(0, columns - 1)
    inside = (row == i) & (column == j)
    flat = (row * columns + column).view(K, L, -1)
    return responses.reshape(K, L, -1).gather(2, flat).view(inside.shape) * inside


def refine_plane(
    responses: Tensor, plane: Plane, reach: int = 2, rounds: int = 3, floor: float = 0.0
) -> Plane:
    """Fit a plane to what answers near it: shear, stretch and places between patches.

    Around the place where the plane puts a query patch, the centre of gravity of the responses says
    where it rather lies, and their best how much that counts; A and t are then fitted by weighted
    least squares. A is held to what it was as if by a tenth of all votes, so that a few in a row do
    not tilt it.

    Parameters
    ----------
    responses
        (K, L, I, J) float, as `vote` takes them.
    plane
        Where to start.
    reach
        Target patches, up and down and aside, among which the centre of gravity is taken.
    rounds
        How often.
    floor
        Responses count by how much they lie above this.

    Returns
    -------
    Plane
        ``votes`` is the mean over query patches of the best response within reach.

    Examples
    --------
    >>> responses = torch.zeros(4, 4, 9, 9)
    >>> for k in range(4):
    ...     for l in range(4):
    ...         responses[k, l, 2 * k, 1 + 2 * l] = 1.0
    >>> plane = refine_plane(responses, Plane(2 * torch.eye(2), torch.zeros(2), 0.0))
    >>> plane.offset.round().tolist()
    [0.0, 1.0]
    """
    K, L = responses.shape[:2]
    places = grid_places(K, L)
    middle = torch.tensor([K - 1.0, L - 1.0]) / 2
    x = torch.cat([places - middle, torch.ones(K, L, 1)], -1).flatten(0, 1)
    held = torch.diag(0.1 * x.square().mean(0) * torch.tensor([1.0, 1.0, 0.0]) + 1e-6)
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
