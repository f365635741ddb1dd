"""How often a query patch's most similar target patch is the true one.

    python benchmarks/true_matches.py [--pairs 80]

No network and no test landmark takes part: pairs of training photos, whose correspondence is
exact, are cut in every way of the list below and compared by one metric.
"""

import argparse

import numpy as np
import torch

from indiret.correlation import correlation_tensor
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import ground_truth_matches
from indiret.images import crop
from indiret.network import NetworkConfig, cut_patches

ONE_WINDOW = {"scales": (1.0,), "shifts": 1}
ROWS: list[tuple[str, dict[str, object]]] = [
    ("zncc", {"scheme": "grid", "query_grid": (14, 14), **ONE_WINDOW}),
    ("zncc", {"scheme": "grid", **ONE_WINDOW}),
    ("zncc", {"scheme": "dense", **ONE_WINDOW}),
    ("zncc", {"scheme": "pyramid", **ONE_WINDOW}),
    ("gradients", {"scheme": "grid", **ONE_WINDOW}),
    ("gradients", {"scheme": "pyramid", "size": 8, **ONE_WINDOW}),
    ("gradients", {"scheme": "pyramid", "query_grid": (14, 14), **ONE_WINDOW}),
    ("gradients", {"scheme": "pyramid", **ONE_WINDOW}),
    ("gradients", {"scheme": "pyramid", "shifts": 2, "scales": (1.0,)}),
    ("gradients", {"scheme": "pyramid", "shifts": 1, "scales": (0.7, 1.0)}),
    ("gradients", {"scheme": "pyramid", "shifts": 2, "scales": (0.7, 1.0)}),
    ("gradients", {"scheme": "pyramid", "shifts": 2, "scales": (0.6, 0.8, 1.07)}),
]


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
    print("metric, scheme, size, query grid, scales, shifts: true patch first, or within one")
    for metric, changes in ROWS:
        config = NetworkConfig().replace(**changes)
        first, near = [], []
        for asked, shown in drawn:
            box, picture = roi_box(town, asked), town.read(shown)
            query = cut_patches(config, crop(town.read(asked), box), query=True)
            target = cut_patches(config, picture)
            view = correlation_tensor(target[None], query[None], [metric], standardise=False)
            best = view[0, 0].flatten(0, 1).argmax(0).numpy()
            there, here = town.geometry(asked), town.geometry(shown)
            assert there is not None and here is not None  # Toytown has it of every photo
            grids = config.query_grid, picture.shape, config.grid
            partners = ground_truth_matches(there, here, box, *grids)
            known = partners[..., 0] >= 0
            found = np.stack(np.divmod(best, config.grid[1]), axis=-1)
            steps = np.abs(found - partners).max(-1)[known]
            first += list(steps == 0)
            near += list(steps <= 1)
        setting = f"{config.scheme} {config.size} {config.query_grid} {config.scales}"
        print(f"{metric} {setting} {config.shifts}: {np.mean(first):.3f} {np.mean(near):.3f}")
    cells = config.grid[0] * config.grid[1]
    print(f"by chance {1 / cells:.3f}, within one at most {9 / cells:.3f}")


if __name__ == "__main__":
    main()
