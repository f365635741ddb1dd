"""A network over planes of the tensor: T sampled along the best plane of each scale, then 2-D.

Where a 4-D network convolves all of the tensor, this one looks for planes (i, j) = A (k, l) + t
first. Along a plane every query patch has one place in the target, so T becomes a picture of the
query's grid with V channels, which matches along the plane fill. A few 2-D convolutions judge it.

Chapter: *Sphere or plane?*
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from indiret import architectures
from indiret.architectures import Layers, resnet18, to_flat
from indiret.attention import best_planes, coordinates

SCALES = (0.35, 0.5, 0.7, 1.0, 1.4)  # of the query in the target, as PlaneMask tries them


def plane_weights(shape: Sequence[int], planes: Tensor) -> Tensor:
    """How much each target patch counts at the place where a plane puts each query patch.

    Parameters
    ----------
    shape
        (m, n, m', n').
    planes
        (..., 2, 3), [A | t] in the coordinates of `indiret.attention.coordinates`.

    Returns
    -------
    Tensor
        (..., m, n, m', n'): bilinear weights, which sum to 1 over (i, j); to less at the target's
        edge, and to 0 outside.

    Examples
    --------
    >>> plane = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> weights = plane_weights((4, 4, 2, 2), plane)
    >>> weights.sum((0, 1)).tolist(), weights[:, 0, 0, 0].tolist()
    ([[1.0, 1.0], [1.0, 1.0]], [0.25, 0.25, 0.0, 0.0])
    """
    query = coordinates(shape, like=planes)[0, 0, :, :, 2:]
    ahead = torch.einsum("...pq,klq->...klp", planes[..., :2], query)
    ahead = ahead + planes[..., None, None, :, 2]
    near = []
    for axis in (0, 1):
        length = shape[axis]
        places = (ahead[..., axis] + 1) / 2 * length - 0.5
        at = torch.arange(length, device=planes.device).view(-1, 1, 1)
        near.append((1 - (places[..., None, :, :] - at).abs()).clamp_min(0))
    return near[0][..., :, None, :, :] * near[1][..., None, :, :, :]


class OnPlanes(nn.Module):
    """T where the best plane of each scale passes, nothing elsewhere: (B, S · V, m, n, m', n')."""

    def __init__(self, flat: bool):
        super().__init__()
        self.flat = flat

    def forward(self, tensor: Tensor, weights: Tensor) -> Tensor:
        kept = (tensor[:, None] * weights[:, :, None]).flatten(1, 2)
        return to_flat(kept) if self.flat else kept


class AlongPlanes(nn.Module):
    """2-D convolutions along each plane; what they find stands where the planes pass.

    Comes back as (B, C, m, n, m', n'): the features of all planes, each in its places.
    """

    def __init__(self, make: Layers, flat: bool, views: int, width: int, depth: int):
        super().__init__()
        self.flat, self.views = flat, views
        channels = [views, *[width] * depth]
        pairs = pairwise(channels)
        self.convolutions = nn.Sequential(*(make.conv_norm_relu(a, b, 3) for a, b in pairs))

    def forward(self, kept: Tensor, weights: Tensor) -> Tensor:
        if self.flat:
            kept = from_flat(kept, weights.shape[2:])
        along = kept.sum((2, 3)).unflatten(1, (-1, self.views))  # (B, S, V, m', n')
        found = self.convolutions(along.flatten(0, 1)).unflatten(0, along.shape[:2])
        placed = torch.einsum("bsckl,bsijkl->bcijkl", found, weights)
        return to_flat(placed) if self.flat else placed


def from_flat(picture: Tensor, grid: Sequence[int]) -> Tensor:
    """The tensor that `indiret.architectures.to_flat` sees as this picture.

    Examples
    --------
    >>> tensor = torch.rand(2, 3, 4, 5, 6, 7)
    >>> torch.equal(from_flat(to_flat(tensor), (4, 5, 6, 7)), tensor)
    True
    """
    m, n, rows, columns = grid
    return picture.unflatten(3, (n, columns)).unflatten(2, (m, rows)).transpose(3, 4)


class PlaneBackbone(nn.Module):
    """Planes found in the mean view, T along them, convolutions, a linear layer.

    Which plane is best is a choice and has no derivative; what is read along it has. ``layers`` are
    ``"stem"``, T on the planes, and ``"stage1.0"``, what the convolutions find there.
    """

    def __init__(self, make: Layers, flat: bool, views: int, width: int, depth: int):
        super().__init__()
        self.flat = flat
        self.stem = OnPlanes(flat)
        self.along = AlongPlanes(make, flat, views, width, depth)
        self.classifier = nn.Linear(2 * width, 2)

    @property
    def layers(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, "stage1.0": self.along}

    def forward(self, tensor: Tensor) -> Tensor:
        """(B, V, m, n, m', n') → logits (B, 2), index 1 for relevant."""
        shape = tensor.shape[2:]
        with torch.no_grad():
            votes = tensor.mean(1).float()
            votes = votes - votes.mean((1, 2, 3, 4), keepdim=True)
            planes, _ = best_planes(votes, coordinates(shape, like=votes), SCALES)
            weights = plane_weights(shape, planes).to(tensor)
        found = self.along(self.stem(tensor, weights), weights)
        if self.flat:
            found = from_flat(found, shape)
        found = found.sum((2, 3))
        return self.classifier(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))


class Together(nn.Module):
    """Logits of two networks, added. The second one's layers are named ``"planes.stem"``, ..."""

    def __init__(self, first: architectures.Backbone, second: PlaneBackbone):
        super().__init__()
        self.first, self.second = first, second

    @property
    def layers(self) -> dict[str, nn.Module]:
        named = {f"planes.{name}": layer for name, layer in self.second.layers.items()}
        return self.first.layers | named

    def forward(self, tensor: Tensor) -> Tensor:
        """(B, V, m, n, m', n') → logits (B, 2)."""
        return self.first(tensor) + self.second(tensor)


