"""``indiret search`` and ``explain``: your photos, by any method; see *Your own photos*."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm
from typer import Argument, Option

from indiret.cli import options
from indiret.datasets import Query, load_dataset
from indiret.evidence import METHODS, ON_TENSOR, Evidence
from indiret.evidence import explain as explain_network
from indiret.images import crop, read_image
from indiret.planenet import NAME as PLANE_NET
from indiret.protocol import DEFAULT_EVIDENCE
from indiret.ranking import NetworkMethod, prepare, rank
from indiret.reproduction import find_method

NOTHING_FOUND = 0.5  # probability below which the best hit is not called a match

QueryPhoto = Annotated[Path, Argument(metavar="QUERY", help="A photo.")]
Corners = tuple[float, float, float, float]
Box = Annotated[Corners | None, Option(metavar="x1 y1 x2 y2", help="Of the query, in pixels.")]
Page = Annotated[Path | None, Option(metavar="FILE", help="Write a page with evidence here.")]
Json = Annotated[bool, Option("--json", help="Print json.")]
MethodName = Annotated[str, Option(help="See `indiret methods`.")]
Explain = Callable[[np.ndarray, np.ndarray], tuple[Evidence, float | None]]


def search(
    query: QueryPhoto,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Of photos, at any depth.")],
    box: Box = None,
    top: Annotated[int, Option(min=1, help="How many hits to show.")] = 10,
    html: Page = None,
    as_json: Json = False,
    method: MethodName = PLANE_NET,
) -> None:
    """Print the photos most like the query, best first."""
    finder = find_method(method)
    explain_pair = _explainer(method, finder, None, None) if html else None
    database = load_dataset("folder", folder)
    name = str(query.resolve())  # no name inside the folder
    database = replace(database, query_images={name: query})
    asked = Query(name, name, box, landmark="")
    picture = database.read_query(asked)
    prepared = prepare(finder, database)
    options.report_skipped({**dict(database.skipped), **prepared.skipped})
    hits = rank(finder, [asked], database, prepared)[name][:top]
    verdict, best = "", hits[0].probability
    if best is not None and best < NOTHING_FOUND:
        verdict = (
            f"Nothing found: no photo reaches probability {NOTHING_FOUND}. The closest are listed."
        )
    if html and explain_pair:
        from indiret.report import ReportHit, write_report  # needs matplotlib

        def explained() -> Iterator[ReportHit]:
            for hit in tqdm(hits, desc="explaining", unit="hit", disable=None):
                target = database.read(hit.name)
                evidence, _ = explain_pair(picture, target)
                yield ReportHit(hit.name, target, hit.score, hit.probability, evidence)

        # The query as it was typed: a page is passed on, the names of folders are not.
        write_report(html, str(query), picture, explained(), note=verdict)
    if as_json:
        print(json.dumps([hit._asdict() for hit in hits], indent=2))
        return
    if verdict:
        print(verdict)
    for number, hit in enumerate(hits, start=1):
        probability = "" if hit.probability is None else f"{hit.probability:6.1%}  "
        print(f"{number:3}  {probability}{hit.score:8.2f}  {hit.name}")


def explain(
    query: QueryPhoto,
    target: Annotated[Path, Argument(metavar="TARGET", help="A photo.")],
    box: Box = None,
    top: Annotated[int, Option(min=1, help="How many patch pairs.")] = 10,
    evidence: Annotated[str | None, Option(help=f"Of a 4-D network: {', '.join(METHODS)}.")] = None,
    layers: Annotated[str | None, Option(help="Of it: all, blocks (Eq. 3) or a name.")] = None,
    html: Page = None,
    as_json: Json = False,
    method: MethodName = PLANE_NET,
) -> None:
    """Print the patch pairs that speak most for a match."""
    explain_pair = _explainer(method, find_method(method), evidence, layers)
    picture, other = read_image(query), read_image(target)
    if box:
        picture = crop(picture, box)
    found, probability = explain_pair(picture, other)
    matches = found.matches(top)
    if html:
        from indiret.report import ReportHit, write_report  # needs matplotlib

        hit = ReportHit(str(target), other, found.score, probability, found)
        write_report(html, str(query), picture, [hit], pairs=top)
    if as_json:
        pairs = [match._asdict() for match in matches]
        print(json.dumps({"score": found.score, "probability": probability, "pairs": pairs}))
        return
    likely = "" if probability is None else f"relevant with {probability:.1%}, "
    print(f"{likely}score {found.score:.2f}")
    for match in matches:
        print(
            f"target patch ({match.i}, {match.j})  query patch ({match.k}, {match.l})  "
            f"{match.value / matches[0].value:.2f}"
        )


def _explainer(name: str, method: Any, kind: str | None, layers: str | None) -> Explain:
    """How a method explains a query and a target, with its probability if it has one."""
    network = method.network if isinstance(method, NetworkMethod) else None
    if not network and not hasattr(method, "explain"):
        raise ValueError(
            f"method {name!r} cannot explain which patches matched; choose {PLANE_NET}, base or a "
            "network's .safetensors file."
        )
    if not network and (kind or layers):
        raise ValueError(
            f"--evidence and --layers look into a 4-D network, and {name} has no such layers; add "
            "--method base or a network's .safetensors file."
        )
    kind = kind or DEFAULT_EVIDENCE
    if layers and kind in ON_TENSOR:
        raise ValueError(
            f"--layers={layers} is of no use to --evidence {kind}, which looks at the tensor; "
            "add --evidence gradcam or hirescam."
        )

    def explain_pair(query: np.ndarray, target: np.ndarray) -> tuple[Evidence, float | None]:
        asked, features = method.prepare_query(query), method.prepare(target)
        if network:
            tensor = method.tensor(asked, [features])
            evidence = explain_network(network, tensor, kind, layers or "all")[0]
        else:
            evidence = method.explain(asked, features)
        if not hasattr(method, "probability"):
            return evidence, None
        return evidence, float(method.probability(np.array([evidence.score]))[0])

    return explain_pair
