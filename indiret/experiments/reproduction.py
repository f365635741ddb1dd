"""One run of the reproduction: train in a fold, rank and explain its test queries, write it down.

A run is a function of its `RunConfig` alone. What is finished is never done again: the folder of a
run holds its checkpoint, its network and, last of all and whole or not at all, its results.

Chapter: *Reproducing the tables*.
"""

import hashlib
import json
import os
import reprlib
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError

from indiret.architectures import NORMS, attention_names
from indiret.checkpoints import load_tensors, save_network, write_json
from indiret.datasets import LOADERS, RetrievalDataset, load_dataset, use_regions
from indiret.datasets.writing import hold_lock
from indiret.distributed import ProcessGroup, local_device
from indiret.evaluation import Fold, folds, held_out_images, iou_ceilings, training_data
from indiret.evidence import DEFAULT_KIND
from indiret.experiments.evaluator import TRAINED, leave_out_broken, provenance
from indiret.experiments.evidence_protocol import spread_pairs
from indiret.experiments.query_evaluator import Change, QueryEvaluator, precisions
from indiret.experiments.records import (
    DEPENDS,
    Record,
    StoredRun,
    load_trained,
    plain_settings,
    read_kept,
    set_aside,
    what_changed,
)
from indiret.feedback import FeedbackConfig
from indiret.metrics import find_metrics
from indiret.network import CONFIGS, IndicativeNetwork, NetworkConfig, find_config
from indiret.patches import check_choice
from indiret.retrieval import NetworkRetriever, Retriever, build_retriever, rank_in_blocks
from indiret.training import ALONE, PAPER_RECIPE, TrainingConfig, fit

