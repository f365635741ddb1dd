"""The correlation of every target patch with every query patch, stacked in views (Eq. 2).

A target may be cut at several scales, each of which makes a view of its own, and its cells may be
seen through several windows, a little aside; a cell is as similar to a query patch as the best of
them.

Chapter: *The correlation tensor*.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.metrics import Metric, PatchProducts, find_metrics


def encode_patches(
    patches: Tensor, metrics: Sequence[str], state: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What the metrics compare, and all that ranking has to keep of a picture.

    That is the patches (..., D) as each transform leaves them, by the name of the first metric to
    use it. ``state`` is from `fit_metrics`. Raises ValueError if a metric is unknown or lacks its
    fitted state.

    Examples
    --------
    >>> encoded = encode_patches(torch.rand(14, 14, 192), ["zncc", "mutual", "colour"])
    >>> {name: tuple(values.shape) for name, values in encoded.items()}
    {'zncc': (14, 14, 192), 'colour': (14, 14, 3)}
    """
    encoded = {}
    with torch.autocast(patches.device.type, enabled=False):
        for metric, owner in _owners(metrics):
            if owner not in encoded:
                encoded[owner] = _transformed(metric, patches, state or {})
    return encoded


def correlate(
    target: Mapping[str, Tensor], query: Mapping[str, Tensor],
    metrics: Sequence[str], standardise: bool = True,
) -> Tensor:  # fmt: skip
    """The tensor T of Eq. 2, (B, V, m, n, m', n'), from patches as `encode_patches` leaves them.

    ``target`` holds (B, S, W, m, n, D), S scales and W windows a cell, or plain (B, m, n, D);
    ``query`` the same of its own grid, with 1 in the place of B for one query against B targets.
    The V views are the first metric at every scale of the target and there at every scale of the
    query, the second at every scale, and so on; they are float32 if what was encoded is float16.
    ``standardise`` brings every view of every pair to mean 0 and standard deviation 1 (a constant
    view to 0).
    """
    products: dict[str, PatchProducts] = {}
    similarities: dict[tuple[str, object], Tensor] = {}
    stack = []
    with torch.autocast(next(iter(target.values())).device.type, enabled=False):
        for metric, owner in _owners(metrics):
            p, q = (x[:, None, None] if x.ndim == 4 else x for x in (target[owner], query[owner]))
            if owner not in products:
                flat = (x.float() if x.dtype == torch.half else x for x in (p, q))
                products[owner] = PatchProducts(*(x.flatten(1, 4) for x in flat))
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

    T is (B, V, m, n, m', n'), target first, of the patches' dtype. Target patches are (B, m, n, D)
    float, or (B, S, W, m, n, D) with S scales, each a view of its own, and W windows a cell, of
    which the best counts. Query patches are (B, m', n', D), or (1, m', n', D) for one query against
    B targets; or with scales and windows, as the target: a view for each scale of either, and of
    all windows the best pair. ``state`` is the fitted state of the metrics that need one, from
    `fit_metrics`; see `correlate` for ``standardise``.

    Raises ValueError if shapes do not fit together, a metric is unknown or lacks its fitted state.

    Examples
    --------
    >>> target, query = torch.rand(5, 14, 10, 192), torch.rand(1, 7, 9, 192)
    >>> correlation_tensor(target, query, metrics=("cosine", "zncc")).shape
    torch.Size([5, 2, 14, 10, 7, 9])
    """
    _check_patches(target_patches, query_patches)
    target, query = (
        encode_patches(patches, metrics, state) for patches in (target_patches, query_patches)
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
