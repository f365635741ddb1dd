import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from indiret.architectures import BasicBlock, Layers, inception, resnet18, to_flat, vgg11
from indiret.attention import (
    MASKS,
    NORMALISERS,
    Attention,
    HypersphereMask,
    attend,
    coordinates,
    hypersphere,
    tensor_grid,
)


def parameters(masks=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    center = torch.rand(masks, 4, generator=random, dtype=torch.float64) - 0.5
    mu, sigma = (0.3 + torch.rand(masks, generator=random, dtype=torch.float64) for _ in range(2))
    return center.requires_grad_(), mu.requires_grad_(), sigma.requires_grad_()


def naive_theta(x, center, mu, sigma, normaliser):
    """Eq. 6 as autograd differentiates it."""
    d = (x - center).square().sum(-1)
    factor = {
        "peak": 1.0,
        "pdf": 1 / (math.sqrt(2 * math.pi) * sigma),
        "paper": 1 / torch.sqrt(2 * math.pi * sigma),
    }[normaliser]
    return factor * torch.exp(-((d - mu) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("kind", ["normalised", "index"])
def test_closed_form_equals_autograd(normaliser, kind):
    places = coordinates((3, 2, 4, 3), kind, torch.empty(0, dtype=torch.float64))
    center, mu, sigma = parameters()
    weights = torch.rand(2, 3, 2, 4, 3, dtype=torch.float64)
    fast = hypersphere(places, center, mu, sigma, normaliser)
    slow = torch.stack(
        [naive_theta(places, center[b], mu[b], sigma[b], normaliser) for b in range(2)]
    )
    torch.testing.assert_close(fast, slow)
    ours = torch.autograd.grad((fast * weights).sum(), (center, mu, sigma))
    theirs = torch.autograd.grad((slow * weights).sum(), (center, mu, sigma))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(
        lambda c, m, s: hypersphere(places, c, m, s, normaliser), (center, mu, sigma)
    )


def test_coordinates_mean_the_same_at_every_resolution():
    assert coordinates((1, 1, 1, 1)).abs().max() == 0
    fine, coarse = coordinates((4, 4, 4, 4)), coordinates((2, 2, 2, 2))
    torch.testing.assert_close(fine[:2, :2, :2, :2].mean((0, 1, 2, 3)), coarse[0, 0, 0, 0])
    assert coordinates((3, 4, 5, 6), "index")[2, 3, 4, 5].tolist() == [2, 3, 4, 5]


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), mu=st.floats(0, 3), sigma=st.floats(0.05, 3))
def test_peak_keeps_the_mask_between_0_and_1_and_pdf_need_not(shape, mu, sigma):
    mask = HypersphereMask(mu=mu, sigma=sigma)
    theta = mask(torch.empty(1, 1, *shape))
    assert theta.shape == (1, *shape)
    assert 0 <= theta.min() and theta.max() <= 1
    torch.testing.assert_close(mask.sigma.item(), sigma, rtol=1e-4, atol=1e-4)
    pdf = HypersphereMask("pdf", mu=mu, sigma=sigma)(torch.empty(1, 1, *shape))
    torch.testing.assert_close(pdf, theta / (math.sqrt(2 * math.pi) * sigma), rtol=1e-4, atol=1e-5)


def test_printed_har_starts_in_the_middle_of_every_map():
    for shape in ((3, 3, 3, 3), (4, 7, 2, 5)):
        theta = MASKS["har"](8)(torch.empty(1, 8, *shape))[0]
        torch.testing.assert_close(theta, theta.flip(0, 1, 2, 3))
        x = coordinates(shape, "index") - (torch.tensor(shape) - 1) / 2
        expected = naive_theta(x, torch.zeros(4), torch.tensor(1.0), torch.tensor(1.0), "paper")
        torch.testing.assert_close(theta, expected)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("conv", ["full", "pivot", "flat"])
@pytest.mark.parametrize("placement", ["after_block", "before_sum"])
def test_attention_is_applied_in_every_block(name, conv, placement):
    network = resnet18(conv, width=4, blocks=(1, 1), attention=name, placement=placement)
    tensor = torch.rand(2, 4, 6, 5, 4, 6)
    network(tensor).sum().backward()
    found = [module for module in network.modules() if isinstance(module, Attention)]
    assert len(found) == 2
    for attention in found:
        moved = [p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters()]
        assert any(moved) and all(p.isfinite().all() for p in attention.parameters())
        assert all(math.isfinite(value) for value in attention.mask.parameters_summary().values())


def test_equation_5_in_both_places():
    make = Layers("full", "batch", "har", "before_sum")
    block = BasicBlock(make, 4, 4, 1).eval()
    x = torch.rand(1, 4, 3, 3, 3, 3)
    theta = block.attention.mask(x)[:, None]
    inner = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    torch.testing.assert_close(block(x), torch.relu(inner * theta + inner + x))
    features = torch.rand(2, 3, 4, 4, 4, 4)
    after = Attention("har", 3)(features)
    torch.testing.assert_close(after, attend(features, MASKS["har"](3)(features)))


def test_flat_attention_is_the_mean_over_each_pixels_area():
    attention = Attention("har-normalised", 3, flat=True)
    features = torch.rand(1, 3, 10, 9)
    theta = attention.mask(torch.empty(1, 1, 4, 6, 5, 3))
    picture = to_flat(theta[:, None])[0, 0]
    small = picture.view(10, 2, 9, 2).mean((1, 3))
    with tensor_grid((4, 6, 5, 3)):
        torch.testing.assert_close(attention(features), features * (1 + small))


@pytest.mark.parametrize("name", ["predicted", "plane"])
def test_a_flat_mask_looks_at_the_pixel_that_holds_each_pair(name):
    torch.manual_seed(0)
    flat, full = Attention(name, 3, flat=True), Attention(name, 3)
    full.load_state_dict(flat.state_dict())
    features = torch.rand(2, 3, 4, 6, 5, 3)
    half = F.adaptive_avg_pool2d(to_flat(features), (10, 9))
    with tensor_grid((4, 6, 5, 3)):
        torch.testing.assert_close(flat(to_flat(features)), to_flat(full(features)))
        assert flat(half).shape == half.shape


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("conv", ["full", "pivot", "flat"])
def test_masks_hold_in_bf16_and_when_only_asked(name, conv):
    torch.manual_seed(0)
    network = resnet18(conv, width=4, blocks=(1, 1), attention=name).eval()
    tensor = torch.rand(2, 4, 6, 5, 4, 7)
    with torch.inference_mode():
        exact = network(tensor)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(tensor)
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network.train()(tensor).float().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("sigma", [-1e3, 1e3])  # far below and above every s that is learnt
def test_extreme_parameters_stay_finite(name, sigma):
    torch.manual_seed(0)
    mask = MASKS[name](3)
    for parameter_name, parameter in mask.named_parameters():
        if parameter_name.endswith("center"):
            parameter.data.fill_(1e3)
        if parameter_name.endswith(("s", "mu", "factor")):
            parameter.data.fill_(sigma)
    features = torch.rand(2, 3, 4, 3, 5, 4, requires_grad=True)
    attended = attend(features, mask(features))
    attended.sum().backward()
    assert attended.isfinite().all() and features.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in mask.parameters() if p.grad is not None)


