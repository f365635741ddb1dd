"""The network that judges a pair of pictures: from patches to a margin, and to disk and back.

Chapter: *Convolution in four dimensions*.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.architectures import ATTENTIONS, LAYOUTS, NORMS, PLACEMENTS
from indiret.attention import Attention
from indiret.backbones import FINER, Backbone, feature_cells, is_backbone_name, load_backbone
from indiret.conv4d import resize4d
from indiret.correlation import (
    correlate,
    correlation_tensor,
    describe_patches,
    find_metrics,
    initial_metric_state,
)
from indiret.patches import SCHEMES, Aspect, extract_patches, patch_grid, patch_length
from indiret.planelayers import ARCHITECTURES

CHOICES: dict[str, tuple[str, ...]] = {
    "architecture": tuple(ARCHITECTURES),
    "conv": LAYOUTS,
    "norm": NORMS,
    "attention": ATTENTIONS,
    "placement": PLACEMENTS,
    "aspect": get_args(Aspect),
}
Described = dict[str, Tensor]  # a picture as `IndicativeNetwork.describe` leaves it
WEIGHTS = Path(__file__).parent / "data" / "weights"


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides a network's shape and what it looks at.

    Raises
    ------
    ValueError, TypeError
        If a choice is unknown or a number is out of range.

    Examples
    --------
    >>> NetworkConfig(width=16).conv
    'full'
    >>> NetworkConfig(conv="sparse")
    Traceback (most recent call last):
    ValueError: conv='sparse' is not known; choose from full, pivot, flat.
    """

    name: str = "base"
    # "Any CNN" (section 3); the paper's own is ResNet18. "planes" is 2-D along planes of T.
    architecture: str = "resnet18"
    # 4-D kernels, which Eq. 5 and 6 need; "flat" is the only layout with the paper's 11 M.
    conv: str = "full"
    # Gradients of the pixels, their mutual matches, and colour (book/decisions/0007).
    metrics: tuple[str, ...] = ("gradients", "mutual_gradients", "colour")
    # Section 4.1.
    grid: tuple[int, int] = (14, 14)
    # The paper's is the target's grid. A query is cropped to its object and the target is not, so
    # fewer query patches make both sides' patches of one scale (book/decisions/0004).
    query_grid: tuple[int, int] = (10, 10)
    # Pixels a side; the paper is silent.
    size: int = 16
    # Windows 3 and 5 cells wide find the true patch more often than cells (book/decisions/0004).
    # The name of a backbone puts what it sees in each cell in the place of the cell's pixels.
    scheme: str = "pyramid"
    # A target's windows, as multiples of those widths, each scale a view of its own, and their
    # places on each axis of a cell: the object is smaller there, and never quite on the grid.
    scales: tuple[float, ...] = (0.7, 1.0)
    shifts: int = 2
    # The same of a query's windows. They cost what they multiply (book/decisions/0004).
    query_scales: tuple[float, ...] = (1.0,)
    query_shifts: int = 1
    aspect: str = "squash"
    # Width, blocks and stem learn within minutes on one core; wider gained nothing in that time.
    width: int = 8
    blocks: tuple[int, ...] = (1, 1, 1)
    stem_kernel: int = 3
    stem_stride: int = 2
    norm: str = "batch"
    # Section 3.3: a mask of indiret.attention in every block.
    attention: str = "none"
    placement: str = "after_block"

    def __post_init__(self) -> None:
        for key in ("metrics", "grid", "query_grid", "blocks", "scales", "query_scales"):
            value = getattr(self, key)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise TypeError(f"{key}={value!r} is not a sequence; give a list or tuple.")
            object.__setattr__(self, key, tuple(value))
        find_metrics(self.metrics)
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"{key}={getattr(self, key)!r} is not known; choose from {', '.join(choices)}."
                )
        if is_backbone_name(self.scheme):
            self._check_features()
        elif self.scheme not in SCHEMES:
            raise ValueError(
                f"scheme={self.scheme!r} is not known; choose from {', '.join(SCHEMES)}, or a "
                f"backbone such as {FINER}."
            )
        whole = ("grid", "query_grid", "blocks", "size", "shifts", "query_shifts", "width")
        for key in (*whole, "stem_kernel", "stem_stride"):
            value = getattr(self, key)
            for number in value if isinstance(value, tuple) else (value,):
                if not isinstance(number, int) or isinstance(number, bool):
                    raise TypeError(f"{key}={value!r} is not made of whole numbers.")
                if number < 1:
                    raise ValueError(f"{key}={value!r} is not allowed; give numbers ≥ 1.")
        if len(self.grid) != 2 or len(self.query_grid) != 2 or not self.blocks:
            raise ValueError(
                f"grid={self.grid}, query_grid={self.query_grid} with blocks={self.blocks} is not "
                "allowed; give (rows, columns) twice and at least one stage."
            )
        for key in ("scales", "query_scales"):
            scales = getattr(self, key)
            if not scales or not all(scale > 0 for scale in scales):
                raise ValueError(f"{key}={scales} is not allowed; give one or more, each above 0.")

    def _check_features(self) -> None:
        reading = [metric.name for metric in find_metrics(self.metrics) if metric.transform]
        if reading:
            raise ValueError(
                f"metrics={', '.join(reading)} read pixels, and scheme={self.scheme!r} has none; "
                "choose from cosine, euclidean, manhattan, zncc, mutual."
            )
        windows = self.scales, self.shifts, self.query_scales, self.query_shifts
        if (*windows, self.aspect) != ((1.0,), 1, (1.0,), 1, "squash"):
            raise ValueError(
                f"scheme={self.scheme!r} has one window for each cell; give scales=(1.0,), "
                "shifts=1, the same of the query, and aspect='squash'."
            )

    @cached_property
    def features(self) -> Backbone | None:
        """The backbone that ``scheme`` names, loaded when first asked for; None for pixels."""
        return load_backbone(self.scheme) if is_backbone_name(self.scheme) else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """A config from plain values, as read from JSON.

        Examples
        --------
        >>> NetworkConfig.from_dict({"widht": 8})
        Traceback (most recent call last):
        ValueError: network config has no 'widht'; choose from name, architecture, conv, ...
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"network config has no {key!r}; choose from {', '.join(known)}.")
        return cls(**values)

    def replace(self, **changes: Any) -> "NetworkConfig":
        """A copy with some values changed; unknown keys are refused as in `from_dict`."""
        return self.from_dict({**asdict(self), **changes})

    @property
    def views(self) -> list[str]:
        """Names of the tensor's views: every metric at every scale, of the target and the query.

        Examples
        --------
        >>> NetworkConfig(metrics=("zncc",), query_scales=(1.0, 1.4)).views[:2]
        ['zncc × 0.7', 'zncc × 0.7 : 1.4']
        """
        names = [f" × {scale:g}" for scale in self.scales] if self.scales[1:] else [""]
        asked = ["", *(f" : {scale:g}" for scale in self.query_scales[1:])]
        return [metric + name + of for metric in self.metrics for name in names for of in asked]

    def cut(self, picture: np.ndarray, query: bool = False) -> Tensor:
        """Patches of a target, (S, W, m, n, D), at S scales in W windows; of a query (m', n', D).

        A query that has several scales or places is cut as a target is.

        Parameters
        ----------
        picture
            (H, W, 3) uint8.
        query
            Whether to lay ``query_grid`` over it and not ``grid``.

        Returns
        -------
        Tensor
            float32 in 0 … 1.

        Examples
        --------
        >>> picture = np.zeros((24, 32, 3), dtype=np.uint8)
        >>> NetworkConfig().cut(picture).shape, NetworkConfig().cut(picture, query=True).shape
        (torch.Size([2, 4, 14, 14, 1536]), torch.Size([10, 10, 1536]))
        """
        if self.features:
            cells = feature_cells(self.features, picture, self.query_grid if query else self.grid)
            return cells if query else cells[None, None]
        if query and (self.query_scales, self.query_shifts) == ((1.0,), 1):
            return extract_patches(picture, self.query_grid, self.size, self.scheme, self.aspect)
        scales = self.query_scales if query else self.scales
        return torch.stack([self.cut_at(picture, scale, query) for scale in scales])

    def cut_at(self, picture: np.ndarray, scale: float, query: bool = False) -> Tensor:
        """Windows of one scale, (shifts², m, n, D): those of a finer grid, regrouped by cell."""
        height, width = picture.shape[:2]
        grid, shifts = (self.query_grid, self.query_shifts) if query else (self.grid, self.shifts)
        m, n = patch_grid(height, width, grid, self.aspect)
        finer = shifts * m, shifts * n
        patches = extract_patches(picture, finer, self.size, self.scheme, scale=shifts * scale)
        cells = patches.unflatten(1, (n, shifts)).unflatten(0, (m, shifts))
        return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)


CONFIGS = {
    "base": NetworkConfig(),
    # "Base (as printed)": METHOD.md, section 2 and 5.
    "paper-base": NetworkConfig(
        name="paper-base",
        conv="flat",
        metrics=("cosine", "euclidean", "manhattan", "mahalanobis"),
        query_grid=(14, 14),
        size=16,
        scheme="grid",
        scales=(1.0,),
        shifts=1,
        width=64,
        blocks=(2, 2, 2, 2),
        stem_kernel=7,
    ),
    # The same 4-D network on what a backbone sees (book/decisions/0010).
    f"{FINER}:verifier": NetworkConfig(
        name=f"{FINER}:verifier",
        scheme=FINER,
        metrics=("cosine", "mutual"),
        scales=(1.0,),
        shifts=1,
    ),
}
VERIFIER = ":verifier"  # ends the name of a network on a backbone's features


def find_config(config: str | Mapping[str, Any] | NetworkConfig) -> NetworkConfig:
    """The config of this name or of these values.

    Examples
    --------
    >>> find_config("timm/resnet101:verifier").scheme
    'timm/resnet101'
    >>> find_config("bass")
    Traceback (most recent call last):
    ValueError: network 'bass' is not known; choose from base, paper-base, ... or BACKBONE:verifier.
    """
    if isinstance(config, NetworkConfig):
        return config
    if isinstance(config, Mapping):
        return NetworkConfig.from_dict(config)
    if config in CONFIGS:
        return CONFIGS[config]
    backbone = config.removesuffix(VERIFIER)
    if backbone != config and is_backbone_name(backbone):
        return CONFIGS[FINER + VERIFIER].replace(name=config, scheme=backbone)
    known = ", ".join(CONFIGS)
    raise ValueError(f"network {config!r} is not known; choose from {known} or BACKBONE{VERIFIER}.")


class Shelf:
    """Room for what is kept of pictures, float16, taken in large blocks.

    Kept one by one, between what each picture needs for a moment, a thousand pictures leave holes
    that take as much memory again.

    Examples
    --------
    >>> shelf = Shelf()
    >>> shelf.keep(torch.ones(2, 3)).dtype
    torch.float16
    """

    block = 2**25  # numbers, 64 MB

    def __init__(self) -> None:
        self.free = torch.empty(0, dtype=torch.half)

    def keep(self, values: Tensor) -> Tensor:
        """A copy of ``values`` on the CPU."""
        count = values.numel()
        with torch.inference_mode(False), torch.no_grad():
            if count > len(self.free):
                self.free = torch.empty(max(count, self.block), dtype=torch.half)
            place, self.free = self.free[:count], self.free[count:]
            return place.view(values.shape).copy_(values)


class IndicativeNetwork(nn.Module):
    """Judges from the correlation tensor of a pair whether both pictures show the same thing.

    Attributes
    ----------
    config
        What it was built from.
    calibration
        (2,) float: a and b of probability = sigmoid(a · margin + b), see `fit_calibration`.

    Examples
    --------
    >>> network = build_network("base")
    >>> target, query = torch.rand(2, 2, 4, 14, 14, 1536), torch.rand(1, 10, 10, 1536)
    >>> tensor = network.tensor(target, query)
    >>> tensor.shape
    torch.Size([2, 6, 14, 14, 10, 10])
    >>> network.margin(tensor).shape
    torch.Size([2])
    """

    calibration: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.backbone = ARCHITECTURES[config.architecture](
            conv=config.conv,
            views=len(config.views),
            width=config.width,
            blocks=config.blocks,
            stem_kernel=config.stem_kernel,
            stem_stride=config.stem_stride,
            norm=config.norm,
            attention=config.attention,
            placement=config.placement,
        )
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self._shelf = Shelf()
        self._state_names: dict[str, str] = {}
        values = patch_length(config.size, config.scheme) if config.scheme in SCHEMES else 0
        for name, part in initial_metric_state(config.metrics, values).items():
            self._state_names[name] = f"metric_{name.replace('.', '_')}"
            self.register_buffer(self._state_names[name], part)

    @property
    def layers(self) -> dict[str, nn.Module]:
        """Modules whose outputs evidence is read from, in order: ``"stem"``, ``"stage1.0"``, ..."""
        return self.backbone.layers

    def attention_readings(self) -> dict[str, float]:
        """What every attention mask has learnt, by layer and parameter: ``"stage1.0 sigma"``."""
        return {
            f"{name} {parameter}": value
            for name, layer in self.layers.items()
            for module in layer.modules()
            if isinstance(module, Attention)
            for parameter, value in module.mask.readings().items()
        }

    def forward(self, tensor: Tensor) -> Tensor:
        """Logits of irrelevant and relevant.

        Parameters
        ----------
        tensor
            T, (B, V, m, n, m', n') float.

        Returns
        -------
        Tensor
            (B, 2), float32 also under autocast.

        Raises
        ------
        ValueError
            If T is not 6-D or its views are not the config's.
        """
        views = len(self.config.views)
        if tensor.ndim != 6 or tensor.shape[1] != views:
            raise ValueError(
                f"the tensor has shape {tuple(tensor.shape)}; give (B, {views}, m, n, m', n') with "
                f"the views {', '.join(self.config.views)}."
            )
        logits = self.backbone(tensor)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def margin(self, tensor: Tensor) -> Tensor:
        """z_relevant − z_irrelevant, (B,): the score that ranks."""
        logits = self(tensor)
        return logits[:, 1] - logits[:, 0]

    def probability(self, margin: Tensor) -> Tensor:
        """Calibrated probability of relevance, 0 … 1, of margins of any shape."""
        return torch.sigmoid(self.calibration[0] * margin + self.calibration[1])

    def describe(self, picture: np.ndarray, query: bool = False) -> Described:
        """What this network keeps of a picture: its patches as the metrics compare them, float16.

        See `NetworkConfig.cut` and `indiret.correlation.describe_patches`. 0.8 MB for a target and
        52 KB for a query of ``base``.
        """
        config, state = self.config, self.metric_state
        if query or config.features:
            described = describe_patches(config.cut(picture, query), config.metrics, state)
            return {name: self._shelf.keep(values) for name, values in described.items()}
        # A scale at a time: all pixels of all windows at once take twice as long.
        cuts = (config.cut_at(picture, scale) for scale in config.scales)
        parts = [describe_patches(patches, config.metrics, state) for patches in cuts]
        described = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return {name: self._shelf.keep(values) for name, values in described.items()}

    def tensor(self, target_patches: Tensor, query_patches: Tensor) -> Tensor:
        """T of Eq. 2 in this network's metrics, with its fitted state.

        Parameters
        ----------
        target_patches, query_patches
            (B, S, W, m, n, D) or (B, m, n, D), and (B or 1, m', n', D) float, or with scales and
            windows, too; D is that of `indiret.patches.patch_length`.

        Returns
        -------
        Tensor
            (B, V, m, n, m', n'), each view standardised over its pair.
        """
        return correlation_tensor(
            target_patches, query_patches, self.config.metrics, self.metric_state
        )

    def correlate(self, query: Described, database: Sequence[Described]) -> Tensor:
        """T of one described query against described pictures of one grid: (B, V, m, n, m', n')."""
        device = self.calibration.device
        targets = {
            name: torch.stack([described[name] for described in database]).to(device)
            for name in query
        }
        asked = {name: values[None].to(device) for name, values in query.items()}
        return correlate(targets, asked, self.config.metrics)

    @property
    def metric_state(self) -> dict[str, Tensor]:
        """The metrics' fitted state; it travels with the weights."""
        return {name: self.get_buffer(buffer) for name, buffer in self._state_names.items()}

    def set_metric_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `fit_metrics` fitted for this config's metrics.

        Raises
        ------
        ValueError
            If names or shapes are not those of this network.
        """
        own = self.metric_state
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError(
                f"the metric state holds {_shapes(state)}; this network needs {_shapes(own)}, "
                "as fit_metrics(network.config.metrics, patches) makes it."
            )
        for name, part in state.items():
            own[name].copy_(part)

    def cam_to_grid(self, cam: Tensor, grid: Sequence[int]) -> Tensor:
        """Resize a layer's map to the patch grid, 4-linear, align_corners=False (for Eq. 3).

        Parameters
        ----------
        cam
            ``(B, *spatial)`` float: four spatial dimensions, or two in the flat layout.
        grid
            (m, n, m', n').

        Returns
        -------
        Tensor
            (B, m, n, m', n').
        """
        m, n, rows, columns = grid
        if self.config.conv != "flat":
            return resize4d(cam[:, None], (m, n, rows, columns))[:, 0]
        picture = F.interpolate(
            cam[:, None], (m * rows, n * columns), mode="bilinear", align_corners=False
        )
        return picture[:, 0].unflatten(2, (n, columns)).unflatten(1, (m, rows)).transpose(2, 3)


def build_network(config: str | Mapping[str, Any] | NetworkConfig) -> IndicativeNetwork:
    """A network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    config
        A name out of ``CONFIGS``, a `NetworkConfig`, or a dict of its values.

    Raises
    ------
    ValueError, TypeError
        If the name, a key or a value is not allowed.

    Examples
    --------
    >>> parameter_count(build_network("base"))
    170818
    """
    return IndicativeNetwork(find_config(config))


def parameter_count(module: nn.Module) -> int:
    """How many numbers are learnt.

    Examples
    --------
    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def save_network(
    network: IndicativeNetwork, path: str | Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write config, weights, metric state and calibration to one safetensors file.

    The file appears whole or not at all.

    Parameters
    ----------
    network
        Stays as it is.
    path
        Of the file; its folder is made where it is missing.
    extra
        Provenance kept in the file's metadata, for `read_metadata`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.safetensors"
    >>> save_network(build_network({"width": 2}), path, {"seed": "0"})
    >>> load_network(path).config.width, read_metadata(path)["seed"]
    (2, '0')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {**(extra or {}), "config": json.dumps(asdict(network.config))}
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_network(name_or_path: str | Path) -> IndicativeNetwork:
    """A trained network, in eval mode on the CPU.

    Parameters
    ----------
    name_or_path
        A shipped network's name, or a file written by `save_network`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the name is unknown, or the file is not a whole, finite network of its own config.

    Examples
    --------
    >>> load_network("bass")
    Traceback (most recent call last):
    ValueError: network 'bass' is not known; choose from ... or give a .safetensors file.
    """
    path = _find_weights(name_or_path)
    metadata, tensors = _read(path)
    if "config" not in metadata:
        raise ValueError(f"{path} holds no network config; give a file made by save_network.")
    try:
        network = build_network(json.loads(metadata["config"]))
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: beyond all memory
        raise ValueError(f"the network config in {path} cannot be used: {error}") from error
    expected = network.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        found, wanted = (
            tuple(side[key].shape) if key in side else None for side in (tensors, expected)
        )
        if found != wanted:
            raise ValueError(
                f"the weights in {path} are of another architecture than its config says: "
                f"{key} is {found or 'missing'}, not {wanted or 'there at all'}."
            )
        if not tensors[key].isfinite().all():
            raise ValueError(f"the weights in {path} are broken: {key} holds NaN or infinity.")
    network.load_state_dict(tensors)
    return network.eval()


def read_metadata(path: str | Path) -> dict[str, str]:
    """What `save_network` was given as ``extra``, and the config as JSON."""
    return _read(_find_weights(path))[0]


def _find_weights(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if isinstance(name_or_path, str):
        shipped = WEIGHTS / file_name(name_or_path)
        if shipped.is_file():
            return shipped
    if path.is_file():
        return path
    if str(name_or_path).endswith(VERIFIER):
        raise FileNotFoundError(
            f"no weights of {name_or_path} are shipped; run: indiret train --network "
            f"{name_or_path} --out FOLDER, and give FOLDER/network.safetensors."
        )
    if path.suffix or path.name != str(name_or_path):
        raise FileNotFoundError(
            f"there is no network file {path}; give a .safetensors file made by save_network."
        )
    known = [name for name in CONFIGS if (WEIGHTS / file_name(name)).is_file()]
    raise ValueError(
        f"network {str(path)!r} is not known; choose from {', '.join(known) or 'none shipped'} "
        "or give a .safetensors file."
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); give one made by save_network."
        ) from error


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{k} {tuple(v.shape)}" for k, v in tensors.items()) or "nothing"


def file_name(name: str) -> str:
    """The file of shipped weights of this name.

    Examples
    --------
    >>> file_name("efficientnet-lite0/16:verifier")
    'efficientnet-lite0_16_verifier.safetensors'
    """
    return re.sub(r"[/:]", "_", name) + ".safetensors"
