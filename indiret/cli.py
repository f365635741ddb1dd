"""The ``indiret`` command: fetch data, train, evaluate, reproduce, search and explain."""

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from indiret.ablation import run_ablation
from indiret.architectures import ATTENTIONS, NORMS, PLACEMENTS
from indiret.audit import FULL, AuditConfig, run_audit, tell
from indiret.backbones import load_backbone
from indiret.cascade import PLANE_METHODS, load_plane_method
from indiret.cost import SECONDS, estimate_grid
from indiret.datasets import (
    LAYOUTS,
    Query,
    RetrievalDataset,
    join,
    load_clicked_pairs,
    load_dataset,
    use_regions,
)
from indiret.descriptor_methods import OPTIONS
from indiret.downloads import SOURCES, describe, fetch, verify
from indiret.evidence import METHODS as EVIDENCE_METHODS
from indiret.evidence import ON_TENSOR, Evidence, explain
from indiret.grid import read_grid, run_grid, run_together
from indiret.images import crop, read_image
from indiret.networks import (
    CONFIGS,
    VERIFIER,
    WEIGHTS,
    NetworkConfig,
    file_name,
    find_config,
    load_network,
    save_network,
)
from indiret.paper_report import write_paper_report
from indiret.parallel import join_team, leave_team, local_device
from indiret.planelayers import ARCHITECTURES
from indiret.planenet import NAME as PLANE_NET
from indiret.planenet import PlaneNetMethod, is_plane_network, save_plane_network
from indiret.planenet_training import RECIPE as PLANE_RECIPE
from indiret.planenet_training import fit_plane_network
from indiret.planevote import PLANES, PlanesMethod
from indiret.proposals import mean_iou, propose_regions
from indiret.protocol import DEFAULT_EVIDENCE
from indiret.ranking import Hit, NetworkMethod, prepare, rank
from indiret.report import ReportHit, write_report
from indiret.reproduction import compare, evaluate, list_methods, provenance, write_json
from indiret.reranking import SHORTLIST
from indiret.robustness import METHODS as STRONG
from indiret.robustness import run_robustness
from indiret.study import StudyConfig, run_study
from indiret.training import PAPER_RECIPE, TrainingConfig, fit
from indiret.verification import VERIFIERS, is_verifier_name, save_verifier
from indiret.verifier_training import RECIPES, fit_verifier

