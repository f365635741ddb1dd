"""Train the network over samples along planes, from pairs whose geometry is known.

Votes have nothing to learn, so every pair is voted on and sampled once, and the network then goes
over the samples many times. The loss is the cross-entropy of the pairs plus that of the patches:
Toytown says exactly which patch shows what, and so does a photo warped by a known affine map.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.correspondence import true_places
from indiret.datasets import RetrievalDataset
from indiret.images import Picture, crop
from indiret.planes.matching import PlaneFeatures, PlaneRetriever, to_float32
from indiret.planes.network import PlaneNetwork
from indiret.planes.samples import (
    CHANNELS,
    DIRECTIONS,
    PlaneSample,
    collate,
    pad_maps,
    sample_pair,
)
from indiret.sampling import relit, roi_box, views_by_landmark
from indiret.training import TrainingConfig, ValidationLook, check_disjoint, learn

PLANE_TRAINING = TrainingConfig(
    steps=1000,
    batch=64,
    learning_rate=3e-3,
    validate_every=100,
    checkpoint_every=100,
    validation_queries=24,
    patience=10,
)  # half a minute of steps, since the samples are made once; see book/decisions/0016
QUERIES = 4  # photos of a landmark that are queries, every second by a small part
PART = 0.2, 0.4  # sides of a small part, of those of its photo
SHOWN = 0.5  # of a small part's patches that a photo must show to be relevant
POSITIVES = 2  # relevant photos of each
CANDIDATES = 24  # photos of other things that are matched with each
HARD, EASY = 6, 2  # of those with the highest scores, and of the others, that are learnt from
NEAR = 0.05  # of the longer side: a place so far from the truth at most is right
NORM = CHANNELS.index("norm")
SUPPORT_WEIGHT = 1.0  # of the cross-entropy of patches
WARPS = 4  # of each photo of a folder


class LabelledPair(NamedTuple):
    """The samples of both directions, whether the pair is relevant, and which patches are right.

    ``right`` holds (K, L) for either direction: 1 right, 0 wrong, NaN where it is not known.
    """

    samples: tuple[PlaneSample, PlaneSample]
    relevant: bool
    right: tuple[Tensor, Tensor]


class QueryCrop(NamedTuple):
    """A part of a photo as a query: its features, the photo's name, the part's box in pixels."""

    features: PlaneFeatures
    name: str
    box: NDArray[np.float64]


def landmark_pairs(
    retriever: PlaneRetriever, dataset: RetrievalDataset, seed: int = 0
) -> Iterator[LabelledPair]:
    """Pairs of a data set: photos of one landmark, and those of others with high scores.

    Landmarks have three photos or more. The choice, the crops and their light depend on ``seed``.
    """
    random = np.random.default_rng(seed)
    landmarks = {name: views for name, views in views_by_landmark(dataset).items() if views[2:]}
    if len(landmarks) < 2:
        raise ValueError(
            f"data set {dataset.name!r} has {len(landmarks)} landmarks with three photos or more; "
            "training needs at least 2."
        )
    reading = tqdm(dataset.images, desc="preparing", unit="photo", disable=None)
    features = {name: retriever.encode(dataset.read(name)) for name in reading}
    owner = {name: landmark for landmark, names in landmarks.items() for name in names}
    answering = {name for query in dataset.queries for name in query.junk}
    for landmark in tqdm(landmarks, desc="voting", unit="landmark", disable=None):
        shown = landmarks[landmark]
        negatives = [n for n in features if owner.get(n) != landmark and n not in answering]
        for number, name in enumerate(
            random.choice(shown, min(QUERIES, len(shown)), replace=False)
        ):
            small = bool(number % 2) and dataset.geometry(name) is not None
            query = _query_crop(retriever, dataset, name, random, small)
            others = [other for other in shown if other != name]
            for positive in random.choice(others, min(POSITIVES, len(others)), replace=False):
                samples = sample_pair(retriever, query.features, features[positive])
                right = _true_points(dataset, query, positive, samples)
                if not small or _shown(right) >= SHOWN:
                    yield _pair(samples, True, right)
            few = random.choice(negatives, min(CANDIDATES, len(negatives)), replace=False)
            scores = [_forward_score(retriever, query.features, features[n]) for n in few]
            order = few[np.argsort(scores)[::-1]]
            for other in [*order[:HARD], *order[HARD : HARD + EASY]]:
                yield _pair(sample_pair(retriever, query.features, features[other]), False, None)


def warped_pairs(
    retriever: PlaneRetriever, dataset: RetrievalDataset, seed: int = 0
) -> Iterator[LabelledPair]:
    """Pairs of any folder: part of a photo and the photo warped, and the part and another photo.

    Warps are affine: turned by up to 15°, made 0.5 to 1.2 times as large, sheared and stretched a
    little, in other light, before another photo of the folder.
    """
    random = np.random.default_rng(seed)
    names = list(dataset.images)
    for number, name in enumerate(tqdm(names, desc="warping", unit="photo", disable=None)):
        photo = dataset.read(name)
        for _ in range(WARPS):
            other = dataset.read(names[(number + random.integers(1, len(names))) % len(names)])
            box = _part(random, photo)
            asked = relit(random, crop(photo, tuple(box)))
            matrix, warped = warp(random, photo, other)
            query, target, unrelated = map(retriever.encode, (asked, warped, other))
            samples = sample_pair(retriever, query, target)
            corner, sides = box[:2], box[2:] - box[:2]
            size, shape = np.array(photo.shape[1::-1]), np.array(warped.shape[1::-1])
            there = (samples[0].template_points.numpy()[..., ::-1] * sides + corner) @ matrix[
                :, :2
            ].T
            truth = (there + matrix[:, 2]) / shape
            back = (
                samples[1].template_points.numpy()[..., ::-1] * shape - matrix[:, 2]
            ) @ np.linalg.inv(matrix[:, :2]).T
            truths = truth, np.where(((back >= 0) & (back < size)), back - corner, np.nan) / sides
            yield _pair(samples, True, truths)
            yield _pair(sample_pair(retriever, query, unrelated), False, None)


def warp(
    random: np.random.Generator, photo: Picture, background: Picture
) -> tuple[NDArray[np.float64], Picture]:
    """A photo moved by an affine map before another one: the map (2, 3) of x and y, and the result.

    Examples
    --------
    >>> grey, white = np.full((40, 60, 3), 128, np.uint8), np.full((30, 30, 3), 255, np.uint8)
    >>> matrix, warped = warp(np.random.default_rng(0), grey, white)
    >>> matrix.shape, warped.shape
    ((2, 3), (40, 60, 3))
    """
    height, width = photo.shape[:2]
    turn, size = np.deg2rad(random.uniform(-15, 15)), 2 ** random.uniform(-1, 0.25)
    stretch = np.exp(random.uniform(-0.2, 0.2))
    shear = random.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = size * rotation @ np.array([[stretch, shear], [0, 1 / stretch]])
    middle = np.array([width, height]) / 2
    room = np.array([width, height]) * max(0.0, 1 - size) / 2
    offset = middle + random.uniform(-1, 1, 2) * room - linear @ middle
    back = np.linalg.inv(linear)
    coefficients = np.column_stack([back, -back @ offset]).ravel().tolist()
    affine, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    moved = Image.fromarray(relit(random, photo)).transform(
        (width, height), affine, coefficients, smooth
    )
    covered = Image.new("L", (width, height), 255).transform(
        (width, height), affine, coefficients, Image.Resampling.NEAREST
    )
    behind = Image.fromarray(background).resize((width, height), smooth)
    whole = Image.composite(moved, behind, covered)
    return np.column_stack([linear, offset]), np.asarray(whole)


def _part(random: np.random.Generator, photo: Picture) -> NDArray[np.float64]:
    """A random box of 0.4 to 0.9 of either side."""
    sides = np.array(photo.shape[1::-1])
    size = np.round(random.uniform(0.4, 0.9, 2) * sides)
    corner = np.round(random.uniform(0, 1, 2) * (sides - size))
    return np.concatenate([corner, corner + size])


def _query_crop(
    retriever: PlaneRetriever,
    dataset: RetrievalDataset,
    name: str,
    random: np.random.Generator,
    small: bool,
) -> QueryCrop:
    """A photo cut to its region of interest, or to a small part of it, varied, in other light."""
    photo = dataset.read(name)
    height, width = photo.shape[:2]
    box = roi_box(dataset, name)
    box = np.array([0, 0, width, height], dtype=float) if box is None else box
    box = box + random.uniform(-0.1, 0.1, 4) * np.tile(box[2:] - box[:2], 2)
    box = np.clip(box, 0, np.tile([width, height], 2)).round()
    if small:
        size = np.minimum(random.uniform(*PART) * np.array([width, height]), box[2:] - box[:2])
        corner = random.uniform(box[:2], box[2:] - size)
        box = np.concatenate([corner, corner + size]).round()
    features = retriever.encode_query(relit(random, crop(photo, tuple(box))))
    return QueryCrop(to_float32(features), name, box)


@torch.inference_mode()
def _forward_score(retriever: PlaneRetriever, query: PlaneFeatures, target: PlaneFeatures) -> float:
    return retriever.match_forward(query, to_float32(target)).score


def _true_points(
    dataset: RetrievalDataset, query: QueryCrop, name: str, samples: Sequence[PlaneSample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The true places of either template's patches, x and y from 0 to 1; None if unknown."""
    here, there = dataset.geometry(query.name), dataset.geometry(name)
    if here is None or there is None:
        return None
    photo, target = (dataset.read(n).shape for n in (query.name, name))
    corner, sides = query.box[:2], query.box[2:] - query.box[:2]
    points = samples[0].template_points.numpy()[..., ::-1] * sides + corner
    found = true_places(here, there, points, target) / np.array(target[1::-1])
    points = samples[1].template_points.numpy()[..., ::-1] * np.array(target[1::-1])
    back = (true_places(there, here, points, photo) - corner) / sides
    return found, np.where(((back >= 0) & (back <= 1)).all(-1, keepdims=True), back, np.nan)


