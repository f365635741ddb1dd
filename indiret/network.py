"""The network that judges a pair of pictures: its config, T of Eq. 2, and the margin.

Chapter: *Convolution in four dimensions*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from indiret.architectures import ARCHITECTURES, check_layers
from indiret.attention import Attention
from indiret.correlation import correlate, correlation_tensor, encode_patches
from indiret.metrics import find_metrics, initial_metric_state
from indiret.patches import (
    SCHEMES,
    Aspect,
    check_choice,
    extract_patches,
    is_patch_source,
    patch_grid,
    patch_length,
    patch_source,
)

Features = dict[str, Tensor]  # a picture as `IndicativeNetwork.encode` leaves it


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides a network's shape and what it looks at.

    Raises ValueError or TypeError if a choice is unknown or a number is out of range.

    Examples
    --------
    >>> NetworkConfig(conv="sparse")
    Traceback (most recent call last):
    ValueError: conv='sparse' is not known; choose from full, pivot, flat.
    """

    name: str = "base"
    # "Any CNN" (section 3); the paper's own is ResNet18.
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
        check_choice("architecture", self.architecture, ARCHITECTURES)
        check_layers(self.conv, self.norm, self.attention, self.placement)
        check_choice("aspect", self.aspect, get_args(Aspect))
        if self.scheme not in SCHEMES:
            self._check_source()
        whole = ("grid", "query_grid", "blocks", "size", "shifts", "query_shifts", "width")
        for key in (*whole, "stem_kernel", "stem_stride"):
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(type(number) is not int for number in numbers):
                raise TypeError(f"{key}={value!r} is not made of whole numbers.")
            if min(numbers, default=1) < 1:
                raise ValueError(f"{key}={value!r} is not allowed; give numbers ≥ 1.")
        if len(self.grid) != 2 or len(self.query_grid) != 2 or not self.blocks:
            found = f"grid={self.grid}, query_grid={self.query_grid} with blocks={self.blocks}"
            raise ValueError(f"{found}: give (rows, columns) twice and at least one stage.")
        for key in ("scales", "query_scales"):
            scales = getattr(self, key)
            if not scales or not all(scale > 0 for scale in scales):
                raise ValueError(f"{key}={scales} is not allowed; give one or more, each above 0.")

    def _check_source(self) -> None:
        if not is_patch_source(self.scheme):
            raise ValueError(
                f"scheme={self.scheme!r} is not known; choose from {', '.join(SCHEMES)}, or a "
                "backbone such as efficientnet-lite0/16."
            )
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """A config from plain values, as read from JSON; ValueError if a key is unknown."""
        for key in values:
            check_choice("network setting", key, [field.name for field in fields(cls)])
        return cls(**values)

    def replace(self, **changes: Any) -> "NetworkConfig":
        """A copy with some values changed; unknown keys are refused as in `from_dict`."""
        return self.from_dict({**asdict(self), **changes})

    @property
    def views(self) -> list[str]:
        """Names of the tensor's views, a metric at a target's and a query's scale: ``zncc × 0.7``,
        ``zncc × 0.7 : 1.4``, ..."""
        names = [f" × {scale:g}" for scale in self.scales] if self.scales[1:] else [""]
        asked = ["", *(f" : {scale:g}" for scale in self.query_scales[1:])]
        return [metric + name + of for metric in self.metrics for name in names for of in asked]


def cut_patches(config: NetworkConfig, picture: np.ndarray, query: bool = False) -> Tensor:
    """Patches of a target, (S, W, m, n, D), at S scales in W windows; of a query (m', n', D).

    ``picture`` is (H, W, 3) uint8; float32 comes back, in 0 … 1 for pixels. A query's grid is
    ``query_grid``; one that has several scales or places is cut as a target is.

    Examples
    --------
    >>> picture, config = np.zeros((24, 32, 3), dtype=np.uint8), NetworkConfig()
    >>> cut_patches(config, picture).shape, cut_patches(config, picture, query=True).shape
    (torch.Size([2, 4, 14, 14, 1536]), torch.Size([10, 10, 1536]))
    """
    grid = config.query_grid if query else config.grid
    if config.scheme not in SCHEMES:
        cells = patch_source(config.scheme)(picture, grid)
        return cells if query else cells[None, None]
    if query and (config.query_scales, config.query_shifts) == ((1.0,), 1):
        return extract_patches(picture, grid, config.size, config.scheme, config.aspect)
    scales = config.query_scales if query else config.scales
    return torch.stack([_cut_at(config, picture, scale, query) for scale in scales])


def _cut_at(config: NetworkConfig, picture: np.ndarray, scale: float, query: bool) -> Tensor:
    """Windows of one scale, (shifts², m, n, D): those of a finer grid, regrouped by cell."""
    grid = config.query_grid if query else config.grid
    shifts = config.query_shifts if query else config.shifts
    height, width = picture.shape[:2]
    m, n = patch_grid(height, width, grid, config.aspect)
    finer = shifts * m, shifts * n
    patches = extract_patches(picture, finer, config.size, config.scheme, scale=shifts * scale)
    cells = patches.unflatten(1, (n, shifts)).unflatten(0, (m, shifts))
    return cells.permute(1, 3, 0, 2, 4).flatten(0, 1)


