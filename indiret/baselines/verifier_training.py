"""Teach a verifier from the landmarks of one data set, choosing its best step on another's.

The backbone is frozen: every photo's maps are made once, and only what stands on them learns.

Chapter: *Baselines*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.maps import extract_by_name
from indiret.baselines.verifiers import VERIFIERS, Verifier, save_verifier, stack
from indiret.datasets import RetrievalDataset
from indiret.images import Picture, crop
from indiret.pairs import photos_to_learn_from, roi_box
from indiret.training import TrainingConfig, Validator, check_disjoint, learn

ReadSets = Callable[[Sequence[Any], Callable[[Any], Picture]], list[Tensor]]
_AT_ONCE = 32  # sets
_START = 50_000  # vectors, at most, that a verifier begins from
_RECIPE = partial(TrainingConfig, validate_every=40, validation_queries=48, checkpoint_every=40)
RECIPES = {  # chosen on Toytown validation, see book/decisions/0010; a batch is of landmarks
    "siam-fv": _RECIPE(steps=240, batch=16, learning_rate=5e-4, weight_decay=0),
    "non-metric": _RECIPE(steps=400, batch=24, learning_rate=1e-3, weight_decay=1e-2),
    "deep-retrieval": _RECIPE(steps=400, batch=24, learning_rate=1e-3, weight_decay=0),
}


def set_reader(backbone: PretrainedBackbone, verifier: Verifier) -> ReadSets:
    """From photos, and what reads one, to a set of vectors of each, float16."""

    @torch.no_grad()
    def read_sets(photos: Sequence[Any], read: Callable[[Any], Picture]) -> list[Tensor]:
        maps = extract_by_name(backbone, photos, read, "reading")
        return [verifier.read(one).half() for one in maps]

    return read_sets


class SetSampler:
    """Batches of sets of vectors, each a function of (seed, step) alone.

    Of each landmark of a batch one photo asks, cropped to its region of interest where there is
    one, and two others answer, or the only other one; so do photos of no landmark, a share
    ``distractors`` of the batch.
    """

    ANSWERS = 2

    def __init__(self, dataset: RetrievalDataset, read_sets: ReadSets, config: TrainingConfig):
        self.landmarks, self.distractors = photos_to_learn_from(dataset)
        self.config = config

        def read_region(name: str) -> Picture:
            box = roi_box(dataset, name)
            return dataset.read(name) if box is None else crop(dataset.read(name), tuple(box))

        asking = sorted({name for names in self.landmarks for name in names})
        names = sorted({*asking, *self.distractors})
        self.targets = dict(zip(names, read_sets(names, dataset.read), strict=True))
        self.queries = dict(zip(asking, read_sets(asking, read_region), strict=True))

    def batch(self, step: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """A queries, B targets, and which answer which, (A, B) bool."""
        random = np.random.default_rng((self.config.seed, step))
        count = min(self.config.batch, len(self.landmarks))
        queries, targets, owners = [], [], []
        for number in random.choice(len(self.landmarks), count, replace=False):
            names = self.landmarks[number]
            views = min(1 + self.ANSWERS, len(names))
            asking, *answers = random.choice(names, views, replace=False)
            queries.append(self.queries[asking])
            targets += [self.targets[name] for name in answers]
            owners += [len(queries) - 1] * len(answers)
        if share := min(round(self.config.distractors * count), len(self.distractors)):
            others = random.choice(self.distractors, share, replace=False)
            targets += [self.targets[name] for name in others]
            owners += [-1] * share
        return queries, targets, torch.arange(count)[:, None] == torch.tensor(owners)


def fit_verifier(
    kind: str,
    backbone: PretrainedBackbone,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    config: TrainingConfig | None = None,
    folder: Path | None = None,
) -> tuple[Verifier, list[dict[str, float]]]:
    """Train one of `VERIFIERS` on a frozen backbone, by its recipe if no config is given.

    It comes back in eval mode, with the weights of the best validation mAP, and with the log of
    `indiret.training.learn`, whose first row, step 0, is the untrained start. Checkpoints go into
    the folder, and the start as ``untrained.safetensors``; a run that was killed resumes.

    ValueError if the data sets share a landmark or a photo, the maps are too small, or the
    checkpoint is of another run.
    """
    config = config or RECIPES[kind]
    check_disjoint(train, validation)
    torch.manual_seed(config.seed)
    channels = backbone.maps([np.zeros((128, 128, 3), np.uint8)]).shape[1]
    verifier = VERIFIERS[kind](channels)
    read_sets = set_reader(backbone, verifier)
    sampler = SetSampler(train, read_sets, config)
    validator = VerifierValidator(validation, read_sets, config)
    verifier.start(_spread(list(sampler.targets.values()), _START))
    first = {"step": 0, "validation_map": validator.mean_average_precision(verifier)}
    if folder:
        save_verifier(verifier, backbone, folder / "untrained.safetensors")

    def loss(step: int) -> Tensor:
        queries, targets, relevant = sampler.batch(step)
        encoded = verifier(*stack([*queries, *targets]))
        return verifier.loss(encoded[: len(queries)], encoded[len(queries) :], relevant)

    data = {"train": train.manifest_hash(), "validation": validation.manifest_hash()}
    of_run = {"verifier": kind, "settings": verifier.settings, "backbone": backbone.fingerprint}
    log = learn(
        verifier,
        config,
        loss=loss,
        validate=lambda: validator.mean_average_precision(verifier),
        run_fingerprint=json.dumps(of_run | {"training": asdict(config)} | data),
        folder=folder,
    )
    return verifier, [first, *log]


class VerifierValidator(Validator):
    """Validates verifiers on one backbone's maps."""

    def __init__(self, dataset: RetrievalDataset, read_sets: ReadSets, config: TrainingConfig):
        super().__init__(dataset, config.validation_queries)
        self.database = read_sets(self.names, dataset.read)
        self.encoded = read_sets(self.queries, dataset.read_query)

    @torch.no_grad()
    def scores(self, model: Verifier) -> NDArray[np.float64]:
        """(queries, database) similarities."""
        model.eval()
        queries, targets = (
            torch.cat(
                [model(*stack(sets[at : at + _AT_ONCE])) for at in range(0, len(sets), _AT_ONCE)]
            )
            for sets in (self.encoded, self.database)
        )
        rows = [model.similarity(vector[None], targets)[0] for vector in queries]
        return torch.stack(rows).double().numpy()


def _spread(sets: list[Tensor], most: int) -> Tensor:
    """At most so many of all vectors, float32, and no more of a large photo than of others."""
    each = max(1, most // len(sets))
    return torch.cat([vectors[:: -(-len(vectors) // each)] for vectors in sets]).float()
