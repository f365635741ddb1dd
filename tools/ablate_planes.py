"""What each part of the plane votes adds and costs: ``python -m tools.ablate_planes``.

Ranks with one choice changed at a time, on Toytown validation (one query of each landmark against
its other positives and 36 photos of other things) and, with ``--smvs FOLDER``, on odd-numbered
landmarks and paintings of SMVS (against all odd references) and on small parts of its landmarks
(against all odd queries' photos). Writes ``ablation.json`` and, for the steps of the cascade,
``cascade.json``, both into ``indiret/data/planes``.

``ablation.json`` is ``{"rows": [{"name", "toytown", "gain", "landmarks", "paintings", "crops",
"ms"}]}``: mAP without the query's own photo, its paired difference to the first row with its
interval, MRR, and milliseconds of processor time a pair, of the directions that count. In all rows
but two every photo is matched backward. ``cascade.json`` is
``{"points": [{"voted", "judged", "toytown", "ms"}], "ms"}``: shares of the database for large
templates and for the network, mAP, mean milliseconds over all pairs, and what each step costs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.images import Picture
from indiret.planes import (
    PLANE_CONFIGS,
    PlaneCascadeRetriever,
    PlaneConfig,
    PlaneFeatures,
    PlaneRetriever,
    dense_rootsift,
    load_plane_network,
)
from indiret.planes.gradients import fitted_tensors
from indiret.planes.matching import BACKWARD_SHARE, PairMatch, PlaneMatch, Template, to_float32
from indiret.planes.voting import POPULARITY_FLOOR, responses
from indiret.planes.voting import max_pool_stride2 as pool
from indiret.planes.voting import normalise_by_popularity_ as popular_
from indiret.planes.voting import threshold_relu_ as relu_
from indiret.reproduction import provenance, write_json
from indiret.reranking import best, lift
from indiret.statistics import nested_bootstrap
from tools.fit_planes import encode_impostors

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes"
NEGATIVES = 36
SMVS = {"landmarks": "landmarks", "paintings": "museum_paintings"}
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
Precisions = dict[tuple[str, str, int], float]


@dataclass
class Task:
    """Pictures by name, and (query, its positives, what is ranked) by name."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    queries: list[tuple[str, set[str], list[str]]] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        return sum(len(names) for _, _, names in self.queries)


class Unwhitened(PlaneRetriever):
    """Patches less Toytown's mean patch, not divided by how much they differ."""

    def patches(self, picture: Picture, long_side: int) -> Tensor:
        raw = dense_rootsift(picture, long_side)
        return F.normalize(raw - fitted_tensors()["mean"], dim=-1) * raw.norm(dim=-1, keepdim=True)

    @cached_property
    def impostors(self) -> Sequence[PlaneFeatures]:
        return encode_impostors(self, load_dataset("toytown", split="train"))


class LargeAlone(PlaneRetriever):
    """No close templates."""

    def match(self, source: PlaneFeatures, searched: PlaneFeatures, turn: int) -> PlaneMatch:
        return self.best_plane(source.templates[turn], searched.pyramid)


class CoarseAlone(PlaneRetriever):
    """Coarse templates in the smaller sizes."""

    def match_both(self, query: PlaneFeatures, target: PlaneFeatures, turn: Any = 0) -> PairMatch:
        return self.coarse_match(query, target)


def pooled(change: Callable[[Tensor], Tensor]) -> type[PlaneRetriever]:
    """A retriever with other pooled responses, made of all cosines (I, J, K, L)."""

    class Pooled(PlaneRetriever):
        def pooled_responses(self, template: Template, patches: Tensor) -> Tensor:
            return change(responses(patches, template.patches))

    return Pooled


def checkerboard(cosines: Tensor) -> Tensor:
    """The best of five neighbours instead of nine: half of the products could be saved."""
    rows, columns = cosines.shape[:2]
    black = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
    kept = cosines + torch.where(black, 0.0, -9.0)[:, :, None, None]
    return popular_(relu_(pool(kept)))


def popular_twice(cosines: Tensor) -> Tensor:
    """Divided by the popularity of template patches, too, as in the ratio test."""
    kept = popular_(relu_(pool(cosines)))
    return kept / (kept.mean((0, 1)) + POPULARITY_FLOOR).sqrt()


def wholes(one: PlaneMatch) -> float:
    return one.votes * one.z_score