CONFIGS = {
    "base": NetworkConfig(),
    # "Base (as printed)": METHOD.md, section 2 and 5.
    "paper-base": NetworkConfig(
        "paper-base", conv="flat", metrics=("cosine", "euclidean", "manhattan", "mahalanobis"),
        query_grid=(14, 14), scheme="grid", scales=(1.0,), shifts=1,
        width=64, blocks=(2, 2, 2, 2), stem_kernel=7,
    ),
}  # fmt: skip
BUILD = ("conv", "width", "blocks", "stem_kernel", "stem_stride", "norm", "attention", "placement")
VERIFIER = ":verifier"  # ends the name of a network over a patch source, such as a backbone


def find_config(config: str | Mapping[str, Any] | NetworkConfig) -> NetworkConfig:
    """The config of this name or of these values; ValueError if there is none.

    Examples
    --------
    >>> find_config("timm/resnet101:verifier").scheme
    'timm/resnet101'
    """
    if isinstance(config, NetworkConfig):
        return config
    if isinstance(config, Mapping):
        return NetworkConfig.from_dict(config)
    if config in CONFIGS:
        return CONFIGS[config]
    source = config.removesuffix(VERIFIER)
    if source != config and is_patch_source(source):  # the same network (book/decisions/0010)
        return NetworkConfig(
            config, scheme=source, metrics=("cosine", "mutual"), scales=(1.0,), shifts=1
        )
    known = ", ".join(CONFIGS)
    raise ValueError(f"network {config!r} is not known; choose from {known} or BACKBONE{VERIFIER}.")


class IndicativeNetwork(nn.Module):
    """Judges from the correlation tensor of a pair whether both pictures show the same thing.

    ``calibration``, (2,) float, holds a and b of probability = sigmoid(a · margin + b), and ``run``
    the settings and data that made the weights, as `indiret.training.fingerprint_run` tells them.

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
        self.config, self.run = config, ""
        build, settings = ARCHITECTURES[config.architecture], {k: getattr(config, k) for k in BUILD}
        self.backbone = build(views=len(config.views), **settings)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self._state_names: dict[str, str] = {}
        values = patch_length(config.size, config.scheme) if config.scheme in SCHEMES else 0
        for name, part in initial_metric_state(config.metrics, values).items():
            self._state_names[name] = f"metric_{name.replace('.', '_')}"
            self.register_buffer(self._state_names[name], part)

    @property
    def layers(self) -> dict[str, nn.Module]:
        """Modules whose outputs evidence is read from, in order: ``"stem"``, ``"stage1.0"``, ..."""
        return self.backbone.layers

    def attention_parameters(self) -> dict[str, float]:
        """What every attention mask has learned, by layer and parameter: ``"stage1.0 sigma"``."""
        return {
            f"{name} {parameter}": value
            for name, layer in self.layers.items()
            for module in layer.modules()
            if isinstance(module, Attention)
            for parameter, value in module.mask.parameters_summary().items()
        }

    def forward(self, tensor: Tensor) -> Tensor:
        """Logits of irrelevant and relevant, (B, 2) float32, of T, (B, V, m, n, m', n') float.

        Raises ValueError if T is not 6-D or its views are not the config's.
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

    def encode(self, picture: np.ndarray, query: bool = False) -> Features:
        """What this network keeps of a picture: its patches as the metrics compare them, float16.

        That is 0.8 MB for a target and 52 KB for a query of ``base``.
        """
        config, state = self.config, self.metric_state
        if query or config.scheme not in SCHEMES:
            patches = cut_patches(config, picture, query)
            features = encode_patches(patches, config.metrics, state)
        else:  # a scale at a time: all pixels of all windows at once take twice as long
            cuts = (_cut_at(config, picture, scale, query) for scale in config.scales)
            parts = [encode_patches(patches, config.metrics, state) for patches in cuts]
            features = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return {name: values.half().contiguous() for name, values in features.items()}

    def tensor(self, target_patches: Tensor, query_patches: Tensor) -> Tensor:
        """T of `indiret.correlation.correlation_tensor`, in this network's metrics."""
        metrics, state = self.config.metrics, self.metric_state
        return correlation_tensor(target_patches, query_patches, metrics, state)

    def correlate(self, query: Features, database: Sequence[Features]) -> Tensor:
        """T of one encoded query against encoded pictures of one grid: (B, V, m, n, m', n')."""
        device = self.calibration.device
        asking = {name: values[None].to(device) for name, values in query.items()}
        with torch.autocast("cpu", enabled=False):  # which cannot stack half precision
            targets = {
                name: torch.stack([features[name] for features in database]).to(device)
                for name in query
            }
        return correlate(targets, asking, self.config.metrics)

    @property
    def metric_state(self) -> dict[str, Tensor]:
        """The metrics' fitted state; it travels with the weights."""
        return {name: self.get_buffer(buffer) for name, buffer in self._state_names.items()}

    def set_metric_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `fit_metrics` fitted; ValueError unless for this config's metrics."""
        own = self.metric_state
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError(
                f"the metric state holds {_shapes(state)}; this network needs {_shapes(own)}, "
                "as fit_metrics(network.config.metrics, patches) makes it."
            )
        for name, part in state.items():
            own[name].copy_(part)


def build_network(config: str | Mapping[str, Any] | NetworkConfig) -> IndicativeNetwork:
    """A network with fresh weights, drawn from torch's global generator.

    ``config`` is a name out of ``CONFIGS``, a `NetworkConfig`, or a dict of its values.

    Examples
    --------
    >>> parameter_count(build_network("base"))
    170818
    """
    return IndicativeNetwork(find_config(config))


def parameter_count(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{k} {tuple(v.shape)}" for k, v in tensors.items()) or "nothing"
