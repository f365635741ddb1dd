"""Attention masks over the 4-D feature maps: the paper's hypersphere (Eq. 5–9), and others.

A mask looks at a layer's features and returns Θ, how much each patch pair counts; `attend` applies
it as Eq. 5 does. Every mask is a module from features (B, C, m, n, m', n') to Θ, (B or 1, m, n, m',
n'), so that another one is written in twenty lines and added by `register_mask`.

Chapter: *Hypersphere attention*.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret import Registry
from indiret.patches import check_choice

NORMALISERS = ("peak", "pdf", "paper")
COORDINATES = ("normalised", "index")
SMALLEST_SIGMA = 1e-3


def attend(features: Tensor, mask: Tensor) -> Tensor:
    """Eq. 5: F ⊙ Θ + F. The sum keeps what lies outside the mask.

    Examples
    --------
    >>> features, mask = torch.ones(2, 3, 4, 4, 4, 4), torch.zeros(1, 4, 4, 4, 4)
    >>> attend(features, mask).equal(features)
    True
    """
    return features * mask.unsqueeze(1) + features


def coordinates(
    shape: Sequence[int], kind: str = "normalised", like: Tensor | None = None
) -> Tensor:
    """The place x of every entry of a 4-D map: ``(*shape, 4)``.

    ``"normalised"``: (2a + 1) / L − 1 along an axis of length L, within −1 … 1 and 0 where L is 1,
    so that a mask means the same at every resolution. ``"index"``: whole numbers from 0, as the
    paper has it.

    Examples
    --------
    >>> coordinates((1, 2, 4, 1))[0, 1, :, 0, 2].tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    check_choice("coordinates", kind, COORDINATES)
    like = torch.empty(0) if like is None else like
    axes = [torch.arange(length, dtype=like.dtype, device=like.device) for length in shape]
    if kind == "normalised":
        axes = [(2 * axis + 1) / len(axis) - 1 for axis in axes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


class _Hypersphere(torch.autograd.Function):
    """Θ(x) of Eq. 6 with its derivatives in closed form (Eq. 7–9, corrected)."""

    @staticmethod
    def forward(
        ctx: Any, places: Tensor, center: Tensor, mu: Tensor, sigma: Tensor, normaliser: str
    ) -> Tensor:
        shape = (-1, *[1] * (places.ndim - 1))
        away = places - center.view(*shape, places.shape[-1])
        beyond = away.square().sum(-1) - mu.view(shape)  # d − μ
        theta = torch.exp(-beyond.square() / (2 * sigma.view(shape) ** 2))
        theta = theta * _normaliser(sigma, normaliser).view(shape)
        ctx.save_for_backward(away, beyond, sigma, theta)
        ctx.normaliser = normaliser
        return theta

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        away, beyond, sigma, theta = ctx.saved_tensors
        spread = sigma.view(-1, *[1] * (theta.ndim - 1))
        flow = gradient * theta
        by_center = (flow * 2 * beyond / spread**2).unsqueeze(-1) * away  # Eq. 9, a vector
        by_mu = flow * beyond / spread**2  # Eq. 7
        squared = beyond.square()
        factors = {  # Eq. 8, for each normaliser
            "peak": squared / spread**3,
            "pdf": (squared - spread**2) / spread**3,
            "paper": (2 * squared - spread**2) / (2 * spread**3),
        }
        by_sigma = flow * factors[ctx.normaliser]
        everywhere = tuple(range(1, theta.ndim))
        sums = [part.sum(everywhere) for part in (by_center, by_mu, by_sigma)]
        return None, *sums, None


def hypersphere(
    places: Tensor, center: Tensor, mu: Tensor, sigma: Tensor, normaliser: str = "peak"
) -> Tensor:
    """Θ(x) = N · exp(−(d − μ)² / 2σ²) with d = ‖x − c‖² (Eq. 6), (B, m, n, m', n').

    x, (m, n, m', n', 4), is from `coordinates`; c (B, 4), μ (B,) and σ (B,) > 0 are of B masks. μ
    is a squared radius: 0 makes a ball, more makes a shell. N is, by ``normaliser``, 1 for
    ``"peak"``, which keeps Θ in 0 … 1 as the paper says; 1 / (√(2π) σ) for ``"pdf"``, of which the
    paper's Eq. 8 is the derivative; 1 / √(2πσ) for ``"paper"``, as Eq. 6 prints it.

    Gradients are Eq. 7–9 in closed form, with the errata mended. Raises ValueError if the
    normaliser is unknown.

    Examples
    --------
    >>> middle = torch.zeros(1, 4), torch.zeros(1), torch.ones(1)
    >>> theta = hypersphere(coordinates((3, 3, 3, 3)), *middle)
    >>> theta[0, 1, 1, 1, 1].item(), theta[0, 0, 0, 0, 0].item() < 0.3
    (1.0, True)
    """
    check_choice("normaliser", normaliser, NORMALISERS)
    theta: Tensor = _Hypersphere.apply(places, center, mu, sigma, normaliser)
    return theta


def _normaliser(sigma: Tensor, kind: str) -> Tensor:
    if kind == "peak":
        return torch.ones_like(sigma)
    if kind == "pdf":
        return 1 / (math.sqrt(2 * math.pi) * sigma)
    return 1 / (2 * math.pi * sigma).sqrt()


def inverse_softplus(sigma: float) -> Tensor:
    """s with softplus(s) + SMALLEST_SIGMA = σ, so that no step of learning makes σ negative."""
    return torch.tensor(math.log(math.expm1(sigma - SMALLEST_SIGMA)))


class AttentionMask(nn.Module):
    """What every mask is: features (B, C, m, n, m', n') → Θ (B or 1, m, n, m', n').

    ``feature_dependent`` tells whether Θ depends on what the features are, or only on their shape.
    """

    feature_dependent = False

    def parameters_summary(self) -> dict[str, float]:
        """What it has learned, by name, for a log."""
        return {}


class HypersphereMask(AttentionMask):
    """One hypersphere for all pairs, with six parameters: its centre (4), μ and σ (HAR, Eq. 6).

    Training starts at ``center``, which counts from the map's middle, ``mu`` and ``sigma``. σ is
    kept positive: σ = softplus(s) + 0.001 with s learned. See `hypersphere` and the function
    `coordinates`.

    Examples
    --------
    >>> mask = HypersphereMask()
    >>> mask(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([1, 7, 7, 5, 5])
    >>> {name: round(value, 2) for name, value in mask.parameters_summary().items()}
    {'c_i': 0.0, 'c_j': 0.0, 'c_k': 0.0, 'c_l': 0.0, 'mu': 0.0, 'sigma': 1.0}
    """

    def __init__(
        self, normaliser: str = "peak", coordinates: str = "normalised",
        center: Sequence[float] = (0.0, 0.0, 0.0, 0.0), mu: float = 0.0, sigma: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        if len(center) != 4:
            raise ValueError(f"center={tuple(center)} is not a place in four dimensions.")
        if not sigma > SMALLEST_SIGMA:
            raise ValueError(f"sigma={sigma} is not above {SMALLEST_SIGMA}.")
        self.normaliser, self.coordinates = normaliser, coordinates
        self.center = nn.Parameter(torch.tensor([float(c) for c in center]))
        self.mu = nn.Parameter(torch.tensor(float(mu)))
        self.s = nn.Parameter(inverse_softplus(sigma))

    @property
    def sigma(self) -> Tensor:
        return F.softplus(self.s) + SMALLEST_SIGMA

    def forward(self, features: Tensor) -> Tensor:
        places = coordinates(features.shape[2:], self.coordinates, self.center)
        if self.coordinates == "index":
            places = places - places[-1, -1, -1, -1] / 2
        one = self.center[None], self.mu[None], self.sigma[None]
        return hypersphere(places, *one, self.normaliser)

    def parameters_summary(self) -> dict[str, float]:
        """The six parameters by name, for a log."""
        names = ("c_i", "c_j", "c_k", "c_l", "mu", "sigma")
        values = [*self.center.tolist(), self.mu.item(), self.sigma.item()]
        return dict(zip(names, values, strict=True))


_GRID: ContextVar[Sequence[int]] = ContextVar("grid")  # (m, n, m', n') of the tensor at hand


@contextmanager
def tensor_grid(grid: Sequence[int]) -> Iterator[None]:
    """Tell attention in the flat layout, whose maps do not show it, the tensor's grid."""
    token = _GRID.set(grid)
    try:
        yield
    finally:
        _GRID.reset(token)


class Attention(nn.Module):
    """A mask applied to a layer's features (Eq. 5), in any layout.

    In the flat layout a mask is evaluated on the full grid and averaged over each pixel's area. A
    mask that depends on features sees, at every patch pair, those of the pixel that holds the pair.

    Examples
    --------
    >>> attention = Attention("har", channels=8)
    >>> attention(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 8, 7, 7, 5, 5])
    """

    def __init__(self, name: str, channels: int, flat: bool = False):
        super().__init__()
        if name not in MASKS:
            known = ", ".join(MASKS)
            raise ValueError(f"attention={name!r} is not known; choose from none, {known}.")
        self.mask, self.flat = MASKS[name](channels), flat

    def forward(self, features: Tensor) -> Tensor:
        if not self.flat:
            return attend(features, self.mask(features))
        m, n, rows, columns = _GRID.get()
        if self.mask.feature_dependent:
            seen = F.interpolate(features, (m * rows, n * columns))
            seen = seen.unflatten(3, (n, columns)).unflatten(2, (m, rows)).transpose(3, 4)
        else:
            seen = features.new_empty(1, 1, m, n, rows, columns)
        picture = self.mask(seen).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        height, width = features.shape[2:]
        return attend(features, F.adaptive_avg_pool2d(picture, (height, width)))


Mask = Callable[[int], AttentionMask]  # from the number of channels
MASKS = Registry[Mask]("a mask")


def register_mask(name: str, mask: Mask) -> None:
    """Add a mask that configs and the command line can then name; ValueError if the name is taken.

    Examples
    --------
    >>> register_mask("small-ball", lambda channels: HypersphereMask(sigma=0.2))
    >>> Attention("small-ball", channels=8)(torch.rand(1, 8, 3, 3, 3, 3)).shape
    torch.Size([1, 8, 3, 3, 3, 3])
    >>> del MASKS["small-ball"]
    """
    MASKS[name] = mask


# As printed: whole-number coordinates, Eq. 6's factor, μ = σ = 1, the middle.
register_mask("har", lambda channels: HypersphereMask("paper", "index", mu=1.0, sigma=1.0))
register_mask("har-normalised", lambda channels: HypersphereMask())
