"""How often a query patch's most similar target patch is the true one.

    python benchmarks/true_matches.py [--pairs 80]

No network and no test landmark takes part: pairs of training photos, whose correspondence is
exact, are cut by every patch scheme and on several grids, and compared by zncc.
"""

import argparse

import numpy as np
import torch

from indiret.correlation import correlation_tensor
from indiret.correspondence import true_partners
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.images import crop
from indiret.patches import extract_patches

GRIDS = (((14, 14), (14, 14)), ((14, 14), (10, 10)), ((16, 16), (10, 10)), ((20, 20), (12, 12)))


def pairs(town: RetrievalDataset, count: int) -> list[tuple[str, str]]:
    """Two photos each of evenly spread landmarks, drawn by a fixed seed."""
    random = np.random.default_rng(0)
    spread = np.linspace(0, len(town.landmarks) - 1, count).round().astype(int)
    chosen = [town.landmarks[i] for i in spread]
    views = {query.landmark: sorted(query.good) for query in town.queries}
    return [tuple(random.choice(views[landmark], 2, replace=False)) for landmark in chosen]


def roi_box(town: RetrievalDataset, name: str) -> tuple[float, float, float, float]:
    roi = town.roi(name)
    assert roi is not None
    y, x = np.nonzero(roi)
    return float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=80)
    count = parser.parse_args().pairs
    torch.set_num_threads(1)
    town = load_dataset("toytown", split="train")
    drawn = pairs(town, count)
    print("target grid, query grid, scheme: true patch first (within one), chance")
    for target_grid, query_grid in GRIDS:
        for scheme in ("grid", "dense", "pyramid"):
            right, chance = [], []
            for asked, shown in drawn:
                box, picture = roi_box(town, asked), town.read(shown)
                query = extract_patches(crop(town.read(asked), box), query_grid, scheme=scheme)
                target = extract_patches(picture, target_grid, scheme=scheme)
                view = correlation_tensor(target[None], query[None], ["zncc"], standardise=False)
                best = view[0, 0].flatten(0, 1).argmax(0).numpy()
                geometry = town.geometry(asked), town.geometry(shown)
                partners = true_partners(*geometry, box, query_grid, picture.shape, target_grid)
                known = partners[..., 0] >= 0
                found = np.stack(np.divmod(best, target_grid[1]), axis=-1)
                right += list((np.abs(found - partners).max(-1) <= 1)[known])
                chance.append(9 / (target_grid[0] * target_grid[1]))
            print(
                f"{target_grid} {query_grid} {scheme:8} {np.mean(right):.3f}  {np.mean(chance):.3f}"
            )


if __name__ == "__main__":
    main()