Score = Callable[[PlaneMatch, PlaneMatch, float], float]
SCORES: dict[str, Score] = {  # of the planes forward and backward, and the background score
    "as it is": lambda f, b, g: (f.score + b.score) / math.sqrt(g),
    "quarters count nothing": lambda f, b, g: (wholes(f) + wholes(b)) / math.sqrt(g),
    "quarters alone": lambda f, b, g: (f.quarters + b.quarters) / math.sqrt(g),
    "background score counts nothing": lambda f, b, g: f.score + b.score,
    "neither quarters nor background score": lambda f, b, g: wholes(f) + wholes(b),
    "product of directions": lambda f, b, g: f.score * b.score / g,
    "forward alone": lambda f, b, g: f.score / math.sqrt(g),
    "backward alone": lambda f, b, g: b.score / math.sqrt(g),
    "votes of wholes alone": lambda f, b, g: f.votes + b.votes,
    "z-score of wholes alone": lambda f, b, g: f.z_score + b.z_score,
}
BACKWARD = {  # share of the photos that are matched backward, those best by forward alone
    "backward for the better 70 % (as used)": BACKWARD_SHARE,
    "backward for the better half": 0.5,
}
CHOSEN = PLANE_CONFIGS["planes"]
SIX = CHOSEN.pyramid[:6]
VARIANTS: dict[str, tuple[type[PlaneRetriever], PlaneConfig]] = {
    "not normalised by popularity": (pooled(lambda x: relu_(pool(x))), CHOSEN),
    "not whitened": (Unwhitened, CHOSEN),
    "no threshold": (pooled(lambda x: popular_(pool(x).clamp_min_(0))), CHOSEN),
    "no max-pooling": (pooled(lambda x: popular_(relu_(x[::2, ::2]))), CHOSEN),
    "every second of the pyramid's patches": (pooled(checkerboard), CHOSEN),
    "normalised by template patches, too": (pooled(popular_twice), CHOSEN),
    "ninths for quarters": (type("Ninths", (PlaneRetriever,), {"split": 3}), CHOSEN),
    "no close templates": (LargeAlone, CHOSEN),
    "template of 88 pixels, six sizes": (
        PlaneRetriever,
        replace(CHOSEN, template=88, pyramid=SIX),
    ),
    "without the largest size": (PlaneRetriever, replace(CHOSEN, pyramid=SIX)),
    "an eighth size": (PlaneRetriever, replace(CHOSEN, pyramid=(*CHOSEN.pyramid, 352))),
    "coarse templates alone": (CoarseAlone, CHOSEN),
}


def toytown_task(negatives: int | None = NEGATIVES) -> Task:
    """One query of each of Toytown's validation landmarks, and some other photos, or all."""
    town = load_dataset("toytown", split="validation")
    random, task = np.random.default_rng(1), Task()
    for landmark in town.landmarks:
        query = [query for query in town.queries if query.landmark == landmark][-1]
        known = query.positives | query.junk | {query.image}
        others = [name for name in town.images if name not in known]
        if negatives is not None:
            others = [str(name) for name in random.choice(others, negatives, replace=False)]
        positives = query.positives - {query.image}
        names = [*sorted(positives), *others]
        task.pictures |= {n: town.read(n) for n in names if n not in task.pictures}
        task.pictures[f"query {query.name}"] = town.read_query(query)
        task.queries.append((f"query {query.name}", set(positives), names))
    return task


def smvs_task(folder: Path, crops: bool = False) -> Task:
    """The odd queries of a category of SMVS and its odd references, or parts of these among those.

    A part is a fifth to two fifths as long, of six random ones that with the largest differences
    of neighbouring pixels.
    """
    pairs, random = load_dataset("pairs", folder), np.random.default_rng(1)
    odd = [query for query in pairs.queries if int(Path(query.image).stem) % 2]
    photos = {query.name: pairs.read_query(query) for query in odd}
    references = sorted({name for query in odd for name in query.positives})
    task = Task(photos if crops else {name: pairs.read(name) for name in references})
    for query in odd:
        name, (positive,) = f"query {query.name}", query.positives
        if crops:
            photo = pairs.read(positive)
            size = (np.array(photo.shape[:2]) * random.uniform(0.2, 0.4)).round().astype(int)
            corners = random.integers(0, np.array(photo.shape[:2]) - size + 1, (6, 2))
            parts = [photo[y : y + size[0], x : x + size[1]] for y, x in corners]
            task.pictures[name] = np.ascontiguousarray(max(parts, key=structure))
            task.queries.append((name, {query.name}, list(photos)))
        else:
            task.pictures[name] = photos[query.name]
            task.queries.append((name, {positive}, references))
    return task


def structure(picture: Picture) -> float:
    grey = picture.mean(2)
    return float(sum(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))


def precisions(task: Task, scores: Sequence[np.ndarray]) -> Precisions:
    """Average precision by query, each of a landmark of its own."""
    found = {}
    for (query, positives, names), row in zip(task.queries, scores, strict=True):
        ranked = [names[place] for place in np.argsort(-row, kind="stable")]
        found[query, query, 0] = average_precision(ranked, positives, ())
    return found


def reciprocal_rank(task: Task, scores: Sequence[np.ndarray]) -> float:
    """Mean of one over the place of the right photo."""
    found = []
    for (_, positives, names), row in zip(task.queries, scores, strict=True):
        right = max(score for name, score in zip(names, row, strict=True) if name in positives)
        found.append(1 / np.count_nonzero(row >= right))
    return float(np.mean(found))


