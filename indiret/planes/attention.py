"""Attention masks past the paper: a predicted centre, a full Gaussian, and a plane of the tensor.

Chapter: *Hypersphere attention*.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.attention import (
    SMALLEST_SIGMA,
    AttentionMask,
    HypersphereMask,
    coordinates,
    hypersphere,
    inverse_softplus,
    register_mask,
)


class PredictedHypersphereMask(AttentionMask):
    """A hypersphere with a centre for every pair; μ and σ are shared.

    The centre is the mean place weighted by a softmax over one learned combination of the channels.

    Examples
    --------
    >>> PredictedHypersphereMask(channels=8)(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 7, 7, 5, 5])
    """

    feature_dependent = True

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

    def parameters_summary(self) -> dict[str, float]:
        return {name: self.sphere.parameters_summary()[name] for name in ("mu", "sigma")}


class GaussianMask(AttentionMask):
    """One anisotropic Gaussian for all pairs: exp(−½ ‖Lᵀ(x − c)‖²) with L lower triangular.

    Examples
    --------
    >>> GaussianMask()(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([1, 7, 7, 5, 5])
    """

    def __init__(self) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.zeros(4))
        self.factor = nn.Parameter(torch.eye(4))

    def forward(self, features: Tensor) -> Tensor:
        away = coordinates(features.shape[2:], like=self.center) - self.center
        return torch.exp(-(away @ self.factor.tril()).square().sum(-1) / 2)[None]

    def parameters_summary(self) -> dict[str, float]:
        """The centre, and the standard deviations along the principal directions."""
        spreads = 1 / torch.linalg.svdvals(self.factor.detach().tril()).clamp_min(1e-6)
        names = ("c_i", "c_j", "c_k", "c_l", "s_1", "s_2", "s_3", "s_4")
        return dict(zip(names, [*self.center.tolist(), *spreads.tolist()], strict=True))


class PlaneMask(AttentionMask):
    """The matched pattern as a plane, (i, j) = A(k, l) + t, found by voting in every pair.

    One learned combination of the channels votes along planes of five scales and all shifts; the
    best one is fitted to the votes near it by least squares. Θ falls off with the distance r of
    (i, j) from it: exp(−r² / 2σ²), σ learned.

    Examples
    --------
    >>> PlaneMask(channels=8)(torch.rand(2, 8, 7, 7, 5, 5)).shape
    torch.Size([2, 7, 7, 5, 5])
    """

    feature_dependent = True
    scales = (0.35, 0.5, 0.7, 1.0, 1.4)

    def __init__(self, channels: int, sigma: float = 0.3, fits: int = 2):
        super().__init__()
        self.saliency = nn.Linear(channels, 1)
        self.s = nn.Parameter(inverse_softplus(sigma))
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
                plane = best_plane(votes, places, self.scales)
                for _ in range(self.fits):
                    weights = votes.clamp_min(0) * self._near(places, plane)
                    plane = fit_plane(weights, places, fallback=plane)
            return self._near(places, plane).to(features.dtype)

    def _near(self, places: Tensor, plane: Tensor) -> Tensor:
        """Θ, (B, m, n, m', n'), by how far (i, j) is from where the plane sends (k, l)."""
        ahead = torch.einsum("bpq,mnklq->bmnklp", plane[:, :, :2], places[..., 2:])
        shift = plane[:, :, 2].view(-1, 1, 1, 1, 1, 2)
        off = (places[..., :2] - ahead - shift).norm(dim=-1)
        return torch.exp(-off.square() / (2 * self.sigma**2))

    def parameters_summary(self) -> dict[str, float]:
        return {"sigma": self.sigma.item()}


def best_plane(votes: Tensor, places: Tensor, scales: Sequence[float]) -> Tensor:
    """(B, 2, 3): [A | t] with the largest sum of votes, over all shifts of A = scale · 1.

    ``votes`` are (B, m, n, m', n'), ``places`` from `coordinates`; scales are those of the query in
    the target, 1 where either fills its picture alike.
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
    return torch.stack(planes, 1)[torch.arange(len(votes)), torch.stack(sums, 1).argmax(1)]


def fit_plane(weights: Tensor, places: Tensor, fallback: Tensor) -> Tensor:
    """(B, 2, 3): [A | t] by least squares with ``weights``, (B, m, n, m', n') ≥ 0.

    ``fallback`` is taken where they leave the plane undetermined or flip it over.
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


register_mask("predicted", PredictedHypersphereMask)
register_mask("gaussian", lambda channels: GaussianMask())
register_mask("plane", PlaneMask)
