"""``indiret train``: a 4-D network, a verifier or the plane network."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from indiret.architectures import ARCHITECTURES, NORMS, PLACEMENTS, attention_names
from indiret.baselines.backbones import load_backbone
from indiret.baselines.verifier_training import RECIPES, fit_verifier
from indiret.baselines.verifiers import VERIFIERS, is_verifier_name, save_verifier
from indiret.checkpoints import file_name, save_network, write_json
from indiret.cli import options
from indiret.datasets import RetrievalDataset, join_datasets, load_dataset
from indiret.distributed import destroy_process_group, init_process_group, local_device
from indiret.experiments.evaluator import provenance
from indiret.network import CONFIGS, VERIFIER, find_config
from indiret.planes import save_plane_network
from indiret.planes.network import NAME as PLANE_NET
from indiret.planes.training import PLANE_TRAINING, fit_plane_network
from indiret.training import PAPER_RECIPE, TrainingConfig, fit

NETWORKS = (*CONFIGS, PLANE_NET, *(f"BACKBONE:{kind}" for kind in ("verifier", *VERIFIERS)))
Towns = tuple[RetrievalDataset, RetrievalDataset]  # to learn from, and for validation
Fitted = tuple[TrainingConfig, Any, list[dict[str, Any]]]


def train_command(
    network: Annotated[str, Option(help=f"One of {', '.join(NETWORKS)}.")] = "base",
    architecture: Annotated[str | None, Option(help=f"Of {', '.join(ARCHITECTURES)}.")] = None,
    attention: Annotated[str | None, Option(help=f"Of {', '.join(attention_names())}.")] = None,
    placement: Annotated[str | None, Option(help=f"Of {', '.join(PLACEMENTS)}.")] = None,
    norm: Annotated[str | None, Option(help=f"Of {', '.join(NORMS)}; group for torchrun.")] = None,
    photos: Annotated[Path | None, Option(help=f"A folder for {PLANE_NET} to warp, too.")] = None,
    pairs: Annotated[Path | None, Option(help="With Query and Reference to learn, too.")] = None,
    recipe: Annotated[Literal["default", "paper"] | None, Option(help="The first is ours.")] = None,
    steps: Annotated[int | None, Option(help="Batches to learn from.")] = None,
    seed: Annotated[int | None, Option(help="0 if not given.")] = None,
    device: Annotated[str | None, Option(help="As torch names it; cpu if not given.")] = None,
    out: options.OutOrOwn = None,
) -> None:
    """Train on Toytown, and write ``network.safetensors`` and ``log.json``."""
    out = out or Path("runs", Path(file_name(network)).stem)
    shape = dict(architecture=architecture, attention=attention, placement=placement, norm=norm)
    given = options.given(**shape, photos=photos, pairs=pairs, recipe=recipe, device=device)
    if network == PLANE_NET:
        takes = ["photos"]
    elif is_verifier_name(network):
        takes = ["pairs"]
    elif network in CONFIGS or network.endswith(VERIFIER):
        takes = [*shape, "pairs", "recipe", "device"]
    else:
        raise ValueError(
            f"network {network!r} is not known; choose from {', '.join(NETWORKS)}, where BACKBONE "
            "is as `indiret methods` tells."
        )
    if refused := [name for name in given if name not in takes]:
        raise ValueError(
            f"{network} has no --{', --'.join(refused)}; choose from --{', --'.join(takes)}, "
            "--steps and --seed."
        )
    options.check_device(device or "cpu")
    training, validation = options.load_towns("train", "validation")
    if given.pop("pairs", None):
        training = join_datasets(training, load_dataset("pairs", pairs).readable())
    origin = provenance(training)  # of the code that trains, whatever is edited meanwhile
    schedule = options.given(steps=steps, seed=seed)
    settings, save, log = _fit(network, (training, validation), out, schedule, **given)
    if save is None:  # another process saves the network
        return
    path, record = out / "network.safetensors", asdict(settings)
    save(path, {"training": json.dumps(record), "data_manifest": training.manifest_hash()})
    write_json(out / "log.json", {"training": record, "provenance": origin, "log": log})
    measured = [row["validation_map"] for row in log if "validation_map" in row]
    untrained = f", untrained {measured.pop(0):.3f}" if log[0]["step"] == 0 else ""
    print(f"{path}: validation mAP {max(measured, default=0.0):.3f}{untrained}")


def _fit(
    network: str, towns: Towns, out: Path, schedule: dict[str, Any], recipe: str = "default",
    device: str = "cpu", photos: Path | None = None, **shape: str,
) -> Fitted:  # fmt: skip
    """Settings, what saves the network (None if another of torchrun's processes does), and log."""
    if network == PLANE_NET:
        planes = replace(PLANE_TRAINING, **schedule)
        warped = load_dataset("folder", photos).readable() if photos else None
        plane_network, log = fit_plane_network(*towns, planes, out, warped)
        return planes, partial(save_plane_network, plane_network), log
    if is_verifier_name(network):
        name, _, kind = network.rpartition(":")
        settings, backbone = replace(RECIPES[kind], **schedule), load_backbone(name)
        verifier, log = fit_verifier(kind, backbone, *towns, settings, out)
        return settings, partial(save_verifier, verifier, backbone), log
    config = find_config(network).replace(**shape)
    settings = replace(PAPER_RECIPE if recipe == "paper" else TrainingConfig(), **schedule)
    group = init_process_group(device)
    fitted, log = fit(config, *towns, settings, out, local_device(device), group=group)
    destroy_process_group(group)
    return settings, partial(save_network, fitted.cpu()) if group.first else None, log
