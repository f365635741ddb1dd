"""Fit what the shortlist from pixels needs beforehand: ``python -m tools.fit_postings``.

The projection in which neighbourhoods of patches that show the same are most alike, from Toytown's
training photos and their geometry; nothing else is seen. Writes
`indiret.index.pixels.FITTED_WORDS`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.checkpoints import save_tensors
from indiret.datasets import Geometry, RetrievalDataset, load_dataset
from indiret.evaluation.correspondence import ground_truth_points
from indiret.index.pixels import FITTED_WORDS, STEEP, WORD, neighbourhoods
from indiret.planes import PATCH_CELLS, PLANE_CONFIG, PlaneRetriever

SIDES = PLANE_CONFIG.pyramid
PARTNERS, POINTS = 2, 50  # photos of the same landmark, and points of each pair
ZOOM = (0.3, 3.0)  # between two photos, beyond which a point is left out
MISFIT = 0.15  # by which the logarithms of two sizes may differ from the zoom between the photos
FLOOR = 0.02  # of the mean variance, added to each direction's
POWER = 0.75  # of a direction's correlation between matching neighbourhoods, its weight


def read_neighbourhoods(
    patches: Tensor, points: NDArray[np.float64], shape: Sequence[int]
) -> Tensor:
    """(N, 256): those around points x, y of a photo (H, W); 0 for flat ones, and past its edge."""
    found = torch.zeros(len(points), 4 * patches.shape[2])
    if min(patches.shape[:2]) <= PATCH_CELLS:
        return found
    level = neighbourhoods(patches.float())
    rows, columns = level.shape[:2]
    cells = np.array([columns, rows]) + 2 * PATCH_CELLS - 1
    places = np.rint(points / shape[::-1] * cells - PATCH_CELLS).astype(int)
    inside = ((places >= 0) & (places < [columns, rows])).all(1)
    found[inside] = level[places[inside, 1], places[inside, 0]]
    return found * (found.square().sum(1, keepdim=True) > STEEP)


def matching_points(
    first: Geometry, second: Geometry, shape: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Points x, y that two photos show, in each, and how much larger the second shows them."""
    seen = np.argwhere(np.isfinite(first.positions[..., 0]))[:, ::-1]
    points = (seen + 0.5) * first.cell
    moved = [
        ground_truth_points(first, second, points + step, shape)
        for step in ([0, 0], [first.cell, 0], [0, first.cell])
    ]
    (right_x, right_y), (down_x, down_y) = (moved[1] - moved[0]).T, (moved[2] - moved[0]).T
    zoom = np.sqrt(np.abs(right_x * down_y - right_y * down_x)) / first.cell
    kept = (zoom > ZOOM[0]) & (zoom < ZOOM[1])  # no NaN is
    middle = float(np.median(zoom[kept])) if kept.any() else 1.0
    return points[kept], moved[0][kept], middle


def matching_neighbourhoods(
    town: RetrievalDataset, pyramids: Mapping[str, Sequence[Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (N, 256) and (N, 256) of neighbourhoods that show the same, each in its size."""
    random = np.random.default_rng(0)
    landmarks = defaultdict[str, set[str]](set)
    for query in town.queries:
        landmarks[query.landmark] |= query.positives
    for _, names in sorted(landmarks.items()):
        found = {name: town.geometry(name) for name in sorted(names)}
        geometry = {name: one for name, one in found.items() if one}
        shapes = {name: town.read(name).shape[:2] for name in geometry}
        for first in geometry:
            others = [name for name in geometry if name != first]
            for second in random.permutation(others)[:PARTNERS]:
                here, there, zoom = matching_points(
                    geometry[first], geometry[second], shapes[second]
                )
                level = int(random.integers(len(SIDES) - 2))
                side = SIDES[level] * max(shapes[second]) / (max(shapes[first]) * zoom)
                misfit = np.abs(np.log(np.array(SIDES) / side))
                if misfit.min() > MISFIT:
                    continue
                some = random.permutation(len(here))[:POINTS]
                one = read_neighbourhoods(pyramids[first][level], here[some], shapes[first])
                other = read_neighbourhoods(
                    pyramids[second][int(misfit.argmin())], there[some], shapes[second]
                )
                steep = (one.any(1) & other.any(1)).nonzero()[:, 0]
                yield F.normalize(one[steep], dim=1), F.normalize(other[steep], dim=1)


def fit_projection(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """``mean`` (256,) and ``matrix`` (256, WORD): a linear discriminant analysis of pairs.

    Directions are those in which pairs differ least for how much neighbourhoods differ, each of
    deviation 1, times its correlation to `POWER`.
    """
    both, apart = torch.cat([first, second]).double(), (first - second).double()
    within, total = apart.mT @ apart / (2 * len(apart)), both.mT.cov()
    floor = FLOOR * total.diagonal().mean() * torch.eye(len(total))
    share, directions = eigh((within + floor).numpy(), (total + floor).numpy())
    print("variance within pairs, of all:", np.round(share[[0, WORD // 2, WORD - 1]], 2))
    weights = (1 - share[:WORD]) ** POWER
    return both.mean(0), torch.from_numpy(directions[:, :WORD] * weights)


@torch.inference_mode()
def main() -> None:
    """Fit and write it."""
    town = load_dataset("toytown", split="train")
    retriever, pyramids = PlaneRetriever(), {}
    for name in tqdm(town.images, unit="photo", disable=None):
        picture = town.read(name)
        pyramids[name] = [retriever.patches(picture, side).half() for side in SIDES]
    first, second = map(torch.cat, zip(*matching_neighbourhoods(town, pyramids), strict=True))
    mean, matrix = fit_projection(first, second)
    print(f"{len(first)} pairs")
    fitted = {"mean": mean, "matrix": matrix}
    save_tensors(FITTED_WORDS, {name: values.half() for name, values in fitted.items()})


if __name__ == "__main__":
    main()
