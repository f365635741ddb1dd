"""`indiret.network`: configs, patches of both sides, margins, and features in place of pixels."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from indiret.baselines import maps
from indiret.baselines.backbones import PretrainedBackbone
from indiret.correlation import correlation_tensor
from indiret.evidence import explain
from indiret.metrics import fit_metrics
from indiret.network import CONFIGS, NetworkConfig, build_network, cut_patches, find_config
from indiret.patches import extract_patches, patch_grid, patch_source

FOUR = ("cosine", "zncc", "mutual", "colour")
SMALL = NetworkConfig(
    name="small", metrics=FOUR, scheme="grid", scales=(1.0,), width=4, size=2, blocks=(1, 1)
)
DEEP = {"scheme": "efficientnet-lite0/16", "metrics": ("cosine", "mutual"), "shifts": 1}


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(SMALL).eval()


def test_margin_and_probability(network):
    tensor = rand(3, 4, 6, 6, 6, 6)
    logits = network(tensor)
    margin = network.margin(tensor)
    assert torch.equal(margin, logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(network.probability(margin), logits.softmax(1)[:, 1])
    network.calibration.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(network.probability(margin), torch.sigmoid(2 * margin - 1))


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


@pytest.mark.parametrize("aspect", ["squash", "keep"])
def test_a_targets_windows_are_small_steps_aside_and_scaled(aspect):
    config = NetworkConfig(grid=(3, 4), size=8, scheme="dense", scales=(0.5, 1.0), aspect=aspect)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    m, n = patch_grid(40, 60, (3, 4), aspect)
    windows = cut_patches(config, picture)
    assert windows.shape == (2, 4, m, n, 192)
    finer = extract_patches(picture, (2 * m, 2 * n), 8, "dense", scale=2.0)
    for y, x in np.ndindex(2, 2):
        assert torch.equal(windows[1, 2 * y + x], finer[y::2, x::2])
    alone = cut_patches(config.replace(shifts=1, scales=(1.0,)), picture)
    assert torch.equal(alone[0, 0], extract_patches(picture, (3, 4), 8, "dense", aspect))
    assert not torch.allclose(windows[0], windows[1])


def test_a_query_is_cut_as_a_target_where_it_has_scales_or_places():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    config = SMALL.replace(query_grid=(3, 4), query_scales=(1.0, 1.4), query_shifts=2)
    swapped = SMALL.replace(grid=(3, 4), scales=(1.0, 1.4), shifts=2)
    assert torch.equal(cut_patches(config, picture, query=True), cut_patches(swapped, picture))
    network = build_network(config).eval()
    state = fit_metrics(network.config.metrics, cut_patches(config, picture).flatten(0, -2))
    network.set_metric_state(state)
    tensor = network.correlate(network.encode(picture, query=True), [network.encode(picture)])
    assert tensor.shape == (1, 2 * len(FOUR), *config.grid, 3, 4)
    assert network.margin(tensor).isfinite().all()
    assert config.views[:2] == ["cosine", "cosine : 1.4"] and len(config.views) == 2 * len(FOUR)


@pytest.mark.parametrize(
    "changes, error, words",
    [
        ({"widht": 8}, ValueError, "'widht' is not known; choose from name, architecture, conv"),
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
        (DEEP | {"metrics": ("zncc", "colour")}, ValueError, "colour read pixels.*choose from cos"),
        (DEEP | {"scales": (0.7, 1.0)}, ValueError, "scales=.1.0,., shifts=1"),
        (DEEP | {"query_shifts": 2}, ValueError, "the same of the query"),
        (DEEP | {"aspect": "keep"}, ValueError, "aspect='squash'"),
        (DEEP | {"scheme": "resnet"}, ValueError, "from grid.*or a backbone such as efficientnet"),
    ],
)
def test_bad_configs(changes, error, words):
    with pytest.raises(error, match=words):
        build_network({**asdict(SMALL), **changes})


def test_configs_survive_json():
    for name, config in CONFIGS.items():
        assert config.name == name
        assert NetworkConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert CONFIGS["paper-base"].metrics == ("cosine", "euclidean", "manhattan", "mahalanobis")
    with pytest.raises(ValueError, match="choose from base, paper-base"):
        build_network("resnet")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A backbone of 8 pixels a cell that stands in for any other."""
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    backbone = PretrainedBackbone("toy", nn.Conv2d(3, 5, 8, 8).requires_grad_(False))
    monkeypatch.setattr(maps, "load_backbone", lambda name: backbone)
    patch_source.cache_clear()
    yield backbone
    patch_source.cache_clear()


def test_a_backbone_takes_the_place_of_pixels(toy):
    config = find_config("timm/some:verifier").replace(grid=(9, 10), query_grid=(8, 8), width=4)
    assert (config.name, config.scheme) == ("timm/some:verifier", "timm/some")
    network = build_network(config).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    query = network.encode(pictures[0], query=True)
    targets = [network.encode(picture) for picture in pictures]
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
