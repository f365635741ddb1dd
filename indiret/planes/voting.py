"""Hough voting for planes: T of two photos, and the mean of T along every plane of one A.

T[i, j, k, l] = max(0, cos(x_ij, y_kl) − 0.3) of target patches x and template patches y, divided by
the root of its mean over (k, l). A plane (i, j) = A (k, l) + t has the mean of T along it as votes;
with A = step · 1 all translations t are counted at once. Names with ``_`` at the end work in place.

Chapter: *Sphere or plane?*
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.planes.geometry import Plane, grid_places, read_at

COSINE_THRESHOLD = 0.3  # a cosine of whitened patches that says nothing yet
POPULARITY_FLOOR = 0.001  # added to a target patch's mean response before the division


@contextmanager
def float32_on_cpu() -> Iterator[None]:
    """No autocast and no other device, whatever the caller works with: a score is of its pair."""
    on_cpu = torch.get_default_device().type == "cpu"  # a device context slows every operation
    with torch.autocast("cpu", enabled=False), nullcontext() if on_cpu else torch.device("cpu"):
        yield


class ScratchBuffer(threading.local):
    """Memory of each thread that is used again: fresh memory takes as long as T's product."""

    numbers = torch.empty(0, dtype=torch.float32)

    def view(self, *shape: int) -> Tensor:
        """Numbers of a shape, to be written over."""
        size = math.prod(shape)
        if self.numbers.numel() < size:
            with torch.inference_mode(False):  # so that it may be written to outside of it, too
                self.numbers = torch.empty(size, dtype=torch.float32)
        return self.numbers[:size].view(shape)


def responses(target: Tensor, template: Tensor, buffer: ScratchBuffer | None = None) -> Tensor:
    """Cosines of the patches of a target (I, J, D) and of a template (K, L, D): (I, J, K, L).

    Of M templates of one size, (M, K, L, D), they are (I, J, M, K, L).

    Examples
    --------
    >>> responses(torch.rand(5, 6, 64), torch.rand(3, 4, 64)).shape
    torch.Size([5, 6, 3, 4])
    """
    shape = *target.shape[:2], *template.shape[:-1]
    out = None if buffer is None else buffer.view(math.prod(shape[:2]), math.prod(shape[2:]))
    patches = target.flatten(0, 1).float()  # they are kept as half
    return torch.mm(patches, template.flatten(0, -2).mT, out=out).view(shape)


def threshold_relu_(responses: Tensor) -> Tensor:
    """What is above `COSINE_THRESHOLD`, and 0 for the rest."""
    return responses.sub_(COSINE_THRESHOLD).clamp_min_(0)


def normalise_by_popularity_(responses: Tensor) -> Tensor:
    """(I, J, ..., K, L) ≥ 0: responses divided by the root of each target patch's mean.

    A patch of foliage responds to many template patches, and tells little about each.
    """
    return responses.mul_((responses.mean((-2, -1), keepdim=True) + POPULARITY_FLOOR).rsqrt_())


def max_pool_stride2(responses: Tensor) -> Tensor:
    """Maxima of 3 × 3 target patches around every second one: (I, J, ...) to halves, rounded up.

    A plane may then miss by one patch, and only a quarter of all need be counted. `F.max_pool2d`
    takes twice as long.

    Examples
    --------
    >>> max_pool_stride2(torch.arange(20.0).view(4, 5))
    tensor([[ 6.,  8.,  9.],
            [16., 18., 19.]])
    """
    for _ in range(2):  # the rows, then the same of the columns
        pooled, odd = responses[0::2].clone(), responses[1::2]
        above, below = pooled[: len(odd)], pooled[1:]
        torch.maximum(above, odd, out=above)
        torch.maximum(below, odd[: len(below)], out=below)
        responses = pooled.transpose(0, 1)
    return responses


def pool_responses(cosines: Tensor) -> Tensor:
    """T around every second target patch: maxima of 3 × 3, thresholded, then normalised."""
    return normalise_by_popularity_(threshold_relu_(max_pool_stride2(cosines)))


