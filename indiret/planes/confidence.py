"""How probable it is that a verified plane puts a patch where it belongs, if both photos show it.

Two numbers tell, both of the pair alone. *Support*: the weaker of both directions, near the point
and near its place in the target, over the pair's mean. *Cycle*: by how many patches of the query a
point is off when it moves to the target as the patches near it do, and back as those there. Then
the probability is sigmoid(a · log(support + 0.01) + b · log(cycle + 0.1) + c), with a > 0 > b.
Where it is low inside the target, something hides the patch, or it is no part of the thing.

Chapter: *Sphere or plane?*
"""

import json
from functools import cache

import torch
from torch import Tensor

from indiret.checkpoints import WEIGHTS
from indiret.patches import patch_grid
from indiret.planes.correspondence import EVIDENCE_GRID, PlaneCorrespondence, move_places
from indiret.planes.geometry import grid_places
from indiret.planes.verification import VerifiedPlane, inverse_plane

CONFIDENCE = WEIGHTS.parent / "planes" / "confidence.json"  # of tools.fit_confidence
NEARBY = 0.75  # patches, the standard deviation of the Gaussian within which patches count
ADDED = 0.01, 0.1  # added to support and cycle before their logarithms


def patch_probability(
    best: VerifiedPlane, query_shape: tuple[int, int], target_shape: tuple[int, int]
) -> Tensor:
    """(m', n'): of each query patch of the evidence, whether its place is right within one patch.

    NaN where the plane puts it outside of the target. Shapes are (height, width) of the photos.

    Examples
    --------
    >>> from indiret.planes.verification import verify
    >>> from indiret.planes.matching import PlaneRetriever
    >>> random = torch.Generator().manual_seed(0)
    >>> picture = torch.rand(120, 160, 3, generator=random).mul(255).byte().numpy()
    >>> features = PlaneRetriever().encode(picture)
    >>> best = verify([torch.eye(3)[:, :2]], features, features)
    >>> probability = patch_probability(best, (120, 160), (120, 160))
    >>> probability.shape, bool(probability.mean() > 0.7)
    (torch.Size([10, 14]), True)
    """
    rows, columns = patch_grid(*query_shape, EVIDENCE_GRID, "keep")
    points = (grid_places(rows, columns) + 0.5) / torch.tensor([rows, columns])
    places, traits = measure_points(best, points, query_shape, target_shape)
    inside = ((places >= 0) & (places <= 1)).all(-1)
    return line_probability(traits, torch.tensor(load_line())).where(inside, torch.nan)


def line_probability(traits: Tensor, line: Tensor) -> Tensor:
    """(...): probabilities of support and cycle, (..., 2), by the line a, b and c.

    Examples
    --------
    >>> line_probability(torch.tensor([[1.0, 0.0], [0.1, 2.0]]), torch.tensor([1.0, -1.0, -1.0]))
    tensor([0.7879, 0.0189])
    """
    logarithms = (traits + traits.new_tensor(ADDED)).log()
    return (logarithms @ line[:2].to(traits) + line[2]).sigmoid()


def measure_points(
    best: VerifiedPlane, points: Tensor, query_shape: tuple[int, int], target_shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Places in the target of the query's points (..., 2), and their support and cycle (..., 2)."""
    here, there = (
        torch.tensor(patch_grid(*shape, EVIDENCE_GRID, "keep"), dtype=torch.float32)
        for shape in (query_shape, target_shape)
    )
    places, inverse = move_places(points, best.plane), inverse_plane(best.plane)
    support, move = _near(best.forward, best.plane, points, here)
    back_support, back_move = _near(best.backward, inverse, places, there)
    cycle = ((move @ inverse[:2] + back_move) * here).norm(dim=-1)
    mean = best.support / 2  # of both directions
    return places, torch.stack([torch.minimum(support, back_support) / mean, cycle], -1)


def _near(
    found: PlaneCorrespondence, plane: Tensor, points: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean support (...) and mean move off the plane (..., 2) of the patches near points."""
    moves = found.matched_points - move_places(found.template_points, plane)
    away = torch.cdist(points.reshape(-1, 2) * grid, found.template_points.flatten(0, 1) * grid)
    weights = (away / NEARBY).square().mul(-0.5).softmax(-1)
    values = torch.cat([found.support[..., None], moves], -1).flatten(0, 1)
    means = (weights @ values).view(*points.shape[:-1], 3)
    return means[..., 0], means[..., 1:]


@cache
def load_line() -> tuple[float, float, float]:
    """a, b and c, as `tools.fit_confidence` stored them."""
    a, b, c = json.loads(CONFIDENCE.read_text(encoding="utf-8"))["line"]
    return a, b, c
