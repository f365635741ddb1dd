"""Methods to compare with: what any network must beat, and what data are measured with.

All by one name: those here, which learn nothing, `indiret.descriptor_methods`, and
`indiret.verification`.

A method prepares each picture once and scores a prepared query against prepared pictures, as
`indiret.ranking.rank` wants it.

Chapter: *Baselines*.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from indiret.correlation import correlation_tensor
from indiret.descriptor_methods import (
    POOLINGS,
    build_descriptor_method,
    is_descriptor_name,
)
from indiret.evidence import smooth
from indiret.images import Picture
from indiret.patches import extract_patches
from indiret.planevote import PLANES, PlanesMethod
from indiret.ranking import Method
from indiret.verification import VERIFIERS, build_verifier_method, is_verifier_name

Vector = NDArray[np.float32]


class ColourHistogram:
    """Joint RGB histogram of 8 × 8 × 8 bins; the score is the intersection, 0 to 1.

    Examples
    --------
    >>> method = ColourHistogram()
    >>> red, blue = np.zeros((2, 16, 16, 3), np.uint8)
    >>> red[..., 0] = blue[..., 2] = 255
    >>> method.score(method.prepare(red), [method.prepare(red), method.prepare(blue)]).tolist()
    [1.0, 0.0]
    """

    def prepare(self, picture: Picture) -> Vector:
        """The histogram, shape (512,), float32, sum 1."""
        red, green, blue = np.moveaxis(picture >> 5, -1, 0).astype(int)
        counts = np.bincount((64 * red + 8 * green + blue).ravel(), minlength=512)
        return (counts / counts.sum()).astype(np.float32)

    def score(self, query: Vector, database: Sequence[Vector]) -> NDArray[np.float64]:
        """Intersections, shape (len(database),)."""
        return np.minimum(query, np.stack(database)).sum(axis=1, dtype=np.float64)


class Thumbnail:
    """The picture as 32 × 32 grey pixels; the score is their correlation, −1 to 1.

    Examples
    --------
    >>> method = Thumbnail()
    >>> ramp = np.arange(64, dtype=np.uint8).repeat(64 * 3).reshape(64, 64, 3)
    >>> features = [method.prepare(ramp), method.prepare(255 - ramp)]
    >>> method.score(features[0], features).round(3).tolist()
    [1.0, -1.0]
    """

    def prepare(self, picture: Picture) -> Vector:
        """The grey values, shape (1024,), float32, with zero mean and unit norm."""
        small = Image.fromarray(picture).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
        values = np.asarray(small, dtype=np.float32).ravel()
        values = values - values.mean()
        return values / max(float(np.linalg.norm(values)), 1e-6)

    def score(self, query: Vector, database: Sequence[Vector]) -> NDArray[np.float64]:
        """Correlations, shape (len(database),)."""
        return (np.stack(database) @ query).astype(np.float64)


class MutualNearest:
    """Count of mutual nearest neighbours on the cosine view of the tensor, no learning.

    A pair of patches counts if each is the other's most similar patch; of equal ones the first.

    Parameters
    ----------
    grid : tuple of int
        ``(m, n)`` patches of either picture.
    size : int
        Side of a patch in pixels.

    Examples
    --------
    >>> method = MutualNearest(grid=(3, 4))
    >>> picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    >>> patches = method.prepare(picture)
    >>> method.score(patches, [patches]).tolist()
    [12.0]
    """

    BATCH = 64  # pairs at a time: 10 MB of tensor

    def __init__(self, grid: tuple[int, int] = (14, 14), size: int = 8):
        self.grid = grid
        self.size = size

    def prepare(self, picture: Picture) -> Tensor:
        """Patches, shape (m, n, D), uint8."""
        return extract_patches(picture, self.grid, self.size).mul(255).round().byte()

    def score(self, query: Tensor, database: Sequence[Tensor]) -> NDArray[np.float64]:
        """Counts, shape (len(database),)."""
        counts = [np.empty(0)]
        for at in range(0, len(database), self.BATCH):
            mutual = self._mutual(query, database[at : at + self.BATCH])
            counts.append(mutual.flatten(1).sum(dim=1).double().numpy())
        return np.concatenate(counts)

    def evidence(self, query: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The mutual pairs (m, n, m', n'), 0 or 1, spread once over their neighbours."""
        grids = *target.shape[:2], *query.shape[:2]
        return {"mutual": smooth(self._mutual(query, [target]).float().view(1, *grids))[0]}

    def _mutual(self, query: Tensor, database: Sequence[Tensor]) -> Tensor:
        """Whether target patch and query patch choose each other, (B, m n, m' n')."""
        asked, targets = query[None].float() / 255, torch.stack(list(database)).float() / 255
        view = correlation_tensor(targets, asked, metrics=("cosine",), standardise=False)
        table = view.reshape(len(targets), targets.shape[1] * targets.shape[2], -1)
        partner_of_query, partner_of_target = table.argmax(dim=1), table.argmax(dim=2)
        chosen = torch.zeros_like(table, dtype=torch.bool)
        chosen.scatter_(2, partner_of_target[:, :, None], True)
        chosen_back = torch.zeros_like(chosen).scatter_(1, partner_of_query[:, None], True)
        return chosen & chosen_back


