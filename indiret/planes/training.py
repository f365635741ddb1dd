"""Train the network over samples along planes, from pairs whose geometry is known.

Votes have nothing to learn, so every pair is voted on and sampled once. The loss is the
cross-entropy of the pairs plus that of the patches: Toytown says exactly which patch shows what,
and so does a photo warped by a known affine map.

Chapter: *Sphere or plane?*
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.datasets import RetrievalDataset
from indiret.evaluation import ground_truth_points
from indiret.images import Picture, crop
from indiret.pairs import relit, roi_box, views_by_landmark
from indiret.planes.matching import PlaneRetriever
from indiret.planes.network import PlaneNetwork
from indiret.planes.samples import NORM, PlaneSample, collate, pad_maps, sample_pair
from indiret.training import TrainingConfig, Validator, check_disjoint, learn

Truths = tuple[NDArray[np.float64], NDArray[np.float64]]  # x and y, 0 to 1, of either template
PLANE_TRAINING = TrainingConfig(
    steps=1000, batch=64, learning_rate=3e-3, validate_every=100, validation_queries=24, patience=10
)  # half a minute of steps, since the samples are made once; see book/decisions/0016
QUERIES = 4  # photos of a landmark that are queries, every second by a small part
PART = 0.2, 0.4  # sides of a small part, of those of its photo
SHOWN = 0.5  # of a small part's patches that a photo must show to be relevant
POSITIVES = 2  # relevant photos of each
CANDIDATES = 24  # photos of other things that are matched with each
HARD, EASY = 6, 2  # of those with the highest scores, and of the others, that are learned from
NEAR = 0.05  # of the longer side: a place so far from the truth at most is right
WARPS = 4  # of each photo of a folder


class LabelledPair(NamedTuple):
    samples: Sequence[PlaneSample]
    relevant: bool
    right: Sequence[Tensor]  # (K, L): 1 for a right patch, 0 for a wrong one, NaN if not known


def landmark_pairs(retriever: PlaneRetriever, dataset: RetrievalDataset) -> Iterator[LabelledPair]:
    """Photos of one landmark that has three or more, and those of others with high scores."""
    random = np.random.default_rng(0)
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
        for number, name in enumerate(_choose(random, shown, QUERIES)):
            small = bool(number % 2) and dataset.geometry(name) is not None
            box, part = _query_crop(dataset, name, random, small)
            query = retriever.encode_query(part)
            others = [other for other in shown if other != name]
            for positive in _choose(random, others, POSITIVES):
                samples = sample_pair(retriever, query, features[positive])
                truths = _true_points(dataset, (name, positive), box, samples)
                if not small or (truths and _inside(truths[0]).mean() >= SHOWN):
                    yield _pair(samples, True, truths)
            few = _choose(random, negatives, CANDIDATES)
            with torch.inference_mode():
                found = [retriever.match_forward(query, features[n]) for n in few]
            order = few[np.argsort([match.score for match in found])[::-1]]
            for other in [*order[:HARD], *order[HARD : HARD + EASY]]:
                yield _pair(sample_pair(retriever, query, features[other]), False)


def warped_pairs(retriever: PlaneRetriever, dataset: RetrievalDataset) -> Iterator[LabelledPair]:
    """Pairs of any folder: part of a photo and the photo warped, and the part and another photo."""
    random = np.random.default_rng(0)
    names = list(dataset.images)
    for number, name in enumerate(tqdm(names, desc="warping", unit="photo", disable=None)):
        photo = dataset.read(name)
        for _ in range(WARPS):
            other = dataset.read(names[(number + random.integers(1, len(names))) % len(names)])
            size = np.array(photo.shape[1::-1])  # of the warped photo, too
            sides = np.round(random.uniform(0.4, 0.9, 2) * size)
            corner = np.round(random.uniform(0, 1, 2) * (size - sides))
            part = relit(random, crop(photo, (*corner, *(corner + sides))))
            matrix, warped = warp(random, photo, other)
            query, target, unrelated = map(retriever.encode, (part, warped, other))
            samples = sample_pair(retriever, query, target)
            linear, offset = matrix[:, :2], matrix[:, 2]
            there = (_template_points(samples[0], sides) + corner) @ linear.T + offset
            back = (_template_points(samples[1], size) - offset) @ np.linalg.inv(linear).T
            inside = (back >= 0) & (back < size)
            truths = there / size, np.where(inside, back - corner, np.nan) / sides
            yield _pair(samples, True, truths)
            yield _pair(sample_pair(retriever, query, unrelated), False)


def warp(
    random: np.random.Generator, photo: Picture, background: Picture
) -> tuple[NDArray[np.float64], Picture]:
    """A photo moved by an affine map before another one: the map (2, 3) of x and y, and the result.

    It is turned by up to 15°, made 0.5 to 1.2 times as large, sheared and stretched a little, in
    other light.
    """
    frame = photo.shape[1::-1]
    turn, size = np.deg2rad(random.uniform(-15, 15)), 2 ** random.uniform(-1, 0.25)
    stretch, shear = np.exp(random.uniform(-0.2, 0.2)), random.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = size * rotation @ np.array([[stretch, shear], [0, 1 / stretch]])
    middle = np.array(frame) / 2
    room = np.array(frame) * max(0.0, 1 - size) / 2
    offset = middle + random.uniform(-1, 1, 2) * room - linear @ middle
    back = np.linalg.inv(linear)
    coefficients = np.column_stack([back, -back @ offset]).ravel().tolist()
    smooth, affine = Image.Resampling.BILINEAR, (frame, Image.Transform.AFFINE, coefficients)
    moved = Image.fromarray(relit(random, photo)).transform(*affine, smooth)
    covered = Image.new("L", frame, 255).transform(*affine, Image.Resampling.NEAREST)
    behind = Image.fromarray(background).resize(frame, smooth)
    whole = Image.composite(moved, behind, covered)
    return np.column_stack([linear, offset]), np.asarray(whole)


def _choose(random: np.random.Generator, names: Sequence[str], most: int) -> NDArray[np.str_]:
    return random.choice(names, min(most, len(names)), replace=False)


def _query_crop(
    dataset: RetrievalDataset, name: str, random: np.random.Generator, small: bool
) -> tuple[NDArray[np.float64], Picture]:
    """A box near a photo's region of interest, or a small part of it, and that in other light."""
    photo = dataset.read(name)
    sides = np.array(photo.shape[1::-1])
    box = roi_box(dataset, name)
    box = np.array([0.0, 0.0, *sides]) if box is None else box
    box = box + random.uniform(-0.1, 0.1, 4) * np.tile(box[2:] - box[:2], 2)
    box = np.clip(box, 0, np.tile(sides, 2)).round()
    if small:
        size = np.minimum(random.uniform(*PART) * sides, box[2:] - box[:2])
        corner = random.uniform(box[:2], box[2:] - size)
        box = np.concatenate([corner, corner + size]).round()
    return box, relit(random, crop(photo, tuple(box)))


