"""A shortlist from pixels alone: an inverted file whose postings vote for planes.

A *neighbourhood* is four patches side by side: fewer are alike by chance than single ones.
Every second one of a photo, in every size, falls into the nearest of 65,536 *cells* and leaves a
posting there. Each neighbourhood of a query reads the postings of the cells around it; those whose
codes are like it vote for the translation and size that would bring them together (Jégou et al.,
*Hamming embedding and weak geometric consistency*, 2008). A photo scores as a pair of photos does
in `indiret.planes`: v z, the votes of its best plane times their z-score among all its planes.

Cells and codes are fitted on Toytown's training part by `tools.fit_postings`, never on a
collection: so segments can be merged, and two updates equal one.

Chapter: *From pairs to collections*.
"""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.checkpoints import WEIGHTS, hash_tensors, load_tensors
from indiret.images import Picture
from indiret.index.postings import POSTING, InvertedFile, merge_segments, write_segment
from indiret.index.shortlist import SHORTLISTS, Segment
from indiret.planes import PATCH_CELLS, PLANE_CONFIGS, PlaneFeatures, PlaneRetriever
from indiret.planes.matching import STEP
from indiret.planes.voting import float32_on_cpu

FITTED_CELLS = WEIGHTS / "postings.safetensors"
QUERY_LEVEL = 2  # the number of the size in which a query asks: 111 pixels
STEEP = 1.0  # square of a neighbourhood's length below which it is too flat to be filed, or to ask
PROBES = 128  # cells that a neighbourhood of a query reads
NEAR_CENTRES = 24  # centres of each half that are looked at for them
MOST_READ = 4_000_000  # postings that a query reads
MOST_BITS = 48  # in which codes may differ at first sight
LEAST_COSINE = 0.38  # of a neighbourhood and a code that votes
PLANES = 5000  # about as many has a photo of 4 : 3
CODE = 128  # numbers of a neighbourhood, and bits of its code
CELL_SIZE = 64  # of them, the first, by which its cell is chosen
SIDE = 64  # more than there are planes, or postings, along a side
MOST_PLACES = 26  # more than a query has along a side, an even number
SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).T * 2.0 - 1  # (8, 256)


@cache
def fitted_cells() -> dict[str, Tensor]:
    """``mean`` (256,), ``matrix`` (256, 128), ``centres`` (2, 256, 32), by `tools.fit_postings`."""
    return {name: values.float() for name, values in load_tensors(FITTED_CELLS)[1].items()}


class PixelQuery(NamedTuple):
    """The neighbourhoods of a query, which ask."""

    patches: NDArray[np.float32]  # (N, 128), of length 1
    places: NDArray[np.int64]  # (N, 2) row and column
    cells: NDArray[np.int64]  # (N, PROBES), nearest first


def neighbourhoods(patches: Tensor) -> Tensor:
    """Four patches side by side as one: (rows, columns, 64) to (rows − 4, columns − 4, 256)."""
    wide = torch.cat([patches[:, :-PATCH_CELLS], patches[:, PATCH_CELLS:]], dim=2)
    return torch.cat([wide[:-PATCH_CELLS], wide[PATCH_CELLS:]], dim=2)


