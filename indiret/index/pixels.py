"""A shortlist from pixels alone: an inverted file whose postings vote for planes.

Every second patch of a photo, in every size, falls into the nearest of some thousand *cells* and
leaves a posting there. Each patch of a query reads the postings of the cells around it; those whose
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
from indiret.planes import PLANE_CONFIGS, PlaneFeatures, PlaneRetriever

FITTED = WEIGHTS / "postings.safetensors"
STEP = 2  # every second patch of a photo is filed, and every patch of a query asks
TEMPLATE = 2  # the number of the size in which a query asks: 111 pixels
STEEP = 0.5  # square of a patch's length below which it is too flat to be filed, or to ask
PROBES = 64  # cells that a patch of a query reads
SHORT = 24  # centres of each half that a patch of a query looks at
MOST_READ = 4_000_000  # postings that a query reads of a segment
MOST_BITS = 26  # in which codes may differ at first sight
LEAST_COSINE = 0.3  # of a patch and a code that votes
PLANES = 5000  # about as many has a photo of 4 : 3
SIDE = 64  # places along a side, at most, of every second patch
SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).T * 2.0 - 1  # (8, 256)


@cache
def fitted_cells() -> dict[str, Tensor]:
    """``mean`` (64,), ``matrix`` (64, D) and ``centres`` (2, K, D / 2) of `tools.fit_postings`."""
    return {name: values.float() for name, values in load_tensors(FITTED)[1].items()}


class Query(NamedTuple):
    """Patches that ask."""

    patches: NDArray[np.float32]  # (N, 64), of length 1
    places: NDArray[np.int64]  # (N, 2) row and column
    cells: NDArray[np.int64]  # (N, PROBES), nearest first


def project(patches: Tensor) -> Tensor:
    """Whitened patches (N, 64) of length 1 as the cells see them, (N, D) of length 1."""
    fitted = fitted_cells()
    return F.normalize((patches - fitted["mean"]) @ fitted["matrix"], dim=1)


def nearest_cells(patches: Tensor, count: int) -> NDArray[np.int64]:
    """(N, count) cells around patches (N, 64), nearest first.

    A cell is a pair of centres, one of each half of the projected numbers (an inverted
    multi-index, Babenko & Lempitsky, 2012); those of the nearest `SHORT` centres are compared.
    """
    projected, centres = project(patches), fitted_cells()["centres"]
    halves = projected.view(len(patches), projected.shape[1] // 2, 2)
    found = []
    for half in range(2):
        # |x − c|² less |x|², which is the same for all
        far = centres[half].square().sum(1) - 2 * halves[..., half] @ centres[half].mT
        found.append(far.topk(min(count, SHORT), largest=False))
    (far, first), (away, second) = found
    pairs = (far[:, :, None] + away[:, None]).flatten(1).topk(count, largest=False).indices
    columns = second.shape[1]
    first, second = first.gather(1, pairs // columns), second.gather(1, pairs % columns)
    return (first * len(centres[1]) + second).numpy()


def steep_patches(patches: Tensor, step: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Every ``step``-th patch of (rows, columns, 64) that is no flat ground, and where: (N, 2).

    The patches come back with length 1, the places as numbers of steps.
    """
    every = patches[::step, ::step].float()
    steep = every.square().sum(2) > STEEP
    return F.normalize(every[steep], dim=1), steep.nonzero().numpy()


def pack_codes(patches: Tensor) -> NDArray[np.uint64]:
    """(N,) codes of patches (N, 64): a bit for each number's sign."""
    return np.packbits((patches > 0).numpy(), axis=1).view("<u8")[:, 0]


