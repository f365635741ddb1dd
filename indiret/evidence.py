"""Which patches matched which: a network's judgement decoded into evidence (Eq. 3 and 4).

Chapter: *From Grad-CAM to evidence*.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.conv4d import resize4d
from indiret.network import IndicativeNetwork
from indiret.patches import check_choice

SPREAD = 4  # smoothings of "combined"; chosen on Toytown validation, see book/decisions/0006
ON_TENSOR = ("input_gradient", "combined")  # which look at no layer
METHODS = ("gradcam", "hirescam", "input_gradient", "combined")
DEFAULT_KIND = "combined"  # the best on Toytown validation (book/decisions/0006)
KINDS: dict[str, dict[str, Any]] = {  # of evidence by name, as arguments of `explain`
    "combined": {"method": "combined"},
    "hirescam, stem": {"method": "hirescam", "layers": "stem"},
    "input_gradient": {"method": "input_gradient"},
    "gradcam (Eq. 3, literal)": {"method": "gradcam", "layers": "blocks"},
}
AT_ONCE = 8  # pairs; gradients of more would not stay in a processor's cache


class Match(NamedTuple):
    """Target patch (i, j) answered query patch (k, l) with this much evidence."""

    i: int
    j: int
    k: int
    l: int
    value: float


@dataclass(frozen=True)
class Evidence:
    """Why a network scored one pair as it did.

    ``score`` is the margin z_relevant − z_irrelevant, and ``pairs`` M*, (m, n, m', n') float ≥ 0
    (unless signed): evidence per patch pair, target first (Eq. 3). Summed over the other side it is
    ``target_map``, P (m, n), and ``query_map``, Q (m', n') (Eq. 4). All three have one sum.
    ``probability`` (m', n'), or None: that each query patch's place in the target is right, if any.
    """

    score: float
    pairs: Tensor
    probability: Tensor | None = None

    @property
    def target_map(self) -> Tensor:
        return self.pairs.sum((2, 3))

    @property
    def query_map(self) -> Tensor:
        return self.pairs.sum((0, 1))

    def matches(self, k: int = 20) -> list[Match]:
        """The k strongest patch pairs, every target and every query patch used once at most.

        Pairs without evidence are left out, so fewer than k may come back.

        Examples
        --------
        >>> pairs = torch.zeros(2, 2, 2, 2)
        >>> pairs[0, 0, 1, 1], pairs[0, 0, 0, 1], pairs[1, 0, 0, 0] = 3.0, 2.0, 1.0
        >>> for match in Evidence(score=0.0, pairs=pairs).matches():
        ...     print(*match)
        0 0 1 1 3.0
        1 0 0 0 1.0
        """
        m, n, rows, columns = self.pairs.shape
        left = self.pairs.detach().reshape(m * n, rows * columns).clone()
        found = []
        for _ in range(min(k, *left.shape)):
            best = int(left.argmax())
            target, query = divmod(best, left.shape[1])
            value = float(left[target, query])
            if value <= 0:
                break
            found.append(Match(*divmod(target, n), *divmod(query, columns), value))
            left[target, :] = 0
            left[:, query] = 0
        return found


def explain(
    network: IndicativeNetwork, tensor: Tensor, method: str = "gradcam",
    layers: str | Sequence[str] = "all", signed: bool = False,
) -> list[Evidence]:  # fmt: skip
    """Decode a network's judgement of correlation tensors into evidence per patch pair (Eq. 3).

    One `Evidence` comes back for each of the B pairs of T, (B, V, m, n, m', n'). The network is
    judged in eval mode and left as it was found: mode, weights, statistics, ``.grad`` and hooks.
    Raises ValueError if T is not 6-D with the network's views, or a name is unknown.

    Parameters
    ----------
    method
        - ``"gradcam"``: ReLU(Σ_c mean(∂z/∂F_c) · F_c), the literal form, z the margin;
        - ``"hirescam"``: ReLU(Σ_c ∂z/∂F_c ⊙ F_c), gradients not averaged, so that it locates;
        - ``"input_gradient"``: ReLU(Σ_v ∂z/∂T_v ⊙ T_v), straight on the tensor, no layers;
        - ``"combined"``: input_gradient ⊙ ReLU(mean_v T_v), which keeps to patches that are more
          alike than others of the pair, spread over neighbours by smoothing `SPREAD` times.
    layers
        ``"all"`` (the stem and every block), ``"blocks"`` (as Eq. 3 prints) or names out of
        ``network.layers``; their maps are resized to the tensor and averaged.
    signed
        Leave the ReLU out, so that what spoke against a match is negative.

    Examples
    --------
    >>> from indiret.network import build_network
    >>> network = build_network("base")
    >>> evidence = explain(network, torch.rand(2, 6, 14, 14, 10, 10), method="hirescam")
    >>> evidence[0].pairs.shape
    torch.Size([14, 14, 10, 10])
    """
    if tensor.ndim != 6 or tensor.shape[1] != len(network.config.views):
        given, views = tuple(tensor.shape), len(network.config.views)
        raise ValueError(
            f"the tensor has shape {given}; give (pairs, {views} views, m, n, m', n')."
        )
    check_choice("method", method, METHODS)
    names = [] if method in ON_TENSOR else _layer_names(network, layers)
    if len(tensor) > AT_ONCE:
        parts = (explain(network, one, method, layers, signed) for one in tensor.split(AT_ONCE))
        return [evidence for part in parts for evidence in part]
    tensor = tensor.detach().requires_grad_()
    exact = torch.autocast(tensor.device.type, enabled=False)
    with exact, _frozen(network), _watched(network, names) as features, torch.enable_grad():
        margin = network.margin(tensor)
        watched = [features[name] for name in names]
        if method in ON_TENSOR:
            watched.append(tensor)
        gradients = torch.autograd.grad(margin.sum(), watched)
    with torch.no_grad(), exact:
        cams = [_cam(*one, method == "gradcam") for one in zip(watched, gradients, strict=True)]
        if not signed:
            cams = [cam.relu() for cam in cams]
        if method not in ON_TENSOR:
            cams = [cam_to_grid(cam, tensor.shape[2:]) for cam in cams]
        pairs = torch.stack(cams).mean(0)
        if method == "combined":
            pairs = smooth(pairs * tensor.mean(1).relu(), SPREAD)
    scores = margin.detach().tolist()
    return [Evidence(score, M) for score, M in zip(scores, pairs.float().cpu(), strict=True)]


def cam_to_grid(cam: Tensor, grid: Sequence[int]) -> Tensor:
    """Resize a layer's map to the grid (m, n, m', n'), 4-linear, align_corners=False (for Eq. 3).

    ``cam`` is ``(B, *spatial)`` float: four spatial dimensions, or two in the flat layout.

    Examples
    --------
    >>> cam_to_grid(torch.rand(2, 7, 7, 5, 5), (14, 14, 10, 10)).shape
    torch.Size([2, 14, 14, 10, 10])
    >>> cam_to_grid(torch.rand(2, 35, 35), (14, 14, 10, 10)).shape
    torch.Size([2, 14, 14, 10, 10])
    """
    m, n, rows, columns = grid
    if cam.ndim == 5:
        return resize4d(cam[:, None], (m, n, rows, columns))[:, 0]
    size = m * rows, n * columns
    picture = F.interpolate(cam[:, None], size, mode="bilinear", align_corners=False)
    return picture[:, 0].unflatten(2, (n, columns)).unflatten(1, (m, rows)).transpose(2, 3)


def smooth(pairs: Tensor, times: int = 1) -> Tensor:
    """The mean over every entry's 3⁴ neighbours, fewer at the border, so many times; same shape.

    Examples
    --------
    >>> smooth(torch.ones(1, 2, 3, 4, 5)).unique()
    tensor([1.])
    """
    m, n, rows, columns = pairs.shape[1:]
    target, query = (
        torch.linalg.matrix_power(_neighbour_means(*grid, pairs), times)
        for grid in ((m, n), (rows, columns))
    )
    return (target @ pairs.flatten(3).flatten(1, 2) @ query.mT).view(pairs.shape)


def _neighbour_means(rows: int, columns: int, like: Tensor) -> Tensor:
    """(cells, cells): the matrix that takes the mean over 3 × 3 cells of a flattened grid."""
    bands = []
    for length in (rows, columns):
        places = torch.arange(length, device=like.device)
        near = ((places[:, None] - places).abs() <= 1).to(like.dtype)
        bands.append(near / near.sum(1, keepdim=True))
    return torch.kron(*bands)


def deletion(
    network: IndicativeNetwork, tensor: Tensor, target_map: Tensor, fraction: float = 0.2
) -> Tensor:
    """How far the margin falls when the strongest target cells are deleted: (B,) logits.

    Of T, (B, V, m, n, m', n'), a ``fraction`` of the cells is set to their view's mean over the
    pair, as ``target_map`` (B, m, n) ranks them: an evidence map, random values, or an RoI.
    """
    batch, _, m, n = tensor.shape[:4]
    if target_map.shape != (batch, m, n):
        given = tuple(target_map.shape)
        raise ValueError(f"target_map has shape {given}; the tensor asks for {(batch, m, n)}.")
    count = max(1, round(fraction * m * n))
    strongest = target_map.to(tensor.device).flatten(1).topk(count).indices
    deleted = torch.zeros(batch, m * n, dtype=torch.bool, device=tensor.device)
    deleted = deleted.scatter(1, strongest, True).view(batch, 1, m, n, 1, 1)
    without = torch.where(deleted, tensor.mean((2, 3, 4, 5), keepdim=True), tensor)
    with _frozen(network), torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        return network.margin(tensor) - network.margin(without)


def _cam(feature: Tensor, gradient: Tensor, literal: bool) -> Tensor:
    if literal:
        gradient = gradient.flatten(2).mean(2)[:, :, *[None] * (feature.ndim - 2)]
    return (gradient * feature).sum(1)


def _layer_names(network: IndicativeNetwork, layers: str | Sequence[str]) -> list[str]:
    known = list(network.layers)
    if layers == "all":
        return known
    if layers == "blocks":
        return [name for name in known if name != "stem"]
    names = [layers] if isinstance(layers, str) else list(layers)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = f"layer {unknown[0]!r} is not known" if unknown else "no layer is named"
        raise ValueError(f"{wrong}; choose 'all', 'blocks' or from {', '.join(known)}.")
    return names


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode again outside."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _watched(network: IndicativeNetwork, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the named layers during a forward pass inside."""
    features: dict[str, Tensor] = {}

    own = get_ident()  # other threads may have the same network judge another pair

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        if get_ident() == own:
            features[name] = output

    handles = [network.layers[name].register_forward_hook(partial(keep, name)) for name in names]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()
