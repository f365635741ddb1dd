"""Fit the probability that a patch's place is right: ``python -m tools.fit_confidence FOLDER``.

Fits a, b and c of `indiret.planes.confidence` to every fourth query of Toytown's training part and
one of its answers: a query patch is right if its place is within one patch of the truth, and wrong
if the target hides it or it shows no landmark. Then measures them on Toytown's test part, an answer
a query, and on the clicked points of FOLDER, in the layout of WxBS, both ways round: the second,
fourth, ... pair in order of name. Points whose place is outside of the target are left out. Writes
``indiret/data/planes/confidence.json``, in three minutes of one core. ``--develop`` measures on the
validation part and the other pairs instead.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset, load_clicked_pairs, load_dataset
from indiret.evaluation import ground_truth_points
from indiret.experiments.evaluator import provenance
from indiret.images import Picture, read_image
from indiret.patches import patch_grid
from indiret.planes import PlaneRetriever
from indiret.planes.confidence import CONFIDENCE, line_probability, measure_points
from indiret.planes.correspondence import EVIDENCE_GRID
from tools.fit_calibration import Pairs, Values, reliability
from tools.store_results import write

ANSWERS = 1  # of each query, at random
Line = tuple[float, float, float]


class Case(NamedTuple):
    """Two photos, and where points of one, (N, 2) x and y from 0 to 1, are in the other or NaN."""

    source: str
    scene: str
    query: Picture
    target: Picture
    points: Values
    truth: Values


class Points(NamedTuple):
    """Points whose place is inside the target."""

    source: NDArray[np.str_]
    scene: NDArray[np.str_]
    traits: Values  # (N, 2), support and cycle
    right: NDArray[np.bool_]
    shown: NDArray[np.bool_]  # whether the target shows them at all


def toytown_cases(part: str, step: int = 1) -> Iterator[Case]:
    """Every so many queries against `ANSWERS` of their answers, patch by patch."""
    town, random = load_dataset("toytown", split=part), np.random.default_rng(0)
    for query in town.queries[::step]:
        names = sorted(query.positives - {query.image})
        for name in random.permutation(names)[:ANSWERS].tolist():
            yield _toytown_case(town, query, name)


def _toytown_case(town: RetrievalDataset, query: Query, name: str) -> Case:
    picture, target = town.read_query(query), town.read(name)
    height, width = picture.shape[:2]
    rows, columns = patch_grid(height, width, EVIDENCE_GRID, "keep")
    points = (np.indices((rows, columns)).reshape(2, -1).T[:, ::-1] + 0.5) / (columns, rows)
    own, other = town.geometry(query.image), town.geometry(name)
    assert own and other and query.box  # which all photos of landmarks, and all queries, have
    low, high = np.array(query.box[:2]), np.array(query.box[2:])
    truth = ground_truth_points(own, other, low + points * (high - low), target.shape)
    return Case("Toytown", query.landmark, picture, target, points, truth / target.shape[1::-1])


def clicked_cases(folder: Path, first: int) -> Iterator[Case]:
    """Every second pair of WxBS, both ways round."""
    for pair in load_clicked_pairs(folder)[first::2]:
        sides = (pair.query, pair.query_points), (pair.target, pair.target_points)
        for (path, points), (other, truth) in (sides, sides[::-1]):
            query, target = read_image(path), read_image(other)
            places = points / query.shape[1::-1], truth / target.shape[1::-1]
            yield Case("WxBS", pair.name, query, target, *places)


def judge(cases: Iterator[Case], retriever: PlaneRetriever) -> tuple[Points, int]:
    """What is known of the points of pairs, and how many were left out."""
    found, left_out = [], 0
    for case in tqdm(cases, desc="judging", unit="pair", disable=None):
        query, target = retriever.encode_query(case.query), retriever.encode_query(case.target)
        best = retriever.verified(query, target)
        if best is None:
            left_out += len(case.points)
            continue
        points = torch.from_numpy(case.points).float().flip(-1)
        places, traits = measure_points(best, points, query.shape, target.shape)
        inside = ((places >= 0) & (places <= 1)).all(-1).numpy()
        grid = np.array(patch_grid(*target.shape, EVIDENCE_GRID, "keep"))
        patches = (np.floor(one * grid) for one in (places.numpy(), case.truth[:, ::-1]))
        right = np.abs(np.subtract(*patches)).max(-1) <= 1  # never of NaN
        shown, count = np.isfinite(case.truth).all(-1), int(inside.sum())
        source, scene = (np.full(count, name) for name in (case.source, case.scene))
        seen = traits.double().numpy()[inside]
        found.append(Points(source, scene, seen, right[inside], shown[inside]))
        left_out += len(inside) - count
    return Points(*map(np.concatenate, zip(*found, strict=True))), left_out


def fit_line(points: Points) -> Line:
    """a, b and c of a logistic regression."""
    traits, right = torch.from_numpy(points.traits), torch.from_numpy(points.right).double()
    line = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy(line_probability(traits, line), right)
        value.backward()
        return value

    solver.step(loss)
    a, b, c = line.tolist()
    return a, b, c


def measure(points: Points, line: Line) -> dict[str, Any]:
    """Reliability by bins, and Brier scores beside that of the share of right points for all."""
    likely = line_probability(torch.from_numpy(points.traits), torch.tensor(line)).numpy()
    n, right, share = len(likely), points.right, float(points.right.mean())
    pairs = Pairs(points.source, points.scene, points.scene, right, likely, likely, right)
    low = likely < 0.5
    return {
        "points": n, "right": share, "shown": float(points.shown.mean()),
        "predicted": float(likely.mean()), "brier": float(np.square(likely - right).mean()),
        "constant": share * (1 - share), "auc": _auc(likely, right),
        "low": float(low.mean()), "low_right": float(right[low].mean()),
        "low_not_shown": float((~points.shown[low]).mean()),
        **reliability(likely, pairs, np.ones(n)),
    }  # fmt: skip


def _auc(likely: Values, right: NDArray[np.bool_]) -> float:
    """How often a right point has the higher probability of a right and a wrong one."""
    below = np.searchsorted(wrong := np.sort(likely[~right]), likely[right])
    return float(below.mean() / len(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="in the layout of WxBS")
    parser.add_argument("--develop", action="store_true", help="measure on the data to choose by")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    made, retriever = provenance(load_dataset("toytown", split="train")), PlaneRetriever()
    line = fit_line(judge(toytown_cases("train", step=4), retriever)[0])
    part, pairs = ("validation", "odd") if asked.develop else ("test", "even")
    results: dict[str, Any] = {"line": line, "toytown": {"part": part}, "wxbs": {"part": pairs}}
    clicked = clicked_cases(asked.folder, 0 if asked.develop else 1)
    for name, cases in (("toytown", toytown_cases(part)), ("wxbs", clicked)):
        points, left_out = judge(cases, retriever)
        results[name] |= measure(points, line) | {"outside": left_out}
    write(CONFIDENCE, results | {"provenance": made})
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
