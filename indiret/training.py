"""Teach a network to tell matching pairs from others, and get up again after any crash.

Every batch is a function of (seed, step) alone, and a checkpoint holds everything else that the
next step depends on; so a run that was killed and resumed ends with the same weights, bit for bit
on one machine, as one that was not.

Chapter: *A 4-D ResNet learns to match*.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from indiret.attention import AttentionMask
from indiret.correlation import fit_metrics, initial_metric_state
from indiret.crossvalidation import held_back
from indiret.datasets import RetrievalDataset
from indiret.evaluation import fit_calibration, mean_average_precision
from indiret.networks import IndicativeNetwork, NetworkConfig, build_network
from indiret.parallel import Team
from indiret.sampling import Lessons, PairSampler

ALONE = Team()
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
    validate_every: int = 500  # steps between two looks at the validation landmarks
    validation_queries: int = 16  # queries ranked at each look
    patience: int = 6  # looks without a better validation mAP before the run stops early
    checkpoint_every: int = 100  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("steps", "batch", "validate_every", "checkpoint_every", "patience")
        for name in (*positive, "validation_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not at least 1.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} is not above 0.")
        for name in ("warm_up", "positives", "distractors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a share between 0 and 1.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} is not at least 0.")
        for name, known in (("optimiser", ("adamw", "sgd")), ("schedule", ("cosine", "steps"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known; choose from {', '.join(known)}."
                )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainingConfig":
        """Build from plain settings, refusing names that are not there.

        Examples
        --------
        >>> TrainingConfig.from_dict({"steps": 10}).steps
        10
        >>> TrainingConfig.from_dict({"epochs": 10})
        Traceback (most recent call last):
        ValueError: training setting 'epochs' is not known; choose from steps, batch, ...
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise ValueError(
                    f"training setting {name!r} is not known; choose from {', '.join(known)}."
                )
        return cls(**settings)


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


def fit(
    network: str | NetworkConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    config: TrainingConfig | None = None,
    folder: Path | None = None,
    device: str = "cpu",
    lessons: Lessons | None = None,
    look: "Look | None" = None,
    by: str | None = None,
    team: Team = ALONE,
) -> tuple[IndicativeNetwork, list[dict[str, float]]]:
    """Train a network on the landmarks of one data set, choosing its best step on another's.

    Parameters
    ----------
    network
        A configuration or the name of one.
    train, validation
        Data sets that share no landmark and no photo.
    config
        The recipe.
    folder
        Where checkpoints go. If it holds one of the same recipe, the run resumes from it.
    device
        Where to compute, as torch names it.
    lessons, look
        To share with other networks that look at pictures alike; made here otherwise.
    by
        Where both are parts of one data set, made by `indiret.evaluation.training_data`: how it is
        parted, ``"query"`` or ``"landmark"``. They then share a database, but for what a
        validation query of such a fold holds back.
    team
        The processes that learn together, from `indiret.parallel.join_team`.

    Returns
    -------
    network
        In eval mode, with the weights of the best validation mAP, calibrated there.
    log
        One row every ``checkpoint_every`` steps: step, seconds, loss (mean since the row before),
        learning_rate and, at each look, validation_map; what attention masks have learnt, by layer.

    Raises
    ------
    ValueError
        If the data sets share a landmark or a photo, or the checkpoint is of another run.
    """
    config = config or TrainingConfig()
    check_disjoint(train, validation, by)
    with _SEEDED:
        torch.manual_seed(config.seed)
        model = build_network(network).to(device)
    model.set_metric_state(fitted_state(model.config, train))
    share = team.share(config.batch)
    lessons = lessons or Lessons(PairSampler(train, model, config), share=share)
    if team.first:
        look = look or ValidationLook(validation, model, config)

    log = learn(
        model,
        config,
        loss=batch_loss(model, lessons),
        look=lambda: look.mean_average_precision(model) if look else 0.0,
        recipe=_recipe(model.config, config, train, validation),
        folder=folder,
        readings=model.attention_readings,
        team=team,
    )
    slope, offset = team.agree(*(look.calibration(model) if look else (1.0, 0.0)))
    model.calibration.copy_(torch.tensor([slope, offset]))
    return model, log


