import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from indiret import networks
from indiret.architectures import (
    LAYOUTS,
    Layers,
    inception,
    resnet18,
    to_flat,
    vgg11,
)
from indiret.backbones import Backbone
from indiret.conv4d import Conv4d, PivotConv4d, resize4d
from indiret.correlation import correlation_tensor, fit_metrics
from indiret.evidence import explain
from indiret.networks import (
    CONFIGS,
    IndicativeNetwork,
    NetworkConfig,
    Shelf,
    build_network,
    find_config,
    load_network,
    parameter_count,
    read_metadata,
    save_network,
)
from indiret.patches import SCHEMES, extract_patches, patch_grid
from indiret.planelayers import ARCHITECTURES

FOUR = ("cosine", "zncc", "mutual", "colour")
SMALL = NetworkConfig(
    name="small", metrics=FOUR, scheme="grid", scales=(1.0,), width=4, size=2, blocks=(1, 1)
)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(SMALL).eval()


@pytest.mark.parametrize(
    "make, arguments, millions",
    [
        (resnet18, {"conv": "flat", "stem_kernel": 7}, 11.2),
        (resnet18, {"conv": "pivot"}, 22.2),
        (resnet18, {"conv": "full"}, 99.1),
        (vgg11, {"conv": "flat"}, 9.2),
        (vgg11, {"conv": "pivot"}, 18.4),
        (vgg11, {"conv": "full"}, 83.0),
        (inception, {"conv": "flat", "stem_kernel": 7}, 6.0),
        (inception, {"conv": "pivot"}, 9.7),
        (inception, {"conv": "full"}, 45.1),
    ],
)
def test_parameter_table_at_width_64(make, arguments, millions):
    with torch.device("meta"):
        assert round(parameter_count(make(**arguments)) / 1e6, 1) == millions


def test_the_books_parameter_table():
    page = (Path(__file__).parents[1] / "book/api/tensor.md").read_text(encoding="utf-8")
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


def test_parameters_of_the_named_configs():
    assert parameter_count(build_network("base")) == 170_818
    assert parameter_count(build_network("paper-base")) == 11_180_674
    views = 81 * 8  # weights of the first layer for one view
    verifier = build_network("efficientnet-lite0/16:verifier")
    assert parameter_count(verifier) == 170_818 - 4 * views


def resnet18_parameters(taps, stem_taps, views, width):
    """Counted by hand: weights, two numbers a norm, the linear layer."""
    count = stem_taps * views * width + 2 * width
    before = width
    for channels in (width, 2 * width, 4 * width, 8 * width):
        count += taps * channels * (before + 3 * channels) + 8 * channels
        count += (before + 2) * channels if before != channels else 0
        before = channels
    return count + 2 * before + 2


@pytest.mark.parametrize("conv, taps", [("full", 81), ("pivot", 18), ("flat", 9)])
def test_resnet18_counted_by_hand(conv, taps):
    expected = resnet18_parameters(taps, taps, views=3, width=4)
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
    config = SMALL.replace(architecture=architecture, conv=conv)
    network = build_network(config).eval()
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
        maps = torch.zeros(batch, *shape[2:])
        assert network.cam_to_grid(maps, grid).shape == (batch, *grid)


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


@pytest.mark.parametrize(
    "architecture, names",
    [
        ("resnet18", ["stem", "stage1.0", "stage2.0", "stage2.1"]),
        ("vgg11", ["stem", "stage2.0", "stage2.1"]),
        ("inception", ["stem", "stage1.0", "stage2.0", "stage2.1"]),
    ],
)
def test_layers_run_in_the_order_of_their_names(architecture, names):
    network = build_network(SMALL.replace(architecture=architecture, blocks=(1, 2)))
    assert list(network.layers) == names
    seen = []
    for name, layer in network.layers.items():
        layer.register_forward_hook(lambda m, i, out, name=name: seen.append((name, out.shape[2:])))
    network(rand(2, 4, 8, 8, 6, 4))
    assert [name for name, _ in seen] == names
    assert seen[0][1] == (4, 4, 3, 2) and seen[-1][1] == (2, 2, 2, 1)