PLACES = coordinates((2, 2, 2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: coordinates((2, 2, 2, 2), "polar"), "normalised, index"),
        (lambda: resnet18("full", attention="sphere"), "choose from none, har"),
        (lambda: resnet18("full", attention="har", placement="inside"), "after_block, before_sum"),
        (lambda: vgg11(attention="har", placement="before_sum"), "needs residual blocks"),
        (lambda: inception(attention="har", placement="before_sum"), "needs residual blocks"),
        (lambda: hypersphere(PLACES, torch.zeros(1, 4), *torch.ones(2, 1), "max"), "peak, pdf"),
        (lambda: HypersphereMask(center=(0, 0)), "four dimensions"),
        (lambda: HypersphereMask(sigma=0), "sigma=0"),
        (lambda: Attention("sphere", 3), "choose from none"),
    ],
)
def test_bad_settings_get_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_mask_set_on_a_region_is_brightest_there_and_blind_to_the_target():
    places = coordinates((1, 1, 8, 6))
    center = places[0, 0, 6, 1]
    ball = hypersphere(places, center[None], torch.zeros(1), torch.full((1,), 0.3))[0]
    assert torch.equal(center[:2], torch.zeros(2)), "on one place, i and j are in the middle"
    assert divmod(int(ball[0, 0].argmax()), 6) == (6, 1)
    seen = attend(torch.ones(1, 1, 5, 7, 8, 6), ball[None, None])
    assert torch.equal(seen, seen[:, :, :1, :1].expand_as(seen))
    assert seen.min() >= 1, "what lies outside is kept"