def nearest_cells(codes: Tensor, count: int) -> NDArray[np.int64]:
    """(N, count) cells around projected neighbourhoods (N, 128), nearest first.

    A cell is a pair of centres, one of each half of the projected numbers (an inverted
    multi-index, Babenko & Lempitsky, 2012); only the `NEAR_CENTRES` nearest of each are paired.
    """
    centres = fitted_cells()["centres"]
    halves = codes[:, :CELL_SIZE].view(len(codes), CELL_SIZE // 2, 2)
    found = []
    for half in range(2):
        # |x − c|² less |x|², which is the same for all
        far = centres[half].square().sum(1) - 2 * halves[..., half] @ centres[half].mT
        found.append(far.topk(min(count, NEAR_CENTRES), largest=False))
    (far, first), (away, second) = found
    pairs = (far[:, :, None] + away[:, None]).flatten(1).topk(count, largest=False).indices
    columns = second.shape[1]
    first, second = first.gather(1, pairs // columns), second.gather(1, pairs % columns)
    return (first * len(centres[1]) + second).numpy()


def project(patches: Tensor, step: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Every ``step``-th neighbourhood of patches that is no flat ground, (N, 128), and its place.

    Places are (N, 2) numbers of steps. The 128 numbers, of length 1, are those in which matching
    neighbourhoods are most alike, and others are not (a linear discriminant analysis).
    """
    if min(patches.shape[:2]) <= PATCH_CELLS:
        return torch.empty(0, CODE), np.empty((0, 2), np.int64)
    every = neighbourhoods(patches.float())[::step, ::step]
    steep = every.square().sum(2) > STEEP
    fitted = fitted_cells()
    projected = (F.normalize(every[steep], dim=1) - fitted["mean"]) @ fitted["matrix"]
    return F.normalize(projected, dim=1), steep.nonzero().numpy()


def sign_codes(patches: Tensor) -> NDArray[np.uint64]:
    """(N, 2) codes of projected neighbourhoods (N, 128): a bit for each number's sign."""
    return np.packbits((patches > 0).numpy(), axis=1).view("<u8")


def similarity_tables(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 16, 256): what each byte of a code adds to its cosine with neighbourhoods (N, 128)."""
    return (patches.reshape(-1, CODE // 8, 8) @ SIGNS.astype(np.float32)) / CODE**0.5


def pyramid(picture: Picture, features: Any) -> Sequence[Tensor]:
    """Whitened patches of a picture in all sizes, out of the features if they hold them."""
    if isinstance(features, PlaneFeatures):
        return features.pyramid
    config = PLANE_CONFIGS["planes"]
    return [PlaneRetriever().patches(picture, side) for side in config.pyramid]


class PixelSegment(InvertedFile):
    """Photos whose postings vote."""

    def search(
        self, query: PixelQuery, top: int, share: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the photos with the best planes; those without any come last."""
        scores = self.scores(query, share)
        best = np.lexsort((self.numbers, -scores))[:top]
        return self.numbers[best], scores[best]

    def scores(self, query: PixelQuery, share: float = 1.0) -> NDArray[np.float64]:
        """v z of all photos, in the order of `numbers`."""
        photos, planes, weights = self.votes(query, share)
        count = len(self.numbers)
        keys = (photos.astype(np.int64) << 15) + planes
        order = np.argsort(keys)
        first = np.flatnonzero(np.diff(keys[order], prepend=-1))
        if not len(first):
            return np.zeros(count)
        keys = keys[order][first]
        single = np.add.reduceat(weights[order], first)
        votes = single.copy()  # with those of the next planes, down and aside
        for step in (1, SIDE, SIDE + 1):
            at = np.searchsorted(keys, keys + step)
            at[at == len(keys)] = 0
            votes += single[at] * (keys[at] == keys + step)
        of_photo = (keys >> 15).astype(np.intp)
        mean = np.bincount(of_photo, votes, count) / PLANES
        square = np.bincount(of_photo, votes**2, count) / PLANES
        highest = np.zeros(count)
        np.maximum.at(highest, of_photo, votes)
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return highest * (highest - mean) / deviation

    def votes(
        self, query: PixelQuery, share: float = 1.0
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.float64]]:
        """The photo, the plane and the weight of each posting that is like a patch of the query."""
        if not len(query.patches):
            return np.empty(0, int), np.empty(0, int), np.empty(0)
        tables = similarity_tables(query.patches).reshape(-1, 256 * CODE // 8)
        flat = tables.ravel()
        codes = sign_codes(torch.from_numpy(query.patches))
        asking = np.tile(np.arange(len(query.patches)), query.cells.shape[1])
        found = [(np.empty(0, int), np.empty(0, int))]
        for at, which in self.positions(query.cells.T.ravel(), int(share * MOST_READ)):
            patch, read = asking[which], self.codes[at]
            far = np.bitwise_count(read ^ codes[patch])
            alike = np.flatnonzero(far[:, 0] + far[:, 1] <= MOST_BITS)
            patch, at = patch[alike], at[alike]
            octets = read[alike].view(np.uint8)
            cosine = np.zeros(len(at), np.float32)
            entry = patch * tables.shape[1]
            for number in range(CODE // 8):
                cosine += flat[entry + octets[:, number]]
                entry += 256
            keep = cosine > LEAST_COSINE
            found.append((at[keep], patch[keep]))
        at, patch = map(np.concatenate, zip(*found, strict=True))
        # A posting that much of the query is like tells little about each place.
        _, of, popular = np.unique(at, return_inverse=True, return_counts=True)
        weights = 1 / np.sqrt(popular[of] * len(codes))
        places = self.places[at].astype(np.int64)
        row, column = STEP * (places >> 6 & 63), STEP * (places & 63)
        shift = MOST_PLACES - query.places[patch]
        down, right = (row + shift[:, 0]) >> 1, (column + shift[:, 1]) >> 1
        planes = ((places >> 12) << 12) + (down << 6) + right
        return self.photos[at], planes, weights


class PixelShortlist:
    """An inverted file of gradient patches as a shortlist.

    Examples
    --------
    >>> import tempfile
    >>> shortlist, path = PixelShortlist("pixels"), Path(tempfile.mkdtemp()) / "segment"
    >>> random = np.random.default_rng(0)
    >>> photos = random.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    >>> photos = photos.repeat(10, axis=1).repeat(10, axis=2)
    >>> shortlist.build(path, [4, 7, 9], [shortlist.describe(photo, None) for photo in photos])
    >>> numbers, scores = shortlist.open(path).search(shortlist.describe_query(photos[1], None), 2)
    >>> int(numbers[0])
    7
    """

    def __init__(self, name: str = "pixels"):
        pass

    def fingerprint(self) -> str:
        """Hash of the cells, and of how patches are filed."""
        return hash_tensors((STEP, STEEP, PLANE_CONFIGS["planes"]), fitted_cells())

    @float32_on_cpu()
    @torch.inference_mode()
    def describe(self, picture: Picture, features: Any) -> NDArray[np.void]:
        """Postings of a photo, 20 bytes each, about 1,400 of 4 : 3."""
        filed = []
        for level, every in enumerate(pyramid(picture, features)):
            patches, places = project(every, STEP)
            postings = np.empty(len(patches), POSTING)
            postings["cell"] = nearest_cells(patches, 1)[:, 0]
            postings["place"] = (level << 12) + (places[:, 0] << 6) + places[:, 1]
            postings["code"] = sign_codes(patches)
            filed.append(postings)
        return np.concatenate(filed)

    @float32_on_cpu()
    @torch.inference_mode()
    def describe_query(self, picture: Picture, features: Any) -> PixelQuery:
        """All neighbourhoods of a query in one size, and the cells that they read."""
        patches, places = project(pyramid(picture, features)[QUERY_LEVEL], 1)
        return PixelQuery(patches.numpy(), places, nearest_cells(patches, PROBES))

    def build(
        self, path: Path, numbers: Sequence[int], described: Sequence[NDArray[np.void]]
    ) -> None:
        """Write a segment."""
        write_segment(path, numbers, described, len(fitted_cells()["centres"][0]) ** 2)

    def merge(self, path: Path, segments: Sequence[Segment], removed: Collection[int]) -> None:
        """Write one segment of several, without the removed photos."""
        merge_segments(path, segments, removed)  # type: ignore[arg-type]

    def open(self, path: Path) -> PixelSegment:
        """A segment; ValueError if it is damaged."""
        return PixelSegment(path)


SHORTLISTS["pixels"] = PixelShortlist
