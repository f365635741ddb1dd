"""The correlation of every target patch with every query patch (Eq. 1), stacked in views (Eq. 2).

A metric is a door with these parts: a transform of the patches; a similarity φ of the transformed
patches; where the transform is fitted to data, its state; and where a metric looks at a similarity
once more (mutual matching), that view of it. Metrics with the same transform share one
`PatchProducts`, so that cosine, euclidean, zncc and mutual matching cost one Gram matrix together.

A target may be cut at several scales, each of which makes a view of its own, and its cells may be
seen through several windows, a little aside; a cell is as similar to a query patch as the best of
them.

Chapters: *Patches and metrics*, *The correlation tensor*.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.patches import PYRAMID

FLAT_PATCH = (1 / 255) ** 2  # a variance below one grey level is sensor noise, not structure
FLAT_SLOPE = 1.6 / 255  # a mean slope of so little is, too; chosen on training pairs
DIRECTIONS = 8  # of slopes


class PatchProducts:
    """What the metrics of one batch of pairs share: inner products, norms and means, made once.

    ``target`` is (B, N, D) and ``query`` (B, N', D) or (1, N', D); every product is float of the
    same dtype and made when first asked for. N counts all windows of all scales.
    """

    def __init__(self, target: Tensor, query: Tensor):
        self.target = target
        self.query = query

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


def fit_whitening(patches: Tensor, shrinkage: float = 0.1) -> dict[str, Tensor]:
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
    inverse = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), identity, upper=False
    )
    return {"whitening": inverse.float()}


def whiten(patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """W p for the fitted W; see `fit_whitening`."""
    return patches @ state["whitening"].to(patches).T


def oriented_gradients(patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """How steeply a patch rises in eight directions, in 4 × 4 parts of each window.

    Where light falls differently brightness changes and edges stay. Each pixel's slope is shared
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
    flat = FLAT_SLOPE * side**2  # what noise alone would sum to does not count as structure
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


METRICS: dict[str, Metric] = {}


