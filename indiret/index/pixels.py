"""A shortlist from pixels alone: an inverted file whose postings vote for planes.

A *neighbourhood* is four patches side by side: fewer are alike by chance than single ones. Its
*word* is the signs of 24 numbers in which neighbourhoods that show the same are most alike. Each
one of a photo, in every size, leaves a posting under its word. The query asks in three sizes; each
of its neighbourhoods reads the postings of the words that one like it most likely has: its own, and
those with the least certain bits flipped (Lv et al., *Multi-probe LSH*, 2007). A posting votes for
the translation and size that would bring both together (Jégou et al., *Hamming embedding and weak
geometric consistency*, 2008), the less the more postings its neighbourhood reads. A photo scores as
a pair of photos does in `indiret.planes`: v z, the votes of its best plane times their z-score
among all its planes.

The numbers are fitted on Toytown's training part by `tools.fit_postings`, never on a collection: so
segments can be merged, and two updates equal one.

Chapter: *From pairs to collections*.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.checkpoints import WEIGHTS, hash_tensors, load_tensors
from indiret.images import Picture
from indiret.index.postings import POSTING, TAIL, InvertedFile, merge_segments, write_segment
from indiret.index.shortlist import SHORTLISTS
from indiret.planes import PATCH_CELLS, PLANE_CONFIG, PlaneFeatures, PlaneRetriever
from indiret.planes.voting import float32_on_cpu

FITTED_WORDS = WEIGHTS / "postings.safetensors"
STEEP = 1.0  # square of a neighbourhood's length below which it is too flat to be filed, or to ask
WORD = 24  # bits of a word
DOUBTED = 10  # of them, the least certain, that may be flipped
PROBES = 256  # words that a neighbourhood of a query reads
QUERY_LEVELS = 1, 2, 3  # the numbers of the sizes in which a query asks
MOST_READ = 1_000_000  # postings that a query reads
RARITY = 0.001  # postings a photo, added to those that a neighbourhood reads
PLANES = 5000  # about as many has a photo of 4 : 3
SIDE, BIN = 32, 4  # bins of translations along a side, each so many patches wide
MOST_PLACES = 30  # patches that a query has along a side, at most
PLANE_BITS, ASKING_BITS = 14, 11  # that tell planes, and neighbourhoods of a query, apart


@cache
def fitted_words() -> dict[str, Tensor]:
    """``mean`` (256,) and ``matrix`` (256, 24), by `tools.fit_postings`."""
    return {name: values.float() for name, values in load_tensors(FITTED_WORDS)[1].items()}


class PixelQuery(NamedTuple):
    """The neighbourhoods of a query, which ask."""

    levels: NDArray[np.int64]  # (N,) the size of each
    places: NDArray[np.int64]  # (N, 2) row and column
    distinct: NDArray[np.int64]  # (M,) the words that any of them reads, in ascending order
    asked: NDArray[np.intp]  # (N, PROBES) their positions among these, the likeliest first


def neighbourhoods(patches: Tensor) -> Tensor:
    """Four patches side by side as one: (rows, columns, 64) to (rows − 4, columns − 4, 256)."""
    wide = torch.cat([patches[:, :-PATCH_CELLS], patches[:, PATCH_CELLS:]], dim=2)
    return torch.cat([wide[:-PATCH_CELLS], wide[PATCH_CELLS:]], dim=2)


def project(patches: Tensor) -> tuple[Tensor, NDArray[np.int64]]:
    """All neighbourhoods of patches that are no flat ground, (N, 24), and their places (N, 2).

    The 24 numbers are those in which matching neighbourhoods are most alike, and others are not (a
    linear discriminant analysis); their signs are the word.
    """
    if min(patches.shape[:2]) <= PATCH_CELLS:
        return torch.empty(0, WORD), np.empty((0, 2), np.int64)
    every = neighbourhoods(patches.float())
    steep = every.square().sum(2) > STEEP
    fitted = fitted_words()
    projected = (F.normalize(every[steep], dim=1) - fitted["mean"]) @ fitted["matrix"]
    return projected, steep.nonzero().numpy()


def words_of(projected: Tensor) -> Tensor:
    """(N,): the words of projected neighbourhoods (N, 24), a bit for each number's sign."""
    return ((projected > 0) * 2 ** torch.arange(WORD)).sum(1)


def likely_words(projected: Tensor, count: int) -> NDArray[np.int64]:
    """(N, count): words that neighbourhoods like those projected, (N, 24), may have.

    The likeliest come first: their own, and then those whose flipped numbers are nearest to 0.
    """
    doubts, which = projected.square().topk(DOUBTED, largest=False)
    subsets = torch.cartesian_prod(*[torch.arange(2)] * DOUBTED).mT  # (10, 1024)
    best = (doubts @ subsets.float()).topk(count, largest=False).indices
    flips = (2**which @ subsets).gather(1, best)
    return (words_of(projected)[:, None] ^ flips).numpy()


def pyramid(picture: Picture, features: Any) -> Sequence[Tensor]:
    """Whitened patches of a picture in all sizes, out of the features if they hold them."""
    if isinstance(features, PlaneFeatures):
        return features.pyramid
    config = PLANE_CONFIG
    return [PlaneRetriever().patches(picture, side) for side in config.pyramid]


