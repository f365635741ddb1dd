"""Cut a picture into the patches that Eq. 1 compares.

Every scheme puts one patch on each cell of an m × n grid, so that the correlation tensor keeps the
picture's two axes:

- ``grid``: the patch is the cell;
- ``dense``: the patch is twice as wide as the cell, so that neighbours overlap by half;
- ``pyramid``: windows one, two and four cells wide on each cell, side by side in the patch vector;
- ``proposals``: the m · n windows that stand out most from their surroundings, in reading order.

Chapter: *Patches and metrics*.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from torch import Tensor

Grid = tuple[int, int]
Aspect = Literal["squash", "keep"]
PYRAMID = (1, 2, 4)  # widths of its windows, in cells


def patch_grid(height: int, width: int, grid: Grid = (14, 14), aspect: str = "squash") -> Grid:
    """Rows and columns of the patch grid laid over a picture.

    Parameters
    ----------
    height, width
        Size of the picture in pixels.
    grid
        (m, n), the grid asked for.
    aspect
        ``"squash"`` stretches the picture to the grid; ``"keep"`` takes the largest grid inside
        (m, n) with the picture's proportions, so that cells stay square.

    Raises
    ------
    ValueError
        If the grid is not two whole numbers ≥ 1 or ``aspect`` is unknown.

    Examples
    --------
    >>> patch_grid(240, 320)
    (14, 14)
    >>> patch_grid(240, 320, aspect="keep")
    (10, 14)
    """
    if len(grid) != 2 or any(int(side) != side or side < 1 for side in grid):
        raise ValueError(f"grid={grid!r} is not a pair of whole numbers of at least 1: (14, 14).")
    rows, columns = int(grid[0]), int(grid[1])
    if aspect == "squash":
        return rows, columns
    if aspect == "keep":
        scale = min(rows / height, columns / width)
        return max(1, round(height * scale)), max(1, round(width * scale))
    raise ValueError(f"aspect={aspect!r} is not known; choose 'squash' or 'keep'.")


def extract_patches(
    image: np.ndarray,
    grid: Grid = (14, 14),
    size: int = 8,
    scheme: str = "grid",
    aspect: str = "squash",
) -> Tensor:
    """Patches p_ij of a picture, as rows of raw pixel values.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB, as `indiret.images.read_image` returns it.
    grid
        (m, n): rows and columns of patches.
    size
        Side of a patch in pixels, after the picture was resized.
    scheme
        ``"grid"``, ``"dense"``, ``"pyramid"`` or ``"proposals"``; see the module's first lines.
    aspect
        ``"squash"`` or ``"keep"``; see `patch_grid`.

    Returns
    -------
    Tensor
        (m, n, D) float32 in 0 … 1 with D = size · size · 3 (three times that for ``pyramid``);
        values run over patch rows, then patch columns, then colours.

    Raises
    ------
    TypeError
        If the picture is not uint8.
    ValueError
        If the picture is not (H, W, 3), or a setting is out of range.

    Examples
    --------
    >>> picture = np.zeros((240, 320, 3), dtype=np.uint8)
    >>> extract_patches(picture).shape
    torch.Size([14, 14, 192])
    >>> extract_patches(picture, grid=(6, 9), size=8, scheme="pyramid", aspect="keep").shape
    torch.Size([6, 8, 576])
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"the picture is {kind}; give a uint8 array as read_image returns it.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"the picture has shape {image.shape}; give (height, width, 3).")
    if int(size) != size or size < 1:
        raise ValueError(f"size={size!r} is not a whole number of pixels of at least 1.")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r} is not known; choose one of {', '.join(SCHEMES)}.")
    height, width = image.shape[:2]
    return SCHEMES[scheme](image, patch_grid(height, width, grid, aspect), int(size))


