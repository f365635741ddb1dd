"""``indiret search`` and ``explain``: your photos, by any method; see *Your own photos*."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm
from typer import Argument, Option

from indiret.cli import options
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.images import ImageError, crop, printable, read_image

if TYPE_CHECKING:
    from indiret.retrieval import Hit, Retriever

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
    device: options.Device = "cpu",
    keep_query: Annotated[bool, Option("--keep-query", help="As a hit, if it is there.")] = False,
    verbose: Annotated[bool, Option("--verbose", help="Name every file passed over.")] = False,
) -> None:
    """Print the photos most like the query, best first."""
    from indiret.retrieval import build_retriever, encode_query, index_database, sort_hits

    retriever = build_retriever(method, options.check_device(device))
    if html:
        _check_evidence(method, retriever)
    name = os.path.realpath(query)  # no name inside the folder
    database = replace(load_dataset("folder", folder), query_images={name: query})
    boxed = Query(name, name, box, landmark="")
    picture = database.read_query(boxed)
    options.report_passed_over(folder, verbose)
    if not keep_query:
        database = _without(database, query)
    indexed = index_database(retriever, database)
    features = indexed.features
    options.report_skipped({**dict(database.skipped), **indexed.skipped})
    if not features:
        raise ValueError(f"{folder} holds no other photo that can be read, so none is found.")
    encoded = encode_query(retriever, database, boxed)
    scores = retriever.score(encoded, list(features.values()))
    hits = sort_hits(retriever, list(features), scores)[:top]
    structure = {hit.name: retriever.structure(features[hit.name]) for hit in hits}
    notes = _notes(hits[0], retriever.structure(encoded))
    if as_json:
        rows = [_plain(hit) | {"structure": structure[hit.name]} for hit in hits]
        print(json.dumps(rows, indent=2))
    else:
        print(*notes, sep="\n", end="\n" * bool(notes))
        figures = [_figures(hit) for hit in hits]
        width = max(map(len, figures))
        for number, (hit, text) in enumerate(zip(hits, figures, strict=True), start=1):
            little = _is_little(structure[hit.name]) * "  (too little structure)"
            print(f"{number:3}  {text:>{width}}  {printable(hit.name)}{little}")
    if html:
        sys.stdout.flush()  # explaining takes a while, and may be stopped
        from indiret.reports import ReportHit, write_search_report  # needs matplotlib

        def explained() -> Iterator[ReportHit]:
            for hit in tqdm(hits, desc="explaining", unit="hit", disable=None):
                try:
                    target = database.read(hit.name)
                except (ImageError, OSError) as error:  # gone since it was ranked
                    options.report_skipped({hit.name: str(error)})
                    continue
                yield ReportHit(hit, target, retriever.explain(encoded, features[hit.name]))

        # The query as it was typed: a page is passed on, the names of folders are not.
        with options.naming(html):
            write_search_report(html, str(query), picture, explained(), note=" ".join(notes))


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
    from indiret.evidence import DEFAULT_KIND, explain
    from indiret.retrieval import build_retriever, sort_hits

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
    # As search scores the pair.
    (hit,) = sort_hits(retriever, [str(target)], retriever.score(encoded, [features]))
    matches = found.matches(top)
    if as_json:
        rows, columns = found.target_map.shape, found.query_map.shape
        where = {"target_grid": rows, "target_size": other.shape[:2]}  # of (i, j), and in pixels
        where |= {"query_grid": columns, "query_size": picture.shape[:2]}  # of (k, l)
        pairs = [match._asdict() for match in matches]
        print(json.dumps(_plain(hit) | {**where, "pairs": pairs}))
    else:
        likely = "" if hit.probability is None else f"relevant with {hit.probability:.1%}, "
        print(f"{likely}score {hit.score:.2f}")
        for i, j, k, l, value in matches:
            share = value / matches[0].value
            print(f"target patch ({i}, {j})  query patch ({k}, {l})  {share:.2f}")
    if html:
        from indiret.reports import ReportHit, write_search_report  # needs matplotlib

        with options.naming(html):
            hits = [ReportHit(hit, other, found)]
            write_search_report(html, str(query), picture, hits, pairs=top)


def _without(database: RetrievalDataset, query: Path) -> RetrievalDataset:
    """The folder without the query's own file, which would be its first hit and tell nothing."""
    own = set()
    for name, path in database.images.items():
        with suppress(OSError):  # gone since it was listed
            if path.samefile(query):
                own.add(name)
    for name in own:
        print(f"left out {printable(name)}: the query itself; see --keep-query", file=sys.stderr)
    images = {name: path for name, path in database.images.items() if name not in own}
    return replace(database, images=images)


def _notes(best: "Hit", structure: float | None) -> list[str]:
    """What to say before a ranked list."""
    notes = []
    if _is_little(structure):
        notes.append(
            f"Too little structure: {structure:.1%} of the query's patches can be judged, so that "
            "no hit is to be trusted."
        )
    if best.probability is not None and best.probability < NOTHING_FOUND:
        notes.append(
            f"Nothing found: no photo reaches probability {NOTHING_FOUND}. The closest are listed."
        )
    return notes


def _is_little(structure: float | None) -> bool:
    from indiret.retrieval import LITTLE_STRUCTURE

    return structure is not None and structure < LITTLE_STRUCTURE


def _figures(hit: "Hit") -> str:
    if not hit.judged:
        return "not judged"
    likely = "" if hit.probability is None else f"{hit.probability:6.1%}  "
    return f"{likely}{hit.score:8.2f}"


def _plain(hit: "Hit") -> dict[str, Any]:
    """A hit as json has it."""
    return hit._asdict() | ({} if hit.judged else {"score": None})


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
