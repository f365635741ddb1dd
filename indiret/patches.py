"""Cut a picture into the patches that Eq. 1 compares.

Every scheme puts one patch on each cell of an m × n grid, so that the correlation tensor keeps the
picture's two axes:

- ``grid``: the patch is the cell;
- ``dense``: the patch is twice as wide as the cell, so that neighbours overlap by half;
- ``pyramid``: square windows three and five cells wide on each cell, side by side in the patch
  vector;
- ``proposals``: the m · n windows that stand out most from their surroundings, in reading order.

The windows of any scheme can be cut wider or narrower around the same centres (``scale``). A patch
source, such as a pretrained network, can fill the cells instead of pixels.

Chapter: *Patches and metrics*.
"""

from collections.abc import Callable, Collection
from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from indiret import load_plugins

Grid = tuple[int, int]
Aspect = Literal["squash", "keep"]
PYRAMID = (3, 5)  # widths of its windows, in cells
WIDTHS = {"grid": (1,), "dense": (2,), "pyramid": PYRAMID}


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """ValueError, with the valid choices, unless a setting has one of them."""
    if value not in choices:
        raise ValueError(f"{name}={value!r:.200} is not known; choose from {', '.join(choices)}.")


def patch_grid(height: int, width: int, grid: Grid = (14, 14), aspect: str = "squash") -> Grid:
    """Rows and columns of the patch grid laid over a picture of so many pixels.

    ``"squash"`` stretches the picture to the grid (m, n) asked for; ``"keep"`` takes the largest
    grid inside it with the picture's proportions, so that cells stay square. Raises ValueError.

    Examples
    --------
    >>> patch_grid(240, 320), patch_grid(240, 320, aspect="keep")
    ((14, 14), (10, 14))
    """
    if len(grid) != 2 or any(int(side) != side or side < 1 for side in grid):
        raise ValueError(f"grid={grid!r} is not a pair of whole numbers of at least 1: (14, 14).")
    check_choice("aspect", aspect, get_args(Aspect))
    rows, columns = int(grid[0]), int(grid[1])
    if aspect == "squash":
        return rows, columns
    scale = min(rows / height, columns / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def extract_patches(
    image: np.ndarray, grid: Grid = (14, 14), size: int = 8, scheme: str = "grid",
    aspect: str = "squash", scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """Patches p_ij of a (H, W, 3) uint8 picture, as rows of raw pixel values.

    They come as (m, n, D) float32 in 0 … 1 with D = size · size · 3 (twice that for ``pyramid``);
    values run over patch rows, then patch columns, then colours. ``grid`` and ``aspect`` are those
    of `patch_grid`, schemes and ``scale`` those of the module's first lines. The picture is resized
    so that a window is ``size`` pixels wide, and read between pixels where it does not fall on
    whole ones. Raises TypeError if the picture is not uint8, ValueError if it is not (H, W, 3) or a
    setting is out of range.

    Examples
    --------
    >>> picture = np.zeros((240, 320, 3), dtype=np.uint8)
    >>> extract_patches(picture, grid=(6, 9), size=8, scheme="pyramid", aspect="keep").shape
    torch.Size([6, 8, 384])
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"the picture is {kind}; give a uint8 array as read_image returns it.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"the picture has shape {image.shape}; give (height, width, 3).")
    if int(size) != size or size < 1:
        raise ValueError(f"size={size!r} is not a whole number of pixels of at least 1.")
    check_choice("scheme", scheme, SCHEMES)
    if not scale > 0:
        raise ValueError(f"scale={scale!r} is not above 0.")
    height, width = image.shape[:2]
    grid = patch_grid(height, width, grid, aspect)
    if scheme == "proposals":
        return _proposals(image, grid, int(size), scale)
    return _windows(image, grid, int(size), scheme, scale)


def patch_length(size: int = 8, scheme: str = "grid") -> int:
    """D, the number of values of a patch."""
    return 3 * size**2 * len(WIDTHS.get(scheme, (1,)))


def patch_boxes(
    image: np.ndarray, grid: Grid = (14, 14), scheme: str = "grid", aspect: str = "squash"
) -> np.ndarray:
    """Where each patch lies in the picture: (m, n, 4) float64 boxes x1, y1, x2, y2 in pixels.

    Windows of ``dense`` and ``pyramid`` (its widest) reach past the border by up to half a window;
    there the patch repeats the border's pixels.

    Examples
    --------
    >>> picture = np.zeros((140, 280, 3), dtype=np.uint8)
    >>> patch_boxes(picture)[1, 2].tolist()
    [40.0, 10.0, 60.0, 20.0]
    """
    check_choice("scheme", scheme, SCHEMES)
    height, width = image.shape[:2]
    rows, columns = patch_grid(height, width, grid, aspect)
    if scheme == "proposals":
        return propose_boxes(image, rows, columns)
    cell = np.array([width / columns, height / rows])
    half = max(WIDTHS[scheme]) / 2 * _window_cell(cell, scheme)
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    centres = np.stack([x, y], axis=-1) * cell
    return np.concatenate([centres - half, centres + half], axis=-1)


def propose_boxes(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The rows · columns windows whose edges stand out most from their surroundings.

    Windows of three sizes and three shapes slide over the picture; each is scored by its mean
    gradient less that of the ring around it, and picked greedily while none overlaps a better one
    by IoU 0.5 or more (suppressed windows fill up if the picture has too few). The picks are put in
    reading order: sorted by height into rows, each row from left to right. (rows, columns, 4)
    float64 boxes x1, y1, x2, y2 in pixels come back.

    Examples
    --------
    >>> picture = np.zeros((100, 100, 3), dtype=np.uint8)
    >>> picture[40:60, 40:60] = 255
    >>> propose_boxes(picture, 1, 1).shape
    (1, 1, 4)
    """
    height, width = image.shape[:2]
    grey = image.mean(axis=2)
    edges = np.hypot(*np.gradient(np.pad(grey, 1, mode="edge")))[1:-1, 1:-1]
    integral = np.pad(edges.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = _sliding_windows(height, width, rows, columns)
    contrast = _mean_inside(integral, boxes) - _mean_inside(integral, _widened(boxes, image.shape))
    chosen: list[int] = []
    waiting, suppressed = np.argsort(-contrast, kind="stable"), np.empty(0, dtype=int)
    while len(chosen) < rows * columns and len(waiting):
        best, waiting = waiting[0], waiting[1:]
        chosen.append(best)
        overlaps = _overlap(boxes[best], boxes[waiting]) >= 0.5
        suppressed = np.append(suppressed, waiting[overlaps])
        waiting = waiting[~overlaps]
    chosen += suppressed[: rows * columns - len(chosen)].tolist()
    picked = boxes[chosen]
    down = np.argsort(picked[:, 1] + picked[:, 3], kind="stable")
    picked = picked[down].reshape(rows, columns, 4)
    across = np.argsort(picked[..., 0] + picked[..., 2], axis=1, kind="stable")
    return np.take_along_axis(picked, across[..., None], axis=1)


def _window_cell(cell: np.ndarray, scheme: str) -> np.ndarray:
    """Two sides of the cell that windows are multiples of: for ``pyramid`` a square of its area."""
    return np.full(2, np.sqrt(cell.prod())) if scheme == "pyramid" else cell


def _windows(image: np.ndarray, grid: Grid, size: int, scheme: str, scale: float) -> Tensor:
    """Around every cell a window of each of the scheme's widths, as size × size pixels."""
    sides = np.array(image.shape[:2])
    cell = _window_cell(sides / grid, scheme)
    patches = []
    for width in WIDTHS[scheme]:
        height_width = np.maximum(1, (sides * size / (scale * width * cell)).round()).astype(int)
        columns_rows = tuple(height_width[::-1].tolist())
        resized = Image.fromarray(image).resize(columns_rows, Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype=np.float32)
        down, across = (
            _between_pixels(cells, size, length)
            for cells, length in zip(grid, height_width, strict=True)
        )
        windows = np.tensordot(down, across @ pixels, axes=1)
        windows = windows.reshape(grid[0], size, grid[1], size, 3).swapaxes(1, 2)
        patches.append(windows.reshape(*grid, -1))
    return torch.from_numpy(np.concatenate(patches, axis=-1)).div_(255)


def _between_pixels(cells: int, size: int, length: int) -> np.ndarray:
    """(cells · size, length): the matrix that reads a window of ``size`` pixels around every cell.

    A place between two pixels takes from both in proportion, one beyond the border the border's.
    """
    centres = (np.arange(cells) + 0.5) / cells * length
    places = (centres[:, None] + np.arange(size) - size / 2).ravel()
    places = places.clip(0, length - 1)[:, None]
    return np.clip(1 - np.abs(places - np.arange(length)), 0, None).astype(np.float32)


def _proposals(image: np.ndarray, grid: Grid, size: int, scale: float) -> Tensor:
    corners = propose_boxes(image, *grid).reshape(-1, 2, 2)
    centres = corners.mean(axis=1, keepdims=True)
    boxes = (centres + scale * (corners - centres)).clip(0, image.shape[1::-1]).reshape(-1, 4)
    picture = Image.fromarray(image)
    patches = [
        np.array(picture.resize((size, size), Image.Resampling.BILINEAR, tuple(box)))
        for box in boxes.tolist()
    ]
    return torch.from_numpy(np.stack(patches)).float().div_(255).reshape(*grid, -1)


SCHEMES = (*WIDTHS, "proposals")
Cells = Callable[[np.ndarray, Grid], Tensor]  # (H, W, 3) uint8 picture and a grid → (m, n, D)


class PatchSource(NamedTuple):
    """What fills the cells of a grid in the place of pixels: a pretrained network's maps, say."""

    accepts: Callable[[str], bool]  # whether a name is one of its own
    load: Callable[[str], Cells]


PATCH_SOURCES: list[PatchSource] = []


def register_patch_source(accepts: Callable[[str], bool], load: Callable[[str], Cells]) -> None:
    """Let a network's ``scheme`` name something else than a scheme of pixels.

    Examples
    --------
    >>> def mean_colours(name):
    ...     return lambda picture, grid: extract_patches(picture, grid, size=1)
    >>> register_patch_source(lambda name: name == "colours", mean_colours)
    >>> patch_source("colours")(np.zeros((32, 32, 3), dtype=np.uint8), (2, 2)).shape
    torch.Size([2, 2, 3])
    >>> _ = PATCH_SOURCES.pop()
    """
    PATCH_SOURCES.append(PatchSource(accepts, load))


def is_patch_source(name: str) -> bool:
    """Whether a registered source accepts this name."""
    load_plugins()
    return any(source.accepts(name) for source in PATCH_SOURCES)


@cache
def patch_source(name: str) -> Cells:
    """The registered source of this name, loaded once; ValueError if none accepts the name."""
    load_plugins()
    for source in PATCH_SOURCES:
        if source.accepts(name):
            return source.load(name)
    raise ValueError(f"there is no patch source {name!r}; choose a scheme: {', '.join(SCHEMES)}.")


def _sliding_windows(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    boxes = []
    for scale in (1.0, 1.5, 2.5):
        for stretch in (0.7, 1.0, 1.4):
            h = min(height, scale * height / rows * stretch)
            w = min(width, scale * width / columns / stretch)
            tops = np.linspace(0, height - h, 2 * rows)
            lefts = np.linspace(0, width - w, 2 * columns)
            y, x = np.meshgrid(tops, lefts, indexing="ij")
            boxes.append(np.stack([x, y, x + w, y + h], axis=-1).reshape(-1, 4))
    return np.concatenate(boxes)


def _widened(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    margin = 0.5 * (boxes[:, 2:] - boxes[:, :2])
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    return np.concatenate([low.clip(0), high.clip(0, (shape[1], shape[0]))], axis=1)


def _mean_inside(integral: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = boxes.round().astype(int).T
    x2, y2 = np.maximum(x2, x1 + 1), np.maximum(y2, y1 + 1)
    x2, y2 = x2.clip(max=integral.shape[1] - 1), y2.clip(max=integral.shape[0] - 1)
    x1, y1 = np.minimum(x1, x2 - 1), np.minimum(y1, y2 - 1)
    total = integral[y2, x2] - integral[y1, x2] - integral[y2, x1] + integral[y1, x1]
    return total / ((x2 - x1) * (y2 - y1))


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return shared / (areas - shared)