def match_all(retriever: PlaneRetriever, task: Task) -> tuple[list[list[PairMatch]], float]:
    """The planes of every pair of a task, and milliseconds of processor time a pair."""
    features = {name: to_float32(retriever.encode(one)) for name, one in task.pictures.items()}
    found, began = [], time.process_time()
    for query, _, names in task.queries:
        found.append([retriever.match_both(features[query], features[name]) for name in names])
    return found, (time.process_time() - began) * 1000 / task.pairs


def scores_of(name: str, matches: list[list[PairMatch]]) -> list[np.ndarray]:
    """The scores of a row, (pictures,) for each query."""

    def scored(score: Score) -> list[np.ndarray]:
        return [np.array([score(*match[1:]) for match in of_query]) for of_query in matches]

    if name not in BACKWARD:
        return scored(SCORES.get(name, SCORES["as it is"]))
    found = []
    for forward, both in zip(
        scored(SCORES["forward alone"]), scored(SCORES["as it is"]), strict=True
    ):
        kept = best(forward, BACKWARD[name])
        found.append(lift(forward, kept, both[kept]))
    return found


def ablate(tasks: dict[str, Task]) -> list[dict[str, Any]]:
    """A row of figures for each choice, the retriever as it is first."""
    known: dict[Any, tuple[list[list[PairMatch]], float]] = {}
    rows: list[dict[str, Any]] = []
    as_it_is: Precisions = {}
    for name in tqdm([*SCORES, *BACKWARD, *VARIANTS], unit="row", disable=None):
        row: dict[str, Any] = {"name": name}
        kind, config = VARIANTS.get(name, (PlaneRetriever, CHOSEN))
        for place, task in tasks.items():
            if (kind, config, place) not in known:
                known[kind, config, place] = match_all(kind(config), task)
            matches, ms = known[kind, config, place]
            scores = scores_of(name, matches)
            if place != "toytown":
                row[place] = round(reciprocal_rank(task, scores), 4)
                continue
            measured = precisions(task, scores)
            as_it_is = as_it_is or measured
            directions = 1.0 if name.endswith("ward alone") else 1 + BACKWARD.get(name, 1.0)
            row["toytown"] = round(float(np.mean(list(measured.values()))), 4)
            row["gain"] = [round(value, 4) for value in nested_bootstrap(measured, as_it_is)[:3]]
            row["ms"] = round(ms * directions / 2, 2)
        rows.append(row)
        tqdm.write(str(row))
    return rows


def cascade(task: Task) -> dict[str, Any]:
    """How quality and cost grow with the shares for large templates and for the network."""
    retriever = PlaneCascadeRetriever(load_plane_network())
    features = {name: retriever.encode(picture) for name, picture in task.pictures.items()}
    steps: list[list[np.ndarray]] = [[], [], []]
    ms = np.zeros(len(steps))
    for query, _, names in tqdm(task.queries, desc="cascade", unit="query", disable=None):
        asked, targets = to_float32(features[query]), [features[name] for name in names]
        times = [time.process_time()]
        coarse = [retriever.match_coarse(asked, target) for target in targets]
        times.append(time.process_time())
        large = [retriever.match_large(asked, *pair) for pair in zip(targets, coarse, strict=True)]
        times.append(time.process_time())
        margins = retriever.margins(asked, list(zip(targets, large, strict=True)))
        times.append(time.process_time())
        ms += 1000 * np.diff(times) / task.pairs
        for step, found in zip(steps, (coarse, large), strict=False):
            step.append(np.array([match.score for match in found]))
        steps[2].append(margins)
    points = []
    for voted in SHARES:
        for judged in (0.0, voted / 4, voted / 2, voted):
            scores = []
            for first, second, third in zip(*steps, strict=True):
                row, sizes = first, [round(share * first.size) for share in (voted, judged)]
                for size, again in zip(sizes, (second, third), strict=True):
                    kept = np.argsort(-row, kind="stable")[:size]
                    row = lift(row, kept, again[kept]) if size else row
                scores.append(row)
            values = list(precisions(task, scores).values())
            cost = float(ms @ [1, voted, judged])
            points.append({"voted": voted, "judged": judged})
            points[-1] |= {"toytown": round(float(np.mean(values)), 4), "ms": round(cost, 2)}
    names = ("coarse", "large", "network")
    return {"points": points, "ms": dict(zip(names, ms.round(2).tolist(), strict=True))}


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smvs", type=Path, help="folder with SMVS's categories")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = {"provenance": provenance(load_dataset("toytown", split="validation"))}
    write_json(arguments.out / "cascade.json", cascade(toytown_task(None)) | made)
    tasks = {"toytown": toytown_task()}
    if arguments.smvs:
        tasks |= {name: smvs_task(arguments.smvs / folder) for name, folder in SMVS.items()}
        tasks["crops"] = smvs_task(arguments.smvs / SMVS["landmarks"], crops=True)
    counts = {"queries": len(tasks["toytown"].queries), "strangers": NEGATIVES}
    write_json(arguments.out / "ablation.json", counts | {"rows": ablate(tasks)} | made)


if __name__ == "__main__":
    main()