def _shown(truths: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> float:
    """The share of a query's patches that have a place within the target."""
    there = np.empty((0, 2)) if truths is None else truths[0]
    return float(((there >= 0) & (there <= 1)).all(-1).mean()) if there.size else 0.0


def _pair(
    samples: Sequence[PlaneSample],
    relevant: bool,
    truths: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> LabelledPair:
    kept = tuple(one._replace(maps=one.maps.half()) for one in samples)
    if not relevant:
        right = tuple(torch.zeros(one.maps.shape[1:]) for one in samples)
    elif truths is None:
        right = tuple(torch.full(one.maps.shape[1:], torch.nan) for one in samples)
    else:
        both = zip(samples, truths, strict=True)
        right = tuple(_near(one.matched_points, truth) for one, truth in both)
    return LabelledPair(kept, relevant, right)  # type: ignore[arg-type]


def _near(points: Tensor, truth: NDArray[np.float64]) -> Tensor:
    """1.0 where points, y and x, are near true ones, x and y; NaN, no true place, is near none."""
    return (torch.from_numpy(truth[..., ::-1].copy()) - points).abs().amax(-1).le(NEAR).float()


class BatchLoss:
    """The loss of a step's batch, a function of (seed, step) and the weights.

    Half of a batch is relevant. Mirrored samples are samples, too, so either axis is turned round
    in half of the steps.
    """

    def __init__(
        self, network: PlaneNetwork, pairs: Sequence[LabelledPair], config: TrainingConfig
    ):
        self.network, self.config = network, config
        self.maps, self.numbers = collate([pair.samples for pair in pairs])
        right = pad_maps([one for pair in pairs for one in pair.right])
        self.right = right.unflatten(0, (len(pairs), DIRECTIONS))
        self.labels = torch.tensor([int(pair.relevant) for pair in pairs])

    def __call__(self, step: int) -> Tensor:
        random = np.random.default_rng((self.config.seed, step))
        positives = round(self.config.positives * self.config.batch)
        chosen = [
            random.choice(np.flatnonzero(self.labels == label), count)
            for label, count in ((1, positives), (0, self.config.batch - positives))
        ]
        rows = torch.from_numpy(np.concatenate(chosen))
        axes = [axis for axis in (-2, -1) if self.config.augment and random.random() < 0.5]
        maps, right = self.maps[rows].flip(axes), self.right[rows].flip(axes)
        judged = self.network(maps, self.numbers[rows])
        known = right.isfinite() & (maps[:, :, NORM] > 0)
        patches = F.binary_cross_entropy_with_logits(judged.support[known], right[known])
        return F.cross_entropy(judged.logits, self.labels[rows]) + SUPPORT_WEIGHT * patches


class SampleValidator(ValidationLook):
    """Evenly spread queries against a whole database, sampled once."""

    def __init__(
        self, retriever: PlaneRetriever, dataset: RetrievalDataset, config: TrainingConfig
    ):
        count = min(config.validation_queries, len(dataset.queries))
        chosen = np.linspace(0, len(dataset.queries) - 1, count).round().astype(int)
        self.queries = [dataset.queries[number] for number in chosen]
        self.names = list(dataset.images)
        database = [retriever.encode(dataset.read(name)) for name in self.names]
        self.samples = []
        for query in tqdm(self.queries, desc="sampling", unit="query", disable=None):
            features = to_float32(retriever.encode_query(dataset.read_query(query)))
            self.samples.append(
                collate([sample_pair(retriever, features, one) for one in database])
            )

    @torch.no_grad()
    def margins(self, network: Any) -> NDArray[np.float64]:
        """(queries, database)."""
        network.eval()
        return torch.stack([network(*one).margin for one in self.samples]).double().numpy()


def fit_plane_network(
    train: RetrievalDataset,
    validation: RetrievalDataset,
    config: TrainingConfig = PLANE_TRAINING,
    folder: Path | None = None,
    photos: RetrievalDataset | None = None,
    width: int = 16,
) -> tuple[PlaneNetwork, list[dict[str, float]]]:
    """Train a `PlaneNetwork`, choosing its best step on validation landmarks.

    Parameters
    ----------
    train, validation
        Data sets that share no landmark and no photo.
    config
        The recipe; ``distractors`` is of no use here.
    folder
        Where checkpoints go. If it holds one of the same recipe, the run resumes from it.
    photos
        Any photos, to learn from their warps too.
    width
        Of the network.

    Returns
    -------
    network
        In eval mode, with the weights of the best validation mAP, calibrated there.
    log
        As `indiret.training.learn` gives it.

    Raises
    ------
    ValueError
        If the data sets share a landmark or a photo, or the checkpoint is of another run.
    """
    check_disjoint(train, validation)
    retriever = PlaneRetriever()
    torch.manual_seed(config.seed)
    network = PlaneNetwork(width)
    pairs = list(landmark_pairs(retriever, train))
    if photos:
        pairs += warped_pairs(retriever, photos)
    validator = SampleValidator(retriever, validation, config)
    data = {"train": train, "validation": validation} | ({"photos": photos} if photos else {})
    run = {"training": asdict(config), "width": width, "planes": asdict(retriever.config)}
    run |= {name: dataset.manifest_hash() for name, dataset in data.items()}
    log = learn(
        network,
        config,
        loss=BatchLoss(network, pairs, config),
        look=lambda: validator.mean_average_precision(network),  # type: ignore[arg-type]
        recipe=json.dumps(run),
        folder=folder,
    )
    network.calibration.copy_(torch.tensor(validator.calibration(network)))  # type: ignore[arg-type]
    return network, log