def patch_length(size: int = 8, scheme: str = "grid") -> int:
    """D, the number of values of a patch.

    Examples
    --------
    >>> patch_length(8), patch_length(8, "pyramid")
    (192, 576)
    """
    return 3 * size**2 * (len(PYRAMID) if scheme == "pyramid" else 1)


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
    height, width = image.shape[:2]
    rows, columns = patch_grid(height, width, grid, aspect)
    if scheme == "proposals":
        return propose_boxes(image, rows, columns)
    if scheme not in CELLS_WIDE:
        raise ValueError(f"scheme={scheme!r} is not known; choose one of {', '.join(SCHEMES)}.")
    reach = (CELLS_WIDE[scheme] - 1) / 2
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    corners = [x - reach, y - reach, x + 1 + reach, y + 1 + reach]
    return np.stack(corners, axis=-1) * np.tile([width / columns, height / rows], 2)


def propose_boxes(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The rows · columns windows whose edges stand out most from their surroundings.

    Windows of three sizes and three shapes slide over the picture; each is scored by its mean
    gradient less that of the ring around it, and picked greedily while none overlaps a better one
    by IoU 0.5 or more (suppressed windows fill up if the picture has too few). The picks are put
    in reading order: sorted by height into rows, each row from left to right.

    Returns
    -------
    ndarray
        (rows, columns, 4) float64 boxes x1, y1, x2, y2 in pixels.

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
    order = np.argsort(-contrast, kind="stable")
    chosen: list[int] = []
    waiting, suppressed = order, np.empty(0, dtype=int)
    while len(chosen) < rows * columns and len(waiting):
        best, waiting = waiting[0], waiting[1:]
        chosen.append(best)
        overlaps = _overlap(boxes[best], boxes[waiting]) >= 0.5
        suppressed = np.append(suppressed, waiting[overlaps])
        waiting = waiting[~overlaps]
    chosen += suppressed[: rows * columns - len(chosen)].tolist()
    picked = boxes[chosen]
    picked = picked[np.argsort(picked[:, 1] + picked[:, 3], kind="stable")]
    picked = picked.reshape(rows, columns, 4)
    across = np.argsort(picked[..., 0] + picked[..., 2], axis=1, kind="stable")
    return np.take_along_axis(picked, across[..., None], axis=1)


def _windows(image: np.ndarray, grid: Grid, size: int, widths: tuple[int, ...]) -> Tensor:
    """Around every cell a window of each width in cells, as size × size pixels."""
    cells = Image.fromarray(image).resize(
        (grid[1] * size, grid[0] * size), Image.Resampling.BILINEAR
    )
    patches = []
    for width in widths:
        stride, rest = divmod(size, width)
        border, odd = divmod(size - stride, 2)
        if rest or odd:
            raise ValueError(
                f"size={size} does not divide into windows {width} cells wide; "
                "take a multiple of 8."
            )
        pixels = np.pad(
            np.asarray(cells.reduce(width)), ((border,) * 2, (border,) * 2, (0, 0)), "edge"
        )
        windows = sliding_window_view(pixels, (size, size), axis=(0, 1))[::stride, ::stride]
        patches.append(windows.transpose(0, 1, 3, 4, 2).reshape(*grid, -1))
    return torch.from_numpy(np.concatenate(patches, axis=-1)).float().div_(255)


def _proposals(image: np.ndarray, grid: Grid, size: int) -> Tensor:
    picture = Image.fromarray(image)
    boxes = propose_boxes(image, *grid).reshape(-1, 4)
    patches = [
        np.array(picture.resize((size, size), Image.Resampling.BILINEAR, box=tuple(box)))
        for box in boxes
    ]
    return torch.from_numpy(np.stack(patches)).float().div_(255).reshape(*grid, -1)


SCHEMES: dict[str, Callable[[np.ndarray, Grid, int], Tensor]] = {
    "grid": lambda image, grid, size: _windows(image, grid, size, (1,)),
    "dense": lambda image, grid, size: _windows(image, grid, size, (2,)),
    "pyramid": lambda image, grid, size: _windows(image, grid, size, PYRAMID),
    "proposals": _proposals,
}
CELLS_WIDE = {"grid": 1, "dense": 2, "pyramid": max(PYRAMID)}


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
