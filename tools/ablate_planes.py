"""What each part of the plane votes adds and costs: ``python -m tools.ablate_planes``.

Ranks with one choice changed at a time, on Toytown validation (one query of each landmark against
its other positives and 36 photos of other things) and, with ``--smvs FOLDER``, on odd-numbered
landmarks and paintings of SMVS (against all odd references) and on small parts of its landmarks
(against all odd queries' photos). Writes ``indiret/data/planes/ablation.json``.

A row has mAP without the query's own photo, its paired difference to the first
row with its interval, MRR, and milliseconds of processor time a pair, of the directions that count.
In all rows but two every photo is matched backward.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.datasets import load_dataset
from indiret.evaluation import average_precision, nested_bootstrap
from indiret.experiments.evaluator import provenance
from indiret.images import Picture
from indiret.planes import PlaneConfig, PlaneFeatures, PlaneRetriever, dense_rootsift
from indiret.planes.features import Template
from indiret.planes.gradients import fitted_tensors
from indiret.planes.matches import PairMatch, PlaneMatch
from indiret.planes.matching import BACKWARD_SHARE
from indiret.planes.voting import POPULARITY_FLOOR, responses
from indiret.planes.voting import max_pool_stride2 as pool
from indiret.planes.voting import normalise_by_popularity_ as popular_
from indiret.planes.voting import threshold_relu_ as relu_
from indiret.retrieval import Scores, splice_scores, top_share
from tools.fit_planes import encode_impostors

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes"
NEGATIVES = 36
SMVS = {"landmarks": "landmarks", "paintings": "museum_paintings"}
CHOSEN = PlaneConfig()
SIX = CHOSEN.pyramid[:6]
Precisions = dict[tuple[str, str, int], float]
Matches = list[list[PairMatch]]  # of every query with its photos


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
        return encode_impostors(self)


class LargeAlone(PlaneRetriever):
    """No close templates."""

    def match(self, source: PlaneFeatures, searched: PlaneFeatures) -> PlaneMatch:
        return self.best_plane(source.template, searched.pyramid)


def pooled(change: Callable[[Tensor], Tensor]) -> type[PlaneRetriever]:
    """A retriever with other pooled responses, made of all cosines (I, J, K, L)."""

    def pooled_responses(self: PlaneRetriever, template: Template, patches: Tensor) -> Tensor:
        return change(responses(patches, template.patches))

    return type("Pooled", (PlaneRetriever,), {"pooled_responses": pooled_responses})


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


def whole(one: PlaneMatch) -> float:
    return one.votes * one.z_score


Score = Callable[[PlaneMatch, PlaneMatch, float], float]
SCORES: dict[str, Score] = {  # of the planes forward and backward, and the background score
    "as it is": lambda f, b, g: (f.score + b.score) / math.sqrt(g),
    "quarters count nothing": lambda f, b, g: (whole(f) + whole(b)) / math.sqrt(g),
    "quarters alone": lambda f, b, g: (f.quarters + b.quarters) / math.sqrt(g),
    "background score counts nothing": lambda f, b, g: f.score + b.score,
    "neither quarters nor background score": lambda f, b, g: whole(f) + whole(b),
    "product of directions": lambda f, b, g: f.score * b.score / g,
    "forward alone": lambda f, b, g: f.score / math.sqrt(g),
    "backward alone": lambda f, b, g: b.score / math.sqrt(g),
    "votes of wholes alone": lambda f, b, g: f.votes + b.votes,
    "z-score of wholes alone": lambda f, b, g: f.z_score + b.z_score,
}
BACKWARD = {  # share of the photos that are matched backward, the best by forward alone
    "backward for the better 70 % (as used)": BACKWARD_SHARE,
    "backward for the better half": 0.5,
}
VARIANTS: dict[str, tuple[type[PlaneRetriever], PlaneConfig]] = {
    "not normalised by popularity": (pooled(lambda x: relu_(pool(x))), CHOSEN),
    "not whitened": (Unwhitened, CHOSEN),
    "no threshold": (pooled(lambda x: popular_(pool(x).clamp_min_(0))), CHOSEN),
    "no max-pooling": (pooled(lambda x: popular_(relu_(x[::2, ::2]))), CHOSEN),
    "every second of the pyramid's patches": (pooled(checkerboard), CHOSEN),
    "normalised by template patches, too": (pooled(popular_twice), CHOSEN),
    "ninths for quarters": (type("Ninths", (PlaneRetriever,), {"split": 3}), CHOSEN),
    "no close templates": (LargeAlone, CHOSEN),
    "template of 88 pixels, six sizes": (PlaneRetriever, replace(CHOSEN, template=88, pyramid=SIX)),
    "without the largest size": (PlaneRetriever, replace(CHOSEN, pyramid=SIX)),
    "an eighth size": (PlaneRetriever, replace(CHOSEN, pyramid=(*CHOSEN.pyramid, 352))),
}


def toytown_task() -> Task:
    """One query of each of Toytown's validation landmarks, and some other photos."""
    town = load_dataset("toytown", split="validation")
    random, task = np.random.default_rng(1), Task()
    for landmark in town.landmarks:
        query = [query for query in town.queries if query.landmark == landmark][-1]
        known = query.positives | query.junk | {query.image}
        others = [name for name in town.images if name not in known]
        positives = set(query.positives - {query.image})
        names = [*sorted(positives), *random.choice(others, NEGATIVES, replace=False).tolist()]
        task.pictures |= {n: town.read(n) for n in names if n not in task.pictures}
        task.pictures[f"query {query.name}"] = town.read_query(query)
        task.queries.append((f"query {query.name}", positives, names))
    return task


