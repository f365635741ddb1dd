"""Attention masks over the 4-D feature maps: the paper's hypersphere (Eq. 5–9) and other shapes.

A mask looks at a layer's features and returns Θ, how much each patch pair counts; `attend` applies
it as Eq. 5 does. Every mask is a module from features (B, C, m, n, m', n') to Θ, (B or 1, m, n, m',
n'), so that another one is written in twenty lines.

Chapter: *Hypersphere attention*.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    if kind not in COORDINATES:
        raise ValueError(
            f"coordinates={kind!r} is not known; choose from {', '.join(COORDINATES)}."
        )
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
        by_sigma = (
            flow
            * {  # Eq. 8, for each normaliser
                "peak": squared / spread**3,
                "pdf": (squared - spread**2) / spread**3,
                "paper": (2 * squared - spread**2) / (2 * spread**3),
            }[ctx.normaliser]
        )
        everywhere = tuple(range(1, theta.ndim))
        return (
            None,
            by_center.sum(everywhere),
            by_mu.sum(everywhere),
            by_sigma.sum(everywhere),
            None,
        )


def hypersphere(
    places: Tensor, center: Tensor, mu: Tensor, sigma: Tensor, normaliser: str = "peak"
) -> Tensor:
    """Θ(x) = N · exp(−(d − μ)² / 2σ²) with d = ‖x − c‖² (Eq. 6).

    Parameters
    ----------
    places
        x, (m, n, m', n', 4), from `coordinates`.
    center, mu, sigma
        c (B, 4), μ (B,) and σ (B,) > 0, for B masks. μ is a squared radius: 0 makes a ball, more
        makes a shell.
    normaliser
        N: ``"peak"`` 1, which keeps Θ in 0 … 1 as the paper says; ``"pdf"`` 1 / (√(2π) σ), of which
        the paper's Eq. 8 is the derivative; ``"paper"`` 1 / √(2πσ), as Eq. 6 prints it.

    Returns
    -------
    Tensor
        (B, m, n, m', n'). Its gradients are Eq. 7–9 in closed form, with the errata mended.

    Raises
    ------
    ValueError
        If the normaliser is unknown.

    Examples
    --------
    >>> middle = torch.zeros(1, 4), torch.zeros(1), torch.ones(1)
    >>> theta = hypersphere(coordinates((3, 3, 3, 3)), *middle)
    >>> theta[0, 1, 1, 1, 1].item(), theta[0, 0, 0, 0, 0].item() < 0.3
    (1.0, True)
    """
    if normaliser not in NORMALISERS:
        known = ", ".join(NORMALISERS)
        raise ValueError(f"normaliser={normaliser!r} is not known; choose from {known}.")
    theta: Tensor = _Hypersphere.apply(places, center, mu, sigma, normaliser)
    return theta


def _normaliser(sigma: Tensor, kind: str) -> Tensor:
    if kind == "peak":
        return torch.ones_like(sigma)
    return (
        1 / (math.sqrt(2 * math.pi) * sigma) if kind == "pdf" else 1 / (2 * math.pi * sigma).sqrt()
    )


def _inverse_softplus(sigma: float) -> Tensor:
    """s with softplus(s) + SMALLEST_SIGMA = σ, so that no step of learning makes σ negative."""
    return torch.tensor(math.log(math.expm1(sigma - SMALLEST_SIGMA)))


class AttentionMask(nn.Module):
    """What every mask is: features (B, C, m, n, m', n') → Θ (B or 1, m, n, m', n').

    ``looks`` tells whether Θ depends on what the features are, or only on their shape.
    """

    looks = False

    def readings(self) -> dict[str, float]:
        """What it has learnt, by name, for a log."""
        return {}


class HypersphereMask(AttentionMask):
    """One hypersphere for all pairs, with six parameters: its centre (4), μ and σ (HAR, Eq. 6).

    Parameters
    ----------
    normaliser, coordinates
        See `hypersphere` and the function `coordinates`.
    center, mu, sigma
        Where training starts; the centre counts from the map's middle. σ is kept positive:
        σ = softplus(s) + 0.001 with s learnt.

    Examples
    --------
    >>> mask = HypersphereMask()
    >>> mask(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([1, 7, 7, 5, 5])
    >>> {name: round(value, 2) for name, value in mask.readings().items()}
    {'c_i': 0.0, 'c_j': 0.0, 'c_k': 0.0, 'c_l': 0.0, 'mu': 0.0, 'sigma': 1.0}
    """

    def __init__(
        self,
        normaliser: str = "peak",
        coordinates: str = "normalised",
        center: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        mu: float = 0.0,
        sigma: float = 1.0,
    ):
        super().__init__()
        if len(center) != 4:
            raise ValueError(f"center={tuple(center)} is not a place in four dimensions.")
        if not sigma > SMALLEST_SIGMA:
            raise ValueError(f"sigma={sigma} is not above {SMALLEST_SIGMA}.")
        self.normaliser, self.coordinates = normaliser, coordinates
        self.center = nn.Parameter(torch.tensor([float(c) for c in center]))
        self.mu = nn.Parameter(torch.tensor(float(mu)))
        self.s = nn.Parameter(_inverse_softplus(sigma))

    @property
    def sigma(self) -> Tensor:
        return F.softplus(self.s) + SMALLEST_SIGMA

    def forward(self, features: Tensor) -> Tensor:
        places = coordinates(features.shape[2:], self.coordinates, self.center)
        if self.coordinates == "index":
            places = places - (places.new_tensor(features.shape[2:]) - 1) / 2
        one = self.center[None], self.mu[None], self.sigma[None]
        return hypersphere(places, *one, self.normaliser)

    def readings(self) -> dict[str, float]:
        """The six parameters by name, for a log."""
        names = ("c_i", "c_j", "c_k", "c_l", "mu", "sigma")
        values = [*self.center.tolist(), self.mu.item(), self.sigma.item()]
        return dict(zip(names, values, strict=True))


class PredictedHypersphereMask(AttentionMask):
    """A hypersphere whose centre is found anew in every pair; μ and σ are shared.

    The centre is where the features speak: the mean place, weighted by a softmax over all entries
    of one learnt combination of the channels.

    Examples
    --------
    >>> PredictedHypersphereMask(channels=8)(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 7, 7, 5, 5])
    """

    looks = True

    def __init__(self, channels: int, mu: float = 0.0, sigma: float = 1.0):
        super().__init__()
        self.saliency = nn.Linear(channels, 1, bias=False)
        self.sphere = HypersphereMask(mu=mu, sigma=sigma)
        self.sphere.center.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        places = coordinates(features.shape[2:], like=features)
        weights = self.saliency(features.flatten(2).mT).softmax(1)
        center = (weights * places.flatten(0, 3)).sum(1)
        mu, sigma = (one.expand(len(features)) for one in (self.sphere.mu, self.sphere.sigma))
        return hypersphere(places, center, mu, sigma)

    def readings(self) -> dict[str, float]:
        return {name: self.sphere.readings()[name] for name in ("mu", "sigma")}


class GaussianMask(AttentionMask):
    """One anisotropic Gaussian for all pairs: exp(−½ ‖Lᵀ(x − c)‖²) with L lower triangular.

    It can be long in some directions and thin in others, also aslant; at first it is the ball of
    radius 1. Fourteen parameters.

    Examples
    --------
    >>> mask = GaussianMask()
    >>> mask(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([1, 7, 7, 5, 5])
    """

    def __init__(self) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.zeros(4))
        self.factor = nn.Parameter(torch.eye(4))

    def forward(self, features: Tensor) -> Tensor:
        away = coordinates(features.shape[2:], like=self.center) - self.center
        return torch.exp(-(away @ self.factor.tril()).square().sum(-1) / 2)[None]

    def readings(self) -> dict[str, float]:
        """The centre, and the standard deviations along the principal directions."""
        spreads = 1 / torch.linalg.svdvals(self.factor.detach().tril()).clamp_min(1e-6)
        names = ("c_i", "c_j", "c_k", "c_l", "s_1", "s_2", "s_3", "s_4")
        return dict(zip(names, [*self.center.tolist(), *spreads.tolist()], strict=True))


class PlaneMask(AttentionMask):
    """The matched pattern as a plane, (i, j) = A(k, l) + t, found by voting in every pair.

    A roughly flat surface seen by two cameras puts its matching patches on such a plane. One learnt
    combination of the channels votes along planes of five scales and all shifts; the best one is
    refined by a least-squares fit of A and t to the votes near it. Θ falls off with the distance r
    of (i, j) from it: exp(−r² / 2σ²), σ learnt.

    Examples
    --------
    >>> PlaneMask(channels=8)(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 7, 7, 5, 5])
    """

    looks = True
    scales = (0.35, 0.5, 0.7, 1.0, 1.4)

    def __init__(self, channels: int, sigma: float = 0.3, fits: int = 2):
        super().__init__()
        self.saliency = nn.Linear(channels, 1)
        self.s = nn.Parameter(_inverse_softplus(sigma))
        self.fits = fits

    @property
    def sigma(self) -> Tensor:
        return F.softplus(self.s) + SMALLEST_SIGMA

    def forward(self, features: Tensor) -> Tensor:
        shape = features.shape[2:]
        exact = torch.promote_types(features.dtype, torch.float32)  # bf16 is too coarse for a fit
        places = coordinates(shape, like=features.new_empty(0, dtype=exact))
        votes = F.softplus(self.saliency(features.flatten(2).mT))[..., 0].to(exact)
        with torch.autocast(features.device.type, enabled=False):
            with torch.no_grad():  # which plane is best is a choice, and has no derivative
                votes = (votes - votes.mean(1, keepdim=True)).view(-1, *shape)
                plane = self.best_plane(votes, places)
                for _ in range(self.fits):
                    weights = votes.clamp_min(0) * self._near(places, plane)
                    plane = fit_plane(weights, places, fallback=plane)
            return self._near(places, plane).to(features.dtype)

    def _near(self, places: Tensor, plane: Tensor) -> Tensor:
        return torch.exp(-_off_plane(places, plane).square() / (2 * self.sigma**2))

    def best_plane(self, votes: Tensor, places: Tensor) -> Tensor:
        """(B, 2, 3): [A | t] with the largest sum of votes, over scales and shifts."""
        planes, sums = best_planes(votes, places, self.scales)
        return planes[torch.arange(len(planes)), sums.argmax(1)]

    def readings(self) -> dict[str, float]:
        return {"sigma": self.sigma.item()}


def best_planes(votes: Tensor, places: Tensor, scales: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The plane of each scale with the largest sum of votes, over all shifts.

    Parameters
    ----------
    votes
        (B, m, n, m', n').
    places
        (m, n, m', n', 4), from `coordinates`.
    scales
        Of the query in the target; 1 where either fills its picture alike.

    Returns
    -------
    planes, sums
        (B, S, 2, 3), [A | t] in normalised coordinates, and (B, S).

    Examples
    --------
    >>> places = coordinates((5, 5, 5, 5))
    >>> votes = (places[..., :2] - places[..., 2:]).norm(dim=-1).lt(0.1).float()
    >>> planes, sums = best_planes(votes[None], places, (0.5, 1.0))
    >>> planes.shape, sums.argmax().item(), sums.max().item()
    (torch.Size([1, 2, 2, 3]), 1, 25.0)
    """
    m, n = votes.shape[1:3]
    target, query = places[:, :, 0, 0, :2].flatten(0, 1), places[0, 0, :, :, 2:].flatten(0, 1)
    planes, sums = [], []
    for scale in scales:
        ahead = target[:, None] + scale * query  # shifted by t = each target patch in turn
        cells = ((ahead + 1) / 2 * ahead.new_tensor([m, n])).floor().long()
        inside = ((cells >= 0) & (cells < cells.new_tensor([m, n]))).all(-1)
        index = (cells[..., 0] * n + cells[..., 1]).clamp(0, m * n - 1)
        index = index * len(query) + torch.arange(len(query), device=votes.device)
        gathered = votes.flatten(1)[:, index.flatten()].view(-1, *index.shape)
        best, shift = (gathered * inside).sum(-1).max(1)
        linear = scale * torch.eye(2, device=votes.device).expand(len(votes), 2, 2)
        planes.append(torch.cat([linear.to(votes), target[shift, :, None].to(votes)], 2))
        sums.append(best)
    return torch.stack(planes, 1), torch.stack(sums, 1)


