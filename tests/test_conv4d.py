"""`indiret.conv4d`: every fast path against a naive loop over places and taps."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.conv4d import BatchNorm4d, Conv4d, PivotConv4d, max_pool4d, resize4d

CONVS = (Conv4d, PivotConv4d)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def output_size(size, kernel, stride, padding):
    sides = zip(size, kernel, stride, padding, strict=True)
    return [(n + 2 * p - k) // s + 1 for n, k, s, p in sides]


def naive_conv4d(x, weight, bias, stride, padding):
    """One output at a time, one tap at a time; taps that fall outside see nothing."""
    size, kernel = x.shape[2:], weight.shape[2:]
    out = torch.zeros(len(x), len(weight), *output_size(size, kernel, stride, padding)).to(x)
    if bias is not None:
        out += bias.view(-1, 1, 1, 1, 1)
    for place in product(*map(range, out.shape[2:])):
        for tap in product(*map(range, kernel)):
            seen = [s * o + t - p for s, o, t, p in zip(stride, place, tap, padding, strict=True)]
            if all(0 <= c < n for c, n in zip(seen, size, strict=True)):
                out[:, :, *place] += x[:, :, *seen] @ weight[:, :, *tap].T
    return out


def pivot_kernel(conv):
    """The full kernel in which only the pivot's 18 taps (of 81) are not zero."""
    weight = torch.zeros(conv.out_channels, conv.in_channels, *conv.kernel_size).to(conv.bias)
    a, b, c, d = (k // 2 for k in conv.kernel_size)
    weight[:, :, :, :, c, d] += conv.target_weight
    weight[:, :, a, b] += conv.query_weight
    return weight


@st.composite
def geometries(draw):
    """(kernel, stride, padding, size), four of each, that fit together."""
    dimensions = []
    for _ in range(4):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        padding = draw(st.integers(0, kernel - 1))
        size = draw(st.integers(max(1, kernel - 2 * padding), 5))
        dimensions.append((kernel, stride, padding, size))
    return tuple(zip(*dimensions, strict=True))


@settings(max_examples=25, deadline=None)
@given(geometries(), st.booleans())
def test_conv4d_equals_the_naive_loop(geometry, bias):
    kernel, stride, padding, size = geometry
    conv = Conv4d(2, 3, kernel, stride, padding, bias).double()
    x = rand(2, 2, *size)
    expected = naive_conv4d(x, conv.weight.detach(), conv.bias, stride, padding)
    torch.testing.assert_close(conv(x), expected)
    assert conv.output_size(size) == expected.shape[2:]


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_pivot_equals_a_full_kernel_of_its_taps_only(geometry):
    kernel, stride, padding, size = geometry
    conv = PivotConv4d(2, 3, kernel, stride, padding).double()
    full = Conv4d(2, 3, kernel, stride, padding).double()
    full.load_state_dict({"weight": pivot_kernel(conv), "bias": conv.bias.detach()})
    x = rand(2, 2, *size)
    torch.testing.assert_close(conv(x), full(x))


@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize(
    "kernel, stride, padding", [(3, 1, 1), ((2, 3, 1, 2), (2, 1, 3, 2), (1, 0, 0, 1))]
)
def test_gradients(kind, kernel, stride, padding):
    conv = kind(2, 2, kernel, stride, padding).double()
    names, values = zip(*conv.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(conv, dict(zip(names, parameters, strict=True)), x)

    x = rand(1, 2, 3, 3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)


@pytest.mark.parametrize("kind", CONVS)
def test_initialisation_is_torchs(kind):
    """Within ±1/√fan_in and filling that range, where fan_in counts the taps that exist."""
    torch.manual_seed(0)
    conv = kind(8, 64, 3)
    bound = (8 * (81 if kind is Conv4d else 18)) ** -0.5
    for parameter in conv.parameters():
        assert 0.8 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize("kind", CONVS)
def test_any_memory_layout_and_an_empty_batch(kind):
    conv = kind(3, 2, 3, stride=2, padding=1)
    x = rand(2, 3, 5, 4, 3, 6, dtype=torch.float32)
    other_layout = x.permute(5, 2, 0, 4, 1, 3).contiguous().permute(2, 4, 1, 5, 3, 0)
    torch.testing.assert_close(conv(other_layout), conv(x))
    assert conv(x[:0]).shape == (0, 2, 3, 2, 2, 3)


@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"kernel_size": 0}, ValueError, "kernel_size=0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "four ints"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size=3.0"),
        ({"kernel_size": (3, 3, 3, True)}, TypeError, "whole numbers"),
        ({"stride": 0}, ValueError, "stride=0"),
        ({"padding": -1}, ValueError, "padding=-1"),
        ({"padding": 3}, ValueError, "less padding"),
        ({"in_channels": 0}, ValueError, "0 → 2 channels"),
        ({"x": (1, 2, 3, 3, 3)}, ValueError, "m', n'"),
        ({"x": (1, 5, 3, 3, 3, 3)}, ValueError, "2 channels"),
        ({"x": (1, 2, 3, 3, 3, 2)}, ValueError, "too small"),
    ],
)
def test_bad_arguments_and_inputs(kind, arguments, error, words):
    good = {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "x": (1, 2, 3, 3, 3, 3)}
    made = good | arguments
    x = torch.zeros(made.pop("x"))
    with pytest.raises(error, match=words):
        kind(**made)(x)


