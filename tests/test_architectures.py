"""`indiret.architectures`: three families in three layouts, on any grid."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from indiret.architectures import ARCHITECTURES, LAYOUTS, Layers, resnet18, to_flat
from indiret.evidence import cam_to_grid
from indiret.network import CONFIGS, build_network, parameter_count
from tests.test_network import SMALL, rand

TAPS = {"full": 81, "pivot": 18, "flat": 9}


def test_the_books_parameter_table():
    page = (Path(__file__).parents[1] / "book/api/core.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w+]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == list(ARCHITECTURES)
    for name, *printed in rows:
        for conv, millions in zip(("flat", "pivot", "full"), printed, strict=True):
            stem = {"stem_kernel": 7} if conv == "flat" and name != "vgg11" else {}
            with torch.device("meta"):
                count = parameter_count(ARCHITECTURES[name](conv=conv, **stem))
            assert f"{count / 1e6:.1f}" == millions
    for name in CONFIGS:
        assert f"{parameter_count(build_network(name)):,}" in page


def resnet18_parameters(taps, views, width):
    """Counted by hand: weights, two numbers a norm, the linear layer."""
    count = taps * views * width + 2 * width
    before = width
    for channels in (width, 2 * width, 4 * width, 8 * width):
        count += taps * channels * (before + 3 * channels) + 8 * channels
        count += (before + 2) * channels if before != channels else 0
        before = channels
    return count + 2 * before + 2


@pytest.mark.parametrize("conv", LAYOUTS)
def test_resnet18_counted_by_hand(conv):
    expected = resnet18_parameters(TAPS[conv], views=3, width=4)
    assert parameter_count(resnet18(conv, views=3, width=4)) == expected


def test_to_flat_puts_every_entry_where_the_notation_says():
    tensor = rand(2, 3, 2, 3, 4, 5)
    flat = to_flat(tensor)
    assert flat.shape == (2, 3, 2 * 4, 3 * 5)
    for i, j, k, l in torch.cartesian_prod(*map(torch.arange, (2, 3, 4, 5))):
        assert torch.equal(flat[:, :, i * 4 + k, j * 5 + l], tensor[:, :, i, j, k, l])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("conv", LAYOUTS)
@settings(max_examples=4, deadline=None)
@given(grid=st.tuples(*[st.integers(1, 6)] * 4), batch=st.integers(1, 3))
def test_any_grid(architecture, conv, grid, batch):
    network = build_network(SMALL.replace(architecture=architecture, conv=conv)).eval()
    shapes = []
    for layer in network.layers.values():
        layer.register_forward_hook(lambda m, i, out: shapes.append(out.shape))
    with torch.no_grad():
        tensor = rand(batch, 4, *grid)
        logits = network(tensor)
        one_by_one = torch.cat([network(pair[None]) for pair in tensor])
    assert logits.shape == (batch, 2) and logits.isfinite().all()
    torch.testing.assert_close(one_by_one, logits, atol=1e-4, rtol=1e-4)
    for shape in shapes[: len(network.layers)]:
        assert cam_to_grid(torch.zeros(batch, *shape[2:]), grid).shape == (batch, *grid)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("conv", LAYOUTS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_parameter_is_learnt(architecture, conv, norm):
    torch.manual_seed(0)
    network = build_network(SMALL.replace(architecture=architecture, conv=conv, norm=norm))
    logits = network(rand(4, 4, 7, 5, 4, 6))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0, 1])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("architecture", ["resnet18", "vgg11", "inception"])
def test_layers_run_in_the_order_of_their_names(architecture):
    names = ["stem", "stage1.0", "stage2.0", "stage2.1"]
    if architecture == "vgg11":
        names.remove("stage1.0")
    network = build_network(SMALL.replace(architecture=architecture, blocks=(1, 2)))
    assert list(network.layers) == names
    seen = []
    for name, layer in network.layers.items():
        layer.register_forward_hook(lambda m, i, out, name=name: seen.append((name, out.shape[2:])))
    network(rand(2, 4, 8, 8, 6, 4))
    assert [name for name, _ in seen] == names
    assert seen[0][1] == (4, 4, 3, 2) and seen[-1][1] == (2, 2, 2, 1)


@pytest.mark.parametrize("conv", LAYOUTS)
def test_initial_weights_have_he_variance(conv):
    torch.manual_seed(0)
    layer = Layers(conv, "batch").conv(16, 32, 3)
    values = torch.cat([weight.detach().flatten() for weight in layer.parameters()])
    assert values.std() == pytest.approx((2 / (32 * TAPS[conv])) ** 0.5, rel=0.05)


@pytest.mark.parametrize("channels", [1, 6, 8, 52, 512])
def test_group_norm_takes_any_number_of_channels(channels):
    norm = Layers("full", "group").norm(channels)
    assert norm(rand(1, channels, 2, 2, 2, 2)).isfinite().all()
    assert channels % norm.num_groups == 0 and norm.num_groups <= 32