def _true_points(
    dataset: RetrievalDataset,
    names: tuple[str, str],
    box: NDArray[np.float64],
    samples: Sequence[PlaneSample],
) -> Truths | None:
    """Where either template's patches truly lie in the other photo; None if unknown."""
    here, there = map(dataset.geometry, names)
    if here is None or there is None:
        return None
    photo, target = (dataset.read(name).shape for name in names)
    corner, sides, size = box[:2], box[2:] - box[:2], np.array(target[1::-1])
    points = _template_points(samples[0], sides) + corner
    found = ground_truth_points(here, there, points, target) / size
    points = _template_points(samples[1], size)
    back = (ground_truth_points(there, here, points, photo) - corner) / sides
    return found, np.where(_inside(back)[..., None], back, np.nan)


def _template_points(sample: PlaneSample, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, L, 2): x and y of a template's patches, in pixels of its picture."""
    return np.asarray(sample.template_points.numpy()[..., ::-1] * sides)


def _inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(...): whether points (..., 2) lie in their photo."""
    return np.asarray(((points >= 0) & (points <= 1)).all(-1))


def _pair(
    samples: Sequence[PlaneSample], relevant: bool, truths: Truths | None = None
) -> LabelledPair:
    right = [torch.full(one.maps.shape[1:], torch.nan if relevant else 0.0) for one in samples]
    for at, truth in enumerate(truths or ()):  # NaN, no true place, is near none
        away = torch.from_numpy(truth[..., ::-1].copy()) - samples[at].matched_points
        right[at] = away.abs().amax(-1).le(NEAR).float()
    return LabelledPair([one._replace(maps=one.maps.half()) for one in samples], relevant, right)


class BatchLoss:
    """The loss of a step's batch, mirrored or not, a function of (seed, step) and the weights."""

    def __init__(
        self, network: PlaneNetwork, pairs: Sequence[LabelledPair], config: TrainingConfig
    ):
        self.network, self.config = network, config
        self.maps, self.numbers = collate([pair.samples for pair in pairs])
        self.right = pad_maps([one for pair in pairs for one in pair.right]).unflatten(0, (-1, 2))
        self.labels = torch.tensor([int(pair.relevant) for pair in pairs])

    def __call__(self, step: int) -> Tensor:
        random = np.random.default_rng((self.config.seed, step))
        positives = round(self.config.positives * self.config.batch)
        counts = (self.config.batch - positives, positives)
        few = [random.choice(np.flatnonzero(self.labels == one), counts[one]) for one in (1, 0)]
        rows = torch.from_numpy(np.concatenate(few))
        axes = [axis for axis in (-2, -1) if self.config.augment and random.random() < 0.5]
        maps, right = self.maps[rows].flip(axes), self.right[rows].flip(axes)
        judged = self.network(maps, self.numbers[rows])
        known = right.isfinite() & (maps[:, :, NORM] > 0)
        patches = F.binary_cross_entropy_with_logits(judged.support[known], right[known])
        return F.cross_entropy(judged.logits, self.labels[rows]) + patches


