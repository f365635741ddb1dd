"""Descriptors of a picture from a network's feature maps: one vector, compared by its cosine.

Maps are (B, C, H, W), not negative, as after a ReLU. A descriptor has one or more *parts*, each a
weighted sum or a maximum over places; `aggregate` makes one unit vector of them, with or without
whitening. How the equations and their numbers were checked is in book/decisions/0010.

Chapter: *Baselines*.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6  # below any value that a feature map means
OVERLAP = 0.4  # of neighbouring R-MAC regions (Tolias et al., 2016)


def mean_pool(maps: Tensor) -> Tensor:
    """Mean over places, (B, C): what a classifier sees, and the least that others must beat."""
    return _check(maps).mean((2, 3))


def mac(maps: Tensor) -> Tensor:
    """Maximum over places, max_x x_k, (B, C): MAC (Tolias et al., 2016, Eq. 1)."""
    return _check(maps).amax((2, 3))


def centre_prior(height: int, width: int) -> Tensor:
    """SPoC's weights of places, (H, W): α = exp(−((y − H/2)² + (x − W/2)²) / 2σ²).

    σ is a third of the way from the middle to the nearest border (the centring prior of Babenko &
    Lempitsky, 2015); cells count at their centres.

    Examples
    --------
    >>> centre_prior(3, 3)[1]
    tensor([0.1353, 1.0000, 0.1353])
    """
    sigma = min(height, width) / 2 / 3
    y, x = (
        torch.arange(side, dtype=torch.float32, device="cpu") + 0.5 - side / 2
        for side in (height, width)
    )
    return torch.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2))


def spoc(maps: Tensor) -> Tensor:
    """Σ_y Σ_x α(x, y) f(x, y), α the `centre_prior`, (B, C): SPoC (Babenko & Lempitsky, 2015)."""
    return (_check(maps) * centre_prior(*maps.shape[2:]).to(maps)).sum((2, 3))


def crow_weights(maps: Tensor) -> tuple[Tensor, Tensor]:
    """CroW's weights of places, (B, H, W), and of channels, (B, C) (Kalantidis et al., 2016).

    Places (section 4.1): S = (S' / (Σ S'^a)^(1/a))^(1/b) with S' the sum over channels and
    a = b = 2. Channels (section 4.2): with Q_k the share of places that are not zero,
    I_k = log((Cε + Σ_h Q_h) / (ε + Q_k)), and 0 where Q_k is 0, as in the authors' program
    (github.com/yahoo/crow). Both are constants to autograd.

    Examples
    --------
    >>> crow_weights(torch.tensor([[[[1.0, 0.0]], [[1.0, 4.0]]]]))
    (tensor([[[0.6687, 0.9457]]]), tensor([[1.0986, 0.4055]]))
    """
    maps = _check(maps).detach()
    summed = maps.sum(1).clamp_min(0)
    norm = summed.square().sum((1, 2), keepdim=True).sqrt()
    places = (summed / norm.clamp_min(EPSILON)).sqrt()
    share = (maps != 0).to(maps).mean((2, 3))
    total = share.sum(1, keepdim=True) + maps.shape[1] * EPSILON
    return places, torch.log(total / (share + EPSILON)) * (share > 0)


def crow(maps: Tensor) -> Tensor:
    """Σ_ij S_ij I_k x_kij, S and I the `crow_weights`, (B, C): CroW (Kalantidis et al., 2016)."""
    places, channels = crow_weights(maps)
    return channels * (maps * places[:, None]).sum((2, 3))


def rmac_regions(height: int, width: int, levels: int = 3) -> list[tuple[int, int, int]]:
    """R-MAC's square regions: (top, left, side) in cells (Tolias et al., 2016).

    At level l regions are ⌊2 min(H, W) / (l + 1)⌋ cells wide; l of them lie along the shorter side
    and l + m − 1 along the longer, m such that the largest overlap by about 40 %, as in the
    authors' program (github.com/gtolias/rmac). Raises ValueError if those of the last level would
    be less than a cell.

    Examples
    --------
    >>> rmac_regions(2, 4, levels=1)
    [(0, 0, 2), (0, 1, 2), (0, 2, 2)]
    """
    short, long = sorted((height, width))
    if 2 * short < levels + 1:
        raise ValueError(
            f"Maps of {height} x {width} cells are too small for R-MAC with {levels} levels; give "
            "larger pictures, another descriptor, or a backbone of smaller stride."
        )
    more = 1
    if long > short:  # fewest first, as the authors' program does; it tries 2 to 7
        steps = torch.arange(1, 7, dtype=torch.float32, device="cpu")
        more = 2 + int((1 - (long - short) / steps / short - OVERLAP).abs().argmin())
    regions = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        along = {short: level, long: level + more - 1}
        rows, columns = (
            [at * (length - side) // max(along[length] - 1, 1) for at in range(along[length])]
            for length in (height, width)
        )
        regions += [(top, left, side) for top in rows for left in columns]
    return regions


def regional_maxima(maps: Tensor, levels: int = 3) -> Tensor:
    """MAC of every region of `rmac_regions`, (B, R, C); R-MAC is their `aggregate`."""
    height, width = _check(maps).shape[2:]
    regions = rmac_regions(height, width, levels)
    maxima = [maps[:, :, y : y + side, x : x + side].amax((2, 3)) for y, x, side in regions]
    return torch.stack(maxima, 1)


def gem(maps: Tensor, p: float = 3.0) -> Tensor:
    """(mean x^p)^(1/p) over places, (B, C): GeM (Radenović et al., 2018, Eq. 3).

    p = 1 is the mean, p → ∞ the maximum. Values below 1e-6 are raised to it.

    Examples
    --------
    >>> gem(torch.tensor([[[[1.0, 3.0]]]])).round(decimals=3)
    tensor([[2.4100]])
    """
    return _check(maps).clamp_min(EPSILON).pow(p).mean((2, 3)).pow(1 / p)


def class_maps(maps: Tensor, weights: Tensor) -> Tensor:
    """Class activation maps: where each of N classes is seen, (B, N, H, W), 0 to 1.

    CAM = Σ_k w_k x_k (Zhou et al., 2016, Eq. 2; Jimenez et al., 2017, Eq. 1) with N rows of the
    classifier, (N, C); negative values are set to zero, and the largest to one, as in the latter's
    program (github.com/imatge-upc/retrieval-2017-cam).

    Examples
    --------
    >>> class_maps(torch.tensor([[[[1.0, 2.0]], [[4.0, 0.0]]]]), torch.tensor([[1.0, -1.0]]))
    tensor([[[[0., 1.]]]])
    """
    cams = torch.einsum("bchw,nc->bnhw", _check(maps), weights).relu()
    return cams / cams.amax((2, 3), keepdim=True).clamp_min(EPSILON)


def cam_crow(maps: Tensor, weights: Tensor) -> Tensor:
    """I_k Σ_ij CAM_ij x_kij of each class, (B, N, C) (Jimenez et al., 2017, section 3).

    CAM+CroW is their `aggregate`. `class_maps` and `crow_weights` are constants to autograd; a
    class that is nowhere in the picture has the zero vector.
    """
    cams = class_maps(maps, weights).detach()
    return crow_weights(maps)[1][:, None] * torch.einsum("bnhw,bchw->bnc", cams, maps)


class Whitening(NamedTuple):
    """PCA-whitening: x → P (x − m)."""

    mean: Tensor  # m, (C,)
    projection: Tensor  # P, (D, C)

    def __call__(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) @ self.projection.T


def fit_whitening(
    vectors: Tensor, dimensions: int | None = None, power: float = 1.0, centred: bool = True
) -> Whitening:
    """Learn PCA-whitening from unit vectors (N, C) of *other* pictures than those to be searched.

    The ``dimensions`` of largest variance are kept, all by default, and N − 1 at most, ValueError
    otherwise. A ``power`` of 1 divides each by its standard deviation, 0 by nothing (PCA alone).
    Deviations are from the mean, which is subtracted, if ``centred``; else from zero.

    Examples
    --------
    >>> vectors = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5 + 1
    >>> fit_whitening(vectors, 2)(vectors).T.cov().round(decimals=3).abs()
    tensor([[1., 0.],
            [0., 1.]])
    """
    most = min(len(vectors) - 1, vectors.shape[1])
    kept = most if dimensions is None else dimensions
    if not 1 <= kept <= most:
        raise ValueError(
            f"{len(vectors)} vectors of {vectors.shape[1]} values give 1 to {most} whitened "
            f"dimensions, not {kept}."
        )
    mean = vectors.double().mean(0).float() * centred
    moved = vectors - mean
    variance, axes = torch.linalg.eigh((moved.T @ moved).double() / (len(vectors) - 1))
    deviation = variance.flip(0)[:kept].clamp_min(1e-12).sqrt()
    projection = axes.flip(1)[:, :kept].T / deviation[:, None] ** power
    return Whitening(mean, projection.float())


def aggregate(parts: Tensor, whitening: Whitening | None = None) -> Tensor:
    """One unit vector (B, D) of a descriptor's parts: Σ_r unit(W(unit(part_r))), made a unit again.

    With one part, (B, C), this is L2, whitening, L2, as SPoC, CroW and GeM have it; with regions,
    (B, R, C), it is R-MAC, with classes CAM+CroW. It is zero where all parts are.

    Examples
    --------
    >>> aggregate(torch.tensor([[[3.0, 0.0], [0.0, 5.0]]]))
    tensor([[0.7071, 0.7071]])
    """
    parts = unit(parts if parts.ndim == 3 else parts[:, None])
    if whitening is not None:
        parts = unit(whitening(parts))
    return unit(parts.sum(1))


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of length 1; zero stays zero."""
    return F.normalize(vectors, dim=-1, eps=EPSILON)


