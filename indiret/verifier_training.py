"""Teach a verifier from the landmarks of one data set, choosing its best step on another's.

The backbone is frozen: every photo's maps are made once, and only what stands on them learns.

Chapter: *Baselines*.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.backbones import Backbone, extract, load_maps
from indiret.datasets import RetrievalDataset
from indiret.evaluation import mean_average_precision
from indiret.images import Picture, crop
from indiret.sampling import roi_box, views_by_landmark
from indiret.training import TrainingConfig, check_disjoint, learn
from indiret.verification import VERIFIERS, Verifier, save_verifier, stack

AT_ONCE = 32  # pictures read before their maps are made
START = 50_000  # vectors, at most, that a verifier begins from
RECIPES = {
    "siam-fv": TrainingConfig(
        steps=240, batch=16, learning_rate=5e-4, weight_decay=0, validate_every=40
    ),
    "non-metric": TrainingConfig(
        steps=400, batch=24, learning_rate=1e-3, weight_decay=1e-2, validate_every=40
    ),
    "deep-retrieval": TrainingConfig(
        steps=400, batch=24, learning_rate=1e-3, weight_decay=0, validate_every=40
    ),
    "gem-learnt": TrainingConfig(
        steps=120, batch=24, learning_rate=5e-2, weight_decay=0, validate_every=20
    ),
}  # a batch is so many landmarks; chosen on Toytown validation, see book/decisions/0010
RECIPES = {
    name: replace(recipe, validation_queries=48, checkpoint_every=40)
    for name, recipe in RECIPES.items()
}


class Lesson:
    """Batches of sets of vectors, each a function of (seed, step) alone.

    Of each landmark of a batch one photo asks, cropped to its region of interest where there is
    one, and two others answer, or the only other one; so do photos of no landmark, a share
    ``distractors`` of the batch.
    """

    ANSWERS = 2

    def __init__(
        self,
        dataset: RetrievalDataset,
        backbone: Backbone,
        verifier: Verifier,
        config: TrainingConfig,
    ):
        views = views_by_landmark(dataset).values()
        self.landmarks = [names for names in views if len(names) > 1]
        if len(self.landmarks) < 2:
            raise ValueError(
                f"data set {dataset.name!r} has {len(self.landmarks)} landmarks with two photos or "
                "more; training needs at least 2."
            )
        self.config = config
        shown = {name for names in self.landmarks for name in names}
        answers = {name for query in dataset.queries for name in query.positives | query.junk}
        self.distractors = sorted(set(dataset.images) - shown - answers)
        names = sorted(shown | set(self.distractors))
        asking = sorted(shown)
        targets = _read_all([(dataset, name, False) for name in names], backbone, verifier)
        queries = _read_all([(dataset, name, True) for name in asking], backbone, verifier)
        self.targets = dict(zip(names, targets, strict=True))
        self.queries = dict(zip(asking, queries, strict=True))

    def batch(self, step: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """A queries, B targets, and which answer which, (A, B) bool."""
        random = np.random.default_rng((self.config.seed, step))
        count = min(self.config.batch, len(self.landmarks))
        queries, targets, owners = [], [], []
        for number in random.choice(len(self.landmarks), count, replace=False):
            names = self.landmarks[number]
            drawn = min(1 + self.ANSWERS, len(names))
            asked, *answers = random.choice(names, drawn, replace=False)
            queries.append(self.queries[asked])
            targets += [self.targets[name] for name in answers]
            owners += [len(queries) - 1] * len(answers)
        strangers = min(round(self.config.distractors * count), len(self.distractors))
        for name in random.choice(self.distractors, strangers, replace=False) if strangers else ():
            targets.append(self.targets[name])
            owners.append(-1)
        return queries, targets, torch.arange(count)[:, None] == torch.tensor(owners)


def fit_verifier(
    kind: str,
    backbone: Backbone,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    config: TrainingConfig | None = None,
    folder: Path | None = None,
) -> tuple[Verifier, list[dict[str, float]]]:
    """Train one of `VERIFIERS` on a frozen backbone.

    Parameters
    ----------
    kind
        A key of `VERIFIERS`.
    backbone
        Its maps are what is compared.
    train, validation
        Data sets that share no landmark and no photo.
    config
        The recipe; ``positives`` and ``augment`` are of no use here. Its kind's in `RECIPES`
        otherwise.
    folder
        Where checkpoints go, and the start as ``untrained.safetensors``. If it holds a checkpoint
        of the same recipe, the run resumes from it.

    Returns
    -------
    verifier
        In eval mode, with the weights of the best validation mAP.
    log
        As `indiret.training.learn` gives it. The first row, step 0, is the untrained start.

    Raises
    ------
    ValueError
        If the data sets share a landmark or a photo, the maps are too small, or the checkpoint is
        of another run.
    """
    config = config or RECIPES[kind]
    check_disjoint(train, validation)
    torch.manual_seed(config.seed)
    channels = backbone.maps([np.zeros((128, 128, 3), np.uint8)]).shape[1]
    verifier = VERIFIERS[kind](channels)
    lesson = Lesson(train, backbone, verifier, config)
    look = Look(validation, backbone, verifier, config)
    vectors = torch.cat(list(lesson.targets.values()))
    verifier.start(vectors[:: -(-len(vectors) // START)].float())
    first = {"step": 0, "validation_map": look.mean_average_precision(verifier)}
    if folder:
        save_verifier(verifier, backbone, folder / "untrained.safetensors")

    def loss(step: int) -> Tensor:
        queries, targets, relevant = lesson.batch(step)
        encoded = verifier(*stack([*queries, *targets]))
        return verifier.loss(encoded[: len(queries)], encoded[len(queries) :], relevant)

    data = {"train": train.manifest_hash(), "validation": validation.manifest_hash()}
    of_run = {"verifier": kind, "settings": verifier.settings, "backbone": backbone.fingerprint}
    log = learn(
        verifier,
        config,
        loss=loss,
        look=lambda: look.mean_average_precision(verifier),
        recipe=json.dumps(of_run | {"training": asdict(config)} | data),
        folder=folder,
    )
    return verifier, [first, *log]


class Look:
    """Evenly spread validation queries, ranked against the whole database."""

    def __init__(
        self,
        dataset: RetrievalDataset,
        backbone: Backbone,
        verifier: Verifier,
        config: TrainingConfig,
    ):
        count = min(config.validation_queries, len(dataset.queries))
        chosen = np.linspace(0, len(dataset.queries) - 1, count).round().astype(int)
        self.queries = [dataset.queries[number] for number in chosen]
        self.names = list(dataset.images)
        self.targets = _read_all(
            [(dataset, name, False) for name in self.names], backbone, verifier
        )
        crops = [dataset.read_query(query) for query in self.queries]
        self.asked = _read(crops, backbone, verifier)

    @torch.no_grad()
    def mean_average_precision(self, verifier: Verifier) -> float:
        """mAP without the queries' own photos, 0 … 1."""
        verifier.eval()
        queries, targets = (
            torch.cat(
                [verifier(*stack(sets[at : at + AT_ONCE])) for at in range(0, len(sets), AT_ONCE)]
            )
            for sets in (self.asked, self.targets)
        )
        rankings = {}
        for query, vector in zip(self.queries, queries, strict=True):
            scores = verifier.similarity(vector[None], targets)[0].numpy()
            order = np.argsort(-scores, kind="stable")
            rankings[query.name] = [self.names[place] for place in order]
        return mean_average_precision(rankings, self.queries, exclude_query=True)


def _read_all(
    wanted: list[tuple[RetrievalDataset, str, bool]], backbone: Backbone, verifier: Verifier
) -> list[Tensor]:
    """The sets of photos, or of their regions of interest, float16."""
    sets = []
    for at in tqdm(range(0, len(wanted), AT_ONCE), desc="reading", unit="x32", disable=None):
        pictures = [_photo(*one) for one in wanted[at : at + AT_ONCE]]
        sets += _read(pictures, backbone, verifier)
    return sets


def _read(pictures: list[Picture], backbone: Backbone, verifier: Verifier) -> list[Tensor]:
    paths = extract(backbone, pictures)
    with torch.no_grad():
        return [verifier.read(load_maps(path)).half() for path in paths]


def _photo(dataset: RetrievalDataset, name: str, cropped: bool) -> Picture:
    picture = dataset.read(name)
    box = roi_box(dataset, name) if cropped else None
    return picture if box is None else crop(picture, tuple(box))
