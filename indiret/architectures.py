"""Convolutional networks over the correlation tensor: ResNet, VGG and Inception.

Each is written once and comes in three layouts: ``full`` (4-D kernels), ``pivot`` (center-pivot
kernels) and ``flat`` (the tensor seen as a 2-D picture). They end in the mean over all positions
and one linear layer, so any grid goes, also different ones on the two sides.

Chapter: *Convolution in four dimensions*.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret import Registry
from indiret.attention import MASKS, Attention, tensor_grid
from indiret.conv4d import BatchNorm4d, Conv4d, PivotConv4d, max_pool4d
from indiret.patches import check_choice

LAYOUTS = ("full", "pivot", "flat")
NORMS = ("batch", "group")
PLACEMENTS = ("after_block", "before_sum")


def attention_names() -> tuple[str, ...]:
    """What ``attention`` can be: none, or a registered mask."""
    return ("none", *MASKS)


def to_flat(tensor: Tensor) -> Tensor:
    """See T as a picture: pixel row i·m' + k, column j·n' + l.

    Examples
    --------
    >>> to_flat(torch.rand(2, 4, 14, 10, 7, 9)).shape
    torch.Size([2, 4, 98, 90])
    """
    return tensor.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def check_layers(conv: str, norm: str, attention: str, placement: str) -> None:
    """ValueError if one of the choices that all architectures share is unknown."""
    check_choice("conv", conv, LAYOUTS)
    check_choice("norm", norm, NORMS)
    if attention != "none":  # or all masks would be imported
        check_choice("attention", attention, attention_names())
    check_choice("placement", placement, PLACEMENTS)


class Layers:
    """Makes the layers of one layout, so that each architecture is written only once."""

    def __init__(
        self, conv: str, norm: str, attention: str = "none", placement: str = "after_block"
    ):
        check_layers(conv, norm, attention, placement)
        self.mask, self.placement = attention, placement
        self.flat, self.pivot, self.group = conv == "flat", conv == "pivot", norm == "group"

    def conv(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Module:
        """Convolution without bias, padded so that only the stride shrinks the map."""
        kind: type[nn.Module] = nn.Conv2d if self.flat else Conv4d
        if self.pivot and kernel > 1:  # of one tap, it would be the same tap twice
            kind = PivotConv4d
        layer = kind(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        taps = sum(weight[0, 0].numel() for weight in layer.parameters())
        for weight in layer.parameters():
            nn.init.normal_(weight, std=math.sqrt(2 / (out_channels * taps)))  # He et al. (2015)
        return layer

    def norm(self, channels: int) -> nn.Module:
        """Batch norm, or group norm with about four channels a group and 32 groups at most."""
        if self.group:
            return nn.GroupNorm(math.gcd(channels, min(32, max(1, channels // 4))), channels)
        return nn.BatchNorm2d(channels) if self.flat else BatchNorm4d(channels)

    def conv_norm_relu(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1
    ) -> nn.Sequential:
        conv = self.conv(in_channels, out_channels, kernel, stride)
        return nn.Sequential(conv, self.norm(out_channels), nn.ReLU())

    def attention(self, channels: int) -> nn.Module:
        """The attention inside a residual block, if that is where it goes."""
        inside = self.mask != "none" and self.placement == "before_sum"
        return Attention(self.mask, channels, self.flat) if inside else nn.Identity()

    def attended(self, block: nn.Module, channels: int) -> nn.Module:
        """The block, followed by attention if that is where it goes."""
        if self.mask == "none" or self.placement == "before_sum":
            return block
        return nn.Sequential(block, Attention(self.mask, channels, self.flat))

    def max_pool(self, stride: int) -> nn.Module:
        """Maximum over 3 cells in each direction."""
        return nn.MaxPool2d(3, stride, 1) if self.flat else MaxPool4d(3, stride, 1)


class MaxPool4d(nn.Module):
    """`max_pool4d` as a module."""

    def __init__(self, kernel_size: int, stride: int, padding: int):
        super().__init__()
        self.window = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return max_pool4d(x, *self.window)


class Backbone(nn.Module):
    """A stem, stages of blocks, the mean over positions, a linear layer.

    ``layers`` names the modules whose outputs evidence is read from, in order: ``"stem"``,
    ``"stage1.0"``, ... The maps are (B, C, m, n, m', n') or, in ``flat``, (B, C, rows, columns).
    """

    def __init__(
        self, flat: bool, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], channels: int
    ):
        super().__init__()
        self.flat, self.stem = flat, stem
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.classifier = nn.Linear(channels, 2)

    @property
    def layers(self) -> dict[str, nn.Module]:
        named = {"stem": self.stem}
        for s, stage in enumerate(self.stages, 1):
            for b, block in enumerate(stage.children()):
                named[f"stage{s}.{b}"] = block
        return named

    def forward(self, tensor: Tensor) -> Tensor:
        """(B, V, m, n, m', n') → logits (B, 2), index 1 for relevant."""
        x = to_flat(tensor) if self.flat else tensor
        with tensor_grid(tensor.shape[2:]):
            for layer in self.layers.values():
                x = layer(x)
        means = x.mean(tuple(range(2, x.ndim)))
        if len(means) == 1:  # alone it would be multiplied, and so rounded, in another way
            return self.classifier(means.expand(2, -1))[:1]
        return self.classifier(means)


class BasicBlock(nn.Module):
    """ResNet's block of two 3-kernels and a sum (He et al., 2016)."""

    def __init__(self, make: Layers, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = make.conv(in_channels, out_channels, 3, stride)
        self.norm1 = make.norm(out_channels)
        self.conv2 = make.conv(out_channels, out_channels, 3)
        self.norm2 = make.norm(out_channels)
        self.attention = make.attention(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                make.conv(in_channels, out_channels, 1, stride), make.norm(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.attention(self.norm2(self.conv2(y)))
        return F.relu(y + self.shortcut(x))


def resnet18(
    conv: str = "full", views: int = 4, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2),
    stem_kernel: int = 3, stem_stride: int = 2, norm: str = "batch", attention: str = "none",
    placement: str = "after_block",
) -> Backbone:  # fmt: skip
    """ResNet18 without its first max-pool, as the authors' earlier code has it.

    ``views`` is V, the tensor's channels. The stem, whose kernel and stride are 7 and 2 on
    pictures, and the first stage have ``width`` channels, which double at every further stage;
    ``blocks`` are those of each stage, which halves the resolution unless it is the first.

    ``attention`` is a mask out of `indiret.attention.MASKS`, one for every block, applied
    ``"after_block"``, as the paper's text reads, or ``"before_sum"``, after the second norm, as in
    the authors' earlier code. Raises ValueError if a choice is unknown;
    `indiret.network.NetworkConfig` checks the numbers.

    Examples
    --------
    >>> network = resnet18("flat", width=8, blocks=(1, 1))
    >>> network(torch.rand(2, 4, 6, 4, 3, 5)).shape
    torch.Size([2, 2])
    """
    make = Layers(conv, norm, attention, placement)
    stem = make.conv_norm_relu(views, width, stem_kernel, stem_stride)
    stages: list[list[nn.Module]] = []
    before = width
    for s, depth in enumerate(blocks):
        channels = width * 2**s
        stages.append([])
        for b in range(depth):
            stride = 2 if s > 0 and b == 0 else 1
            block = BasicBlock(make, before, channels, stride)
            stages[-1].append(make.attended(block, channels))
            before = channels
    return Backbone(make.flat, stem, stages, before)


def vgg11(
    conv: str = "full", views: int = 4, width: int = 64, blocks: Sequence[int] = (1, 1, 2, 2, 2),
    stem_kernel: int = 3, stem_stride: int = 1, norm: str = "batch", attention: str = "none",
    placement: str = "after_block",
) -> Backbone:  # fmt: skip
    """VGG11 with normalisation (Simonyan and Zisserman, 2015), fully convolutional.

    The stem is its first convolution and counts as the first of ``blocks[0]``. Max-pools that halve
    the resolution overlap (3 cells) so that no grid is too small; one linear layer takes the place
    of the three large ones. Parameters are `resnet18`'s, ``blocks`` counts convolutions, channels
    double up to 8 × width.

    Examples
    --------
    >>> network = vgg11("pivot", width=4, blocks=(1, 1, 2), stem_stride=2)
    >>> list(network.layers)
    ['stem', 'stage2.0', 'stage3.0', 'stage3.1']
    """
    _refuse_inner_attention("vgg11", attention, placement)
    make = Layers(conv, norm, attention, placement)
    stem = make.conv_norm_relu(views, width, stem_kernel, stem_stride)
    stages: list[list[nn.Module]] = []
    before = width
    for s, depth in enumerate(blocks):
        channels = width * min(2**s, 8)
        stages.append([])
        for b in range(depth - 1 if s == 0 else depth):
            layer = make.conv_norm_relu(before, channels, 3)
            if s > 0 and b == 0:
                layer.insert(0, make.max_pool(2))
            stages[-1].append(make.attended(layer, channels))
            before = channels
    return Backbone(make.flat, stem, stages, before)


# GoogLeNet's table at width 64: 1-kernel; reduction and 3-kernel; reduction and 5-kernel; pool.
INCEPTIONS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    ((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
     (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


class InceptionBlock(nn.Module):
    """Four branches side by side: kernels of 1, 3 and 5, and a max-pool (Szegedy et al., 2015)."""

    def __init__(self, make: Layers, in_channels: int, branches: Sequence[int], shrink: bool):
        super().__init__()
        one, reduce3, three, reduce5, five, pool = branches
        self.shrink = make.max_pool(2) if shrink else nn.Identity()
        self.one = make.conv_norm_relu(in_channels, one, 1)
        self.three = nn.Sequential(
            make.conv_norm_relu(in_channels, reduce3, 1), make.conv_norm_relu(reduce3, three, 3)
        )
        self.five = nn.Sequential(
            make.conv_norm_relu(in_channels, reduce5, 1), make.conv_norm_relu(reduce5, five, 5)
        )
        self.pool = nn.Sequential(make.max_pool(1), make.conv_norm_relu(in_channels, pool, 1))
        self.channels = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        branches = self.one, self.three, self.five, self.pool
        return torch.cat([branch(x) for branch in branches], dim=1)


def inception(
    conv: str = "full", views: int = 4, width: int = 64, blocks: Sequence[int] = (2, 5, 2),
    stem_kernel: int = 3, stem_stride: int = 2, norm: str = "batch", attention: str = "none",
    placement: str = "after_block",
) -> Backbone:  # fmt: skip
    """GoogLeNet (Szegedy et al., 2015) with normalisation, without its two early max-pools.

    The stem is its first three convolutions. Parameters are `resnet18`'s; ``blocks`` says how many
    inception blocks of each stage are kept, at most (2, 5, 2), and all channels scale with width.

    Examples
    --------
    >>> network = inception("pivot", width=8, blocks=(1, 1, 1))
    >>> network(torch.rand(2, 4, 6, 4, 3, 5)).shape
    torch.Size([2, 2])
    """
    _refuse_inner_attention("inception", attention, placement)
    make = Layers(conv, norm, attention, placement)
    if len(blocks) > 3 or any(b > m for b, m in zip(blocks, map(len, INCEPTIONS), strict=False)):
        raise ValueError(f"blocks={tuple(blocks)} is more than the table has: at most (2, 5, 2).")
    stem = nn.Sequential(
        make.conv_norm_relu(views, width, stem_kernel, stem_stride),
        make.conv_norm_relu(width, width, 1),
        make.conv_norm_relu(width, 3 * width, 3),
    )
    stages: list[list[nn.Module]] = []
    before = 3 * width
    for s, depth in enumerate(blocks):
        stages.append([])
        for b, branches in enumerate(INCEPTIONS[s][:depth]):
            scaled = [max(1, channels * width // 64) for channels in branches]
            block = InceptionBlock(make, before, scaled, shrink=s > 0 and b == 0)
            stages[-1].append(make.attended(block, block.channels))
            before = block.channels
    return Backbone(make.flat, stem, stages, before)


def _refuse_inner_attention(name: str, attention: str, placement: str) -> None:
    if attention != "none" and placement == "before_sum":
        needs = f"placement='before_sum' needs residual blocks, and {name} has none"
        raise ValueError(f"{needs}; take 'after_block'.")


ARCHITECTURES = Registry[Callable[..., Backbone]]("an architecture")


def register_architecture(name: str, build: Callable[..., Backbone]) -> None:
    """Add an architecture that configs can then name; ValueError if the name is taken.

    ``build`` takes what `resnet18` takes, by keyword, and returns a `Backbone`, whose ``layers``
    evidence is read from.

    Examples
    --------
    >>> register_architecture("thin", lambda **settings: resnet18(**(settings | {"width": 2})))
    >>> from indiret.network import build_network, parameter_count
    >>> parameter_count(build_network({"architecture": "thin"})) < 15_000
    True
    >>> del ARCHITECTURES["thin"]
    """
    ARCHITECTURES[name] = build


for _build in (resnet18, vgg11, inception):
    register_architecture(_build.__name__, _build)