def test_full_network_with_pivot_kernels_is_the_pivot_network():
    torch.manual_seed(0)
    pivot = resnet18("pivot", width=2, blocks=(1, 1)).eval()
    full = resnet18("full", width=2, blocks=(1, 1)).eval()
    state = full.state_dict()
    for name, module in pivot.named_modules():
        if isinstance(module, PivotConv4d):
            weight = torch.zeros_like(state[f"{name}.weight"])
            weight[..., 1, 1] += module.target_weight.detach()
            weight[:, :, 1, 1] += module.query_weight.detach()
            state[f"{name}.weight"] = weight
        elif isinstance(module, Conv4d | nn.Linear):
            state |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    full.load_state_dict(state)
    tensor = rand(2, 4, 5, 6, 7, 4)
    torch.testing.assert_close(pivot(tensor), full(tensor))


def test_initial_weights_have_he_variance():
    torch.manual_seed(0)
    for conv, taps in (("full", 81), ("pivot", 18), ("flat", 9)):
        layer = Layers(conv, "batch").conv(16, 32, 3)
        values = torch.cat([weight.detach().flatten() for weight in layer.parameters()])
        assert values.std() == pytest.approx((2 / (32 * taps)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("channels", [1, 6, 8, 52, 512])
def test_group_norm_takes_any_number_of_channels(channels):
    norm = Layers("full", "group").norm(channels)
    assert norm(rand(1, channels, 2, 2, 2, 2)).isfinite().all()
    assert channels % norm.num_groups == 0 and norm.num_groups <= 32


def test_margin_and_probability(network):
    tensor = rand(3, 4, 6, 6, 6, 6)
    logits = network(tensor)
    margin = network.margin(tensor)
    assert torch.equal(margin, logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(network.probability(margin), logits.softmax(1)[:, 1])
    network.calibration.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(network.probability(margin), torch.sigmoid(2 * margin - 1))


def test_logits_are_float32_under_autocast(network):
    tensor = rand(2, 4, 6, 6, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(tensor)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, network(tensor), atol=0.1, rtol=0.1)


def test_wrong_views_are_refused(network):
    for shape in ((1, 3, 4, 4, 4, 4), (4, 4, 4, 4, 4)):
        with pytest.raises(ValueError, match="cosine, zncc, mutual, colour"):
            network(torch.zeros(shape))


def test_tensor_uses_the_fitted_state(network):
    metrics = ("cosine", "mahalanobis")
    network = build_network(SMALL.replace(metrics=metrics))
    target, query = rand(3, 4, 5, 12).abs(), rand(1, 2, 3, 12, seed=1).abs()
    state = fit_metrics(metrics, rand(50, 12, seed=2).abs())
    before = network.tensor(target, query)
    network.set_metric_state(state)
    after = network.tensor(target, query)
    assert torch.equal(after, correlation_tensor(target, query, metrics, state))
    assert not torch.allclose(before, after)
    with pytest.raises(ValueError, match="this network needs mahalanobis"):
        network.set_metric_state({})
    with pytest.raises(ValueError, match="fit_metrics"):
        network.set_metric_state({"mahalanobis.whitening": torch.eye(3)})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_fitted_state_fits_the_patches_of_every_scheme(scheme):
    network = build_network(SMALL.replace(size=8, scheme=scheme, metrics=("mahalanobis",)))
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    patches = extract_patches(picture, (3, 4), 8, scheme)
    network.set_metric_state(fit_metrics(network.config.metrics, patches.flatten(0, 1)))
    assert network.tensor(patches[None], patches[None]).shape == (1, 1, 3, 4, 3, 4)


@pytest.mark.parametrize("aspect", ["squash", "keep"])
def test_a_targets_windows_are_small_steps_aside_and_scaled(aspect):
    config = NetworkConfig(grid=(3, 4), size=8, scheme="dense", scales=(0.5, 1.0), aspect=aspect)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    m, n = patch_grid(40, 60, (3, 4), aspect)
    windows = config.cut(picture)
    assert windows.shape == (2, 4, m, n, 192)
    finer = extract_patches(picture, (2 * m, 2 * n), 8, "dense", scale=2.0)
    for y, x in np.ndindex(2, 2):
        assert torch.equal(windows[1, 2 * y + x], finer[y::2, x::2])
    alone = config.replace(shifts=1, scales=(1.0,)).cut(picture)
    assert torch.equal(alone[0, 0], extract_patches(picture, (3, 4), 8, "dense", aspect))
    assert not torch.allclose(windows[0], windows[1])


def test_a_query_is_cut_as_a_target_where_it_has_scales_or_places():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    config = SMALL.replace(query_grid=(3, 4), query_scales=(1.0, 1.4), query_shifts=2)
    swapped = SMALL.replace(grid=(3, 4), scales=(1.0, 1.4), shifts=2)
    assert torch.equal(config.cut(picture, query=True), swapped.cut(picture))
    network = build_network(config).eval()
    state = fit_metrics(network.config.metrics, config.cut(picture).flatten(0, -2))
    network.set_metric_state(state)
    tensor = network.correlate(network.describe(picture, query=True), [network.describe(picture)])
    assert tensor.shape == (1, 2 * len(FOUR), *config.grid, 3, 4)
    assert network.margin(tensor).isfinite().all()
    assert config.views[:2] == ["cosine", "cosine : 1.4"] and len(config.views) == 2 * len(FOUR)


def test_a_shelf_keeps_copies_apart():
    shelf = Shelf()
    shelf.block = 10
    first, second = torch.arange(6.0).view(2, 3), torch.full((7,), 2.0)
    kept = [shelf.keep(first), shelf.keep(second), shelf.keep(torch.ones(3)), shelf.keep(first)]
    large = shelf.keep(torch.ones(20))
    kept[2].zero_()
    first.zero_()
    assert kept[0].tolist() == [[0, 1, 2], [3, 4, 5]] and kept[1].eq(2).all()
    assert torch.equal(kept[3], kept[0]) and large.eq(1).all()
    with torch.inference_mode():
        inside = shelf.keep(torch.ones(3))
    assert not inside.is_inference()


def test_cams_are_resized_to_the_grid(network):
    cam = rand(2, 3, 2, 4, 1)
    expected = resize4d(cam[:, None], (6, 5, 7, 4))[:, 0]
    assert torch.equal(network.cam_to_grid(cam, (6, 5, 7, 4)), expected)


def test_a_flat_cam_goes_back_to_where_its_pixels_came_from():
    network = build_network(SMALL.replace(conv="flat"))
    pairs = rand(2, 1, 2, 3, 4, 5)
    assert torch.equal(network.cam_to_grid(to_flat(pairs)[:, 0], (2, 3, 4, 5)), pairs[:, 0])
    ramp = torch.linspace(0, 1, 4)[None, :, None].expand(1, 4, 2)
    doubled = to_flat(network.cam_to_grid(ramp, (2, 2, 4, 2))[:, None])[0, 0, :, 0]
    torch.testing.assert_close(doubled[1:-1].diff(), torch.full((5,), 1 / 6))


@pytest.mark.parametrize(
    "changes, error, words",
    [
        ({"widht": 8}, ValueError, "no 'widht'; choose from name, architecture, conv"),
        ({"architecture": "resnet50"}, ValueError, "choose from resnet18, vgg11, inception"),
        ({"conv": "sparse"}, ValueError, "choose from full, pivot, flat"),
        ({"norm": "layer"}, ValueError, "choose from batch, group"),
        ({"metrics": ("sift",)}, ValueError, "'sift' is not known"),
        ({"scheme": "hexagons"}, ValueError, "choose"),
        ({"aspect": "round"}, ValueError, "choose"),
        ({"width": 0}, ValueError, "width=0"),
        ({"width": 1.5}, TypeError, "width=1.5"),
        ({"grid": (14,)}, ValueError, "rows, columns"),
        ({"grid": 14}, TypeError, "grid=14"),
        ({"grid": (14, True)}, TypeError, "whole numbers"),
        ({"blocks": ()}, ValueError, "at least one stage"),
        ({"scales": ()}, ValueError, "each above 0"),
        ({"scales": (1.0, 0.0)}, ValueError, "each above 0"),
        ({"shifts": 0}, ValueError, "shifts=0"),
        ({"query_scales": (0.0,)}, ValueError, "query_scales=.0.0,. is not allowed"),
        ({"query_shifts": 0}, ValueError, "query_shifts=0"),
        ({"architecture": "inception", "blocks": (1, 6)}, ValueError, "2, 5, 2"),
    ],
)
def test_bad_configs(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        build_network({**asdict(SMALL), **changes})
    assert "\n" not in str(caught.value)


def test_configs_survive_json():
    for name, config in CONFIGS.items():
        assert config.name == name
        assert NetworkConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert CONFIGS["paper-base"].metrics == ("cosine", "euclidean", "manhattan", "mahalanobis")
    with pytest.raises(ValueError, match="choose from base, paper-base"):
        build_network("resnet")
    with pytest.raises(ValueError, match="choose from full"):
        resnet18("4d")


def test_saved_networks_come_back_bit_for_bit(tmp_path):
    network = build_network(SMALL.replace(metrics=("zncc", "mahalanobis")))
    network.set_metric_state(fit_metrics(network.config.metrics, rand(50, 12)))
    network(rand(2, 2, 6, 6, 6, 6))  # moves the running statistics
    network.calibration.copy_(torch.tensor([0.5, 0.25]))
    path = tmp_path / "new" / "folder" / "weights.safetensors"
    save_network(network, path, {"seed": "3"})
    again = load_network(path)
    assert again.config == network.config and not again.training
    state = again.state_dict()
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
    assert read_metadata(path)["seed"] == "3"
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_save_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_network(network, path)
    before = path.read_bytes()

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr("indiret.networks.os.replace", die)
    with pytest.raises(OSError, match="disk full"):
        save_network(network, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def broken(change):
    """A saved small network whose tensors and metadata were tampered with."""

    def make(folder):
        path = folder / "weights.safetensors"
        save_network(IndicativeNetwork(SMALL), path)
        tensors, metadata = change(load_file(path), read_metadata(path))
        save_file(tensors, path, metadata)
        return path

    return make


def text_file(folder):
    path = folder / "weights.safetensors"
    path.write_text("these are not weights")
    return path


def cut_short(folder):
    path = folder / "weights.safetensors"
    save_network(IndicativeNetwork(SMALL), path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


STEM = "backbone.stem.0.weight"


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda folder: folder / "none.safetensors", FileNotFoundError, "no network file"),
        (lambda folder: "resnet-of-mine", ValueError, "is not known; choose from"),
        (text_file, ValueError, "not a whole safetensors file"),
        (cut_short, ValueError, "not a whole safetensors file"),
        (broken(lambda t, m: (t, {})), ValueError, "no network config"),
        (broken(lambda t, m: (t, {"config": "{"})), ValueError, "cannot be used"),
        (broken(lambda t, m: (t, {"config": "[1]"})), ValueError, "cannot be used"),
        (broken(lambda t, m: (t, {"config": '{"depth": 3}'})), ValueError, "no 'depth'"),
        (broken(lambda t, m: (t, {"config": '{"width": 1000000000}'})), ValueError, "cannot be"),
        (broken(lambda t, m: (t | {STEM: t[STEM] * torch.nan}, m)), ValueError, "holds NaN"),
        (broken(lambda t, m: (t | {STEM: t[STEM] / 0}, m)), ValueError, "NaN or infinity"),
        (broken(lambda t, m: (t | {STEM: t[STEM][:2]}, m)), ValueError, "another architecture"),
        (broken(lambda t, m: (t | {"more": torch.ones(1)}, m)), ValueError, "another architecture"),
        (
            broken(lambda t, m: ({k: v for k, v in t.items() if k != STEM}, m)),
            ValueError,
            "another architecture",
        ),
        (
            broken(lambda t, m: (t, {"config": json.dumps(asdict(replace(SMALL, width=8)))})),
            ValueError,
            "another architecture",
        ),
    ],
)
def test_files_that_are_not_whole_networks(tmp_path, make, error, words):
    with pytest.raises(error, match=words) as caught:
        load_network(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A backbone of 8 pixels a cell that stands in for any other."""
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    backbone = Backbone("toy", nn.Conv2d(3, 5, 8, 8).requires_grad_(False))
    monkeypatch.setattr(networks, "load_backbone", lambda name: backbone)
    return backbone


def test_a_backbone_takes_the_place_of_pixels(toy):
    config = find_config("timm/some:verifier").replace(grid=(9, 10), query_grid=(8, 8), width=4)
    assert (config.name, config.scheme) == ("timm/some:verifier", "timm/some")
    network = build_network(config).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    query = network.describe(pictures[0], query=True)
    targets = [network.describe(picture) for picture in pictures]
    tensor = network.correlate(query, targets)
    assert tensor.shape == (2, 2, 9, 10, 8, 8)
    cells = []
    for number, (rows, columns) in enumerate(((9, 10), (8, 8))):
        squashed = Image.fromarray(pictures[1 - number]).resize(
            (8 * columns, 8 * rows), Image.Resampling.BILINEAR
        )
        cells.append(toy.maps([np.asarray(squashed)])[0].half().float())
    cosine = torch.empty(9, 10, 8, 8)
    for i, j, k, l in np.ndindex(9, 10, 8, 8):
        cosine[i, j, k, l] = torch.cosine_similarity(cells[0][:, i, j], cells[1][:, k, l], dim=0)
    cosine = (cosine - cosine.mean()) / cosine.std(correction=0)
    torch.testing.assert_close(tensor[1, 0], cosine, atol=2e-2, rtol=0)
    assert explain(network, tensor, "combined")[0].pairs.shape == (9, 10, 8, 8)


def test_a_plain_picture_gives_finite_margins(toy):
    config = CONFIGS["efficientnet-lite0/16:verifier"].replace(grid=(9, 9), query_grid=(8, 8))
    network = build_network(config).eval()
    black = np.zeros((60, 80, 3), np.uint8)
    tensor = network.correlate(network.describe(black, query=True), [network.describe(black)])
    assert network.margin(tensor).isfinite().all()


def test_maps_of_another_size_get_a_sentence(toy):
    config = CONFIGS["efficientnet-lite0/16:verifier"].replace(query_grid=(3, 3))
    with pytest.raises(ValueError, match="not 3 x 3; choose another grid or backbone"):
        config.cut(np.zeros((60, 80, 3), np.uint8), query=True)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"metrics": ("cosine", "colour")}, "colour read pixels.*choose from cosine"),
        ({"scales": (0.7, 1.0)}, "scales=.1.0,., shifts=1"),
        ({"query_shifts": 2}, "the same of the query"),
        ({"aspect": "keep"}, "aspect='squash'"),
        ({"scheme": "resnet"}, "choose from grid.*or a backbone such as efficientnet-lite0/16"),
    ],
)
def test_what_features_cannot_do_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CONFIGS["efficientnet-lite0/16:verifier"].replace(**changes)


def test_weights_that_are_not_shipped_can_be_trained():
    with pytest.raises(FileNotFoundError, match="indiret train --network timm/some:verifier"):
        load_network("timm/some:verifier")