RESULTS, BEGUN = "results.json", "run.json"
NETWORK, CHECKPOINT = "network.safetensors", "checkpoint.safetensors"
_Number = Annotated[int, Field(ge=0, lt=2**31)]
LITERAL = "gradcam (Eq. 3, literal)"
# Chosen on Toytown validation, the best of each pool (book/decisions/0012).
FEEDBACK = {
    "mean": FeedbackConfig(n=10, pool="mean", normalise=False, strength=0.3),
    "max": FeedbackConfig(n=3, pool="max", normalise=True, strength=0.3),
}
VALIDATION = 0.1  # share of each training fold that is set aside for choices
# The fast setting: a quarter of the tensor, and fewer steps and photos to look at.
COARSE: Record = {"grid": (10, 10), "query_grid": (7, 7), "scales": (1.0,), "shifts": 1}
FAST_STEPS = 800
FAST_LOOK = 100  # photos against which validation queries are ranked


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run; a grid and the notebook ``reproduce`` set these names.

    Raises ValueError if a value is of another type, unknown or out of range.

    Examples
    --------
    >>> RunConfig(by="query", fold=3).key
    'toytown-query-fold3of10-none-seed0-...'
    >>> RunConfig(folds=1)
    Traceback (most recent call last):
    ValueError: folds=1: Input should be greater than or equal to 2.
    """

    dataset: str = "toytown"  # as indiret.load_dataset takes it
    root: str = ""  # its folder; toytown is embedded
    regions: str = ""  # a COCO file of regions of interest; empty for masks or boxes of its own
    method: str = TRAINED  # trained in the fold; or a name of `indiret methods`, not trained
    network: str = "base"  # or "paper-base", with the schedule of its authors
    attention: str = "none"  # "har" is the paper's mask as printed
    norm: str = "batch"  # or "group", under which two processes equal one
    metrics: tuple[str, ...] = ()  # views of the tensor; empty for the network's own
    feedback: tuple[str, ...] = ()  # second rounds: "mean", "max"
    by: str = "landmark"  # how queries are parted into folds; or "query"
    folds: Annotated[int, Field(ge=2, lt=2**31)] = 10
    fold: _Number = 0  # the one whose queries are the test
    seed: _Number = 0  # of weights and pairs; the folds are the same for all
    device: str = "cpu"  # as torch names it
    steps: _Number = 0  # batches to learn from; 0 for 800 in the fast setting, 5000 in the full one
    fast: bool = True  # coarse grids and few steps, or everything

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, value := tuple(value))
            try:
                check.validate_python(value, strict=True)
            except ValidationError as error:
                given = reprlib.repr(value)
                raise ValueError(f"{name}={given}: {error.errors()[0]['msg']}.") from error
        for name, known in {
            "dataset": LOADERS, "network": CONFIGS, "attention": attention_names(), "norm": NORMS,
            "by": ("query", "landmark"),
        }.items():  # fmt: skip
            check_choice(name, getattr(self, name), known)
        for kind in self.feedback:
            check_choice("feedback", kind, FEEDBACK)
        if self.metrics:
            find_metrics(self.metrics)
        if self.fold >= self.folds:
            raise ValueError(f"fold={self.fold} is not below folds={self.folds}; the first is 0.")
        if self.method != TRAINED and self.feedback:
            raise ValueError(f"feedback needs a network; method {self.method!r} gives no evidence.")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "RunConfig":
        """A config from plain values, refusing names that are not there."""
        for name in settings:
            check_choice("setting", name, [field.name for field in fields(cls)])
        return cls(**settings)

    @property
    def plain(self) -> dict[str, Any]:
        """The values as json has them."""
        return plain_settings(self)

    @property
    def variant(self) -> str:
        """What is compared: the mask of a network, or the method."""
        return self.attention if self.method == TRAINED else self.method

    @property
    def key(self) -> str:
        """The name of its folder: what differs most often, and a hash of everything."""
        variant = "".join(c if c.isalnum() else "_" for c in Path(self.variant).name)
        digest = hashlib.sha256(json.dumps(self.plain, sort_keys=True).encode()).hexdigest()[:8]
        place = f"{self.dataset}-{self.by}-fold{self.fold}of{self.folds}"
        return f"{place}-{variant}-seed{self.seed}-{digest}"

    @property
    def placed(self) -> "RunConfig":
        """The same run for a process in another folder: relative paths are made absolute."""
        names = ("root", "regions", "method")
        given = {name: value for name in names if (value := getattr(self, name))}
        found = {name: os.path.abspath(v) for name, v in given.items() if os.path.exists(v)}
        return replace(self, **found)

    @property
    def shape(self) -> NetworkConfig:
        """The network that is trained."""
        changes = (COARSE if self.fast else {}) | {"attention": self.attention, "norm": self.norm}
        changes |= {"metrics": self.metrics} if self.metrics else {}
        return find_config(self.network).replace(**changes)

    @property
    def recipe(self) -> TrainingConfig:
        """How it is trained."""
        recipe = PAPER_RECIPE if self.network == "paper-base" else TrainingConfig()
        steps = self.steps or (FAST_STEPS if self.fast else recipe.steps)
        look = steps if self.fast else min(recipe.validate_every, steps)
        return replace(recipe, steps=steps, validate_every=look, seed=self.seed)

    def load(self) -> RetrievalDataset:
        """Its data set; ValueError if it has no queries, or regions of none of its photos."""
        dataset = load_dataset(self.dataset, self.root or None).readable()
        if not dataset.queries:
            raise ValueError(f"data set {dataset.name!r} has no queries to part into folds.")
        return use_regions(dataset, self.regions) if self.regions else dataset

    def part(self, dataset: RetrievalDataset) -> Fold:
        """Its fold, checked: nothing crosses."""
        return folds(dataset.queries, self.by, self.folds, validation=VALIDATION)[self.fold]


_CHECKS = {
    name: TypeAdapter(kind) for name, kind in get_type_hints(RunConfig, include_extras=True).items()
}


def run(config: RunConfig, folder: Path, group: ProcessGroup = ALONE) -> dict[str, Any]:
    """Do a run, or go on with it, or return what it found if it is finished.

    Whoever comes while another process is at it waits for its results. The first process of a group
    measures and writes. ``folder/results.json`` has, and the result is, ``config``, ``fold``
    (counts), ``records`` (of each test query and round: average precisions, and measures of
    evidence where there are regions of interest), ``log`` of the training, ``skipped``,
    ``regions`` (where they come from) and ``provenance``. Raises ValueError if the data set has too
    few queries for the folds, or the folder is of a run with other settings, data or weights.
    """
    with hold_lock(folder / ".lock", str(folder)) if group.first else nullcontext():
        dataset = config.load()
        origin = provenance(dataset, config.method)  # before anything is edited meanwhile
        found = _claim(folder, identity(config, origin)) if group.first else None
        (done,) = group.broadcast(found is not None)
        return (found or {}) if done else _run(config, dataset, origin, folder, group)


def identity(config: RunConfig, origin: Mapping[str, str]) -> Record:
    """What results depend on, and carry: settings and hashes of data and weights, not places."""
    settings = {k: v for k, v in config.plain.items() if k not in ("root", "regions", "method")}
    method = Path(config.method).name if os.path.isabs(config.method) else config.method
    return settings | {"method": method} | {k: origin[k] for k in DEPENDS}


def finished(config: RunConfig, folder: Path, origin: Mapping[str, str]) -> Record | None:
    """The results in a folder, if they are there and of this run on these data."""
    found = read_kept(folder / RESULTS, StoredRun)
    return None if what_changed(found or {}, {"identity": identity(config, origin)}) else found


def _claim(folder: Path, own: Record) -> Record | None:
    """The results in a folder, if they are there; ValueError if it is another run's.

    What is broken is set aside, and so is a checkpoint of which nobody can tell any more.
    """
    results, begun = read_kept(folder / RESULTS, StoredRun), read_kept(folder / BEGUN)
    trained = load_trained(folder / NETWORK, "run")
    for made in (begun, trained and trained[1]["identity"], results and results["identity"]):
        if made and (other := what_changed(made, own)):
            raise ValueError(
                f"{folder} holds a run that differs in {other}; delete it, or name another folder."
            )
    progress = None
    with suppress(OSError, ValueError):
        progress = begun and load_tensors(folder / CHECKPOINT)
    found = {RESULTS: results, BEGUN: begun, NETWORK: trained, CHECKPOINT: progress}
    for name in (name for name, kept in found.items() if not kept):
        set_aside(folder / name)
    if not begun:
        write_json(folder / BEGUN, own)
    return results


def _run(
    config: RunConfig, dataset: RetrievalDataset, origin: Record, folder: Path, group: ProcessGroup
) -> Record:
    began, used = time.monotonic(), time.process_time()
    fold, own = config.part(dataset), identity(config, origin)
    log: list[dict[str, float]] = []
    if config.method == TRAINED:
        network, log = train_in_fold(config, dataset, fold, folder, own, group)
        method: Retriever = NetworkRetriever(network)
    else:
        method = build_retriever(config.method, local_device(config.device))
    if not group.first:
        group.barrier()
        return {}
    records, skipped = measure_run(config, method, dataset, fold)
    cuda = config.device.startswith("cuda")
    origin |= {
        "device": torch.cuda.get_device_name(config.device) if cuda else config.device,
        "processes": group.size,
        "seconds": round(time.monotonic() - began, 2),
        "processor_seconds": round(time.process_time() - used, 2),
    }
    results: Record = {
        "config": config.plain,
        "identity": own,
        "fold": {part: len(queries) for part, queries in fold._asdict().items()},
        "records": records,
        "log": log,
        "skipped": dict(dataset.skipped) | skipped,
        "regions": dataset.regions_used,
        "provenance": origin,
    }
    write_json(folder / RESULTS, results)
    group.barrier()
    return results


def train_in_fold(
    config: RunConfig,
    dataset: RetrievalDataset,
    fold: Fold,
    folder: Path,
    own: Record,
    group: ProcessGroup = ALONE,
) -> tuple[IndicativeNetwork, list[dict[str, float]]]:
    """The network of a fold, from its file if it is trained, and the log of its training."""
    device = local_device(config.device)
    if trained := load_trained(folder / NETWORK, "run"):
        group.barrier()
        return trained[0].to(device), trained[1]["log"]
    data = training_data(dataset, fold, config.by), validation_data(config, dataset, fold)
    network, log = fit(
        config.shape, *data, config.recipe, folder, device, by=config.by, group=group
    )
    if group.first:
        made = json.dumps({"identity": own, "log": log})
        save_network(network, folder / NETWORK, {"run": made})
    group.barrier()
    return network, log


def validation_data(config: RunConfig, dataset: RetrievalDataset, fold: Fold) -> RetrievalDataset:
    """The validation queries, before the whole database or, in the fast setting, a part of it.

    What the test queries hold back (see `indiret.evaluation.training_data`) is left out of it.
    """
    withheld = held_out_images(fold.test, config.by)
    names = [name for name in dataset.images if name not in withheld]
    if config.fast:
        answers = set().union(*(query.positives for query in fold.validation)) - withheld
        others = [name for name in names if name not in answers]
        names = sorted(answers) + others[:: max(1, len(others) // FAST_LOOK)]
    images = {name: dataset.images[name] for name in sorted(names)}
    queries = [query.among(images.keys()) for query in fold.validation]
    queries = [query for query in queries if query.positives - {query.image}]
    if not queries:
        raise ValueError(f"no validation query of fold {config.fold} has an answer but itself.")
    asked_with = {query.image: dataset.path(query.image) for query in queries}
    return replace(dataset, images=images, queries=tuple(queries), query_images=asked_with)


def measure_run(
    config: RunConfig, method: Retriever, dataset: RetrievalDataset, fold: Fold
) -> tuple[list[Record], dict[str, str]]:
    """Rank the test queries against the whole database, in every round, and explain answers."""
    asked, broken = leave_out_broken(replace(dataset, queries=fold.test), method)
    lists, skipped = rank_in_blocks(method, asked.queries, dataset)
    asked, without = leave_out_broken(asked, method, skipped)
    network, records = method.tensor_network, list[Record]()
    pairs = spread_pairs(asked, asked.images) if network else {}
    for query in asked.queries:
        names = [hit.name for hit in lists[query.name]]
        rows = {"none": precisions(names, query)}
        if network:
            features = cache(lambda name: method.encode(dataset.read(name)))
            own = pairs.get(query.name, [])
            evaluator = QueryEvaluator(NetworkRetriever(network), dataset, query, features, own)
            rows["none"] |= evidence_measures(evaluator, network)
            for kind in config.feedback:
                again, change = evaluator.second_round(network, names, FEEDBACK[kind])
                rows[kind] = precisions(again, query)
                rows[kind] |= evidence_measures(evaluator, network, change)
        place: Record = {"query": query.name, "landmark": query.landmark, "seed": config.seed}
        place["variant"] = config.variant
        records += [place | {"scheme": kind} | row for kind, row in rows.items()]
    return records, broken | without


def evidence_measures(
    evaluator: QueryEvaluator, network: IndicativeNetwork, change: Change | None = None
) -> Record:
    """Mean measures over a query's pairs: Eq. 3 literally, and our default as ``..., combined``."""
    rows: dict[str, list[Any]] = {}
    for kind, after in ((LITERAL, ""), (DEFAULT_KIND, ", combined")):
        found = evaluator.evidence(network, kind, change)
        rows |= {name + after: values for name, values in found.items()}
    for pair in evaluator.pairs:
        grid = evaluator.tensor([pair.name]).shape[2:4]
        rows.setdefault("mIoU, ceiling", []).append(iou_ceilings(pair.roi, grid).grid)
        rows.setdefault("mIoU, all ones", []).append(float(pair.roi.mean()))
    means = {name: np.mean(values, axis=0) for name, values in rows.items()}
    return {n: v.tolist() for n, v in means.items() if np.isfinite(v).all()}
