"""Fit what `indiret.planes.whiten` takes away: ``python -m tools.whiten_slopes``.

Patches of Toytown's training photos, of two sizes each; nothing else is seen.
"""

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from indiret.datasets import load_dataset
from indiret.planes import WHITENING, slope_patches

SIDES = (112, 176)  # pixels of the longer side
PHOTOS, PATCHES = 240, 150  # photos, and patches of each at each size
KEPT = 64  # directions in which patches differ most
FLOOR = 0.05  # of the mean variance, added to each direction's


def main() -> None:
    """Fit and write `WHITENING`."""
    town = load_dataset("toytown", split="train")
    random = np.random.default_rng(0)
    names = random.choice(sorted(town.images), PHOTOS, replace=False)
    found = []
    for name in tqdm(names, unit="photo", disable=None):
        picture = town.read(str(name))
        for side in SIDES:
            patches = slope_patches(picture, side).flatten(0, 1)
            found.append(patches[random.choice(len(patches), PATCHES, replace=False)])
    patches = torch.cat(found).double()
    variances, directions = torch.linalg.eigh(patches.T.cov())
    variances, directions = variances.flip(0), directions.flip(1)
    scale = (variances + FLOOR * variances.mean())[:KEPT].rsqrt()
    fitted = {"mean": patches.mean(0), "matrix": directions[:, :KEPT] * scale}
    save_file({name: x.float().contiguous() for name, x in fitted.items()}, WHITENING)
    share = float(variances[:KEPT].sum() / variances.sum())
    size = WHITENING.stat().st_size // 1000
    print(f"{WHITENING}: {len(patches)} patches, {share:.1%} of their variance, {size} KB")


if __name__ == "__main__":
    main()