def learn(
    model: nn.Module,
    config: TrainingConfig,
    loss: Callable[[int], Tensor],
    look: Callable[[], float],
    recipe: str,
    folder: Path | None = None,
    readings: Callable[[], dict[str, float]] = dict,
    team: Team = ALONE,
) -> list[dict[str, float]]:
    """Steps of gradient descent, looks at validation, checkpoints; goes on where it was killed.

    Parameters
    ----------
    model
        Learns in place, and ends in eval mode with the weights of its best look.
    config
        How many steps at which rate, how often to look and to save.
    loss
        Of the batch of a step, a function of the step and of the weights alone.
    look
        The validation mAP of the model as it is.
    recipe
        What makes two runs the same run; a checkpoint of another one is refused.
    folder
        Of the checkpoint.
    readings
        More for each row of the log.
    team
        Processes that learn the same model, each from its share of a batch; the first one looks
        and writes.

    Returns
    -------
    log
        As `fit` returns it.

    Raises
    ------
    ValueError
        If the loss is not finite, or the checkpoint is of another run.
    """
    optimiser = build_optimiser(model, config)
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    progress, log = Progress(), list[dict[str, float]]()
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    if checkpoint and checkpoint.exists():
        progress, log = _load_checkpoint(checkpoint, recipe, model, optimiser, best)

    bar = tqdm(total=config.steps, initial=progress.step, desc="training", disable=None)
    began, losses = time.monotonic() - progress.seconds, list[float]()
    with bar:
        while progress.step < config.steps and not _patience_over(progress, config):
            losses.append(take_step(model, optimiser, loss, progress.step, config, team))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss is {losses[-1]} at step {progress.step}: the run has diverged; take "
                    "a smaller learning_rate."
                )
            progress.step += 1
            bar.update()
            ends = progress.step == config.steps
            looking = progress.step % config.validate_every == 0 or ends
            if not (looking or progress.step % config.checkpoint_every == 0):
                continue
            row = {"step": progress.step, "loss": team.mean(sum(losses) / len(losses))}
            losses.clear()
            team.average(b for b in model.buffers() if b.is_floating_point())
            if looking:
                (row["validation_map"],) = team.agree(look())
                if row["validation_map"] > progress.best_map:
                    progress.best_map, progress.best_step = row["validation_map"], progress.step
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            progress.seconds = time.monotonic() - began
            rate = optimiser.param_groups[0]["lr"]
            row |= {"learning_rate": rate, "seconds": progress.seconds}
            log.append(row | readings())
            bar.set_postfix(loss=f"{row['loss']:.3f}", best=f"{progress.best_map:.3f}")
            if checkpoint and team.first:
                _save_checkpoint(checkpoint, recipe, model, optimiser, best, progress, log)
    model.load_state_dict(best)
    model.eval()
    return log


def batch_loss(
    model: nn.Module, lessons: Callable[[int], tuple[Tensor, Tensor]]
) -> Callable[[int], Tensor]:
    """The mean cross-entropy of the batch of a step, as `learn` and `take_step` ask for it."""

    def loss(step: int) -> Tensor:
        tensor, labels = lessons(step)
        return F.cross_entropy(model(tensor), labels)

    return loss


def take_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[int], Tensor],
    step: int,
    config: TrainingConfig,
    team: Team = ALONE,
) -> float:
    """One step down the gradient; returns the loss before it."""
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * _rate(step, config)
    loss = loss_of(step)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    team.average(p.grad for p in model.parameters() if p.grad is not None)
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