class SampleValidator(Validator):
    """Validates on pairs that are sampled once."""

    def __init__(
        self, retriever: PlaneRetriever, dataset: RetrievalDataset, config: TrainingConfig
    ):
        super().__init__(dataset, config.validation_queries)
        database = [retriever.encode(dataset.read(name)) for name in self.names]
        self.samples = []
        for query in tqdm(self.queries, desc="sampling", unit="query", disable=None):
            features = retriever.encode_query(dataset.read_query(query))
            self.samples.append(
                collate([sample_pair(retriever, features, one) for one in database])
            )

    @torch.no_grad()
    def scores(self, model: PlaneNetwork) -> NDArray[np.float64]:
        """(queries, database) margins."""
        model.eval()
        return torch.stack([model(*one).margin for one in self.samples]).double().numpy()


def fit_plane_network(
    train: RetrievalDataset,
    validation: RetrievalDataset,
    config: TrainingConfig = PLANE_TRAINING,
    folder: Path | None = None,
    photos: RetrievalDataset | None = None,
    width: int = 16,
) -> tuple[PlaneNetwork, list[dict[str, float]]]:
    """Train a `PlaneNetwork`, also on warps of ``photos``; the best step on validation is kept.

    It comes back in eval mode, calibrated, with the log of `indiret.training.learn`. A run resumes
    from a ``folder`` with its checkpoint. Raises ValueError if the data sets share a landmark or a
    photo, or the checkpoint is of another run.
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
        validate=lambda: validator.mean_average_precision(network),
        run_fingerprint=json.dumps(run),
        folder=folder,
    )
    network.calibration.copy_(torch.tensor(validator.calibration(network)))
    return network, log
