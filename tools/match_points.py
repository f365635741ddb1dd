"""Find clicked points of one photo in another: ``python -m tools.match_points FOLDER``.

For pairs in the layout of WxBS; see `indiret.datasets.load_clicked_pairs`. The second, fourth, ...
pair in order of name report; the others (``--odd``) are there to choose by. Each method says where
a point lies: by its evidence (the strongest target patch of the point's query patch), of each kind
that it has, and by what it transfers (the affine map of a plane, SIFT's homography). Writes the
shares within one and within two patches (means over the pairs), the median error over the diagonal
(its median), and those of each pair, into ``indiret/data/planes/wxbs.json``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.datasets import ClickedPair, load_clicked_pairs, load_dataset
from indiret.evaluation import PointMatches, point_match_accuracy, strongest_targets
from indiret.experiments.evaluator import provenance
from indiret.images import Picture, read_image
from indiret.patches import patch_grid
from indiret.retrieval import Points, Retriever, build_retriever

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes" / "wxbs.json"
METHODS = ("planes", "plane-net", "sift-ransac", "base")
CENTRE = "the middle of the target"
PATCHES = 14  # along the target's longer side, square ones, whatever a method's own grid is


def guesses(
    method: Retriever, pair: ClickedPair, query: Picture, target: Picture
) -> dict[str, Points]:
    """Where a method says that the pair's points lie, by the way in which it says so: x and y."""
    encoded, points = (method.encode_query(query), method.encode(target)), pair.query_points
    found = {}
    for kind in method.evidence_kinds:
        way = "evidence" if kind == method.evidence_kinds[0] else f"evidence: {kind}"
        pairs = method.explain(*encoded, kind).pairs
        found[way] = strongest_targets(pairs, points, query.shape, target.shape)
    if method.transfers_points:
        places = method.transfer_points(*encoded, (points / query.shape[1::-1])[:, ::-1])
        found["transferred"] = places[:, ::-1] * target.shape[1::-1]
    return found


def match(pairs: list[ClickedPair], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each method and way, and one for the middle of the target."""
    found: dict[tuple[str, str], dict[str, PointMatches]] = {}
    methods = {name: build_retriever(name) for name in names}
    for pair in tqdm(pairs, desc="matching", unit="pair", disable=None):
        query, target = read_image(pair.query), read_image(pair.target)
        height, width = target.shape[:2]
        grid = patch_grid(height, width, (PATCHES, PATCHES), "keep")
        middle = np.tile([width / 2, height / 2], (len(pair.query_points), 1))
        said = {(CENTRE, "transferred"): middle}
        for name, method in methods.items():
            for way, where in guesses(method, pair, query, target).items():
                said[name, way] = where
        for key, where in said.items():
            matches = point_match_accuracy(where, pair.target_points, target.shape, grid)
            found.setdefault(key, {})[pair.name] = matches
    return [row(name, way, matches) for (name, way), matches in found.items()]


def row(name: str, way: str, matches: dict[str, PointMatches]) -> dict[str, Any]:
    """Mean shares and the median error over pairs, and each pair's figures; no error is null."""
    values = np.array(list(matches.values()))
    summed = [*values[:, :2].mean(0), np.median(values[:, 2])]
    each = {pair: _rounded(one) for pair, one in matches.items()}
    return {"method": name, "way": way, **_rounded(PointMatches(*summed)), "pairs": each}


def _rounded(matches: PointMatches) -> dict[str, float | None]:
    found = matches._asdict().items()
    return {name: round(float(value), 4) if np.isfinite(value) else None for name, value in found}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="in the layout of WxBS")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--odd", action="store_true", help="the pairs to choose by")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = load_clicked_pairs(arguments.folder)[0 if arguments.odd else 1 :: 2]
    rows = match(pairs, arguments.methods)
    origin = provenance(load_dataset("toytown", split="train"))  # what all of it was learned from
    write_json(arguments.out, {"rows": rows, "provenance": origin})
    for one in rows:
        figures = "  ".join(f"{name} {one[name]}" for name in PointMatches._fields)
        print(f"{one['method']:24} {one['way']:9} {figures}")


if __name__ == "__main__":
    main()