def fit_plane(weights: Tensor, places: Tensor, fallback: Tensor) -> Tensor:
    """(B, 2, 3): [A | t] that least squares fit to (i, j) = A(k, l) + t.

    Parameters
    ----------
    weights
        (B, m, n, m', n') ≥ 0: how much each patch pair counts.
    places
        (m, n, m', n', 4), from `coordinates`.
    fallback
        (B, 2, 3): taken where weights leave the plane undetermined or flip it over.

    Examples
    --------
    >>> places = coordinates((5, 5, 5, 5))
    >>> weights = (places[..., :2] - 0.5 * places[..., 2:] - 0.2).norm(dim=-1).lt(0.25).float()
    >>> fit_plane(weights[None], places, torch.zeros(1, 2, 3))[0, :, :2].diagonal() > 0.3
    tensor([True, True])
    """
    flat = weights.flatten(1)
    ones = places.new_ones(*places.shape[:-1], 1)
    query = torch.cat([places[..., 2:], ones], dim=-1).flatten(0, 3)
    moments = torch.einsum("bx,xp,xq->bpq", flat, query, query)
    crossed = torch.einsum("bx,xp,xq->bpq", flat, places[..., :2].flatten(0, 3), query)
    ridge = 1e-4 * torch.eye(3, dtype=flat.dtype, device=flat.device)
    scale = moments.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-12)[:, None, None]
    plane = torch.linalg.solve(moments / scale + ridge, (crossed / scale).mT).mT
    sound = torch.linalg.det(plane[:, :, :2]) > 0.02
    return torch.where(sound[:, None, None], plane, fallback)


