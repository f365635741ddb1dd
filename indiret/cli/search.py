"""``indiret search`` and ``explain``: your photos, by any method; see *Your own photos*."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tqdm import tqdm
from typer import Argument, Option

from indiret.cli import options
from indiret.datasets import Query, load_dataset
from indiret.images import crop, read_image

if TYPE_CHECKING:
    from indiret.retrieval import Retriever

NOTHING_FOUND = 0.5  # probability below which the best hit is not called a match
DEFAULT = "plane-net"

_Photo = Annotated[Path, Argument(metavar="QUERY", help="A photo.")]
_Corners = tuple[float, float, float, float]
_Box = Annotated[_Corners | None, Option(metavar="x1 y1 x2 y2", help="Of the query, in pixels.")]
_Page = Annotated[Path | None, Option(metavar="FILE", help="Write a page with evidence here.")]
_Json = Annotated[bool, Option("--json", help="Print json.")]
_Method = Annotated[str, Option(help="See `indiret methods`.")]


def search_command(
    query: _Photo,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Of photos, at any depth.")],
    box: _Box = None,
    top: Annotated[int, Option(min=1, help="How many hits to show.")] = 10,
    html: _Page = None,
    as_json: _Json = False,
    method: _Method = DEFAULT,
) -> None:
    """Print the photos most like the query, best first."""
    from indiret.retrieval import build_retriever, index_database, rank  # so that help is quick

    retriever = build_retriever(method)
    if html:
        _check_evidence(method, retriever)
    name = str(query.resolve())  # no name inside the folder
    database = replace(load_dataset("folder", folder), query_images={name: query})
    boxed = Query(name, name, box, landmark="")
    picture = database.read_query(boxed)
    indexed = index_database(retriever, database)
    options.report_skipped({**dict(database.skipped), **indexed.skipped})
    hits = rank(retriever, [boxed], database, indexed)[name][:top]
    verdict, best = "", hits[0].probability
    if best is not None and best < NOTHING_FOUND:
        verdict = (
            f"Nothing found: no photo reaches probability {NOTHING_FOUND}. The closest are listed."
        )
    if html:
        from indiret.reports import ReportHit, write_search_report  # needs matplotlib

        encoded, features = retriever.encode_query(picture), indexed.features
        shown = tqdm(hits, desc="explaining", unit="hit", disable=None)
        explained = (
            ReportHit(hit, database.read(hit.name), retriever.explain(encoded, features[hit.name]))
            for hit in shown
        )
        # The query as it was typed: a page is passed on, the names of folders are not.
        write_search_report(html, str(query), picture, explained, note=verdict)
    if as_json:
        print(json.dumps([hit._asdict() for hit in hits], indent=2))
        return
    if verdict:
        print(verdict)
    for number, hit in enumerate(hits, start=1):
        probability = "" if hit.probability is None else f"{hit.probability:6.1%}  "
        print(f"{number:3}  {probability}{hit.score:8.2f}  {hit.name}")


def explain_command(
    query: _Photo,
    target: Annotated[Path, Argument(metavar="TARGET", help="A photo.")],
    box: _Box = None,
    top: Annotated[int, Option(min=1, help="How many patch pairs.")] = 10,
    evidence: Annotated[str | None, Option(help="Of a 4-D network, such as gradcam.")] = None,
    layers: Annotated[str | None, Option(help="Of it: all, blocks (Eq. 3) or a name.")] = None,
    html: _Page = None,
    as_json: _Json = False,
    method: _Method = DEFAULT,
) -> None:
    """Print the patch pairs that speak most for a match."""
    import numpy as np

    from indiret.evidence import DEFAULT_KIND, explain
    from indiret.retrieval import Hit, build_retriever

    retriever = build_retriever(method)
    _check_evidence(method, retriever, evidence, layers)
    picture, other = read_image(query), read_image(target)
    if box:
        picture = crop(picture, box)
    encoded, features = retriever.encode_query(picture), retriever.encode(other)
    if network := retriever.tensor_network:
        tensor = network.correlate(encoded, [features])
        found = explain(network, tensor, evidence or DEFAULT_KIND, layers or "all")[0]
    else:
        found = retriever.explain(encoded, features)
    probabilities = retriever.probability(np.array([found.score]))
    probability = None if probabilities is None else float(probabilities[0])
    hit, matches = Hit(str(target), found.score, probability), found.matches(top)
    if html:
        from indiret.reports import ReportHit, write_search_report  # needs matplotlib

        write_search_report(html, str(query), picture, [ReportHit(hit, other, found)], pairs=top)
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


def _check_evidence(
    name: str, retriever: "Retriever", kind: str | None = None, layers: str | None = None
) -> None:
    """Refuse a method without evidence, or without the evidence asked for."""
    from indiret.evidence import DEFAULT_KIND, ON_TENSOR

    if not retriever.evidence_kinds:
        raise ValueError(
            f"method {name!r} cannot explain which patches matched; choose {DEFAULT}, base, "
            "sift-ransac or another that can."
        )
    if retriever.tensor_network is None and (kind or layers):
        raise ValueError(
            f"--evidence and --layers look into a 4-D network, and {name} has no such layers; add "
            "--method base or a network's .safetensors file."
        )
    if layers and (kind or DEFAULT_KIND) in ON_TENSOR:
        raise ValueError(
            f"--layers={layers} is of no use to --evidence {kind or DEFAULT_KIND}, which looks at "
            "the tensor; add --evidence gradcam or hirescam."
        )
