"""Fit what `indiret.planes` needs beforehand: ``python -m tools.fit_planes``.

The whitening of patches, and the templates of the impostors, both from Toytown's training photos;
nothing else is seen. Writes `indiret.planes.gradients.FITTED`.
"""

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import RetrievalDataset, load_dataset
from indiret.planes import PlaneFeatures, PlaneRetriever, dense_rootsift
from indiret.planes.gradients import FITTED
from indiret.planes.matching import IMPOSTORS

SIDES = (112, 176)  # pixels of the longer side
PHOTOS, PATCHES = 240, 150  # photos, and patches of each at each size
KEPT = 64  # directions in which patches differ most
FLOOR = 0.05  # of the mean variance, added to each direction's


def fit_whitening(town: RetrievalDataset) -> dict[str, Tensor]:
    """``mean`` (128,) and ``matrix`` (128, 64), the share of variance printed."""
    random = np.random.default_rng(0)
    names = random.choice(sorted(town.images), PHOTOS, replace=False)
    found = []
    for name in tqdm(names, unit="photo", disable=None):
        picture = town.read(str(name))
        for side in SIDES:
            patches = dense_rootsift(picture, side).flatten(0, 1)
            found.append(patches[random.choice(len(patches), PATCHES, replace=False)])
    patches = torch.cat(found).double()
    variances, directions = torch.linalg.eigh(patches.T.cov())
    variances, directions = variances.flip(0), directions.flip(1)
    scale = (variances + FLOOR * variances.mean())[:KEPT].rsqrt()
    share = float(variances[:KEPT].sum() / variances.sum())
    print(f"{len(patches)} patches, {share:.1%} of their variance is kept")
    return {"mean": patches.mean(0).float(), "matrix": (directions[:, :KEPT] * scale).float()}


def encode_impostors(retriever: PlaneRetriever, town: RetrievalDataset) -> list[PlaneFeatures]:
    """Queries of Toytown's training part, evenly spread over its landmarks."""
    queries = town.queries[:: -(-len(town.queries) // IMPOSTORS)]
    return [retriever.encode_query(town.read_query(query)) for query in queries]


def main() -> None:
    """Fit and write both."""
    town = load_dataset("toytown", split="train")
    fitted = fit_whitening(town)
    save_file({name: values.contiguous() for name, values in fitted.items()}, FITTED)
    for number, one in enumerate(encode_impostors(PlaneRetriever(), town)):
        fitted[f"impostor.{number}.template"] = one.templates[0].patches
        fitted[f"impostor.{number}.close"] = one.close[0].patches
    save_file({name: values.contiguous() for name, values in fitted.items()}, FITTED)
    print(f"{FITTED}: {FITTED.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
