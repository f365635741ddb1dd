"""Labelled pairs of photos to learn from; every batch is a function of (seed, step) alone.

Chapter: *A 4-D ResNet learns to match*.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from indiret.correlation import correlate
from indiret.datasets import RetrievalDataset
from indiret.network import Features, IndicativeNetwork

VERSIONS = 4  # crops and lights of each photo, encoded once; 16 a batch would cost 0.9 s a step
ALL = slice(None)
AHEAD = 2  # steps whose tensors are made, each by a thread, while a network learns from another


View = tuple[str, int, bool]  # name, version, whether it asks


class Batch(NamedTuple):
    target: Features  # (B, S, W, m, n, D) each, as the network encodes pictures
    query: Features  # (B, m', n', D) each
    labels: Tensor  # (B,) int64, 1 = relevant


class BatchSampler:
    """Batches of labelled (target, query) pairs from a data set's landmarks.

    A query is a photo of a landmark cropped to its region of interest, where there is one, as
    queries are at test time; a target is a whole photo: another one of the same landmark
    (relevant), a photo of another landmark or of none (irrelevant). Two landmarks or more need two
    photos each. The network encodes the pictures; its metrics are fitted beforehand. Of ``config``,
    a `indiret.training.TrainingConfig`, it reads the seed, the batch, the shares and ``augment``.
    """

    def __init__(self, dataset: RetrievalDataset, network: IndicativeNetwork, config: Any):
        self.network, self.config = network, config
        self.landmarks, self.distractors = photos_to_learn_from(dataset)
        if network.config.aspect != "squash":
            raise ValueError(
                f"aspect={network.config.aspect!r} gives every picture a grid of its own, which "
                "cannot be batched; train with aspect='squash'."
            )
        shown = {name for views in self.landmarks for name in views}
        names = sorted(shown | set(self.distractors))
        reading = tqdm(names, desc="reading", unit="photo", disable=None)
        self.pictures = {name: dataset.read(name) for name in reading}
        self.boxes = {name: roi_box(dataset, name) for name in shown}
        self.number = {name: number for number, name in enumerate(names)}
        self.views: dict[View, Features] = {}

    def only(self, part: RetrievalDataset) -> "BatchSampler":
        """A sampler of the pairs of a part of this data set; it shares what is encoded."""
        sampler = copy(self)
        sampler.landmarks = [views for views in views_by_landmark(part).values() if len(views) > 1]
        sampler.distractors = [name for name in self.distractors if name in part.images]
        return sampler

    def batch(self, step: int, share: slice = ALL) -> Batch:
        """The batch of one step, or a share of it, the same whenever it is asked for."""
        random = np.random.default_rng((self.config.seed, step))
        positives = round(self.config.positives * self.config.batch)
        drawn = [self._pair(random, relevant=i < positives) for i in range(self.config.batch)]
        pairs = [[self._view(*photo) for photo in pair] for pair in drawn[share]]
        target, query = (
            {name: torch.stack([view[name] for view in side]) for name in side[0]}
            for side in zip(*pairs, strict=True)
        )
        labels = (torch.arange(self.config.batch) < positives).long()
        return Batch(target, query, labels[share])

    def _pair(self, random: np.random.Generator, relevant: bool) -> tuple[View, View]:
        own, other = random.choice(len(self.landmarks), 2, replace=False)
        query, target = random.choice(self.landmarks[own], 2, replace=False)
        if not relevant:
            far = self.distractors and random.random() < self.config.distractors
            target = random.choice(self.distractors if far else self.landmarks[other])
        versions = (random.integers(VERSIONS, size=2) * self.config.augment).tolist()
        return (target, versions[0], False), (query, versions[1], True)

    def _view(self, name: str, version: int, query: bool = False) -> Features:
        """A photo in one of its versions, encoded when first asked for and kept."""
        key = name, version, query
        if key not in self.views:
            self.views[key] = self.network.encode(self._varied(name, version, query), query)
        return self.views[key]

    def _varied(self, name: str, version: int, query: bool) -> np.ndarray:
        """A photo, or its region of interest for a query, a little varied."""
        random = np.random.default_rng((self.config.seed, self.number[name], version, query))
        picture = self.pictures[name]
        height, width = picture.shape[:2]
        box = self.boxes[name] if query else None
        if box is None:
            box = np.array([0, 0, width, height], dtype=float)
        if not self.config.augment:
            return _crop(picture, box)
        jitter = random.uniform(-0.1, 0.1, 4) * np.tile(box[2:] - box[:2], 2)
        box = np.clip(box + jitter, 0, np.tile([width, height], 2))
        return relit(random, _crop(picture, box))


class PairLoader:
    """Tensor T and labels of every training step, made ahead by threads.

    Networks that learn side by side from one `PairLoader` see the same pairs, correlated once.
    ``first`` is the sampler's step that is step 0 here, so that runs of other seeds can share its
    pictures; ``keep`` steps are kept for those who come later (one that comes later still is made
    again); ``share`` is of every batch, for one of several processes.
    """

    def __init__(
        self, sampler: BatchSampler, first: int = 0, keep: int = AHEAD + 1, share: slice = ALL
    ):
        self.sampler, self.first, self.keep, self.share = sampler, first, keep, share
        self._made: dict[int, Future[tuple[Tensor, Tensor]]] = {}
        self._threads = ThreadPoolExecutor(AHEAD)
        self._lock = Lock()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """T (B, V, m, n, m', n') and labels (B,) of one step, on the network's device."""
        with self._lock:
            for soon in range(step, step + AHEAD + 1):
                if soon not in self._made:
                    self._made[soon] = self._threads.submit(self.make, self.first + soon)
            batch = self._made[step]
            while len(self._made) > self.keep:
                self._made.pop(next(iter(self._made)))
        return batch.result()

    @torch.no_grad()
    def make(self, step: int) -> tuple[Tensor, Tensor]:
        """The same of the sampler's own step, made here and now."""
        network, config = self.sampler.network, self.sampler.config
        device = network.calibration.device
        batch = self.sampler.batch(step, self.share)
        target, query = (
            {name: values.to(device) for name, values in side.items()}
            for side in (batch.target, batch.query)
        )
        tensor = correlate(target, query, network.config.metrics)
        if config.augment:
            tensor = symmetries(tensor, np.random.default_rng((config.seed, step, 1)))
        return tensor, batch.labels.to(device)