def normalised(norm, x, mean, variance):
    mean, variance, scale, shift = (
        values.view(1, 3, 1, 1, 1, 1) for values in (mean, variance, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps).sqrt() * scale + shift


def test_batch_norm_equals_statistics_over_all_but_channels():
    norm = BatchNorm4d(3).double()
    torch.nn.init.uniform_(norm.weight)
    torch.nn.init.uniform_(norm.bias)
    x = 3 + 2 * rand(2, 3, 2, 3, 4, 2)
    every = x.transpose(0, 1).flatten(1)
    mean, variance = every.mean(1), every.var(1, correction=0)
    torch.testing.assert_close(norm(x), normalised(norm, x, mean, variance))
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    assert norm.num_batches_tracked == 1

    running = norm.running_mean.clone()
    norm.eval()
    torch.testing.assert_close(norm(x), normalised(norm, x, running, norm.running_var))
    assert torch.equal(norm.running_mean, running)
    with pytest.raises(ValueError, match="3 channels"):
        norm(x[:, :2])


def naive_pool(x, kernel, stride, padding):
    out = torch.zeros(*x.shape[:2], *output_size(x.shape[2:], kernel, stride, padding)).to(x)
    for place in product(*map(range, out.shape[2:])):
        window = [
            slice(max(0, s * o - p), s * o - p + k)
            for o, k, s, p in zip(place, kernel, stride, padding, strict=True)
        ]
        out[:, :, *place] = x[:, :, *window].flatten(2).amax(2)
    return out


@settings(max_examples=25, deadline=None)
@given(geometries())
def test_pooling_equals_the_naive_loop(geometry):
    kernel, stride, padding, size = geometry
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    size = tuple(max(n, k - 2 * p) for n, k, p in zip(size, kernel, padding, strict=True))
    x = rand(2, 3, *size)
    expected = naive_pool(x, kernel, stride, padding)
    torch.testing.assert_close(max_pool4d(x, kernel, stride, padding), expected)


def test_pooling_defaults_and_errors():
    x = rand(1, 2, 4, 6, 5, 2)
    assert max_pool4d(x, 2).shape == (1, 2, 2, 3, 2, 1)
    wrong = (x, 3, None, 2, "than half"), (x, 3, None, 0, "too small"), (x[0], 2, None, 0, "m', n'")
    for *arguments, words in wrong:
        with pytest.raises(ValueError, match=words):
            max_pool4d(*arguments)


def naive_weights(length, new):
    """(new, length): how much each new cell takes of each old one, by the definition."""
    weights = torch.zeros(new, length, dtype=torch.float64)
    for i in range(new):
        at = min(max((i + 0.5) * length / new - 0.5, 0), length - 1)
        left = int(at)
        weights[i, left] += 1 - (at - left)
        weights[i, min(left + 1, length - 1)] += at - left
    return weights


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=4, max_size=4))
def test_resize_is_linear_along_each_dimension(lengths):
    old, new = zip(*lengths, strict=True)
    x = rand(2, 3, *old)
    expected = torch.einsum("bcijkl,mi,nj,ok,pl->bcmnop", x, *map(naive_weights, old, new))
    out = resize4d(x, new)
    torch.testing.assert_close(out, expected)
    assert out.amax() <= x.amax() + 1e-12 and out.amin() >= x.amin() - 1e-12


def test_resize_has_a_gradient_and_refuses_nothing_left():
    x = rand(2, 1, 3, 5, 1, 1)
    assert torch.autograd.gradcheck(lambda x: resize4d(x, (2, 3, 2, 2)), x.requires_grad_())
    with pytest.raises(ValueError, match="size=0"):
        resize4d(x, 0)