class Keypoints(NamedTuple):
    """SIFT of one picture: `places` (N, 2) float32, x and y; `descriptors` (N, 128) uint8.

    `size` is the picture's height and width.
    """

    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]


class SiftRansac:
    """RootSIFT matches that agree on one homography; the score is their number.

    Up to 1,500 keypoints a picture at the picture's own size, nearest neighbour within 0.8 of the
    second nearest, RANSAC within 5 pixels of the target. Target keypoints count once, however many
    query keypoints agree on one: a homography that sends everything to one point convinces nobody.
    Equal numbers, above all of none, are told apart by a fraction: the matches before RANSAC /
    10,000.

    Raises
    ------
    ImportError
        If OpenCV, the extra ``baselines``, is not installed.

    Examples
    --------
    >>> method = SiftRansac()
    >>> picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> picture = picture.repeat(8, axis=0).repeat(8, axis=1)
    >>> found = method.prepare(picture)
    >>> bool(method.score(found, [found])[0] > 50)
    True
    """

    FEATURES = 1500
    RATIO = 0.8
    TOLERANCE = 5.0  # pixels of the target
    GRID, ASKED = (14, 14), (10, 10)  # cells of evidence, a target's and a query's, as ``base`` has
    SPREAD = 2  # smoothings of the evidence

    def __init__(self) -> None:
        self.cv2 = _import_opencv()
        self.sift = self.cv2.SIFT_create(nfeatures=self.FEATURES)

    def prepare(self, picture: Picture) -> Keypoints:
        """Keypoints and descriptors of the grey picture; none on a plain one."""
        grey = np.array(Image.fromarray(picture).convert("L"))
        found, descriptors = self.sift.detectAndCompute(grey, None)
        if not found:
            return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), grey.shape)
        places = np.array([point.pt for point in found], dtype=np.float32)
        return Keypoints(places, np.rint(descriptors).astype(np.uint8), grey.shape)

    def score(self, query: Keypoints, database: Sequence[Keypoints]) -> NDArray[np.float64]:
        """Numbers of inliers and the fraction, shape (len(database),)."""
        return np.array([self.homography(query, target)[1] for target in database])

    def homography(
        self, query: Keypoints, target: Keypoints
    ) -> tuple[NDArray[np.float64] | None, float]:
        """The (3, 3) homography from query to target pixels, or None, and the score."""
        matrix, (asked, answers), inliers = self._agreeing(query, target)
        return matrix, len(np.unique(answers[inliers])) + len(asked) / 10_000

    def evidence(self, query: Keypoints, target: Keypoints) -> dict[str, Tensor]:
        """Numbers of inliers between cells (m, n, m', n'), spread over neighbours."""
        _, (asked, answers), inliers = self._agreeing(query, target)
        (i, j), (k, l) = (
            _cells(keypoints.places[rows][inliers], keypoints.size, grid)
            for keypoints, rows, grid in ((target, answers, self.GRID), (query, asked, self.ASKED))
        )
        pairs = torch.zeros(*self.GRID, *self.ASKED)
        np.add.at(pairs.numpy(), (i, j, k, l), 1)
        return {"inliers": smooth(pairs[None], self.SPREAD)[0]}

    def carry(
        self, query: Keypoints, target: Keypoints, points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Where the homography puts points of the query, (N, 2): y and x from 0 to 1 in its photo.

        NaN where no homography was found, or one that puts a point behind the camera.
        """
        matrix, _ = self.homography(query, target)
        if matrix is None:
            return np.full(points.shape, np.nan)
        pixels = (points * query.size)[:, ::-1]
        ahead = np.column_stack([pixels, np.ones(len(points))]) @ (matrix / matrix[2, 2]).T
        ahead[ahead[:, 2] <= 0] = np.nan
        return np.asarray((ahead[:, :2] / ahead[:, 2:])[:, ::-1] / target.size)

    def _agreeing(
        self, query: Keypoints, target: Keypoints
    ) -> tuple[NDArray[np.float64] | None, tuple[NDArray[np.intp], NDArray[np.intp]], Any]:
        """The homography or None, the matches, and which of them agree with it."""
        asked, answers = self._matches(query.descriptors, target.descriptors)
        matrix = inliers = None
        if len(asked) >= 4:  # a homography takes four points
            matrix, inliers = self.cv2.findHomography(
                query.places[asked], target.places[answers], self.cv2.RANSAC, self.TOLERANCE
            )
        if matrix is None or inliers is None:
            return None, (asked, answers), np.zeros(len(asked), bool)
        return matrix, (asked, answers), inliers.ravel().astype(bool)

    def _matches(
        self, query: NDArray[np.uint8], target: NDArray[np.uint8]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of query descriptors, and of the target descriptors they match."""
        if not len(query) or len(target) < 2:
            none = np.empty(0, np.intp)
            return none, none
        similar = _root_sift(query) @ _root_sift(target).T
        nearest = similar.argmax(axis=1)
        rows = np.arange(len(query))
        best = similar[rows, nearest]
        similar[rows, nearest] = -np.inf
        distance, second = (np.sqrt(np.maximum(2 - 2 * s, 0)) for s in (best, similar.max(axis=1)))
        distinct = np.flatnonzero(distance < self.RATIO * second)
        return distinct, nearest[distinct]


@dataclass(frozen=True)
class Baseline:
    """One entry of `METHODS`: a line for the reader, and what makes the method."""

    description: str
    build: Callable[[], Method]


LITE0 = "efficientnet-lite0"
METHODS = {
    "colour-histogram": Baseline("joint RGB histogram, 8 x 8 x 8 bins", ColourHistogram),
    "thumbnail": Baseline("correlation of 32 x 32 grey pixels", Thumbnail),
    "mutual-nn": Baseline("mutual nearest patches on the cosine tensor", MutualNearest),
    "sift-ransac": Baseline("RootSIFT matches on one homography (extra: baselines)", SiftRansac),
    "planes": Baseline("slopes that agree on one plane of the tensor, with evidence", PlanesMethod),
    "planes-turned": Baseline(
        "the same for photos that may lie turned", partial(PlanesMethod, PLANES["planes-turned"])
    ),
} | {
    f"{LITE0}:{name}": Baseline(
        f"{pooling.description} (extra: baselines)",
        partial(build_descriptor_method, f"{LITE0}:{name}"),
    )
    for name, pooling in POOLINGS.items()
}
METHODS |= {
    f"{LITE0}:{name}": Baseline(
        f"{(verifier.__doc__ or '').partition('.')[0]} (extra: baselines)",
        partial(build_verifier_method, f"{LITE0}:{name}"),
    )
    for name, verifier in VERIFIERS.items()
}


def build_method(name: str) -> Method:
    """A baseline by its name.

    Parameters
    ----------
    name : str
        A key of `METHODS`, or as `indiret.descriptor_methods.build_descriptor_method` takes it.

    Returns
    -------
    Method
        With ``prepare`` and ``score``.

    Raises
    ------
    ValueError
        If the name is not known.
    ImportError
        If the method needs a package that is not installed.

    Examples
    --------
    >>> build_method("sift")
    Traceback (most recent call last):
    ValueError: There is no baseline 'sift'; choose one of colour-histogram, thumbnail, ...
    """
    if name in METHODS:
        return METHODS[name].build()
    if is_verifier_name(name):
        return build_verifier_method(name)
    if is_descriptor_name(name):
        return build_descriptor_method(name)
    raise ValueError(f"There is no baseline {name!r}; choose one of {', '.join(METHODS)}.")


def _import_opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise ImportError(
            "The method sift-ransac needs OpenCV, which is not installed; install the extra "
            "baselines: pip install 'indiret[baselines]'."
        ) from error


def _root_sift(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Square root of the L1-normalised descriptors: unit vectors, whose product compares them."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def _cells(
    places: NDArray[np.float32], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the cells that places (N, 2), x and y in pixels, lie in."""
    x, y = places.T
    rows, columns = (
        np.clip(at * cells / side, 0, cells - 1).astype(np.intp)
        for at, cells, side in ((y, grid[0], size[0]), (x, grid[1], size[1]))
    )
    return rows, columns