def register_metric(
    name: str,
    phi: Callable[[PatchProducts], Tensor],
    range: tuple[float, float],
    transform: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    fit: Callable[[Tensor], dict[str, Tensor]] | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Metric:
    """Add a metric φ (Eq. 1) that configs and the command line can then name.

    Parameters
    ----------
    name
        A new name.
    phi
        Takes `PatchProducts` of (B, N, D') and (B, N', D') patches, returns a similarity (larger
        is more alike) of shape (B, N, N').
    range
        Smallest and largest value that φ can take.
    transform
        Takes patches (..., D) and the fitted state, returns (..., D'). Metrics without a fitted
        state that name the same function share its products.
    fit
        Takes training patches (N, D), returns the state: tensors by name. `fit_metrics` calls it,
        and the state travels with a network's weights.
    view
        Takes φ's (B, S, N, N'), N cells at S scales, and returns another view of it (`mutual`).

    Raises
    ------
    ValueError
        If the name is taken.

    Examples
    --------
    >>> def minus_brightness(products):
    ...     p, q = products.means
    ...     return -(p - q).abs()
    >>> metric = register_metric("brightness", minus_brightness, range=(-1, 0))
    >>> white, black = torch.ones(1, 2, 2, 12), torch.zeros(1, 2, 2, 12)
    >>> correlation_tensor(white, black, ["brightness"], standardise=False).unique()
    tensor([-1.])
    >>> del METRICS["brightness"]
    """
    if name in METRICS:
        raise ValueError(f"a metric named {name!r} is registered already; choose another name.")
    METRICS[name] = Metric(name, phi, range, transform, fit, view)
    return METRICS[name]


register_metric("cosine", cosine, (0, 1))
register_metric("euclidean", euclidean, (-1, 0))
register_metric("manhattan", manhattan, (-1, 0))
register_metric("mahalanobis", euclidean, (-torch.inf, 0), transform=whiten, fit=fit_whitening)
register_metric("zncc", zncc, (-1, 1))
register_metric("colour", euclidean, (-1, 0), transform=mean_colour)
register_metric("mutual", zncc, (0, 1), view=mutual)
register_metric("gradients", cosine, (0, 1), transform=oriented_gradients)
register_metric("zncc_gradients", zncc, (-1, 1), transform=oriented_gradients)
register_metric("mutual_gradients", cosine, (0, 1), transform=oriented_gradients, view=mutual)


def find_metrics(names: Sequence[str]) -> list[Metric]:
    """The registered metrics of these names, in order.

    Raises
    ------
    ValueError
        If there is none, or one is unknown; the valid ones are listed.

    Examples
    --------
    >>> find_metrics(["sift"])
    Traceback (most recent call last):
    ValueError: metric 'sift' is not known; choose from cosine, euclidean, manhattan, ...
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"metrics={names!r} is not a list of names such as ['cosine', 'zncc'].")
    for name in names:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise ValueError(f"metric {name!r} is not known; choose from {known}.")
    return [METRICS[name] for name in names]


def fit_metrics(metrics: Sequence[str], patches: Tensor) -> dict[str, Tensor]:
    """Fit whatever the named metrics fit, on training patches.

    Parameters
    ----------
    metrics
        Names of metrics; those without a fitted state are passed over.
    patches
        (N, D) float patches of training pictures only.

    Returns
    -------
    dict
        Tensors by ``"metric.part"``, empty if nothing is fitted.

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

    A network keeps room for the fitted state with it until `fit_metrics` or its weights fill it.
    """
    noise = torch.randn(2 * values, values, generator=torch.Generator().manual_seed(0))
    return fit_metrics(metrics, noise)


def describe_patches(
    patches: Tensor, metrics: Sequence[str], state: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What the metrics compare, and all that ranking has to keep of a picture.

    That is the patches as each transform leaves them, by the name of the first metric to use it.

    Parameters
    ----------
    patches
        (..., D) float.
    metrics
        Names of metrics.
    state
        Fitted state of the metrics that need one, from `fit_metrics`.

    Raises
    ------
    ValueError
        If a metric is unknown or lacks its fitted state.

    Examples
    --------
    >>> described = describe_patches(torch.rand(14, 14, 192), ["zncc", "mutual", "colour"])
    >>> {name: tuple(values.shape) for name, values in described.items()}
    {'zncc': (14, 14, 192), 'colour': (14, 14, 3)}
    """
    described = {}
    for metric, owner in _owners(metrics):
        if owner not in described:
            described[owner] = _transformed(metric, patches, state or {})
    return described


def correlate(
    target: Mapping[str, Tensor],
    query: Mapping[str, Tensor],
    metrics: Sequence[str],
    standardise: bool = True,
) -> Tensor:
    """The tensor T of Eq. 2 from patches as `describe_patches` leaves them.

    Parameters
    ----------
    target
        Tensors (B, S, W, m, n, D), S scales and W windows a cell, or plain (B, m, n, D).
    query
        Tensors (B, m', n', D), or (1, m', n', D) for one query against B targets; or with scales
        and windows, as the target.
    metrics
        Names of those that were described.
    standardise
        Bring every view of every pair to mean 0 and standard deviation 1 (a constant view to 0).

    Returns
    -------
    Tensor
        (B, V, m, n, m', n'), float32 if what was described is float16. The V views are the first
        metric at every scale of the target and there at every scale of the query, the second at
        every scale, and so on.
    """
    products: dict[str, PatchProducts] = {}
    similarities: dict[tuple[str, object], Tensor] = {}
    stack = []
    for metric, owner in _owners(metrics):
        p, q = (x[:, None, None] if x.ndim == 4 else x for x in (target[owner], query[owner]))
        if owner not in products:
            flat = p.flatten(1, 4), q.flatten(1, 4)
            products[owner] = PatchProducts(
                *(x.float() if x.dtype == torch.half else x for x in flat)
            )
        if (owner, metric.phi) not in similarities:
            windows = metric.phi(products[owner]).unflatten(1, (*p.shape[1:3], -1)).amax(2)
            if q.shape[1:3] != (1, 1):
                windows = windows.unflatten(3, (*q.shape[1:3], -1)).amax(4)
                windows = windows.transpose(2, 3).flatten(1, 2)
            similarities[owner, metric.phi] = windows
        similarity = similarities[owner, metric.phi]
        stack.append(metric.view(similarity) if metric.view else similarity)
    tensor = torch.cat(stack, dim=1)
    if standardise:
        tensor = F.layer_norm(tensor, tensor.shape[2:], eps=1e-8)
    return tensor.unflatten(3, q.shape[3:5]).unflatten(2, p.shape[3:5])


def correlation_tensor(
    target_patches: Tensor,
    query_patches: Tensor,
    metrics: Sequence[str] = ("cosine", "zncc", "mutual", "colour"),
    state: Mapping[str, Tensor] | None = None,
    standardise: bool = True,
) -> Tensor:
    """The multi-view correlation tensor T of Eq. 2: T[b, v, i, j, k, l] = φ_v(p_ij, q_kl).

    Parameters
    ----------
    target_patches
        (B, m, n, D) float, or (B, S, W, m, n, D) with S scales, each a view of its own, and W
        windows a cell, of which the best counts.
    query_patches
        (B, m', n', D) float, or (1, m', n', D) for one query against B targets; or with scales and
        windows, as the target: a view for each scale of either, and of all windows the best pair.
    metrics
        Names of the views, in order; see ``METRICS``.
    state
        Fitted state of the metrics that need one, from `fit_metrics`.
    standardise
        Bring every view of every pair to mean 0 and standard deviation 1 (a constant view to 0).

    Returns
    -------
    Tensor
        (B, V, m, n, m', n'), target first, of the patches' dtype.

    Raises
    ------
    ValueError
        If shapes do not fit together, a metric is unknown or lacks its fitted state.

    Examples
    --------
    >>> target, query = torch.rand(5, 14, 10, 192), torch.rand(1, 7, 9, 192)
    >>> correlation_tensor(target, query, metrics=("cosine", "zncc")).shape
    torch.Size([5, 2, 14, 10, 7, 9])
    """
    _check_patches(target_patches, query_patches)
    target, query = (
        describe_patches(patches, metrics, state) for patches in (target_patches, query_patches)
    )
    return correlate(target, query, metrics, standardise)


def _owners(metrics: Sequence[str]) -> list[tuple[Metric, str]]:
    """Every metric, and the name of the first one that compares the same transformed patches."""
    first: dict[object, str] = {}
    found = find_metrics(metrics)
    keys = [metric.transform if metric.fit is None else metric.name for metric in found]
    return [
        (metric, first.setdefault(key, metric.name))
        for metric, key in zip(found, keys, strict=True)
    ]


def _check_patches(target: Tensor, query: Tensor) -> None:
    for side, patches in (("target", target), ("query", query)):
        if patches.ndim not in (4, 6) or not patches.is_floating_point():
            raise ValueError(
                f"{side} patches have shape {tuple(patches.shape)} and dtype {patches.dtype}; "
                "give float (pairs, rows, columns, values)."
            )
    if target.shape[-1] != query.shape[-1] or len(query) not in (1, len(target)):
        raise ValueError(
            f"target patches {tuple(target.shape)} and query patches {tuple(query.shape)} do not "
            "fit: give both the same number of values, and one query or as many as targets."
        )


def _transformed(metric: Metric, patches: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    if metric.transform is None:
        return patches
    prefix = metric.name + "."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if metric.fit is not None and not own:
        raise ValueError(
            f"metric {metric.name!r} has no fitted state; pass state=fit_metrics(metrics, patches)."
        )
    return metric.transform(patches, own)
