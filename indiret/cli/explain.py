"""``indiret explain``: which patches of two photos matched; see *Your own photos*."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from indiret.cli import options
from indiret.cli.hits import plain
from indiret.images import crop, read_image

if TYPE_CHECKING:
    from indiret.retrieval import Retriever


def explain_command(
    query: options.QueryPhoto,
    target: Annotated[Path, Argument(metavar="TARGET", help="A photo.")],
    box: options.QueryBox = None,
    top: Annotated[int, Option(min=1, help="How many patch pairs.")] = 10,
    evidence: Annotated[
        str | None, Option(help="Its kind: verified, support and others, as the method has them.")
    ] = None,
    layers: Annotated[
        str | None, Option(help="Of a 4-D network: all, blocks (Eq. 3) or a name.")
    ] = None,
    html: options.Page = None,
    as_json: options.Json = False,
    method: options.Method = options.DEFAULT,
) -> None:
    """Print the patch pairs that speak most for a match, and the score that a search gives it."""
    from indiret.evidence import DEFAULT_KIND, explain
    from indiret.retrieval import build_retriever, sort_hits

    retriever = build_retriever(method)
    check_evidence(method, retriever, evidence, layers)
    picture, other = read_image(query), read_image(target)
    picture = crop(picture, box) if box else picture
    encoded, features = retriever.encode_query(picture), retriever.encode(other)
    if network := retriever.tensor_network:
        tensor = network.correlate(encoded, [features])
        found = explain(network, tensor, evidence or DEFAULT_KIND, layers or "all")[0]
    else:
        found = retriever.explain(encoded, features, evidence)
    if options.keeps_features(retriever):  # as search scores the pair
        features = retriever.unpack(retriever.pack(features))
    (hit,) = sort_hits(retriever, [str(target)], retriever.score(encoded, [features]))
    matches = found.matches(top)
    rows = [] if found.probability is None else found.probability.tolist()
    grid = [[one if one == one else None for one in row] for row in rows] or None  # no NaN in json
    pairs = [one._asdict() | {"probability": grid and grid[one.k][one.l]} for one in matches]
    if as_json:
        where = {"target_grid": found.target_map.shape, "target_size": other.shape[:2]}  # (i, j)
        where |= {"query_grid": found.query_map.shape, "query_size": picture.shape[:2]}  # (k, l)
        print(json.dumps(plain(hit) | where | {"pairs": pairs, "patch_probability": grid}))
    else:
        likely = "" if hit.probability is None else f"relevant with {hit.probability:.1%}, "
        print(f"{likely}score {hit.score:.2f}")
        for i, j, k, l, value, chance in (pair.values() for pair in pairs):
            right = "" if chance is None else f"  right with {chance:.0%}"
            share = value / matches[0].value
            print(f"target patch ({i}, {j})  query patch ({k}, {l})  {share:.2f}{right}")
    if html:
        from indiret.reports import ReportHit, write_search_report  # needs matplotlib

        with options.naming(html):
            hits = [ReportHit(hit, other, found)]
            write_search_report(html, str(query), picture, hits, pairs=top)


def check_evidence(
    name: str, retriever: "Retriever", kind: str | None = None, layers: str | None = None
) -> None:
    """Refuse a method without evidence, or without the evidence asked for."""
    from indiret.evidence import DEFAULT_KIND, METHODS, ON_TENSOR

    if not retriever.evidence_kinds:
        raise ValueError(
            f"method {name!r} cannot explain which patches matched; choose {options.DEFAULT}, "
            "base, sift-ransac or another that can."
        )
    kinds = METHODS if retriever.tensor_network else retriever.evidence_kinds
    if kind and kind not in kinds:
        raise ValueError(
            f"{name} has no evidence of kind {kind!r}; choose from {', '.join(kinds)}, or a "
            "--method that has it."
        )
    if layers and not retriever.tensor_network:
        raise ValueError(
            f"--layers looks into a 4-D network, and {name} has no such layers; add --method base "
            "or a network's .safetensors file."
        )
    if layers and (kind or DEFAULT_KIND) in ON_TENSOR:
        raise ValueError(
            f"--layers={layers} is of no use to --evidence {kind or DEFAULT_KIND}, which looks at "
            "the tensor; add --evidence gradcam or hirescam."
        )