Explaining = NetworkMethod | PlanesMethod | PlaneNetMethod
NETWORKS = (
    *CONFIGS,
    PLANE_NET,
    *(f"BACKBONE:{kind}" for kind in ("verifier", *VERIFIERS)),
)  # to train
SHIPPED = tuple(name for name in CONFIGS if (WEIGHTS / file_name(name)).is_file())
EXPLAINING = (*SHIPPED, *PLANES, *PLANE_METHODS)  # the methods of search and explain, by name
NOTHING_FOUND = 0.5  # probability below which the best hit is not called a match


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input gets one sentence on standard error and exit status 2."""
    parsed = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may be no text at all
    try:
        parsed.run(parsed)
    except (ValueError, OSError, ImportError) as error:
        print(f"indiret: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("indiret: interrupted; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="indiret", description="Image retrieval that shows which patches matched which."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network; resumes where it was killed")
    train.set_defaults(run=_train)
    train.add_argument("--network", default="base", help=f"one of {', '.join(NETWORKS)}")
    train.add_argument(
        "--architecture", choices=tuple(ARCHITECTURES), help="instead of the network's own"
    )
    train.add_argument(
        "--photos", type=Path, metavar="FOLDER", help=f"warp these too, to teach {PLANE_NET}"
    )
    train.add_argument("--attention", choices=ATTENTIONS, help="instead of the network's own")
    train.add_argument("--placement", choices=PLACEMENTS, help="where attention is applied")
    train.add_argument("--norm", choices=NORMS, help="group makes torchrun's loss that of one")
    train.add_argument("--out", type=Path, help="folder of the run; runs/NETWORK if not given")
    train.add_argument("--recipe", choices=("default", "paper"), default="default")
    train.add_argument(
        "--pairs",
        type=Path,
        metavar="ROOT",
        help="with Query and Reference to learn from, too",
    )
    train.add_argument("--steps", type=int, help="batches to learn from")
    train.add_argument("--seed", type=int, help="default 0")
    train.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda")

    evaluation = commands.add_parser("evaluate", help="measure a method on a data set")
    evaluation.set_defaults(run=_evaluate)
    _data_arguments(evaluation)
    _region_arguments(evaluation)
    evaluation.add_argument("--method", default="base", help="see `indiret methods`")
    evaluation.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")

    comparison = commands.add_parser("compare", help="measure many methods; goes on if killed")
    comparison.set_defaults(run=_compare)
    _data_arguments(comparison)
    _region_arguments(comparison)
    comparison.add_argument("--methods", nargs="+", default=list(list_methods()), metavar="METHOD")
    comparison.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of json")
    comparison.add_argument("--no-evidence", action="store_true", help="measure ranking alone")

    study = commands.add_parser("study", help="compare attention and feedback; goes on if killed")
    study.set_defaults(run=_study)
    study.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the study")
    study.add_argument("--variants", nargs="+", choices=ATTENTIONS, default=ATTENTIONS)
    study.add_argument("--seeds", type=int, default=StudyConfig.seeds)
    study.add_argument("--steps", type=int, default=StudyConfig.steps, help="of each network")
    study.add_argument("--oxford", type=Path, metavar="ROOT", help="measure here, too")
    study.add_argument("--wxbs", type=Path, metavar="ROOT", help="photos with clicked points")

    reproduce = commands.add_parser("reproduce", help="do a grid of runs; goes on if killed")
    reproduce.set_defaults(run=_reproduce)
    reproduce.add_argument("config", type=Path, metavar="CONFIG", help="such as configs/*.toml")
    reproduce.add_argument("--out", type=Path, help="folder of the grid; runs/NAME of CONFIG")
    reproduce.add_argument("--processes", type=int, default=os.cpu_count(), help="on this machine")
    reproduce.add_argument(
        "--scheduler", nargs="?", const="local", metavar="ADDRESS",
        help="of a Dask cluster; without an address, one is started on this machine",
    )  # fmt: skip
    reproduce.add_argument("--no-notebooks", action="store_true", help="results.json alone")
    reproduce.add_argument("--dry-run", action="store_true", help="print what it would cost")
    reproduce.add_argument("--seconds", type=float, default=SECONDS, help="of measuring for that")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="write the forecast here, too")

    report = commands.add_parser("report", help="a grid beside the paper, claim by claim")
    report.set_defaults(run=_report)
    report.add_argument("grid", type=Path, metavar="FOLDER", help="that `reproduce` filled")
    report.add_argument("--out", type=Path, help="folder of the report; FOLDER/report")
    audit = commands.add_parser("audit", help="measure what leaks from training; goes on if killed")
    audit.set_defaults(run=_audit)
    _data_arguments(audit)
    audit.add_argument("--out", type=Path, default=Path("runs/audit"), help="folder of the audit")
    audit.add_argument(
        "--full", action="store_true", help="base in 11 folds with 5 seeds: 330 networks"
    )
    for name in ("folds", "seeds", "steps"):
        audit.add_argument(f"--{name}", type=int, help=f"{getattr(AuditConfig, name)} if not full")

    robust = commands.add_parser("robustness", help="change one thing at a time; goes on if killed")
    robust.set_defaults(run=_robustness)
    _data_arguments(robust)
    robust.add_argument("--out", type=Path, default=Path("runs/robustness"), help="folder of json")
    robust.add_argument("--methods", nargs="+", default=list(STRONG), metavar="METHOD")
    robust.add_argument("--queries", type=int, default=1, help="of each landmark (1)")

    ablation = commands.add_parser("ablate", help="change one choice at a time; goes on if killed")
    ablation.set_defaults(run=_ablate)
    ablation.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of json")
    ablation.add_argument("--steps", type=int, default=200, help="of each network (200)")
    ablation.add_argument("--seeds", type=int, default=1, help="of each row (1)")
    regions = commands.add_parser("regions", help="propose regions of interest; goes on if killed")
    regions.set_defaults(run=_regions)
    regions.add_argument("action", choices=("propose",))
    regions.add_argument("dataset", metavar="DATASET", help=f"one of {', '.join(LAYOUTS)}")
    regions.add_argument("--root", type=Path, help="its folder; toytown is embedded")
    regions.add_argument("--split", default="test", help="of toytown: train, validation or test")
    regions.add_argument("--out", type=Path, required=True, metavar="FILE", help="COCO json")

    data = commands.add_parser("data", help="fetch, verify or describe a benchmark's data")
    data.set_defaults(run=_data)
    data.add_argument("action", choices=("fetch", "verify", "info"))
    data.add_argument("name", metavar="NAME", help=f"one of {', '.join(SOURCES)}")
    data.add_argument("--root", type=Path, help="its folder; data/NAME if not given")

    methods = commands.add_parser("methods", help="list what --method takes")
    methods.set_defaults(run=_methods)

    search = commands.add_parser("search", help="rank a folder of photos for a query photo")
    search.set_defaults(run=_search)
    search.add_argument("query", type=Path, metavar="QUERY")
    search.add_argument("folder", type=Path, metavar="FOLDER")
    search.add_argument("--box", type=float, nargs=4, metavar=("x1", "y1", "x2", "y2"))
    search.add_argument("--top", type=int, default=10, help="how many hits to show (10)")
    search.add_argument("--html", type=Path, metavar="FILE", help="write the report page here")
    search.add_argument("--json", action="store_true", help="print the hits as json")
    search.add_argument(
        "--method",
        default=PLANE_NET,
        help=f"one of {', '.join(EXPLAINING)}, or a network's .safetensors file",
    )

    explanation = commands.add_parser("explain", help="show which patches of two photos matched")
    explanation.set_defaults(run=_explain)
    explanation.add_argument("query", type=Path, metavar="QUERY")
    explanation.add_argument("target", type=Path, metavar="TARGET")
    explanation.add_argument("--box", type=float, nargs=4, metavar=("x1", "y1", "x2", "y2"))
    explanation.add_argument("--top", type=int, default=10, help="how many patch pairs (10)")
    explanation.add_argument("--evidence", choices=EVIDENCE_METHODS, help="of a 4-D network")
    explanation.add_argument("--layers", help="of a 4-D network: all, blocks (Eq. 3) or a name")
    explanation.add_argument("--html", type=Path, metavar="FILE", help="write the page here")
    explanation.add_argument("--json", action="store_true", help="print the pairs as json")
    explanation.add_argument(
        "--method",
        default=PLANE_NET,
        help=f"one of {', '.join(EXPLAINING)}, or a network's .safetensors file",
    )
    return parser


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="toytown", help=f"one of {', '.join(LAYOUTS)}")
    parser.add_argument("--root", type=Path, help="its folder; toytown is embedded")
    parser.add_argument("--split", default="test", help="of toytown: train, validation or test")


def _region_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--regions", type=Path, metavar="FILE", help="regions of interest, COCO")
    parser.add_argument("--unreviewed", action="store_true", help="take open proposals, too")


def _load(arguments: argparse.Namespace) -> RetrievalDataset:
    """The data set asked for, what it skipped said aloud, with the regions asked for."""
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
    if arguments.regions:
        return use_regions(dataset, arguments.regions, arguments.unreviewed)
    if arguments.unreviewed:
        raise ValueError(
            "--unreviewed says which of a file's regions to take; give --regions FILE."
        )
    return dataset


def _train(arguments: argparse.Namespace) -> None:
    arguments.out = arguments.out or Path("runs", Path(file_name(arguments.network)).stem)
    if arguments.network == PLANE_NET:
        _train_plane_net(arguments)
        return
    if arguments.photos:
        raise ValueError(f"--photos teaches {PLANE_NET}; {arguments.network} learns from Toytown.")
    if is_verifier_name(arguments.network):
        _train_verifier(arguments)
        return
    _check_device(arguments.device)
    recipe = PAPER_RECIPE if arguments.recipe == "paper" else TrainingConfig()
    recipe = _with_choices(recipe, arguments)
    train, validation = _training_data(arguments)
    config = _network_to_train(arguments.network)
    choices = ("architecture", "attention", "placement", "norm")
    changes = {name: getattr(arguments, name) for name in choices}
    config = config.replace(**{name: value for name, value in changes.items() if value})
    origin = provenance(train)  # of the code that trains, whatever is edited meanwhile
    team = join_team(arguments.device)
    device = local_device(arguments.device)
    network, log = fit(config, train, validation, recipe, arguments.out, device, team=team)
    leave_team(team)
    if not team.first:
        return
    came_from = {"training": json.dumps(asdict(recipe)), "data_manifest": train.manifest_hash()}
    save_network(network.cpu(), arguments.out / "network.safetensors", came_from)
    record = {"training": asdict(recipe), "provenance": origin, "log": log}
    write_json(arguments.out / "log.json", record)
    best = max(row.get("validation_map", 0.0) for row in log)
    print(f"{arguments.out / 'network.safetensors'}: validation mAP {best:.3f}")


def _network_to_train(name: str) -> NetworkConfig:
    try:
        return find_config(name)
    except ValueError as error:
        raise ValueError(
            f"network {name!r} is not known; choose from {', '.join(NETWORKS)}, where BACKBONE is "
            "as `indiret methods` tells."
        ) from error


def _train_verifier(arguments: argparse.Namespace) -> None:
    backbone_name, _, kind = arguments.network.rpartition(":")
    plain = (arguments.attention, arguments.placement, arguments.recipe, arguments.device)
    if plain != (None, None, "default", "cpu"):
        raise ValueError(
            f"{arguments.network} has no --attention, --placement, --recipe or --device; "
            "choose --steps and --seed."
        )
    recipe = _with_choices(RECIPES[kind], arguments)
    train, validation = _training_data(arguments)
    origin, backbone = provenance(train), load_backbone(backbone_name)
    verifier, log = fit_verifier(kind, backbone, train, validation, recipe, arguments.out)
    came_from = {"training": json.dumps(asdict(recipe)), "data_manifest": train.manifest_hash()}
    path = arguments.out / "network.safetensors"
    save_verifier(verifier, backbone, path, came_from)
    record = {"training": asdict(recipe), "provenance": origin, "log": log}
    write_json(arguments.out / "log.json", record)
    looks = [row["validation_map"] for row in log if "validation_map" in row]
    print(f"{path}: validation mAP {max(looks[1:]):.3f}, untrained {looks[0]:.3f}")


def _train_plane_net(arguments: argparse.Namespace) -> None:
    fixed = ("architecture", "attention", "placement", "norm", "pairs")
    if any(getattr(arguments, name) for name in fixed) or arguments.recipe != "default":
        raise ValueError(
            f"{PLANE_NET} has no --architecture, --attention, --placement, --norm, --pairs or "
            "--recipe; choose --photos, --steps and --seed."
        )
    recipe = _with_choices(PLANE_RECIPE, arguments)
    train, validation = (load_dataset("toytown", split=name) for name in ("train", "validation"))
    photos = load_dataset("folder", arguments.photos) if arguments.photos else None
    origin = provenance(train)
    network, log = fit_plane_network(train, validation, recipe, arguments.out, photos)
    came_from = {"training": json.dumps(asdict(recipe)), "data_manifest": train.manifest_hash()}
    path = arguments.out / "network.safetensors"
    save_plane_network(network, path, came_from)
    record = {"training": asdict(recipe), "provenance": origin, "log": log}
    write_json(arguments.out / "log.json", record)
    best = max(row.get("validation_map", 0.0) for row in log)
    print(f"{path}: validation mAP {best:.3f}")


def _training_data(arguments: argparse.Namespace) -> tuple[RetrievalDataset, RetrievalDataset]:
    """Toytown's landmarks, with pairs of photos beside them if such are given, and validation."""
    train, validation = (load_dataset("toytown", split=name) for name in ("train", "validation"))
    if arguments.pairs:
        train = join(train, load_dataset("pairs", arguments.pairs))
    return train, validation