def symmetries(tensor: Tensor, random: np.random.Generator) -> Tensor:
    """One of the tensor's symmetries, each of which keeps relevance.

    Both pictures mirrored (j with l), turned upside down (i with k), transposed (i ↔ j with
    k ↔ l, where both grids are square), and target swapped with query (where their grids agree).

    Examples
    --------
    >>> tensor = torch.rand(2, 4, 5, 5, 5, 5)
    >>> symmetries(tensor, np.random.default_rng(0)).shape
    torch.Size([2, 4, 5, 5, 5, 5])
    """
    upside_down, mirrored, transposed, swapped = random.random(4) < 0.5
    m, n, rows, columns = tensor.shape[2:]
    axes = (2, 4) * bool(upside_down) + (3, 5) * bool(mirrored)
    if axes:
        tensor = tensor.flip(axes)
    if transposed and m == n and rows == columns:
        tensor = tensor.permute(0, 1, 3, 2, 5, 4)
    if swapped and (m, n) == (rows, columns):
        tensor = tensor.permute(0, 1, 4, 5, 2, 3)
    return tensor.contiguous()


def photos_to_learn_from(dataset: RetrievalDataset) -> tuple[list[list[str]], list[str]]:
    """The photos of each landmark that has two or more, and those that no query names.

    Raises ValueError if there are fewer than two such landmarks.
    """
    landmarks = [views for views in views_by_landmark(dataset).values() if len(views) > 1]
    if len(landmarks) < 2:
        raise ValueError(
            f"data set {dataset.name!r} has {len(landmarks)} landmarks with two photos or more; "
            "training needs at least 2."
        )
    named = {name for query in dataset.queries for name in query.positives | query.junk}
    return landmarks, sorted(set(dataset.images).difference(named, *landmarks))


def views_by_landmark(dataset: RetrievalDataset) -> dict[str, list[str]]:
    views: dict[str, set[str]] = {}
    for query in dataset.queries:
        views.setdefault(query.landmark, set()).update(query.positives, {query.image})
    return {landmark: sorted(names) for landmark, names in sorted(views.items())}


def roi_box(dataset: RetrievalDataset, name: str) -> np.ndarray | None:
    roi = dataset.roi(name)
    if roi is None or not roi.any():
        return None
    rows, columns = (np.flatnonzero(roi.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)


def relit(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture in other light: exposure, tint and contrast drawn at random."""
    light = random.uniform(0.8, 1.25) * random.uniform(0.92, 1.08, 3)
    levels = (np.arange(256) / 255) ** random.uniform(0.75, 1.33)
    table = np.clip(255 * light[:, None] * levels, 0, 255).round().astype(int)
    return np.asarray(Image.fromarray(picture).point(table.ravel().tolist()))


def _crop(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box.round().astype(int)
    return np.ascontiguousarray(picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)])
