"""Votes for planes in a pretrained network's feature maps, instead of gradients or beside them.

The paper's last sentence asks for this: patches are described by a registered patch source, such
as a backbone's map, centred and whitened like gradients. Of several sources, cosines are averaged.

Chapter: *Baselines*.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.datasets import load_dataset
from indiret.images import Picture
from indiret.patches import is_patch_source, patch_source
from indiret.planes.features import PlaneFeatures
from indiret.planes.gradients import (
    PATCH_CELLS,
    cell_grid,
    fit_directions,
    picture_cells,
    root_patches,
    whiten,
)
from indiret.planes.matching import BY_FINER_PATCHES, IMPOSTORS, PlaneRetriever
from indiret.planes.network import NAME, PlaneNetRetriever, PlaneNetwork, load_plane_network
from indiret.planes.patch_network import PATCH_NET, load_patch_network, surrounded_patches
from indiret.retrieval import Retriever, register_family

GRADIENTS = "gradients"
PIXELS = (GRADIENTS, PATCH_NET)  # sources with a patch for each of gradients' own
FINENESS = 2  # cells of gradients along a cell of a map: maps cost a quarter of those as fine
FEWEST = 4  # cells of a map along its shorter side


class FeaturePlaneRetriever(PlaneRetriever):
    """Votes for planes of the cosines of one patch source, or of the mean over several.

    ``sources`` are names that `indiret.patches.patch_source` knows, ``gradients`` or ``patch-net``.
    Its features are not kept on disk. Raises ValueError if a source is not known.

    Examples
    --------
    >>> retriever = FeaturePlaneRetriever(["gradients"])
    >>> picture = torch.rand(90, 120, 3).mul(255).byte().numpy()
    >>> retriever.patches(picture, 112).shape
    torch.Size([18, 25, 64])
    """

    evidence_kinds = ("planes", BY_FINER_PATCHES)  # finer patches of a coarse map say less

    def __init__(self, sources: Sequence[str], *arguments: Any):
        super().__init__(*arguments)
        self.sources = tuple(sources)
        self.maps = {name: patch_source(name) for name in sources if name not in PIXELS}

    encode_to_pack = Retriever.encode_to_pack
    pack = Retriever.pack
    unpack = Retriever.unpack
    fingerprint = Retriever.fingerprint

    def prepare(self, picture: Picture) -> Picture:
        """The picture itself: networks see colours."""
        return picture

    def patches(self, picture: Picture, long_side: int) -> Tensor:
        """(rows, columns, D): all sources' patches in one, as long as those of the gradients."""
        cells = picture_cells(picture, long_side)
        gradients, found = root_patches(cells), []
        if GRADIENTS in self.sources:
            found.append(F.normalize(whiten(gradients), dim=-1))
        if PATCH_NET in self.sources:
            found.append(load_patch_network()(surrounded_patches(cells)))
        for name, (mean, matrix) in self.fitted.items():
            centred = self.map_patches(name, picture, long_side) - mean
            found.append(F.normalize(centred @ matrix, dim=-1))
        return torch.cat(found, -1) * (gradients.norm(dim=-1, keepdim=True) / len(found) ** 0.5)

    def map_patches(self, name: str, picture: Picture, long_side: int) -> Tensor:
        """(rows, columns, C): a source's map at the centres of the patches of gradients."""
        height, width = picture.shape[:2]
        cells = cell_grid(height, width, long_side)
        rows, columns = (max(-(-side // FINENESS), FEWEST) for side in cells)
        maps = F.normalize(self.maps[name](picture, (rows, columns)).float(), dim=-1)
        y, x = (  # from -1 to 1
            (torch.arange(side - PATCH_CELLS + 1) + PATCH_CELLS / 2) * (2 / side) - 1
            for side in cells
        )
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        maps = maps.permute(2, 0, 1)[None]
        return F.grid_sample(maps, places[None], align_corners=False)[0].permute(1, 2, 0)

    @cached_property
    def fitted(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What `fit_directions` finds in the impostors' patches of each source."""
        shown = [(one, side) for one in impostor_pictures() for side in self.config.pyramid[2::2]]
        return {
            name: fit_directions(
                torch.cat([self.map_patches(name, *one).flatten(0, 1) for one in shown])
            )
            for name in self.maps
        }

    @cached_property
    def impostors(self) -> list[PlaneFeatures]:
        """Their features; those that are shipped are of gradients."""
        return [self.encode_query(picture) for picture in impostor_pictures()]


class FeaturePlaneNetRetriever(FeaturePlaneRetriever, PlaneNetRetriever):
    """The same votes, judged by a network. It has learned on gradients: its margins still rank, but
    they are no probabilities.
    """

    evidence_kinds = ("support", BY_FINER_PATCHES)

    def __init__(self, sources: Sequence[str], network: PlaneNetwork):
        super().__init__(sources, network)
        self.calibration = None


@cache
def impostor_pictures() -> list[Picture]:
    """Queries of Toytown's training part, evenly spread over its landmarks.

    Examples
    --------
    >>> len(impostor_pictures())
    16
    """
    town = load_dataset("toytown", split="train")
    return [town.read_query(q) for q in town.queries[:: -(-len(town.queries) // IMPOSTORS)]]


def split_sources(name: str) -> list[str]:
    """The sources in a method's name, ``KIND:SOURCE+SOURCE``; ValueError if one is not known.

    Examples
    --------
    >>> split_sources("planes:gradients+efficientnet-lite0/16")
    ['gradients', 'efficientnet-lite0/16']
    """
    sources = name.partition(":")[2].split("+")
    for one in sources:
        if one not in PIXELS and not is_patch_source(one):
            raise ValueError(
                f"{name!r} names the patch source {one!r}, which is not known; choose {GRADIENTS}, "
                f"{PATCH_NET}, xfeat or a backbone's map, such as efficientnet-lite0/16."
            )
    return sources


register_family(
    "planes:SOURCE+SOURCE",
    "votes for planes of a BACKBONE's map, xfeat's, gradients, patch-net, or several together",
    lambda name: name.startswith("planes:") and "," not in name,
    lambda name: FeaturePlaneRetriever(split_sources(name)),
)
register_family(
    f"{NAME}:SOURCE+SOURCE",
    f"the same, judged by {NAME}",
    lambda name: name.startswith(f"{NAME}:") and "," not in name,
    lambda name: FeaturePlaneNetRetriever(split_sources(name), load_plane_network()),
)
