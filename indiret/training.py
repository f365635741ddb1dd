"""Teach a network to tell matching pairs from others, and resume after any crash.

Every batch is a function of (seed, step) alone, and a checkpoint holds all else that the next step
depends on; so a run that was killed and resumed ends with the weights of one that was not, bit for
bit on one machine.

Chapter: *A 4-D ResNet learns to match*.
"""

import json
import math
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from indiret.attention import AttentionMask
from indiret.checkpoints import OtherRunError, load_checkpoint, save_checkpoint
from indiret.datasets import RetrievalDataset
from indiret.datasets.writing import hold_lock
from indiret.distributed import ProcessGroup
from indiret.evaluation import fit_calibration, held_out_images, mean_average_precision
from indiret.metrics import fit_metrics, initial_metric_state
from indiret.network import IndicativeNetwork, NetworkConfig, build_network, cut_patches
from indiret.pairs import BatchSampler, PairLoader
from indiret.patches import check_choice

ALONE = ProcessGroup()
OPTIMISERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_SEEDED = threading.Lock()  # torch draws fresh weights from a generator that all threads share


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe; ``paper`` settings (METHOD: the authors' earlier code) are in `PAPER_RECIPE`."""

    steps: int = 5000  # of one batch each
    batch: int = 16  # pairs; 16 beat 32 in the feasibility study
    optimiser: str = "adamw"  # or "sgd", without momentum, as the authors' earlier code
    schedule: str = "cosine"  # or "steps": ×0.1 at 1/4 and 3/4 of the run (epochs 10, 30 of 40)
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    warm_up: float = 0.05  # share of the steps over which the rate rises from 0
    positives: float = 0.5  # share of matching pairs in a batch
    distractors: float = 0.4  # share of negatives of no landmark, where the data set has such
    augment: bool = True  # the tensor's symmetries, crops and light
    validate_every: int = 500  # steps between two validations
    validation_queries: int = 16  # queries ranked at each validation
    patience: int = 6  # validations without a better mAP before the run stops early
    checkpoint_every: int = 100  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        for one in fields(self):
            least, value = int(one.name != "seed"), getattr(self, one.name)
            if one.type is int and value < least:
                raise ValueError(f"{one.name}={value} is not at least {least}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} is not above 0.")
        for name in ("warm_up", "positives", "distractors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a share between 0 and 1.")
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        check_choice("schedule", self.schedule, ("cosine", "steps"))


PAPER_RECIPE = TrainingConfig(
    optimiser="sgd", schedule="steps", learning_rate=0.1, weight_decay=0, warm_up=0, augment=False
)


@dataclass
class Progress:
    """All that the next step depends on besides the weights, and the log so far."""

    step: int = 0
    best_step: int = 0
    best_map: float = -1.0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


def fit(
    network: str | NetworkConfig, train: RetrievalDataset, validation: RetrievalDataset,
    config: TrainingConfig | None = None, folder: Path | None = None, device: str = "cpu",
    loader: PairLoader | None = None, validator: "Validator | None" = None,
    by: str | None = None, group: ProcessGroup = ALONE,
) -> tuple[IndicativeNetwork, list[dict[str, float]]]:  # fmt: skip
    """Train a network on the landmarks of one data set, choosing its best step on another's.

    The network comes back in eval mode, with the weights of the best validation mAP, calibrated
    there. The log has one row every ``checkpoint_every`` steps: step, seconds, loss (mean since the
    row before), learning_rate and, at each validation, validation_map; the masks' parameters, by
    layer. Raises ValueError if the data sets share a landmark or a photo, or ``folder``, where
    checkpoints go and a run is resumed from, holds one of another run.

    ``loader`` and ``validator`` can be shared by networks that encode pictures alike. ``by`` says,
    where both are parts of one data set, how `indiret.evaluation.training_data` parted it:
    ``"query"`` or ``"landmark"``. They then share a database, but for what a validation query of
    such a fold holds back. ``group`` are the processes that learn together.
    """
    config = config or TrainingConfig()
    check_disjoint(train, validation, by)
    with _SEEDED, torch.device("cpu"):  # and float32, whatever the defaults of the caller
        torch.manual_seed(config.seed)
        model = build_network(network).float().to(device)
    model.set_metric_state(fitted_state(model.config, train))
    share = group.share(config.batch)
    loader = loader or PairLoader(BatchSampler(train, model, config), share=share)
    if group.first:
        validator = validator or NetworkValidator(validation, model, config)
    model.run = fingerprint_run(model.config, config, train, validation)
    log = learn(
        model,
        config,
        loss=batch_loss(model, loader),
        validate=lambda: validator.mean_average_precision(model) if validator else 0.0,
        run_fingerprint=model.run,
        folder=folder,
        parameters=model.attention_parameters,
        group=group,
    )
    calibration = validator.calibration(model) if validator else (1.0, 0.0)
    model.calibration.copy_(torch.tensor(group.broadcast(*calibration)))
    return model, log


def fingerprint_run(
    network: NetworkConfig, config: TrainingConfig,
    train: RetrievalDataset, validation: RetrievalDataset,
) -> str:  # fmt: skip
    """What makes two runs of `fit` the same run: settings, and hashes of the contents of data."""
    data = {"train": train.fingerprint(), "validation": validation.fingerprint()}
    return json.dumps({"network": asdict(network), "training": asdict(config), **data})


def learn(
    model: nn.Module, config: TrainingConfig, loss: Callable[[int], Tensor],
    validate: Callable[[], float], run_fingerprint: str, folder: Path | None = None,
    parameters: Callable[[], dict[str, float]] = dict, group: ProcessGroup = ALONE,
) -> list[dict[str, float]]:  # fmt: skip
    """Steps of gradient descent, validations, checkpoints; goes on where it was killed.

    ``loss`` is of the batch of a step, a function of the step and of the weights alone;
    ``validate`` gives the validation mAP of the model as it is; ``run_fingerprint`` is what makes
    two runs the same run, ``parameters`` more for each row of the log. Of ``group``, each process
    learns from its share of a batch, and the first one validates and writes.

    The model ends in eval mode with the weights of its best validation; the log is that of `fit`.
    Raises ValueError if the loss is not finite, or the checkpoint is of another run. One that is
    broken is warned of and made again; a second training in the folder waits for the first.
    """
    optimiser = build_optimiser(model, config)
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    progress, losses = Progress(), list[float]()
    patience = config.patience * config.validate_every
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    locked = folder if group.first else None
    lock = hold_lock(locked / ".training.lock", str(locked)) if locked else nullcontext(True)
    with lock, tqdm(total=config.steps, desc="training", disable=None) as bar:
        group.barrier()
        if checkpoint and checkpoint.exists():
            resumed = resume(checkpoint, run_fingerprint, model, optimiser)
            best, progress = resumed or (best, progress)
        bar.initial = bar.n = progress.step
        began = time.monotonic() - progress.seconds
        while progress.step < min(config.steps, progress.best_step + patience):
            losses.append(take_step(model, optimiser, loss, progress.step, config, group))
            if not math.isfinite(losses[-1]):
                diverged = f"the loss is {losses[-1]} at step {progress.step}: the run has diverged"
                raise ValueError(f"{diverged}; take a smaller learning_rate.")
            progress.step += 1
            bar.update()
            validating = progress.step % config.validate_every == 0 or progress.step == config.steps
            if not (validating or progress.step % config.checkpoint_every == 0):
                continue
            row = {"step": progress.step, "loss": group.mean(sum(losses) / len(losses))}
            losses.clear()
            group.average(b for b in model.buffers() if b.is_floating_point())
            if validating:
                (row["validation_map"],) = group.broadcast(validate())
                if row["validation_map"] > progress.best_map:
                    progress.best_map, progress.best_step = row["validation_map"], progress.step
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            progress.seconds = time.monotonic() - began
            row |= {"learning_rate": optimiser.param_groups[0]["lr"], "seconds": progress.seconds}
            progress.log.append(row | parameters())
            bar.set_postfix(loss=f"{row['loss']:.3f}", best=f"{progress.best_map:.3f}")
            if checkpoint and group.first:
                state = asdict(progress)
                save_checkpoint(checkpoint, run_fingerprint, model, optimiser, best, state)
    model.load_state_dict(best)
    model.eval()
    return progress.log


def resume(
    checkpoint: Path, run_fingerprint: str, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], Progress] | None:
    """The best weights and the progress of a checkpoint; None, with a warning, if it is broken."""
    from pydantic import TypeAdapter  # here: it takes as long as the library

    if checkpoint.is_dir():
        raise ValueError(f"{checkpoint} is a folder where a file should be; remove it.")
    try:
        return load_checkpoint(
            checkpoint, run_fingerprint, model, optimiser, TypeAdapter(Progress).validate_json
        )
    except OtherRunError:
        raise
    except (ValueError, IndexError) as error:
        warnings.warn(f"{error}; training starts afresh", stacklevel=2)
        return None


