"""Retrievers that learn nothing: what any other must beat.

Chapter: *Baselines*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from indiret.baselines.backbones import exact
from indiret.baselines.reranking import row_products
from indiret.correlation import correlation_tensor
from indiret.evidence import Evidence, smooth
from indiret.images import Picture
from indiret.patches import extract_patches
from indiret.retrieval import Retriever, Scores, check_kind, register_retriever

Vector = NDArray[np.float32]


class ColourHistogram(Retriever):
    """Joint RGB histogram of 8 × 8 × 8 bins; the score is the intersection, 0 to 1.

    Examples
    --------
    >>> retriever = ColourHistogram()
    >>> black, white = (retriever.encode(np.full((16, 16, 3), v, np.uint8)) for v in (0, 255))
    >>> retriever.score(black, [black, white]).tolist()
    [1.0, 0.0]
    """

    def encode(self, picture: Picture) -> Vector:
        """(512,), sum 1."""
        red, green, blue = np.moveaxis(picture >> 5, -1, 0).astype(int)
        counts = np.bincount((64 * red + 8 * green + blue).ravel(), minlength=512)
        return (counts / counts.sum()).astype(np.float32)

    def score(self, query: Vector, database: Sequence[Vector]) -> Scores:
        return np.minimum(query, np.stack(database)).astype(np.float64).sum(axis=1)


class Thumbnail(Retriever):
    """The picture as 32 × 32 grey pixels; the score is their correlation, −1 to 1."""

    def encode(self, picture: Picture) -> Vector:
        """(1024,), zero mean and unit norm."""
        small = Image.fromarray(picture).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
        values = np.asarray(small, dtype=np.float32).ravel()
        values = values - values.mean()
        return values / max(float(np.linalg.norm(values)), 1e-6)

    def score(self, query: Vector, database: Sequence[Vector]) -> Scores:
        return row_products(np.stack(database), query)


class MutualNearest(Retriever):
    """Count of mutual nearest neighbours on the cosine view of the tensor, no learning.

    A pair of patches counts if each is the other's most similar patch; of equal ones the first.
    Either picture has ``grid`` (m, n) patches of ``size`` × ``size`` pixels.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    >>> patches = MutualNearest(grid=(3, 4)).encode(picture)
    >>> MutualNearest().score(patches, [patches]).tolist()
    [12.0]
    """

    evidence_kinds = ("mutual",)

    def __init__(self, grid: tuple[int, int] = (14, 14), size: int = 8):
        self.grid, self.size = grid, size

    def encode(self, picture: Picture) -> Tensor:
        """Patches (m, n, D), uint8."""
        return extract_patches(picture, self.grid, self.size).mul(255).round().byte()

    def score(self, query: Tensor, database: Sequence[Tensor]) -> Scores:
        return np.array([float(self._mutual(query, target).sum()) for target in database])

    @exact
    def explain(self, query: Tensor, target: Tensor, kind: str | None = None) -> Evidence:
        """The mutual pairs (m, n, m', n'), 0 or 1, averaged once over their neighbours."""
        check_kind(self, kind)
        mutual = self._mutual(query, target).float()
        return Evidence(float(mutual.sum()), smooth(mutual[None])[0])

    @exact
    def _mutual(self, query: Tensor, target: Tensor) -> Tensor:
        """Whether target patch and query patch choose each other, (m, n, m', n')."""
        given = target[None].float() / 255, query[None].float() / 255
        view = correlation_tensor(*given, metrics=("cosine",), standardise=False)[0, 0]
        table = view.flatten(0, 1).flatten(1)
        chosen = torch.zeros_like(table, dtype=torch.bool)
        by_query = chosen.scatter(0, table.argmax(dim=0)[None], True)
        return (chosen.scatter(1, table.argmax(dim=1)[:, None], True) & by_query).view_as(view)


register_retriever("colour-histogram", "joint RGB histogram, 8 x 8 x 8 bins", ColourHistogram)
register_retriever("thumbnail", "correlation of 32 x 32 grey pixels", Thumbnail)
register_retriever("mutual-nn", "mutual nearest patches on the cosine tensor", MutualNearest)
