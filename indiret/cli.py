"""The ``indiret`` command: fetch data, train, evaluate, study, search and explain."""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from indiret.architectures import ATTENTIONS, PLACEMENTS
from indiret.datasets import (
    LAYOUTS,
    Query,
    RetrievalDataset,
    load_clicked_pairs,
    load_dataset,
)
from indiret.descriptor_methods import OPTIONS
from indiret.downloads import SOURCES, describe, fetch, verify
from indiret.evidence import METHODS as EVIDENCE_METHODS
from indiret.evidence import Evidence, explain
from indiret.images import crop, read_image
from indiret.networks import CONFIGS, find_config, load_network, save_network
from indiret.planevote import PLANES, PlanesMethod
from indiret.protocol import DEFAULT_EVIDENCE
from indiret.ranking import Hit, NetworkMethod, prepare, rank
from indiret.report import ReportHit, write_report
from indiret.reproduction import compare, evaluate, list_methods, provenance, write_json
from indiret.study import StudyConfig, run_study
from indiret.training import PAPER_RECIPE, TrainingConfig, fit

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
    train.add_argument("--network", default="base", help=f"one of {', '.join(CONFIGS)}")
    train.add_argument("--attention", choices=ATTENTIONS, help="instead of the network's own")
    train.add_argument("--placement", choices=PLACEMENTS, help="where attention is applied")
    train.add_argument("--out", type=Path, default=Path("runs/base"), help="folder of the run")
    train.add_argument("--recipe", choices=("default", "paper"), default="default")
    train.add_argument("--steps", type=int, help="batches to learn from")
    train.add_argument("--seed", type=int, help="default 0")
    train.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda")

    evaluation = commands.add_parser("evaluate", help="measure a method on a data set")
    evaluation.set_defaults(run=_evaluate)
    _data_arguments(evaluation)
    evaluation.add_argument("--method", default="base", help="see `indiret methods`")
    evaluation.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")

    comparison = commands.add_parser("compare", help="measure many methods; goes on if killed")
    comparison.set_defaults(run=_compare)
    _data_arguments(comparison)
    comparison.add_argument("--methods", nargs="+", default=list(list_methods()), metavar="METHOD")
    comparison.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of json")

    study = commands.add_parser("study", help="compare attention and feedback; goes on if killed")
    study.set_defaults(run=_study)
    study.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the study")
    study.add_argument("--variants", nargs="+", choices=ATTENTIONS, default=ATTENTIONS)
    study.add_argument("--seeds", type=int, default=StudyConfig.seeds)
    study.add_argument("--steps", type=int, default=StudyConfig.steps, help="of each network")
    study.add_argument("--oxford", type=Path, metavar="ROOT", help="measure here, too")
    study.add_argument("--wxbs", type=Path, metavar="ROOT", help="photos with clicked points")

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
    search.add_argument("--method", default="base", help="base, planes, planes-turned or a file")

    explanation = commands.add_parser("explain", help="show which patches of two photos matched")
    explanation.set_defaults(run=_explain)
    explanation.add_argument("query", type=Path, metavar="QUERY")
    explanation.add_argument("target", type=Path, metavar="TARGET")
    explanation.add_argument("--box", type=float, nargs=4, metavar=("x1", "y1", "x2", "y2"))
    explanation.add_argument("--top", type=int, default=10, help="how many patch pairs (10)")
    explanation.add_argument("--evidence", choices=EVIDENCE_METHODS, default=DEFAULT_EVIDENCE)
    explanation.add_argument("--layers", default="all", help="all, blocks (Eq. 3) or one's name")
    explanation.add_argument("--html", type=Path, metavar="FILE", help="write the page here")
    explanation.add_argument("--json", action="store_true", help="print the pairs as json")
    explanation.add_argument(
        "--method", default="base", help="base, planes, planes-turned or a file"
    )
    return parser


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="toytown", help=f"one of {', '.join(LAYOUTS)}")
    parser.add_argument("--root", type=Path, help="its folder; toytown is embedded")
    parser.add_argument("--split", default="test", help="of toytown: train, validation or test")


def _train(arguments: argparse.Namespace) -> None:
    _check_device(arguments.device)
    recipe = PAPER_RECIPE if arguments.recipe == "paper" else TrainingConfig()
    chosen = {name: getattr(arguments, name) for name in ("steps", "seed")}
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value is not None})
    train, validation = (load_dataset("toytown", split=name) for name in ("train", "validation"))
    config = find_config(arguments.network)
    changes = {name: getattr(arguments, name) for name in ("attention", "placement")}
    config = config.replace(**{name: value for name, value in changes.items() if value})
    origin = provenance(train)  # of the code that trains, whatever is edited meanwhile
    network, log = fit(config, train, validation, recipe, arguments.out, arguments.device)
    came_from = {"training": json.dumps(asdict(recipe)), "data_manifest": train.manifest_hash()}
    save_network(network.cpu(), arguments.out / "network.safetensors", came_from)
    record = {"training": asdict(recipe), "provenance": origin, "log": log}
    write_json(arguments.out / "log.json", record)
    best = max(row.get("validation_map", 0.0) for row in log)
    print(f"{arguments.out / 'network.safetensors'}: validation mAP {best:.3f}")


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
            f"{name} {row[name]['mean']:.3f}" for name in ("mAP", "pixel_auc", "patch_match")
        )
        print(f"{row['variant']:15} {row['scheme']:8} {figures}")
    print(f"every figure with its interval: {arguments.out / 'results.json'}")


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for absent
        raise ValueError(
            f"--device {name} cannot be used on this machine; choose cpu, or cuda with a GPU."
        ) from error


def _evaluate(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
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
    for name, row in results.get("evidence", {}).items():
        figures = "  ".join(
            f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float)
        )
        print(f"evidence, {name}: {figures}")


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
    dataset = load_dataset(arguments.dataset, arguments.root, arguments.split)
    _report_skipped(dict(dataset.skipped))
    for results in compare(arguments.methods, dataset, arguments.out):
        low, high = results["mAP_ci"]
        print(
            f"{results['method']:28} mAP {results['mAP']:.3f} ({low:.3f} … {high:.3f})  "
            f"{results['ms_per_query']:6.0f} ms a query  {results['mb_per_image']:.3f} MB an image"
        )


def _methods(arguments: argparse.Namespace) -> None:
    lines = list_methods() | {
        "FILE.safetensors": "a network trained with `indiret train`",
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


def _explaining_method(name: str) -> NetworkMethod | PlanesMethod:
    """Those methods that say which patches matched."""
    return PlanesMethod(PLANES[name]) if name in PLANES else NetworkMethod(load_network(name))


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
    evidence = _explained(method, query, target, arguments.evidence, arguments.layers)
    probability = None
    if isinstance(method, NetworkMethod):
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
    method: NetworkMethod | PlanesMethod,
    query: np.ndarray,
    target: np.ndarray,
    evidence: str = DEFAULT_EVIDENCE,
    layers: str = "all",
) -> Evidence:
    if isinstance(method, PlanesMethod):
        return method.explain(method.prepare(query), method.prepare(target))
    tensor = method.tensor(method.prepare_query(query), [method.prepare(target)])
    return explain(method.network, tensor, evidence, layers)[0]


def _write_search_report(
    path: Path,
    method: NetworkMethod | PlanesMethod,
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
