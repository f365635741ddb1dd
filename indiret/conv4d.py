"""Convolution, pooling, normalisation and resizing in four dimensions.

torch stops at three. Everything here is built from its 2-D and 3-D operations, so it runs on any
device, in any precision and under autograd as they do. Shapes are (B, C, m, n, m', n').

Chapter: *Convolution in four dimensions*.
"""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Four = tuple[int, int, int, int]


def _four(value: int | Sequence[int], name: str, least: int) -> Four:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * 4
    if any(not isinstance(v, int) or isinstance(v, bool) for v in values):
        raise TypeError(f"{name}={value!r} is not whole numbers; give an int or four ints.")
    if len(values) != 4 or min(values) < least:
        raise ValueError(f"{name}={value!r} is not allowed; give one or four ints ≥ {least}.")
    a, b, c, d = values
    return a, b, c, d


def _check_input(x: Tensor, channels: int | None = None) -> None:
    if x.ndim != 6 or channels not in (None, x.shape[1]):
        wanted = "channels" if channels is None else f"{channels} channels"
        raise ValueError(
            f"the input has shape {tuple(x.shape)}; give (batch, {wanted}, m, n, m', n')."
        )


class _Conv4d(nn.Module):
    """What both convolutions share: their arguments, the bias, torch's own initialisation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1, padding: int | Sequence[int] = 0, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(
                f"{in_channels} → {out_channels} channels is not allowed; give at least one each."
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _four(kernel_size, "kernel_size", 1)
        self.stride = _four(stride, "stride", 1)
        self.padding = _four(padding, "padding", 0)
        if any(p >= k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"padding={padding!r} is not smaller than kernel_size={kernel_size!r}: "
                "some outputs would see nothing but zeros; give less padding."
            )
        self._add_weights(out_channels, in_channels)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def _add_weights(self, *channels: int) -> None:
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw weights and bias uniformly within ±1/√(inputs of one output), as torch does."""
        weights = [p for p in self.parameters() if p is not self.bias]
        bound = 1 / math.sqrt(sum(weight[0].numel() for weight in weights))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def output_size(self, size: Sequence[int]) -> Four:
        """Size (m, n, m', n') of the output for an input of this size.

        Examples
        --------
        >>> Conv4d(1, 1, kernel_size=3, stride=2, padding=1).output_size((14, 10, 7, 1))
        (7, 5, 4, 1)
        """
        geometry = zip(size, self.kernel_size, self.stride, self.padding, strict=True)
        result = tuple((length + 2 * p - k) // s + 1 for length, k, s, p in geometry)
        if min(result) < 1:
            raise ValueError(
                f"an input of size {tuple(size)} is too small for kernel_size={self.kernel_size} "
                f"with padding={self.padding}; give a larger input or more padding."
            )
        return _four(result, "output size", 1)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )


