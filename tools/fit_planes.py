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
from indiret.planes.gradients import FITTED, fit_directions
from indiret.planes.sources import impostor_pictures

SIDES = (112, 176)  # pixels of the longer side
PHOTOS, PATCHES = 240, 150  # photos, and patches of each at each size


def fit_whitening(town: RetrievalDataset) -> dict[str, Tensor]:
    """``mean`` (128,) and ``matrix`` (128, 64) of patches of Toytown."""
    random = np.random.default_rng(0)
    names = random.choice(sorted(town.images), PHOTOS, replace=False)
    found = []
    for name in tqdm(names, unit="photo", disable=None):
        picture = town.read(str(name))
        for side in SIDES:
            patches = dense_rootsift(picture, side).flatten(0, 1)
            found.append(patches[random.choice(len(patches), PATCHES, replace=False)])
    mean, matrix = fit_directions(torch.cat(found))
    return {"mean": mean, "matrix": matrix}


def encode_impostors(retriever: PlaneRetriever) -> list[PlaneFeatures]:
    """The impostors as a retriever matches them with every photo."""
    return [retriever.encode_query(picture) for picture in impostor_pictures()]


def main() -> None:
    """Fit and write both."""
    town = load_dataset("toytown", split="train")
    fitted = fit_whitening(town)
    save_file({name: values.contiguous() for name, values in fitted.items()}, FITTED)
    for number, one in enumerate(encode_impostors(PlaneRetriever())):
        fitted[f"impostor.{number}.template"] = one.template.patches
        fitted[f"impostor.{number}.close"] = one.close.patches
    save_file({name: values.contiguous() for name, values in fitted.items()}, FITTED)
    print(f"{FITTED}: {FITTED.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