def smvs_task(folder: Path, crops: bool = False) -> Task:
    """The odd queries of a category of SMVS and its odd references, or parts of these among those.

    A part is a fifth to two fifths as long, of six random ones that with the largest differences
    of neighbouring pixels.
    """
    pairs, random = load_dataset("pairs", folder), np.random.default_rng(1)
    odd = [query for query in pairs.queries if int(Path(query.image).stem) % 2]

    def contrast(part: Picture) -> float:
        return sum(float(np.abs(np.diff(part.mean(2), axis=axis)).mean()) for axis in (0, 1))

    photos = {query.name: pairs.read_query(query) for query in odd}
    references = sorted({name for query in odd for name in query.positives})
    task = Task(dict(photos) if crops else {name: pairs.read(name) for name in references})
    for query in odd:
        name, (positive,) = f"query {query.name}", query.positives
        if crops:
            photo = pairs.read(positive)
            shape = np.array(photo.shape[:2])
            size = (shape * random.uniform(0.2, 0.4)).round().astype(int)
            corners = random.integers(0, shape - size + 1, (6, 2))
            parts = [photo[y : y + size[0], x : x + size[1]] for y, x in corners]
            task.pictures[name] = np.ascontiguousarray(max(parts, key=contrast))
            task.queries.append((name, {query.name}, list(photos)))
        else:
            task.pictures[name] = photos[query.name]
            task.queries.append((name, {positive}, references))
    return task


def precisions(task: Task, scores: Sequence[Scores]) -> Precisions:
    """Average precision by query, each of a landmark of its own."""
    found = {}
    for (query, positives, names), row in zip(task.queries, scores, strict=True):
        ranked = [names[place] for place in np.argsort(-row, kind="stable")]
        found[query, query, 0] = average_precision(ranked, positives, ())
    return found


def reciprocal_rank(task: Task, scores: Sequence[Scores]) -> float:
    """Mean of one over the place of the right photo."""
    found = []
    for (_, positives, names), row in zip(task.queries, scores, strict=True):
        right = row[[name in positives for name in names]].max()
        found.append(1 / np.count_nonzero(row >= right))
    return float(np.mean(found))


def match_all(retriever: PlaneRetriever, task: Task) -> tuple[Matches, float]:
    """The planes of every pair of a task, and milliseconds of processor time a pair."""
    features = {name: retriever.encode(one) for name, one in task.pictures.items()}
    found, began = [], time.process_time()
    for query, _, names in task.queries:
        found.append([retriever.match_both(features[query], features[name]) for name in names])
    return found, (time.process_time() - began) * 1000 / task.pairs


def scores_of(name: str, matches: Matches) -> list[Scores]:
    """The scores of a row, (pictures,) for each query."""
    score = SCORES.get(name, SCORES["as it is"])
    found = [np.array([score(*match) for match in of_query]) for of_query in matches]
    if name in BACKWARD:
        for number, forward in enumerate(scores_of("forward alone", matches)):
            kept = top_share(forward, BACKWARD[name])
            found[number] = splice_scores(forward, kept, found[number][kept])
    return found


def ablate(tasks: dict[str, Task]) -> list[dict[str, Any]]:
    """A row of figures for each choice, the retriever as it is first."""
    match_once = cache(lambda kind, config, place: match_all(kind(config), tasks[place]))
    rows: list[dict[str, Any]] = []
    as_it_is: Precisions = {}
    for name in tqdm([*SCORES, *BACKWARD, *VARIANTS], unit="row", disable=None):
        row: dict[str, Any] = {"name": name}
        for place, task in tasks.items():
            matches, ms = match_once(*VARIANTS.get(name, (PlaneRetriever, CHOSEN)), place)
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


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smvs", type=Path, help="folder with SMVS's categories")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = {"provenance": provenance(load_dataset("toytown", split="validation"))}
    tasks = {"toytown": toytown_task()}
    if arguments.smvs:
        tasks |= {name: smvs_task(arguments.smvs / folder) for name, folder in SMVS.items()}
        tasks["crops"] = smvs_task(arguments.smvs / SMVS["landmarks"], crops=True)
    counts = {"queries": len(tasks["toytown"].queries), "strangers": NEGATIVES}
    write_json(arguments.out / "ablation.json", counts | {"rows": ablate(tasks)} | made)


if __name__ == "__main__":
    main()