def similarity_tables(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 8, 256): what each byte of a code adds to its cosine with patches (N, 64)."""
    return (patches.reshape(-1, 8, 8) @ SIGNS.astype(np.float32)) / 8


def pyramid(picture: Picture, features: Any) -> Sequence[Tensor]:
    """Whitened patches of a picture in all sizes, out of the features if they hold them."""
    if isinstance(features, PlaneFeatures):
        return features.pyramid
    config = PLANE_CONFIGS["planes"]
    return [PlaneRetriever().patches(picture, side) for side in config.pyramid]


class PixelSegment(InvertedFile):
    """Photos whose postings vote."""

    def search(self, query: Query, top: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the photos with the best planes; those without any come last."""
        scores = self.scores(query)
        best = np.lexsort((self.numbers, -scores))[:top]
        return self.numbers[best], scores[best]

    def scores(self, query: Query) -> NDArray[np.float64]:
        """v z of all photos, in the order of `numbers`."""
        photos, planes, weights = self.votes(query)
        count = len(self.numbers)
        # Each votes for the four planes around its own, which it may miss by half a patch.
        keys = (photos.astype(np.int64) << 15) + planes
        keys = np.concatenate([keys, keys + 1, keys + SIDE, keys + SIDE + 1])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        if not len(first):
            return np.zeros(count)
        votes = np.add.reduceat(np.tile(weights, 4)[order], first)
        of_photo = (keys[first] >> 15).astype(np.intp)
        mean = np.bincount(of_photo, votes, count) / PLANES
        square = np.bincount(of_photo, votes**2, count) / PLANES
        highest = np.zeros(count)
        np.maximum.at(highest, of_photo, votes)
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return highest * (highest - mean) / deviation

    def votes(
        self, query: Query
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.float64]]:
        """The photo, the plane and the weight of each posting that is like a patch of the query."""
        if not len(query.patches):
            return np.empty(0, int), np.empty(0, int), np.empty(0)
        tables = similarity_tables(query.patches).reshape(-1)
        codes = pack_codes(torch.from_numpy(query.patches))
        asking = np.tile(np.arange(len(query.patches)), query.cells.shape[1])
        found = []
        for at, which in self.positions(query.cells.T.ravel(), MOST_READ):
            patch, read = asking[which], self.codes[at]
            alike = np.flatnonzero(np.bitwise_count(read ^ codes[patch]) <= MOST_BITS)
            patch, at = patch[alike], at[alike]
            octets = read[alike].view(np.uint8).reshape(-1, 8)
            cosine = np.zeros(len(at), np.float32)
            for number in range(8):
                cosine += tables[(patch * 8 + number) * 256 + octets[:, number]]
            keep = cosine > LEAST_COSINE
            found.append((at[keep], patch[keep], cosine[keep]))
        at, patch, cosine = map(np.concatenate, zip(*found, strict=True))
        weights = (cosine - LEAST_COSINE).astype(np.float64)
        # A posting that many patches of the query are like tells little about each.
        _, of = np.unique(at, return_inverse=True)
        weights /= np.sqrt(np.bincount(of, weights)[of] / len(codes) + 0.001)
        places = self.places[at].astype(np.int64)
        row, column = STEP * (places >> 6 & 63), STEP * (places & 63)
        down, right = row - query.places[patch, 0] + 26, column - query.places[patch, 1] + 26
        planes = ((places >> 12) << 12) + ((down >> 1) << 6) + (right >> 1)
        return self.photos[at], planes, weights / len(codes)


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

    @torch.inference_mode()
    def describe(self, picture: Picture, features: Any) -> NDArray[np.void]:
        """Postings of a photo, 12 bytes each, about 1,500 of 4 : 3."""
        filed = []
        for level, every in enumerate(pyramid(picture, features)):
            patches, places = steep_patches(every, STEP)
            postings = np.empty(len(patches), POSTING)
            postings["cell"] = nearest_cells(patches, 1)[:, 0]
            postings["place"] = (level << 12) + (places[:, 0] << 6) + places[:, 1]
            postings["code"] = pack_codes(patches)
            filed.append(postings)
        return np.concatenate(filed)

    @torch.inference_mode()
    def describe_query(self, picture: Picture, features: Any) -> Query:
        """All patches of a query in one size, and the cells that they read."""
        patches, places = steep_patches(pyramid(picture, features)[TEMPLATE], 1)
        return Query(patches.numpy(), places, nearest_cells(patches, PROBES))

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