def contributions(
    maps: Tensor, parts: Tensor, query: Tensor, whitening: Whitening | None = None
) -> Tensor:
    """How much each place of a target adds to its cosine with a query (D,), (B, H, W).

    ``maps`` require a gradient, and ``parts`` are made from them. Every pooling here is a weighted
    sum Σ_x a(x) x once its weights (a prior, which place is the largest, how long a part is) are
    held as they are: gradient times value then shares the cosine out among the places. Whitening
    subtracts a mean, which belongs to no place and is left out; without, the shares add up to it.

    Examples
    --------
    >>> maps = torch.rand(1, 5, 4, 3, requires_grad=True)
    >>> shares = contributions(maps, mac(maps), query := aggregate(torch.rand(1, 5))[0])
    >>> torch.allclose(shares.sum(), aggregate(mac(maps)) @ query)
    True
    """
    parts = parts if parts.ndim == 3 else parts[:, None]
    scaled = parts / _norms(parts)
    total = scaled.sum(1)
    if whitening is not None:
        white = whitening(scaled)
        scaled = scaled @ whitening.projection.T / _norms(white)
        total = unit(white).sum(1)
    cosine = (scaled.sum(1) @ query) / _norms(total)[:, 0]
    (gradient,) = torch.autograd.grad(cosine.sum(), maps)
    return (gradient * maps).sum(1).detach()


def saliency(maps: Tensor, parts: Tensor) -> Tensor:
    """How much a descriptor takes from each place, whatever the query, (B, H, W).

    The weighted values that its parts are sums of, over channels: α Σ_k x_k for SPoC, S Σ_k I_k x_k
    for CroW. ``maps`` require a gradient, and ``parts`` are made from them.
    """
    (gradient,) = torch.autograd.grad(parts.sum(), maps, retain_graph=True)
    return (gradient * maps).sum(1).detach()


def _norms(vectors: Tensor) -> Tensor:
    """Their lengths as constants, (..., 1)."""
    return vectors.detach().norm(dim=-1, keepdim=True).clamp_min(EPSILON)


def _check(maps: Tensor) -> Tensor:
    if maps.ndim != 4 or 0 in maps.shape[1:]:
        form = "(pictures, channels, rows, columns)"
        raise ValueError(f"Feature maps have shape {form}; this has {tuple(maps.shape)}.")
    return maps