def among_first(sizes: NDArray[np.int64], costs: NDArray[Any], most: float) -> NDArray[np.bool_]:
    """Which are taken, of one shape: the smallest first, while their costs sum to ``most``.

    Sizes from 65,535 on, ten times the largest that are read, count as equal: 16 bits sort quickly.

    Examples
    --------
    >>> among_first(np.array([3, 1, 2]), np.array([3, 1, 2]), most=4).tolist()
    [False, True, True]
    """
    order = np.argsort(np.minimum(sizes, 65_535).astype(np.uint16), axis=None, kind="stable")
    taken = np.zeros(sizes.shape, bool)
    taken.ravel()[order[np.cumsum(costs.ravel()[order]) <= most]] = True
    return taken


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
        planes, single = self.votes(query, share)
        count = len(self.numbers)
        if not len(planes):
            return np.zeros(count)
        votes = np.zeros_like(single)  # with those of the next planes, down and aside
        known, given = np.append(planes, -1), np.append(single, 0)
        for down in (0, SIDE):
            at = np.searchsorted(planes, planes + down) if down else np.arange(len(planes))
            for aside in (0, 1):
                there = known[at] == planes + down + aside
                votes += given[at] * there
                at = at + there
        of_photo = planes >> PLANE_BITS
        mean = np.bincount(of_photo, votes, count) / PLANES
        square = np.bincount(of_photo, votes**2, count) / PLANES
        highest = np.zeros(count)
        np.maximum.at(highest, of_photo, votes)
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return highest * (highest - mean) / deviation

    def find_rare(self, query: PixelQuery, most: float) -> NDArray[np.int64]:
        """(2, M): as `find`, but words that would follow after so many postings have none.

        Those of the emptiest cells come first; how many postings they have is told by their cells.
        """
        sizes = np.diff(self.starts)[query.distinct >> TAIL]
        expected = np.bincount(query.asked.ravel()) * sizes / (1 << TAIL)
        sought = np.flatnonzero(among_first(sizes, expected, most))
        found = np.zeros((2, len(sizes)), np.int64)
        found[:, sought] = self.find(query.distinct[sought])
        return found

    def votes(
        self, query: PixelQuery, share: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The planes that have any votes, in ascending order, and these.

        A plane is a number of `PLANE_BITS`, after those of the photo's row.
        """
        most = share * MOST_READ
        first, lengths = (one[query.asked] for one in self.find_rare(query, most))
        # The rarest words are read first, until there are enough postings.
        lengths[~among_first(lengths, lengths, most)] = 0
        sides = np.array(PLANE_CONFIG.pyramid)
        scale = sides[QUERY_LEVELS[1]] / sides[query.levels]
        found = [np.empty(0, np.int64)]
        for photos, places, which in self.read(first.ravel(), lengths.ravel()):
            patch = which // query.asked.shape[1]
            size = (places >> 12) - query.levels[patch] + QUERY_LEVELS[-1]
            asked, zoom = query.places[patch], scale[patch]
            down, right = (
                ((2 * (places >> shift & 63) - asked[:, axis]) * zoom + MOST_PLACES) // BIN
                for axis, shift in enumerate((6, 0))
            )
            planes = (size * SIDE + down.astype(np.int64)) * SIDE + right.astype(np.int64)
            planes += photos << PLANE_BITS
            found.append((planes << ASKING_BITS) + patch)
        keys = np.sort(np.concatenate(found))
        peers = np.bincount(query.levels)[query.levels]  # in the same size
        rates = lengths.sum(1) / len(self.numbers)
        weights = 1 / np.sqrt((rates + RARITY) * peers)
        planes = keys >> ASKING_BITS
        starts = np.flatnonzero(np.diff(planes, prepend=-1))
        return planes[starts], np.add.reduceat(weights[keys & ((1 << ASKING_BITS) - 1)], starts)


class PixelShortlist:
    """An inverted file of gradient patches as a shortlist.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> shortlist, path = PixelShortlist(), Path(tempfile.mkdtemp()) / "segment"
    >>> random = np.random.default_rng(0)
    >>> photos = random.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    >>> photos = photos.repeat(10, axis=1).repeat(10, axis=2)
    >>> shortlist.build(path, [4, 7, 9], [shortlist.describe(photo, None) for photo in photos])
    >>> numbers, scores = shortlist.open(path).search(shortlist.describe_query(photos[1], None), 2)
    >>> int(numbers[0])
    7
    """

    build = staticmethod(write_segment)
    merge: Any = staticmethod(merge_segments)  # which takes segments of this kind alone
    open = PixelSegment

    def fingerprint(self) -> str:
        """Hash of the words, and of how patches are filed."""
        return hash_tensors((STEEP, PLANE_CONFIG), fitted_words())

    @float32_on_cpu()
    @torch.inference_mode()
    def describe(self, picture: Picture, features: Any) -> NDArray[np.void]:
        """Postings of a photo, 6 bytes each, about 5,600 of 4 : 3."""
        filed = []
        for level, every in enumerate(pyramid(picture, features)):
            projected, places = project(every)
            postings = np.empty(len(projected), POSTING)
            postings["word"] = words_of(projected)
            halves = places // 2
            postings["place"] = (level << 12) + (halves[:, 0] << 6) + halves[:, 1]
            filed.append(postings)
        return np.concatenate(filed)

    @float32_on_cpu()
    @torch.inference_mode()
    def describe_query(self, picture: Picture, features: Any) -> PixelQuery:
        """All neighbourhoods of a query in three sizes, and the words that they read."""
        sizes = pyramid(picture, features)
        found = [project(sizes[level]) for level in QUERY_LEVELS]
        projected, places = map(list, zip(*found, strict=True))
        levels = np.repeat(QUERY_LEVELS, [len(one) for one in places])
        words = likely_words(torch.cat(projected), PROBES)
        distinct, asked = np.unique(words, return_inverse=True)
        return PixelQuery(levels, np.concatenate(places), distinct, asked.reshape(words.shape))


SHORTLISTS["pixels"] = lambda name: PixelShortlist()
