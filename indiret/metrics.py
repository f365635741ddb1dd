"""Metrics φ of patches (Eq. 1) and their registry.

A metric is a door with these parts: a transform of the patches; a similarity φ of the transformed
patches; where the transform is fitted to data, its state; and where a metric looks at a similarity
once more (mutual matching), that view of it. Metrics with the same transform share one
`PatchProducts`, so that cosine, euclidean, zncc and mutual matching cost one Gram matrix together.

Chapter: *Patches and metrics*.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from indiret import Registry
from indiret.patches import PYRAMID, check_choice

FLAT_PATCH = (1 / 255) ** 2  # a variance below one grey level is sensor noise, not structure
FLAT_GRADIENT = 1.6 / 255  # a mean gradient of so little is, too; chosen on training pairs
DIRECTIONS = 8  # of gradients


class PatchProducts:
    """What the metrics of one batch of pairs share: inner products, norms and means, made once.

    ``target`` is (B, N, D) and ``query`` (B, N', D) or (1, N', D), float; N counts all windows of
    all scales.
    """

    def __init__(self, target: Tensor, query: Tensor):
        self.target, self.query = target, query

    @cached_property
    def inner(self) -> Tensor:
        """(B, N, N'): ⟨p, q⟩, the Gram matrix."""
        return self.target @ self.query.mT

    @cached_property
    def square_norms(self) -> tuple[Tensor, Tensor]:
        """(B, N, 1) and (B, 1, N'): ‖p‖² and ‖q‖²."""
        return _against_each_other(self.target.square().sum(-1), self.query.square().sum(-1))

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """(B, N, 1) and (B, 1, N'): the mean over all of a patch's values."""
        return _against_each_other(self.target.mean(-1), self.query.mean(-1))

    @cached_property
    def zncc(self) -> Tensor:
        """(B, N, N'): the inner products of patches less their means, over their deviations."""
        p, q = self.square_norms
        p_mean, q_mean = self.means
        values = self.target.shape[-1]
        p_variance = (p / values - p_mean.square()).clamp_min(0) + FLAT_PATCH
        q_variance = (q / values - q_mean.square()).clamp_min(0) + FLAT_PATCH
        covariance = self.inner / values - p_mean * q_mean
        return covariance * p_variance.rsqrt() * q_variance.rsqrt()


def _against_each_other(target: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    return target.unsqueeze(-1), query.unsqueeze(-2)


def cosine(products: PatchProducts) -> Tensor:
    """cos(p, q) of the raw pixels; 0 … 1 since pixels are not negative."""
    p, q = products.square_norms
    return products.inner * (p + FLAT_PATCH).rsqrt() * (q + FLAT_PATCH).rsqrt()


def zncc(products: PatchProducts) -> Tensor:
    """Cosine after each patch's mean over all values is removed; −1 … 1, and 0 for flat patches."""
    return products.zncc


def euclidean(products: PatchProducts) -> Tensor:
    """−‖p − q‖₂ / √D: less the root mean square difference; −1 … 0 for raw pixels."""
    p, q = products.square_norms
    squared = (p + q - 2 * products.inner) / products.target.shape[-1]
    return -squared.clamp_min(1e-12).sqrt()


def manhattan(products: PatchProducts) -> Tensor:
    """−‖p − q‖₁ / D: less the mean absolute difference; −1 … 0."""
    query = products.query.expand(len(products.target), -1, -1)
    return -torch.cdist(products.target, query, p=1) / products.target.shape[-1]


def mutual(similarity: Tensor) -> Tensor:
    """z³ / (max over (i,j) · max over (k,l) + ε) of z = max(similarity, 0); 0 … 1.

    A view of a view: an entry keeps its value where each patch is the other's best match and
    shrinks elsewhere. ``similarity`` is (..., N, N').
    """
    z = similarity.clamp_min(0)
    return z * z * z / (z.amax(-2, keepdim=True) * z.amax(-1, keepdim=True) + 1e-6)


def mean_colour(patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The mean over a patch's pixels: (..., D) → (..., 3)."""
    return patches.unflatten(-1, (-1, 3)).mean(-2)


def fit_mahalanobis(patches: Tensor, shrinkage: float = 0.1) -> dict[str, Tensor]:
    """W with W Σ Wᵀ = I for the covariance Σ of patches, shrunk towards its mean variance.

    ``patches`` is (N, D); fit it on training patches only. The shrinkage keeps directions in which
    the sample hardly varies from being blown up.
    """
    if len(patches) < 2:
        raise ValueError(f"{len(patches)} patches are too few to fit a covariance; give hundreds.")
    patches = patches.double()
    covariance = torch.cov(patches.T)
    identity = torch.eye(len(covariance), dtype=torch.float64, device=patches.device)
    level = covariance.diagonal().mean().clamp_min(FLAT_PATCH)
    covariance = (1 - shrinkage) * covariance + shrinkage * level * identity
    lower = torch.linalg.cholesky(covariance)
    return {"whitening": torch.linalg.solve_triangular(lower, identity, upper=False).float()}


def mahalanobis_transform(patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """W p for the fitted W; see `fit_mahalanobis`."""
    return patches @ state["whitening"].to(patches).T


def oriented_gradients(patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """How steeply a patch rises in eight directions, in 4 × 4 parts of each window.

    Where light falls differently brightness changes and edges stay. Each pixel's gradient is shared
    between the two directions nearest to its own; sums over a part are divided by the window's
    total, and their roots taken, so that a few strong edges do not drown the rest.

    ``patches`` is (..., D) with D = levels · side · side · 3 as `indiret.patches.extract_patches`
    cuts them, side a multiple of 4; (..., levels · 128) come back, ≥ 0, each level of length 1 at
    most.
    """
    values = patches.shape[-1] // 3
    levels = 1 if math.isqrt(values) ** 2 == values else len(PYRAMID)
    side = math.isqrt(values // levels)
    if levels * side**2 * 3 != patches.shape[-1] or side % 4:
        raise ValueError(
            f"patches of {patches.shape[-1]} values are no square windows of a multiple of 4 "
            "pixels; cut them with extract_patches and such a size."
        )
    grey = (patches.reshape(-1, 3) @ patches.new_full((3,), 1 / 3)).view(-1, side, side)
    down, right = torch.gradient(grey, dim=(1, 2))
    right = torch.where((right == 0) & (down == 0), 1e-9, right)  # no direction has no derivative
    steepness = torch.hypot(right, down).flatten(1)
    angle = torch.atan2(down, right).flatten(1) * (DIRECTIONS / math.tau) % DIRECTIONS
    parts = torch.arange(4, device=patches.device).repeat_interleave(side // 4)
    part = (4 * parts[:, None] + parts).flatten() * DIRECTIONS
    low, share = angle.floor(), angle.frac()
    sums = grey.new_zeros(len(grey), 16 * DIRECTIONS)
    sums.scatter_add_(1, part + low.long() % DIRECTIONS, steepness * (1 - share))
    sums.scatter_add_(1, part + (low.long() + 1) % DIRECTIONS, steepness * share)
    flat = FLAT_GRADIENT * side**2  # what noise alone would sum to does not count as structure
    roots = (sums / (sums.sum(-1, keepdim=True) + flat)).clamp_min(1e-12).sqrt()
    return roots.view(*patches.shape[:-1], -1)


@dataclass(frozen=True)
class Metric:
    """One door to the tensor: see `register_metric` for the parts."""

    name: str
    phi: Callable[[PatchProducts], Tensor]
    range: tuple[float, float]
    transform: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None
    fit: Callable[[Tensor], dict[str, Tensor]] | None = None
    view: Callable[[Tensor], Tensor] | None = None


METRICS = Registry[Metric]("a metric")


def register_metric(
    name: str, phi: Callable[[PatchProducts], Tensor], range: tuple[float, float],
    transform: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    fit: Callable[[Tensor], dict[str, Tensor]] | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Metric:  # fmt: skip
    """Add a metric φ (Eq. 1) that configs can then name; ValueError if the name is taken.

    ``phi`` takes `PatchProducts` of (B, N, D') and (B, N', D') patches and returns a similarity,
    larger for more alike, (B, N, N') within ``range``. ``transform`` makes (..., D') of patches
    (..., D) and the fitted state; metrics without a state that name the same function share its
    products. ``fit`` makes the state, tensors by name that travel with a network's weights, of
    training patches (N, D). ``view`` makes another view (`mutual`) of φ's (B, S, N, N'), N cells at
    S scales.

    Examples
    --------
    >>> from indiret.correlation import correlation_tensor
    >>> def minus_brightness(products):
    ...     p, q = products.means
    ...     return -(p - q).abs()
    >>> metric = register_metric("brightness", minus_brightness, range=(-1, 0))
    >>> white, black = torch.ones(1, 2, 2, 12), torch.zeros(1, 2, 2, 12)
    >>> correlation_tensor(white, black, ["brightness"], standardise=False).unique()
    tensor([-1.])
    >>> del METRICS["brightness"]
    """
    METRICS[name] = metric = Metric(name, phi, range, transform, fit, view)
    return metric


register_metric("cosine", cosine, (0, 1))
register_metric("euclidean", euclidean, (-1, 0))
register_metric("manhattan", manhattan, (-1, 0))
register_metric(
    "mahalanobis", euclidean, (-torch.inf, 0), transform=mahalanobis_transform, fit=fit_mahalanobis
)
register_metric("zncc", zncc, (-1, 1))
register_metric("colour", euclidean, (-1, 0), transform=mean_colour)
register_metric("mutual", zncc, (0, 1), view=mutual)
register_metric("gradients", cosine, (0, 1), transform=oriented_gradients)
register_metric("zncc_gradients", zncc, (-1, 1), transform=oriented_gradients)
register_metric("mutual_gradients", cosine, (0, 1), transform=oriented_gradients, view=mutual)


def find_metrics(names: Sequence[str]) -> list[Metric]:
    """The registered metrics of these names, in order.

    Raises ValueError if there is none, or one is unknown; the valid ones are listed.

    Examples
    --------
    >>> find_metrics(["sift"])
    Traceback (most recent call last):
    ValueError: metric='sift' is not known; choose from cosine, euclidean, manhattan, ...
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"metrics={names!r} is not a list of names such as ['cosine', 'zncc'].")
    for name in names:
        check_choice("metric", name, METRICS)
    return [METRICS[name] for name in names]


def fit_metrics(metrics: Sequence[str], patches: Tensor) -> dict[str, Tensor]:
    """Fit whatever the named metrics fit: tensors by ``"metric.part"``, empty if nothing is fitted.

    ``patches`` is (N, D) float, of training pictures only.

    Examples
    --------
    >>> state = fit_metrics(["cosine", "mahalanobis"], torch.rand(100, 12))
    >>> {name: tuple(part.shape) for name, part in state.items()}
    {'mahalanobis.whitening': (12, 12)}
    """
    return {
        f"{metric.name}.{part}": tensor
        for metric in find_metrics(metrics)
        if metric.fit is not None
        for part, tensor in metric.fit(patches).items()
    }


def initial_metric_state(metrics: Sequence[str], values: int) -> dict[str, Tensor]:
    """A state of the right names and shapes for D = ``values``, fitted on a unit sphere of noise.

    A network keeps room for the fitted state with it, until `fit_metrics` or its weights fill it.
    """
    noise = torch.randn(2 * values, values, generator=torch.Generator().manual_seed(0))
    return fit_metrics(metrics, noise)