class Conv4d(_Conv4d):
    """4-D convolution (cross-correlation, as in torch) with zero padding.

    out[o, i, j, k, l] = bias[o] + Σ_c Σ_tuvw weight[o, c, t, u, v, w] ·
    x[c, s₁i + t − p₁, s₂j + u − p₂, s₃k + v − p₃, s₄l + w − p₄], for every sample.

    The taps of the first dimension become output channels of one ``conv3d`` over all rows of all
    samples, and each tap's result is added to the row it belongs to. With a stride s₁ > 1 the rows
    fall into s₁ phases, each of which meets only every s₁-th tap: one smaller ``conv3d`` each.

    ``kernel_size``, ``stride`` and ``padding`` are one int for all four dimensions or one for each;
    kernels may be even, padding is smaller than the kernel. ``weight`` is (O, C, k₁, k₂, k₃, k₄),
    the natural layout. Raises ValueError or TypeError if an argument is out of range, or an input
    has other than 6 dimensions and C channels or is smaller than the kernel.

    Examples
    --------
    >>> conv = Conv4d(4, 8, kernel_size=3, stride=2, padding=1)
    >>> conv(torch.rand(2, 4, 14, 14, 7, 9)).shape
    torch.Size([2, 8, 7, 7, 4, 5])

    """

    def _add_weights(self, *channels: int) -> None:
        self.weight = nn.Parameter(torch.empty(*channels, *self.kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, m, n, m', n') → (B, O, ...) of `output_size`."""
        _check_input(x, self.in_channels)
        rows_out = self.output_size(x.shape[2:])[0]
        stride, padding = self.stride[0], self.padding[0]
        rows = x.transpose(1, 2)
        parts = []
        for phase in range(min(stride, self.kernel_size[0])):
            first = (phase - padding) % stride
            late = (first + padding - phase) // stride
            for tap, part in enumerate(self._taps(rows[:, first::stride], phase)):
                # Output row i is given input row i + tap - late of this phase.
                before = late - tap
                after = rows_out - part.shape[1] - before
                if before < rows_out and after < rows_out:
                    parts.append(F.pad(part, (0, 0) * 4 + (before, after)))
        out = reduce(torch.add, parts)
        if self.bias is not None:
            out = out + self.bias[:, None, None, None].to(out.dtype)
        return out.transpose(1, 2)

    def _taps(self, rows: Tensor, phase: int) -> Sequence[Tensor]:
        """(B, r, C, n, m', n') rows → (B, r, O, ...) for each of the phase's taps."""
        if rows.shape[1] == 0:
            return ()
        weight = self.weight[:, :, phase :: self.stride[0]].movedim(2, 0)
        stride, padding = self.stride[1:], self.padding[1:]
        out = F.conv3d(rows.flatten(0, 1), weight.flatten(0, 1), None, stride, padding)
        return out.unflatten(1, weight.shape[:2]).unflatten(0, rows.shape[:2]).unbind(2)


class PivotConv4d(_Conv4d):
    """Center-pivot 4-D convolution: only the taps with one side's offset at the kernel's centre.

    A k₁ × k₂ kernel over the target's cells at the query's own cell, plus a k₃ × k₄ kernel over the
    query's cells at the target's own: 18 of the 81 taps of 3⁴ (the centre counted twice), after
    Min, Kang and Cho, *Hypercorrelation Squeeze* (2021). The centre of a kernel is at size // 2.

    Parameters and errors are `Conv4d`'s; ``target_weight`` is (O, C, k₁, k₂) and ``query_weight``
    (O, C, k₃, k₄).

    Examples
    --------
    >>> conv = PivotConv4d(4, 8, kernel_size=3, stride=2, padding=1)
    >>> conv(torch.rand(2, 4, 14, 14, 7, 9)).shape
    torch.Size([2, 8, 7, 7, 4, 5])
    """

    def _add_weights(self, *channels: int) -> None:
        self.target_weight = nn.Parameter(torch.empty(*channels, *self.kernel_size[:2]))
        self.query_weight = nn.Parameter(torch.empty(*channels, *self.kernel_size[2:]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, m, n, m', n') → (B, O, ...) of `output_size`."""
        _check_input(x, self.in_channels)
        size = self.output_size(x.shape[2:])
        (s1, s2, s3, s4), (p1, p2, p3, p4) = self.stride, self.padding
        target, query = self._centres(x, size, (2, 3)), self._centres(x, size, (0, 1))
        weight = self.target_weight.unsqueeze(-1)
        over_target = F.conv3d(target.flatten(4), weight, self.bias, (s1, s2, 1), (p1, p2, 0))
        weight = self.query_weight.unsqueeze(2)
        over_query = F.conv3d(query.flatten(2, 3), weight, None, (1, s3, s4), (0, p3, p4))
        return over_target.unflatten(4, size[2:]) + over_query.unflatten(2, size[:2])

    def _centres(self, x: Tensor, size: Four, dims: tuple[int, int]) -> Tensor:
        """The cells of two dimensions on which the kernel's centre comes to lie; zeros outside."""
        for d in dims:
            first = self.kernel_size[d] // 2 - self.padding[d]
            last = first + (size[d] - 1) * self.stride[d]
            before, after = max(-first, 0), max(last + 1 - x.shape[d + 2], 0)
            if before or after:
                x = F.pad(x, (0, 0) * (3 - d) + (before, after))
            cells = slice(first + before, last + before + 1, self.stride[d])
            x = x[(slice(None),) * (d + 2) + (cells,)]
        return x


class BatchNorm4d(nn.BatchNorm1d):
    """Batch normalisation of (B, C, m, n, m', n') over everything but the channels.

    Parameters, buffers and modes are those of torch's ``BatchNorm3d``.

    Examples
    --------
    >>> x = BatchNorm4d(8)(5 + torch.rand(2, 8, 7, 7, 4, 5))
    >>> print(f"{x.mean().abs():.2f} {x.std():.2f}")
    0.00 1.00
    """

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; C must be ``num_features``."""
        _check_input(x, self.num_features)
        # Conv4d lays its rows beside the samples: seen so, this is 1-D and copies nothing.
        rows = x.transpose(1, 2)
        out = super().forward(rows.flatten(0, 1).flatten(2))
        return out.view(rows.shape).transpose(1, 2)


def max_pool4d(
    x: Tensor, kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None, padding: int | Sequence[int] = 0,
) -> Tensor:  # fmt: skip
    """Maximum over 4-D windows; cells that share the maximum share its gradient.

    Sizes are one int or four; the stride is the kernel's size if left out, padding at most half of
    it. Raises ValueError or TypeError if an argument is out of range or x is not 6-D.

    Examples
    --------
    >>> max_pool4d(torch.rand(2, 8, 14, 14, 7, 9), 3, stride=2, padding=1).shape
    torch.Size([2, 8, 7, 7, 4, 5])
    """
    _check_input(x)
    kernel = _four(kernel_size, "kernel_size", 1)
    step = kernel if stride is None else _four(stride, "stride", 1)
    border = _four(padding, "padding", 0)
    for length, k, p in zip(x.shape[2:], kernel, border, strict=True):
        if 2 * p > k:
            raise ValueError(
                f"padding={padding!r} is more than half of kernel_size={kernel_size!r}; give less."
            )
        if length + 2 * p < k:
            raise ValueError(
                f"an input of size {tuple(x.shape[2:])} is too small for windows of {kernel} with "
                f"padding={border}; give a larger input or smaller windows."
            )
    x = F.pad(x, [p for p in reversed(border) for _ in range(2)], value=-math.inf)
    for d, (k, s) in enumerate(zip(kernel, step, strict=True), start=2):
        x = x.unfold(d, k, s).amax(-1)
    return x


def resize4d(x: Tensor, size: int | Sequence[int]) -> Tensor:
    """Resize by 4-linear interpolation, ``align_corners=False``, no antialias.

    ``size`` is the new (m, n, m', n'), or one int for all; values stay within the range of x, up to
    rounding. Raises ValueError or TypeError if x is not 6-D or a size is not a whole number ≥ 1.

    Examples
    --------
    >>> resize4d(torch.tensor([0.0, 1.0]).view(1, 1, 1, 1, 1, 2), (1, 1, 1, 4)).flatten()
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    _check_input(x)
    for old, new in zip(x.shape[2:], _four(size, "size", 1), strict=True):
        unit = torch.eye(old, dtype=x.dtype, device=x.device)
        weights = F.interpolate(unit[None], new, mode="linear")[0]  # torch's own, (old, new)
        x = torch.tensordot(x, weights, ([2], [0]))  # moves the dimension to the end
    return x