def _off_plane(places: Tensor, plane: Tensor) -> Tensor:
    """(B, m, n, m', n'): how far (i, j) is from where the plane sends (k, l)."""
    ahead = torch.einsum("bpq,mnklq->bmnklp", plane[:, :, :2], places[..., 2:])
    shift = plane[:, :, 2].view(-1, 1, 1, 1, 1, 2)
    return (places[..., :2] - ahead - shift).norm(dim=-1)


class Attention(nn.Module):
    """A mask applied to a layer's features (Eq. 5), in any layout.

    In the flat layout a mask is evaluated on the full grid and averaged over each pixel's area. A
    mask that looks at features sees, at every patch pair, those of the pixel that holds the pair.

    Examples
    --------
    >>> attention = Attention("har", channels=8)
    >>> attention(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 8, 7, 7, 5, 5])
    """

    grid: Sequence[int] = ()  # (m, n, m', n'); the flat layout's maps do not tell it

    def __init__(self, name: str, channels: int, flat: bool = False):
        super().__init__()
        if name not in MASKS:
            raise ValueError(
                f"attention={name!r} is not known; choose from none, {', '.join(MASKS)}."
            )
        self.mask = MASKS[name](channels)
        self.flat = flat

    def forward(self, features: Tensor) -> Tensor:
        if not self.flat:
            return attend(features, self.mask(features))
        m, n, rows, columns = self.grid
        if self.mask.looks:
            seen = F.interpolate(features, (m * rows, n * columns))
            seen = seen.unflatten(3, (n, columns)).unflatten(2, (m, rows)).transpose(3, 4)
        else:
            seen = features.new_empty(1, 1, m, n, rows, columns)
        picture = self.mask(seen).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        height, width = features.shape[2:]
        return attend(features, F.adaptive_avg_pool2d(picture, (height, width)))


MASKS: dict[str, Callable[[int], AttentionMask]] = {
    # As printed: whole-number coordinates, Eq. 6's factor, μ = σ = 1, the middle.
    "har": lambda channels: HypersphereMask("paper", "index", mu=1.0, sigma=1.0),
    "har-normalised": lambda channels: HypersphereMask(),
    "predicted": PredictedHypersphereMask,
    "gaussian": lambda channels: GaussianMask(),
    "plane": PlaneMask,
}