def _patience_over(progress: Progress, config: TrainingConfig) -> bool:
    return progress.step - progress.best_step >= config.patience * config.validate_every


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Weights decay; what places an attention mask does not, or it would be drawn to the middle."""
    masks = [m for m in model.modules() if isinstance(m, AttentionMask)]
    placed = {id(parameter) for mask in masks for parameter in mask.parameters()}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in placed]},
        {"params": [p for p in model.parameters() if id(p) in placed], "weight_decay": 0.0},
    ]
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    return kinds[config.optimiser]([group for group in groups if group["params"]], **settings)


class Look(Protocol):
    """What `fit` chooses its best step by, and calibrates with."""

    def mean_average_precision(self, network: IndicativeNetwork) -> float:
        """0 … 1."""

    def calibration(self, network: IndicativeNetwork) -> tuple[float, float]:
        """a and b of the probability, see `fit_calibration`."""


class ValidationLook:
    """A fixed, evenly spread set of validation queries, ranked against the whole database.

    Parameters
    ----------
    dataset
        The validation landmarks.
    network
        Describes the pictures; any network that looks at them alike can then be looked at.
    config
        How many queries.
    keep
        Whether to keep the tensors for the next look: 1 GB for 16 queries of Toytown.
    """

    def __init__(
        self,
        dataset: RetrievalDataset,
        network: IndicativeNetwork,
        config: TrainingConfig,
        keep: bool = False,
    ):
        count = min(config.validation_queries, len(dataset.queries))
        chosen = np.linspace(0, len(dataset.queries) - 1, count).round().astype(int)
        self.queries = [dataset.queries[i] for i in chosen]
        self.names = list(dataset.images)
        reading = tqdm(self.names, desc="validation photos", unit="photo", disable=None)
        self.database = [network.describe(dataset.read(name)) for name in reading]
        self.asked = [network.describe(dataset.read_query(q), query=True) for q in self.queries]
        self._kept: dict[int, list[Tensor]] | None = {} if keep else None

    @torch.no_grad()
    def margins(self, network: IndicativeNetwork) -> np.ndarray:
        """(queries, database) margins."""
        network.eval()
        rows = [
            torch.cat([network.margin(tensor) for tensor in self._tensors(number, network)])
            for number in range(len(self.asked))
        ]
        return torch.stack(rows).double().cpu().numpy()

    def _tensors(self, number: int, network: IndicativeNetwork) -> Iterable[Tensor]:
        """One query's tensors, eight pictures at a time."""
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        starts = range(0, len(self.database), 8)
        parts = (self.database[at : at + 8] for at in starts)
        tensors = (network.correlate(self.asked[number], part) for part in parts)
        if self._kept is None:
            return tensors
        self._kept[number] = list(tensors)
        return self._kept[number]

    def mean_average_precision(self, network: IndicativeNetwork) -> float:
        """mAP without the queries' own photos, 0 … 1."""
        rankings = {
            query.name: [self.names[i] for i in np.argsort(-row, kind="stable")]
            for query, row in zip(self.queries, self.margins(network), strict=True)
        }
        return mean_average_precision(rankings, self.queries, exclude_query=True)

    def calibration(self, network: IndicativeNetwork) -> tuple[float, float]:
        """What `fit_calibration` makes of these margins."""
        margins, labels = [], []
        for query, row in zip(self.queries, self.margins(network), strict=True):
            for name, margin in zip(self.names, row.tolist(), strict=True):
                if name != query.image and name not in query.junk:
                    margins.append(margin)
                    labels.append(name in query.positives)
        return fit_calibration(np.array(margins), np.array(labels))


def check_disjoint(
    train: RetrievalDataset, validation: RetrievalDataset, by: str | None = None
) -> None:
    landmarks = set(train.landmarks) & set(validation.landmarks)
    photos = set(validation.images.values())
    if by is not None:
        landmarks = landmarks if by == "landmark" else set()
        photos = {validation.path(name) for name in held_back(validation.queries, by)}
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
        patches = [network.cut(train.read(name)).flatten(0, -2) for name in spread]
        return fit_metrics(network.metrics, torch.cat(patches))
    return {}


def _recipe(
    network: NetworkConfig,
    config: TrainingConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
) -> str:
    """What makes two runs the same run."""
    data = {"train": train.manifest_hash(), "validation": validation.manifest_hash()}
    return json.dumps({"network": asdict(network), "training": asdict(config), **data})


def _save_checkpoint(
    path: Path,
    recipe: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    progress: Progress,
    log: list[dict[str, float]],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    metadata = {
        "recipe": recipe,
        "progress": json.dumps(asdict(progress)),
        "log": json.dumps(log),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, metadata)
    os.replace(unfinished, path)


def _load_checkpoint(
    path: Path,
    recipe: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> tuple[Progress, list[dict[str, float]]]:
    """Restore model, optimiser and ``best`` in place; return progress and log."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a checkpoint ({error}); delete it, or name another folder."
        ) from None
    if metadata.get("recipe") != recipe:
        raise ValueError(
            f"{path} belongs to a run with other data or settings; delete it to start afresh, or "
            "name another folder."
        )
    model.load_state_dict(_under("model.", tensors))
    best.update(_under("best.", tensors))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimiser.", tensors).items():
        index, part = name.split(".", 1)
        states.setdefault(int(index), {})[part] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    return Progress(**json.loads(metadata["progress"])), json.loads(metadata["log"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