def planes(
    conv: str = "full",
    views: int = 4,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem_kernel: int = 3,
    stem_stride: int = 2,
    norm: str = "batch",
    attention: str = "none",
    placement: str = "after_block",
) -> PlaneBackbone:
    """The 2-D network over plane samples, with as many convolutions as there are blocks.

    Parameters are those of `indiret.architectures.resnet18`. Kernels are 2-D whatever ``conv``;
    ``flat`` shows the layers as pictures. There is no stem to choose, and attention is refused:
    a plane is a harder one.

    Raises
    ------
    ValueError
        If attention is asked for.

    Examples
    --------
    >>> network = planes(views=4, width=8, blocks=(1, 1, 1))
    >>> network(torch.rand(2, 4, 6, 4, 3, 5)).shape
    torch.Size([2, 2])
    """
    if attention != "none":
        raise ValueError(f"attention={attention!r} needs a 4-D network; planes have none.")
    Layers(conv, norm, attention, placement)
    return PlaneBackbone(Layers("flat", norm), conv == "flat", views, width, sum(blocks))


def planes_resnet18(
    conv: str = "full",
    views: int = 4,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    stem_kernel: int = 3,
    stem_stride: int = 2,
    norm: str = "batch",
    attention: str = "none",
    placement: str = "after_block",
) -> Together:
    """`indiret.architectures.resnet18` and `planes` side by side, their logits added.

    Examples
    --------
    >>> list(planes_resnet18(width=4, blocks=(1, 1)).layers)
    ['stem', 'stage1.0', 'stage2.0', 'planes.stem', 'planes.stage1.0']
    """
    convolved = resnet18(
        conv, views, width, blocks, stem_kernel, stem_stride, norm, attention, placement
    )
    return Together(convolved, planes(conv, views, width, blocks, norm=norm))


ARCHITECTURES: dict[str, Callable[..., architectures.Backbone | PlaneBackbone | Together]] = {
    **architectures.ARCHITECTURES,
    "planes": planes,
    "planes+resnet18": planes_resnet18,
}