def batch_loss(
    model: nn.Module, loader: Callable[[int], tuple[Tensor, Tensor]]
) -> Callable[[int], Tensor]:
    """The mean cross-entropy of the batch of a step, as `learn` and `take_step` ask for it."""

    def loss(step: int) -> Tensor:
        tensor, labels = loader(step)
        return F.cross_entropy(model(tensor), labels)

    return loss


def take_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, loss_of: Callable[[int], Tensor],
    step: int, config: TrainingConfig, group: ProcessGroup = ALONE,
) -> float:  # fmt: skip
    """One step down the gradient; returns the loss before it."""
    model.train()
    for settings in optimiser.param_groups:
        settings["lr"] = config.learning_rate * _rate(step, config)
    loss = loss_of(step)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    group.average(p.grad for p in model.parameters() if p.grad is not None)
    optimiser.step()
    return float(loss.detach())


def _rate(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step, as a share of the configured one."""
    done = (step + 1) / config.steps
    if done < config.warm_up:
        return done / config.warm_up
    if config.schedule == "steps":
        return 1.0 if done <= 0.25 else 0.1 if done <= 0.75 else 0.01
    return 0.5 * (1 + math.cos(math.pi * (done - config.warm_up) / (1 - config.warm_up + 1e-9)))


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Weights decay; what places an attention mask does not, or it would be drawn to the middle."""
    masks = [m for m in model.modules() if isinstance(m, AttentionMask)]
    placed = {id(parameter) for mask in masks for parameter in mask.parameters()}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in placed]},
        {"params": [p for p in model.parameters() if id(p) in placed], "weight_decay": 0.0},
    ]
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    return OPTIMISERS[config.optimiser]([group for group in groups if group["params"]], **settings)