def _with_choices(recipe: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    chosen = {name: getattr(arguments, name) for name in ("steps", "seed")}
    return replace(recipe, **{name: value for name, value in chosen.items() if value is not None})


def _study(arguments: argparse.Namespace) -> None:
    config = StudyConfig(tuple(arguments.variants), arguments.seeds, arguments.steps)
    train, validation, test = (
        load_dataset("toytown", split=name) for name in ("train", "validation", "test")
    )
    tests = {"toytown": test}
    if arguments.oxford:
        tests["oxford"] = load_dataset("oxford5k", arguments.oxford)
    clicked = load_clicked_pairs(arguments.wxbs) if arguments.wxbs else ()
    results = run_study(arguments.out, config, train, validation, tests, clicked)
    for row in results["toytown"]["rows"]:
        figures = "  ".join(
            f"{name} {row[name]['mean']:.3f}"
            for name in ("mAP", "pixel_auc", "patch_match")
            if name in row  # answers that ask leave the evidence as it is
        )
        print(f"{row['variant']:15} {row['scheme']:8} {figures}")
    print(f"every figure with its interval: {arguments.out / 'results.json'}")


def _reproduce(arguments: argparse.Namespace) -> None:
    configs = read_grid(arguments.config)
    for device in {config.device for config in configs}:
        _check_device(device)
    notebooks = not arguments.no_notebooks
    if arguments.dry_run:
        forecast = estimate_grid(configs, arguments.processes, arguments.seconds, notebooks)
        if arguments.json:
            write_json(arguments.json, forecast._asdict())
        print(forecast)
        return
    out = arguments.out or Path("runs") / arguments.config.stem
    team = join_team(configs[0].device)
    if team.size > 1:
        run_together(configs, out, team, notebooks)
        leave_team(team)
        return
    failed = run_grid(configs, out, arguments.processes, arguments.scheduler, notebooks)
    for key, reason in failed.items():
        print(f"{key}: {reason}", file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(configs)} runs are not finished; see above.")
    print(f"{len(configs)} runs are finished; `indiret report {out}` sets them beside the paper.")


def _report(arguments: argparse.Namespace) -> None:
    pages = write_paper_report(arguments.grid, arguments.out or arguments.grid / "report")
    print("\n".join(str(page) for page in pages))


def _audit(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
    chosen = {name: getattr(arguments, name) for name in ("folds", "seeds", "steps")}
    config = replace(
        FULL if arguments.full else AuditConfig(),
        **{name: value for name, value in chosen.items() if value is not None},
    )
    validation = load_dataset("toytown", split="validation")
    results = run_audit(arguments.out, config, dataset, validation)
    print(f"{dataset.name}: {results['trainings']} networks of {config.steps} steps")
    print(tell(results))
    print(f"every figure with its interval: {arguments.out / 'results.json'}")


def _robustness(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
    results = run_robustness(arguments.out, dataset, arguments.methods, arguments.queries)
    for factor, curves in results["curves"].items():
        strengths = "  ".join(f"{strength:5g}" for strength in results["strengths"][factor])
        print(f"{factor + ', ' + results['labels'][factor]:28} {strengths}")
        for method, curve in curves.items():
            ranks = "  ".join(f"{mean:5.2f}" for mean, *_ in curve["reciprocal_rank"])
            print(f"  {method:26} {ranks}")
    print(f"every figure with its interval: {arguments.out / 'results.json'}")


def _ablate(arguments: argparse.Namespace) -> None:
    train, validation = (load_dataset("toytown", split=name) for name in ("train", "validation"))
    results = run_ablation(
        arguments.out, train, validation, steps=arguments.steps, seeds=arguments.seeds
    )
    width = max(map(len, results["rows"]))
    for name, row in results["rows"].items():
        gain = row["gain"]
        print(
            f"{name:{width}} mAP {row['mAP']['mean']:.3f}  {gain['mean']:+.3f} "
            f"({gain['low']:+.3f} … {gain['high']:+.3f}) on the reference, "
            f"{row['ms_per_step']:.0f} ms a step"
        )
    print(f"paper-base: {results['paper-base']['ms_per_step']:,.0f} ms a step")
    print(f"every figure with its interval: {arguments.out / 'results.json'}")


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for absent
        raise ValueError(
            f"--device {name} cannot be used on this machine; choose cpu, or cuda with a GPU."
        ) from error


def _evaluate(arguments: argparse.Namespace) -> None:
    dataset = _load(arguments)
    results = evaluate(arguments.method, dataset)
    _report_skipped(results["skipped"])
    if arguments.json:
        write_json(arguments.json, results)
    low, high = results["mAP_ci"]
    print(f"{results['dataset']}, {results['method']}: {results['queries']} queries")
    print(f"mAP {results['mAP']:.4f}  95 % interval {low:.4f} … {high:.4f} over landmarks")
    if results["mAP_without_query"] is not None:
        print(f"mAP without the query's own photo {results['mAP_without_query']:.4f}")
    print("  ".join(f"{name} {results[name]:.4f}" for name in ("mAP@5", "mAP@10", "mAP@20")))
    for setup, row in results.get("revisited", {}).items():
        print(f"{setup:6} " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(
        f"{results['ms_per_query']:.0f} ms a query, {results['ms_per_pair']:.2f} ms a pair, "
        f"{results['mb_per_image']:.3f} MB an image"
    )
    if results.get("evidence"):
        print(f"evidence is measured on {results['regions']}")
    for name, row in (results.get("evidence") or {}).items():
        figures = "  ".join(
            f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float)
        )
        print(f"evidence, {name}: {figures}")


def _regions(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
    photos, skipped = propose_regions(dataset, arguments.out)
    _report_skipped(skipped)
    origins = [{region.origin for region in photo.regions} for photo in photos.values()]
    boxes, proposed = (sum(kind in found for found in origins) for kind in ("query", "sift"))
    done = sum(photo.done for photo in photos.values())
    print(f"{arguments.out}: {len(photos)} photos, {done} of them done")
    print(
        f"boxes of queries in {boxes}, proposals in {proposed} of the other {len(photos) - boxes}"
    )
    if (dataset.root / "masks").is_dir():
        ious = (mean_iou(dataset, photos, origin) for origin in ("query", "sift"))
        print("mean IoU with the masks: boxes {:.3f}, proposals {:.3f}".format(*ious))


def _data(arguments: argparse.Namespace) -> None:
    name, root = arguments.name, arguments.root or Path("data") / arguments.name
    if arguments.action != "verify":
        print(describe(name))
    if arguments.action == "fetch":
        fetch(name, root)
        print(f"{root} is filled; `indiret data verify {name} --root {root}` looks at every photo.")
    elif arguments.action == "verify":
        found = verify(name, root)
        for problem in found.problems:
            print(problem, file=sys.stderr)
        print(f"{root}: {found.photos:,} photos, {found.queries} queries")
        if found.problems:
            raise ValueError(f"{root} is not the whole of {name}; see the lines above.")
        print(f"{root} is {name} at full size, and every photo can be read.")


def _compare(arguments: argparse.Namespace) -> None:
    dataset = _load(arguments)
    evidence = not arguments.no_evidence
    for results in compare(arguments.methods, dataset, arguments.out, evidence):
        low, high = results["mAP_ci"]
        print(
            f"{results['method']:28} mAP {results['mAP']:.3f} ({low:.3f} … {high:.3f})  "
            f"{results['ms_per_query']:6.0f} ms a query  {results['mb_per_image']:.3f} MB an image"
        )


def _methods(arguments: argparse.Namespace) -> None:
    lines = list_methods() | {
        "FILE.safetensors": "a network trained with `indiret train`",
        "FIRST,SECOND": f"the first {SHORTLIST} of one method, put in order by another",
        "BACKBONE:POOLING": "torchvision/NAME or timm/NAME instead, @SIDE to squash pictures",
        "features=FOLDER": "features from elsewhere, images/NAME.npy and queries/QUERY.npy",
        "...+OPTION": f"after a pooling: {', '.join(OPTIONS)}",
    }
    for name, description in lines.items():
        print(f"{name:28} {description}")


def _check_top(top: int) -> None:
    if top < 1:
        raise ValueError(f"--top {top} is not at least 1.")


def _search(arguments: argparse.Namespace) -> None:
    _check_top(arguments.top)
    method = _explaining_method(arguments.method)
    query, database = _with_query(
        load_dataset("folder", arguments.folder), arguments.query, arguments.box
    )
    database.read_query(query)
    prepared = prepare(method, database)
    _report_skipped({**dict(database.skipped), **prepared.skipped})
    hits = rank(method, [query], database, prepared)[query.name][: arguments.top]
    if arguments.html:
        _write_search_report(arguments.html, method, query, database, hits)
    if arguments.json:
        print(json.dumps([hit._asdict() for hit in hits], indent=2))
        return
    if verdict := _verdict(hits):
        print(verdict)
    for number, hit in enumerate(hits, start=1):
        probability = "" if hit.probability is None else f"{hit.probability:6.1%}  "
        print(f"{number:3}  {probability}{hit.score:8.2f}  {hit.name}")


def _explaining_method(name: str) -> Explaining:
    """Those methods that say which patches matched."""
    if name in PLANE_METHODS or is_plane_network(name):
        return load_plane_method(name)
    if name in PLANES:
        return PlanesMethod(PLANES[name])
    is_file = Path(name).suffix == ".safetensors" or Path(name).is_file()
    if not (is_file or name in SHIPPED or name.endswith(VERIFIER)):
        raise ValueError(
            f"method {name!r} is not known or cannot explain; choose from {', '.join(EXPLAINING)}, "
            "or give a .safetensors file."
        )
    return NetworkMethod(load_network(name))


def _with_query(
    database: RetrievalDataset, path: Path, box: Sequence[float] | None
) -> tuple[Query, RetrievalDataset]:
    """The database with one query from outside it; its full path is no name inside the folder."""
    name = str(path.resolve())
    corners = tuple(box) if box else None
    query = Query(name, name, corners, landmark="")  # type: ignore[arg-type]
    return query, replace(database, query_images={name: path})


def _explain(arguments: argparse.Namespace) -> None:
    _check_top(arguments.top)
    method = _explaining_method(arguments.method)
    query, target = read_image(arguments.query), read_image(arguments.target)
    if arguments.box:
        query = crop(query, tuple(arguments.box))
    if (arguments.evidence or arguments.layers) and not isinstance(method, NetworkMethod):
        raise ValueError(
            f"--evidence and --layers look into a 4-D network, and {arguments.method} has no such "
            "layers; add --method base or a network's .safetensors file."
        )
    kind = arguments.evidence or DEFAULT_EVIDENCE
    if arguments.layers and kind in ON_TENSOR:
        raise ValueError(
            f"--layers={arguments.layers} is of no use to --evidence {kind}, which looks at the "
            "tensor and no layer; add --evidence gradcam or hirescam."
        )
    evidence = _explained(method, query, target, arguments.evidence, arguments.layers)
    probability = None
    if not isinstance(method, PlanesMethod):
        probability = float(method.probability(np.array([evidence.score]))[0])
    matches = evidence.matches(arguments.top)
    if arguments.html:
        hit = ReportHit(str(arguments.target), target, evidence.score, probability, evidence)
        write_report(arguments.html, str(arguments.query), query, [hit], pairs=arguments.top)
    if arguments.json:
        pairs = [match._asdict() for match in matches]
        print(json.dumps({"score": evidence.score, "probability": probability, "pairs": pairs}))
        return
    likely = "" if probability is None else f"relevant with {probability:.1%}, "
    print(f"{likely}score {evidence.score:.2f}")
    for match in matches:
        print(
            f"target patch ({match.i}, {match.j})  query patch ({match.k}, {match.l})  "
            f"{match.value / matches[0].value:.2f}"
        )


def _explained(
    method: Explaining,
    query: np.ndarray,
    target: np.ndarray,
    evidence: str | None = None,
    layers: str | None = None,
) -> Evidence:
    if not isinstance(method, NetworkMethod):
        return method.explain(method.prepare_query(query), method.prepare(target))
    tensor = method.tensor(method.prepare_query(query), [method.prepare(target)])
    return explain(method.network, tensor, evidence or DEFAULT_EVIDENCE, layers or "all")[0]


def _write_search_report(
    path: Path,
    method: Explaining,
    query: Query,
    database: RetrievalDataset,
    hits: list[Hit],
) -> None:
    picture = database.read_query(query)

    def explained() -> Iterator[ReportHit]:
        for hit in tqdm(hits, desc="explaining", unit="hit", disable=None):
            target = database.read(hit.name)
            evidence = _explained(method, picture, target)
            yield ReportHit(hit.name, target, hit.score, hit.probability, evidence)

    asked = str(database.path(query.image))  # as it was typed: a page is passed on, a home is not
    write_report(path, asked, picture, explained(), note=_verdict(hits))


def _verdict(hits: Sequence[Hit]) -> str:
    """A warning where even the best hit is probably no match; none without probabilities."""
    if hits[0].probability is None or hits[0].probability >= NOTHING_FOUND:
        return ""
    return f"Nothing found: no photo reaches probability {NOTHING_FOUND}. The closest are listed."


def _report_skipped(skipped: dict[str, str]) -> None:
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
