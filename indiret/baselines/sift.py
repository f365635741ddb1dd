"""SIFT + RANSAC: the classic verification that any learned one is compared with.

Chapter: *Baselines*.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from indiret.baselines.backbones import exact
from indiret.evidence import Evidence, smooth
from indiret.images import Picture
from indiret.retrieval import Points, Retriever, Scores, check_kind, register_retriever

Rows = tuple[NDArray[np.intp], NDArray[np.intp]]  # of a query's keypoints, and of a target's


class Keypoints(NamedTuple):
    """Local features of one picture."""

    places: NDArray[np.float32]  # (N, 2), x and y
    descriptors: NDArray[Any]  # (N, D): whole numbers of SIFT, half precision of networks
    size: tuple[int, int]  # of the picture, height and width, that they were found in
    photo: tuple[int, int]  # of the picture before it was made smaller


class Agreement(NamedTuple):
    """The homography that most matches agree on, from query to target pixels, and those."""

    matrix: NDArray[np.float64] | None  # (3, 3)
    score: float
    rows: NDArray[np.intp]  # of the query's keypoints
    answers: NDArray[np.intp]  # of the target's


class KeypointRetriever(Retriever):
    """Matches of keypoints that agree on one homography; the score is their number.

    Target keypoints count once: a homography that sends everything to one point convinces nobody.
    Equal numbers, above all of none, are told apart by the matches before RANSAC / 10,000. `encode`
    and `match` have to be written. ImportError without OpenCV, of extra ``extra``.
    """

    NAME, EXTRA, ESTIMATOR = "", "baselines", "RANSAC"
    TOLERANCE = 5.0  # pixels of the target
    GRID, QUERY_GRID = (14, 14), (10, 10)  # cells of evidence, as ``base`` has
    SMOOTHINGS = 2  # of the evidence
    evidence_kinds = ("inliers",)
    transfers_points = True

    def __init__(self) -> None:
        try:
            self.cv2 = importlib.import_module("cv2")
        except ImportError as error:
            raise ImportError(
                f"The method {self.NAME} needs OpenCV, which is not installed; install the extra "
                f"{self.EXTRA}: pip install 'indiret[{self.EXTRA}]'."
            ) from error

    def match(self, query: Keypoints, target: Keypoints) -> Rows:
        """Rows of query keypoints, and of the target keypoints they match."""
        raise NotImplementedError

    def structure(self, features: Keypoints) -> float:
        """The share of cells of the grid of evidence that have a keypoint."""
        cells = _cells(features, slice(None), self.GRID)
        return len(set(zip(*cells, strict=True))) / (self.GRID[0] * self.GRID[1])

    def score(self, query: Keypoints, database: Sequence[Keypoints]) -> Scores:
        return np.array([self.homography(query, target)[1] for target in database])

    def homography(self, query: Keypoints, target: Keypoints) -> Agreement:
        """What RANSAC finds; no matrix without four matches, or where they agree on none."""
        rows, answers = self.match(query, target)
        matrix, agree = None, np.zeros(len(rows), bool)
        if len(rows) >= 4:  # a homography takes four points
            estimator = getattr(self.cv2, self.ESTIMATOR)
            matrix, inliers = self.cv2.findHomography(
                query.places[rows], target.places[answers], estimator, self.TOLERANCE
            )
            if matrix is not None:
                agree = inliers.ravel().astype(bool)
        score = len(np.unique(answers[agree])) + len(rows) / 10_000
        return Agreement(matrix, score, rows[agree], answers[agree])

    @exact
    def explain(self, query: Keypoints, target: Keypoints, kind: str | None = None) -> Evidence:
        """Numbers of inliers between cells (m, n, m', n'), spread over neighbours."""
        check_kind(self, kind)
        _, score, rows, answers = self.homography(query, target)
        cells = *_cells(target, answers, self.GRID), *_cells(query, rows, self.QUERY_GRID)
        pairs = np.zeros((*self.GRID, *self.QUERY_GRID), np.float32)
        np.add.at(pairs, cells, 1)
        return Evidence(score, smooth(torch.from_numpy(pairs)[None], self.SMOOTHINGS)[0])

    def transfer_points(self, query: Keypoints, target: Keypoints, points: Points) -> Points:
        """NaN where no homography was found, or one that puts a point behind the camera."""
        matrix, *_ = self.homography(query, target)
        if matrix is None:
            return np.full(points.shape, np.nan)
        pixels = (points * query.size)[:, ::-1]
        ahead = np.column_stack([pixels, np.ones(len(points))]) @ (matrix / matrix[2, 2]).T
        ahead[ahead[:, 2] <= 0] = np.nan
        return np.asarray((ahead[:, :2] / ahead[:, 2:])[:, ::-1] / target.size)


class SiftRansac(KeypointRetriever):
    """RootSIFT matches that agree on one homography; see `KeypointRetriever`.

    Up to 1,500 keypoints a picture, which is made smaller if it is longer than ``long_side``,
    nearest neighbour within 0.8 of the second nearest, RANSAC within 5 pixels of the target.

    Examples
    --------
    >>> noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> found = SiftRansac().encode(noise.repeat(8, axis=0).repeat(8, axis=1))
    >>> bool(SiftRansac().score(found, [found])[0] > 50)
    True
    """

    NAME, FEATURES = "sift-ransac", 1500
    RATIO = 0.8

    def __init__(self, long_side: int = 1600) -> None:
        super().__init__()
        self.long_side = long_side  # pixels; 12 million took 3 GB and found no more
        self.sift = self.cv2.SIFT_create(nfeatures=self.FEATURES)

    def encode(self, picture: Picture) -> Keypoints:
        """Of the grey picture; none on a plain one."""
        image = Image.fromarray(picture).convert("L")
        image.thumbnail((self.long_side, self.long_side))
        grey = np.array(image)
        found, descriptors = self.sift.detectAndCompute(grey, None)
        places = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        rows = np.empty((0, 128)) if descriptors is None else np.rint(descriptors)
        return Keypoints(places, rows.astype(np.uint8), grey.shape, picture.shape[:2])

    def match(self, query: Keypoints, target: Keypoints) -> Rows:
        """Nearest neighbours that are nearer than `RATIO` of the second nearest."""
        if not len(query.places) or len(target.places) < 2:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        similar = _root_sift(query.descriptors) @ _root_sift(target.descriptors).T
        nearest = similar.argmax(axis=1)
        rows = np.arange(len(nearest))
        best = similar[rows, nearest]
        similar[rows, nearest] = -np.inf
        distance, second = (np.sqrt(np.maximum(2 - 2 * s, 0)) for s in (best, similar.max(axis=1)))
        distinct = np.flatnonzero(distance < self.RATIO * second)
        return distinct, nearest[distinct]


def _root_sift(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Square root of the L1-normalised descriptors: unit vectors, whose product compares them."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def _cells(keypoints: Keypoints, chosen: NDArray[np.intp] | slice, grid: tuple[int, int]) -> Rows:
    """Rows and columns of the cells that some of the keypoints lie in."""
    places = keypoints.places[chosen, ::-1]  # y and x
    scaled = places * np.array(grid, np.float32) / np.array(keypoints.size, np.float32)
    cells = np.clip(scaled, 0, np.subtract(grid, 1)).astype(np.intp)
    return cells[:, 0], cells[:, 1]


register_retriever(
    "sift-ransac", "RootSIFT matches on one homography (extra: baselines)", SiftRansac
)