class Validator(ABC):
    """Evenly spread validation queries, which choose a training's best step and calibrate it."""

    def __init__(self, dataset: RetrievalDataset, queries: int):
        count = min(queries, len(dataset.queries))
        chosen = np.linspace(0, len(dataset.queries) - 1, count).round().astype(int)
        self.queries = [dataset.queries[i] for i in chosen]
        self.names = list(dataset.images)

    @abstractmethod
    def scores(self, model: Any) -> NDArray[np.float64]:
        """(queries, database): what a model gives each pair."""

    def mean_average_precision(self, model: Any) -> float:
        """mAP without the queries' own photos, 0 … 1."""
        rankings = {
            query.name: [self.names[i] for i in np.argsort(-row, kind="stable")]
            for query, row in zip(self.queries, self.scores(model), strict=True)
        }
        return mean_average_precision(rankings, self.queries, exclude_query=True)

    def calibration(self, model: Any) -> tuple[float, float]:
        """a and b of the probability; see `indiret.evaluation.fit_calibration`."""
        pairs = [
            (score, name in query.positives)
            for query, row in zip(self.queries, self.scores(model), strict=True)
            for name, score in zip(self.names, row.tolist(), strict=True)
            if name != query.image and name not in query.junk
        ]
        scores, labels = map(np.array, zip(*pairs, strict=True))
        return fit_calibration(scores, labels)


class NetworkValidator(Validator):
    """Validates networks that encode pictures as ``network`` does.

    With ``keep``, tensors stay for the next validation: 1 GB for 16 queries of Toytown.
    """

    def __init__(
        self, dataset: RetrievalDataset, network: IndicativeNetwork, config: TrainingConfig,
        keep: bool = False,
    ):  # fmt: skip
        super().__init__(dataset, config.validation_queries)
        reading = tqdm(self.names, desc="validation photos", unit="photo", disable=None)
        self.database = [network.encode(dataset.read(name)) for name in reading]
        self.encoded = [network.encode(dataset.read_query(q), query=True) for q in self.queries]
        self._kept: dict[int, list[Tensor]] | None = {} if keep else None

    @torch.no_grad()
    def scores(self, model: IndicativeNetwork) -> NDArray[np.float64]:
        """(queries, database) margins."""
        model.eval()
        rows = [
            torch.cat([model.margin(tensor) for tensor in self._tensors(number, model)])
            for number in range(len(self.encoded))
        ]
        return torch.stack(rows).cpu().double().numpy()

    def _tensors(self, number: int, network: IndicativeNetwork) -> Iterable[Tensor]:
        """One query's tensors, eight pictures at a time."""
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        parts = (self.database[at : at + 8] for at in range(0, len(self.database), 8))
        tensors = (network.correlate(self.encoded[number], part) for part in parts)
        if self._kept is None:
            return tensors
        self._kept[number] = list(tensors)
        return self._kept[number]


def check_disjoint(
    train: RetrievalDataset, validation: RetrievalDataset, by: str | None = None
) -> None:
    landmarks = set(train.landmarks) & set(validation.landmarks)
    photos = set(validation.images.values())
    if by is not None:
        landmarks = landmarks if by == "landmark" else set()
        photos = {validation.path(name) for name in held_out_images(validation.queries, by)}
    shown = {*train.images.values(), *train.query_images.values()}
    for what, shared in (("landmark", landmarks), ("photo", shown & photos)):
        if shared:
            raise ValueError(
                f"training and validation share {len(shared)} {what}(s), {min(shared)} for one; "
                "split the data so that they share none."
            )


def fitted_state(network: NetworkConfig, train: RetrievalDataset) -> dict[str, Tensor]:
    """Metric state fitted on up to 100 evenly spread training photos."""
    if initial_metric_state(network.metrics, 12):
        names = list(train.images)
        spread = names[:: max(1, len(names) // 100)]
        patches = [cut_patches(network, train.read(name)).flatten(0, -2) for name in spread]
        return fit_metrics(network.metrics, torch.cat(patches))
    return {}
