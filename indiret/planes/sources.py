"""Votes for planes in a pretrained network's feature maps, instead of gradients or beside them.

The paper's last sentence asks for this: patches are described by a registered patch source, such
as a backbone's map, centred and whitened like gradients. Of several sources, cosines are averaged.

Chapter: *Baselines*.
"""

from collections.abc import Sequence
from functools import cached_property, partial
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
    picture_cells,
    root_patches,
    whiten,
)
from indiret.planes.matching import IMPOSTORS, PlaneRetriever
from indiret.planes.network import NAME, PlaneNetRetriever, PlaneNetwork, load_plane_network
from indiret.planes.patch_network import PATCH_NET, load_patch_network, surrounded_patches
from indiret.retrieval import Retriever, register_family

GRADIENTS = "gradients"
PIXELS = (GRADIENTS, PATCH_NET)  # sources with a patch for each of gradients' own
MOST_DIRECTIONS = 64  # directions in which a source's patches differ most
FLOOR = 0.05  # of the mean variance, added to each direction's
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
        """Mean (C,) and whitening (C, `MOST_DIRECTIONS`) of each source's patches."""
        return {name: self._fit(name) for name in self.maps}

    def _fit(self, name: str) -> tuple[Tensor, Tensor]:
        patches = torch.cat([
            self.map_patches(name, picture, side).flatten(0, 1)
            for picture in self.impostor_pictures
            for side in self.config.pyramid[2::2]
        ]).double()  # fmt: skip
        variances, directions = torch.linalg.eigh(patches.T.cov())
        scale = (variances.flip(0) + FLOOR * variances.mean())[:MOST_DIRECTIONS].rsqrt()
        return patches.mean(0).float(), (directions.flip(1)[:, :MOST_DIRECTIONS] * scale).float()

    @cached_property
    def impostor_pictures(self) -> list[Picture]:
        """Queries of Toytown's training part, evenly spread over its landmarks."""
        town = load_dataset("toytown", split="train")
        return [town.read_query(q) for q in town.queries[:: -(-len(town.queries) // IMPOSTORS)]]

    @cached_property
    def impostors(self) -> list[PlaneFeatures]:
        """Their features; those that are shipped are of gradients."""
        return [self.encode_query(picture) for picture in self.impostor_pictures]


class FeaturePlaneNetRetriever(FeaturePlaneRetriever, PlaneNetRetriever):
    """The same votes, judged by a network. It has learned on gradients: its margins still rank, but
    they are no probabilities.
    """

    def __init__(self, sources: Sequence[str], network: PlaneNetwork):
        super().__init__(sources, network)
        self.calibration = None


def split_sources(name: str, kind: str = "planes") -> list[str]:
    """The sources in a method's name, ``KIND:SOURCE+SOURCE``; none if it has another form.

    Examples
    --------
    >>> split_sources("planes:gradients+xfeat"), split_sources("planes")
    (['gradients', 'xfeat'], [])
    """
    first, _, sources = name.partition(":")
    return sources.split("+") if first == kind and sources else []


def _names_sources(kind: str, name: str) -> bool:
    sources = split_sources(name, kind)
    return bool(sources) and all(one in PIXELS or is_patch_source(one) for one in sources)


register_family(
    "planes:SOURCE+SOURCE",
    "votes for planes of a BACKBONE's map, xfeat's, gradients, patch-net, or several together",
    partial(_names_sources, "planes"),
    lambda name: FeaturePlaneRetriever(split_sources(name)),
)
register_family(
    f"{NAME}:SOURCE+SOURCE",
    f"the same, judged by {NAME}",
    partial(_names_sources, NAME),
    lambda name: FeaturePlaneNetRetriever(split_sources(name, NAME), load_plane_network()),
)