def hough_votes(responses: Tensor, step: int = 1) -> Tensor:
    """Mean of responses (I, J, K, L) along all planes (i, j) = step · (k, l) + t: (I', J').

    Entry (a, b) belongs to t = (a − step · K // 2, b − step · L // 2): up to half the template may
    lie outside the target, where responses are 0. Of M templates, (I, J, M, K, L), the means are
    (M, I', J'). Raises ValueError if the responses are of another form or the step is below 1.

    Examples
    --------
    >>> responses = torch.zeros(5, 5, 2, 2)
    >>> for k, l in ((0, 0), (0, 1), (1, 0), (1, 1)):
    ...     responses[1 + 2 * k, 2 * l, k, l] = 1.0
    >>> a, b = (hough_votes(responses, step=2) == 1).nonzero()[0].tolist()
    >>> a - 2, b - 2
    (1, 0)
    """
    return hough_votes_by_quarter(responses, step, split=1)[0, 0]


def hough_votes_by_quarter(responses: Tensor, step: int = 1, split: int = 2) -> Tensor:
    """What each part of a template has in `hough_votes`: (split, split, I', J').

    Of M templates, (I, J, M, K, L), it is (split, split, M, I', J'). First along each row k of the
    template, then over the rows, by strides of one memory.
    """
    if responses.ndim not in (4, 5) or step < 1:
        raise ValueError(
            f"responses of shape {tuple(responses.shape)} and step={step} do not fit: give "
            "(I, J, K, L) or (I, J, M, K, L) and a whole number of at least 1."
        )
    rows, columns, *M, K, L = responses.shape
    above, aside = step * K // 2, step * L // 2
    many, wide = translation_grid((rows, columns, K, L), step)
    padded = F.pad(responses, (*(0, 0) * (responses.ndim - 2), aside, aside))
    i, j, *m, k, l = padded.stride()
    # entry [i, b, ..., k, l] of this view is padded[i, b + step l, ..., k, l]
    shifted = padded.as_strided((rows, wide, *M, K, L), (i, j, *m, k, l + step * j))
    lines = responses.new_zeros(split, rows + 2 * above, wide, *M, K)
    for line, part in zip(lines, shifted.tensor_split(split, -1), strict=True):
        torch.sum(part, -1, out=line[above : above + rows])
    p, i, j, *m, k = lines.stride()
    # and entry [., a, b, ..., k] of this one is lines[., a + step k, b, ..., k]
    shifted = lines.as_strided((split, many, wide, *M, K), (p, i, j, *m, k + step * i))
    votes = responses.new_empty(split, split, many, wide, *M)
    for vote, part in zip(votes, shifted.tensor_split(split, -1), strict=True):
        torch.sum(part, -1, out=vote)
    return votes.div_(K * L).movedim((2, 3), (-2, -1))


def translation_grid(shape: Sequence[int], step: int = 1) -> tuple[int, int]:
    """(I', J'): the translations that `hough_votes` tries for responses of shape (I, J, K, L)."""
    sides = zip(shape[:2], shape[2:], strict=True)
    rows, columns = (I + 2 * (step * K // 2) - step * (K - 1) for I, K in sides)
    return rows, columns


def sample_pooled(cosines: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
    """Maxima of 3 × 3 thresholded responses along a plane, and the cosines there: (K, L) each.

    As `indiret.planes.geometry.sample_plane` of either whole tensor, read in these places alone.
    """
    rows, columns, K, L = cosines.shape
    places = plane.places(K, L)
    low = places.floor()
    first = low.long()[:, :, None]
    around = grid_places(4, 4).long().flatten(0, 1) - 1
    window = read_at(cosines, first + around).view(K * L, 1, 4, 4)
    exact = window[:, 0, 1:3, 1:3]  # the four patches around each place
    pooled = F.max_pool2d(threshold_relu_(window.clone()), 3, 1)[:, 0]
    past = (places - low).view(K * L, 2, 1)
    corners = first.view(K * L, 2, 1) + torch.arange(2)
    inside = (corners >= 0) & (corners < torch.tensor([rows, columns])[:, None])
    shares = torch.cat([1 - past, past], 2) * inside
    weights = shares[:, 0, :, None] * shares[:, 1, None, :]
    return (pooled * weights).sum((1, 2)).view(K, L), (exact * weights).sum((1, 2)).view(K, L)
