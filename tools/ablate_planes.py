"""What each part of the plane vote adds and costs: ``python -m tools.ablate_planes``.

Ranks with one choice changed at a time, on Toytown validation (one query of each landmark against
its other positives and 36 strangers) and, with ``--smvs FOLDER``, on odd-numbered landmarks and
paintings of SMVS (every second odd query against all odd references). Writes ``ablation.json`` and,
for a first look at all and a second at the best, ``cascade.json``, both under
``indiret/data/planes``.

``ablation.json`` is ``{"rows": [{"name", "removes", "map", "low", "high", "ms"}]}``: mAP on Toytown
without the query's own photo, its 95 % interval with landmarks drawn again, and milliseconds of
processor time a pair, both directions. ``landmarks`` and ``paintings`` are MRR, where measured.
``cascade.json`` is ``{"points": [{"first", "second", "share", "map", "ms", "ms_first",
"ms_second"}]}``: ``share`` of the database is looked at by ``second``, and ``ms`` is the mean of
all pairs; ``ms_second`` is of the pairs looked at twice.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret import planes, planevote
from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.images import Picture
from indiret.planevote import PLANES, Found, PlaneConfig, PlanesMethod, PlaneViews, Template
from indiret.ranking import Method
from indiret.reproduction import find_method, provenance, write_json

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes"
STRANGERS = 36
SMVS = {"landmarks": "landmarks", "paintings": "museum_paintings"}
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
Both = tuple[Found, Found]


@dataclass
class Task:
    """Pictures by name, and (query, its answers, what is ranked) by name."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    asked: list[tuple[str, set[str], list[str]]] = field(default_factory=list)


class Unshared(PlanesMethod):
    """A patch that many claim counts fully for each."""

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        return planevote.weigh(planevote.tolerate(planevote.responses(template, patches)))


class Exact(PlanesMethod):
    """Every second patch of the pyramid, and not the best of its neighbours."""

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        near = planevote.responses(template, patches)[..., ::2, ::2]
        return planevote.share(planevote.weigh(near))


class Checkerboard(PlanesMethod):
    """The best of five neighbours instead of nine: half of the products could be saved."""

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        rows, columns = patches.shape[:2]
        black = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
        near = planevote.responses(template, patches) + torch.where(black, 0.0, -9.0)
        return planevote.share(planevote.weigh(planevote.tolerate(near)))


class NoFloor(PlanesMethod):
    """Every cosine above 0 counts."""

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        near = planevote.tolerate(planevote.responses(template, patches))
        return planevote.share(near.clamp_min_(0))


class VotersShared(PlanesMethod):
    """A voter that many patches answer is shared, too, as in the ratio test."""

    def answers(self, template: Template, patches: Tensor) -> Tensor:
        answers = super().answers(template, patches)
        return answers / (answers.mean((2, 3), keepdim=True) + planevote.UNCLAIMED).sqrt()


class Piecewise(PlanesMethod):
    """Nine parts of the template may each move by two patches: several planes side by side."""

    def find(self, template: Template, pyramid: Sequence[Tensor]) -> Found:
        votes = []
        for patches in pyramid:
            answers = self.answers(template, patches)
            parts = []
            for rows in torch.arange(answers.shape[0]).tensor_split(3):
                for columns in torch.arange(answers.shape[1]).tensor_split(3):
                    part = torch.zeros_like(answers)
                    at = (rows[:, None], columns)
                    part[at] = answers[at]
                    parts.append(planes.vote(part))
            moved = F.max_pool2d(torch.stack(parts), 3, 1, 1)
            votes.append(moved.sum(0).flatten())
        deviation, mean = torch.std_mean(torch.cat(votes))
        best = max(float(level.max()) for level in votes)
        return Found(best, (best - float(mean)) / (float(deviation) + 1e-9), 0, 0)


class Unwhitened(PlanesMethod):
    """Patches less the mean patch of Toytown, not divided by how much they differ."""

    def prepare(self, picture: Picture) -> PlaneViews:
        whitened = planevote.whiten
        planevote.whiten = _centred  # type: ignore[assignment]
        try:
            return super().prepare(picture)
        finally:
            planevote.whiten = whitened  # type: ignore[assignment]


def _centred(patches: Tensor) -> Tensor:
    mean, _ = planes._whitening()
    return F.normalize(patches - mean, dim=-1) * patches.norm(dim=-1, keepdim=True)


def worth_sum(both: Both) -> float:
    return both[0].worth + both[1].worth


CHOSEN = PLANES["planes"]
SIZES = CHOSEN.pyramid
THERE, BACK = ONE_WAY = "query in target", "target in query"
# name: (what is changed, what finds the planes, its configuration, what a pair is worth)
Way = tuple[str, type[PlanesMethod], PlaneConfig, Callable[[Both], float]]
ROWS: dict[str, Way] = {
    "as it is": ("nothing", PlanesMethod, CHOSEN, worth_sum),
    "product": (
        "directions multiplied, not added",
        PlanesMethod,
        CHOSEN,
        lambda b: b[0].worth * b[1].worth,
    ),
    THERE: ("the target votes not", PlanesMethod, CHOSEN, lambda b: b[0].worth),
    BACK: ("the query votes not", PlanesMethod, CHOSEN, lambda b: b[1].worth),
    "mean alone": ("no standing", PlanesMethod, CHOSEN, lambda b: b[0].votes + b[1].votes),
    "standing alone": ("no mean", PlanesMethod, CHOSEN, lambda b: b[0].standing + b[1].standing),
    "unshared": ("a patch that many claim counts fully for each", Unshared, CHOSEN, worth_sum),
    "unwhitened": ("slopes less their mean alone", Unwhitened, CHOSEN, worth_sum),
    "no floor": ("every cosine above 0 counts", NoFloor, CHOSEN, worth_sum),
    "no tolerance": ("no neighbour answers for another", Exact, CHOSEN, worth_sum),
    "checkerboard": ("every second patch of the pyramid", Checkerboard, CHOSEN, worth_sum),
    "voters shared": ("voters that many answer are shared, too", VotersShared, CHOSEN, worth_sum),
    "nine parts": ("parts of the template move by a patch", Piecewise, CHOSEN, worth_sum),
    "small": (
        "template of 88 pixels, six sizes",
        PlanesMethod,
        replace(CHOSEN, template=88, pyramid=SIZES[:6]),
        worth_sum,
    ),
    "six sizes": (
        "the largest size",
        PlanesMethod,
        replace(CHOSEN, pyramid=SIZES[:6]),
        worth_sum,
    ),
    "eight sizes": (
        "one size more, of 352 pixels",
        PlanesMethod,
        replace(CHOSEN, pyramid=(*SIZES, 352)),
        worth_sum,
    ),
    "coarse": ("template of 70 pixels", PlanesMethod, PLANES["planes-coarse"], worth_sum),
}


def toytown_task() -> Task:
    """One query of each of Toytown's validation landmarks, drawn strangers."""
    town = load_dataset("toytown", split="validation")
    random, task = np.random.default_rng(1), Task()
    for landmark in town.landmarks:
        query = [query for query in town.queries if query.landmark == landmark][-1]
        known = query.positives | query.junk | {query.image}
        strangers = random.choice([n for n in town.images if n not in known], STRANGERS, False)
        answers = query.positives - {query.image}
        names = [*sorted(answers), *map(str, strangers)]
        task.pictures |= {n: town.read(n) for n in names if n not in task.pictures}
        task.pictures[f"query {query.name}"] = town.read_query(query)
        task.asked.append((f"query {query.name}", set(answers), names))
    return task


def smvs_task(folder: Path) -> Task:
    """Every second odd query of a category of SMVS, and its odd references."""
    pairs, task = load_dataset("pairs", folder), Task()
    odd = [query for query in pairs.queries if int(Path(query.image).stem) % 2]
    names = sorted({name for query in odd for name in query.positives})
    task.pictures = {name: pairs.read(name) for name in names}
    for query in odd[::2]:
        task.pictures[f"query {query.name}"] = pairs.read_query(query)
        task.asked.append((f"query {query.name}", set(query.positives), names))
    return task


def precisions(task: Task, scores: Sequence[np.ndarray]) -> np.ndarray:
    """The queries' average precisions; with one right answer each, one over its place."""
    found = []
    for (_, answers, names), row in zip(task.asked, scores, strict=True):
        ranked = [names[place] for place in np.argsort(-row, kind="stable")]
        if len(answers) > 1:
            found.append(average_precision(ranked, answers, ()))
        else:
            found.append(1 / (1 + ranked.index(*answers)))
    return np.array(found)


def with_interval(values: np.ndarray) -> dict[str, float]:
    """The mean, and its 95 % interval with queries drawn again."""
    random = np.random.default_rng(0)
    drawn = values[random.integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        name: round(float(value), 4)
        for name, value in (("map", values.mean()), ("low", low), ("high", high))
    }


def find_all(method: PlanesMethod, task: Task) -> tuple[list[list[Both]], float]:
    """The planes of every pair of a task, and milliseconds of processor time a pair."""
    views = {name: _floats(method.prepare(picture)) for name, picture in task.pictures.items()}
    found, began = [], time.process_time()
    for query, _, names in task.asked:
        asked = views[query]
        agreed = (method.agree(asked, views[name]) for name in names)
        found.append([(one.there, one.back) for one in agreed])
    pairs = sum(len(row) for row in found)
    return found, (time.process_time() - began) * 1000 / pairs


def ablate(tasks: dict[str, Task]) -> list[dict[str, Any]]:
    """A row of figures for each of `ROWS`."""
    known: dict[Any, Any] = {}
    rows = []
    for name, (changed, kind, config, worth) in tqdm(ROWS.items(), unit="row", disable=None):
        row: dict[str, Any] = {"name": name, "removes": changed}
        for task_name, task in tasks.items():
            key = kind, config, task_name
            if key not in known:
                known[key] = find_all(kind(config), task)
            found, ms = known[key]
            values = precisions(task, [np.array([worth(b) for b in query]) for query in found])
            if task_name == "toytown":
                row |= with_interval(values)
                row["ms"] = round(ms / (2 if name in ONE_WAY else 1), 2)
            else:
                row[task_name] = round(float(values.mean()), 4)
        rows.append(row)
        print(row, flush=True)
    return rows


def scored(method: Method, task: Task) -> tuple[list[np.ndarray], float]:
    """Scores of a method's own, and milliseconds of processor time a pair."""
    described = {
        name: getattr(method, "prepare_query" if name.startswith("query ") else "prepare")(picture)
        if hasattr(method, "prepare_query")
        else method.prepare(picture)
        for name, picture in task.pictures.items()
    }
    began = time.process_time()
    scores = [
        np.asarray(method.score(described[query], [described[name] for name in names]))
        for query, _, names in task.asked
    ]
    pairs = sum(len(names) for _, _, names in task.asked)
    return scores, (time.process_time() - began) * 1000 / pairs


def cascade(task: Task) -> list[dict[str, Any]]:
    """How quality and cost grow with the share of the database that is looked at again."""
    steps = (("planes-coarse", "planes"), ("planes-coarse", "plane-net"), ("planes", "plane-net"))
    figures = {
        name: scored(find_method(name), task) for name in ("planes-coarse", "planes", "plane-net")
    }
    points = []
    for first, second in steps:
        (before, ms_first), (after, ms_second) = figures[first], figures[second]
        for share in (0.0, *SHARES):
            again = []
            for one, two in zip(before, after, strict=True):
                listed = np.argsort(-one, kind="stable")[: round(share * len(one))]
                row = one - one.max() + two.min() - 1
                row[listed] = two[listed]
                again.append(row)
            points.append(
                {
                    "first": first,
                    "second": second,
                    "share": share,
                    "map": round(float(precisions(task, again).mean()), 4),
                    "ms": round(ms_first + share * ms_second, 2),
                    "ms_first": round(ms_first, 2),
                    "ms_second": round(ms_second, 2),
                }
            )
            print(points[-1], flush=True)
    return points


def _floats(views: PlaneViews) -> PlaneViews:
    return views._replace(pyramid=tuple(patches.float() for patches in views.pyramid))


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smvs", type=Path, help="folder with SMVS's categories")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tasks = {"toytown": toytown_task()}
    made = provenance(load_dataset("toytown", split="validation"))
    points = cascade(tasks["toytown"])
    counts = {"queries": len(tasks["toytown"].asked), "strangers": STRANGERS}
    write_json(arguments.out / "cascade.json", counts | {"points": points, "provenance": made})
    if arguments.smvs:
        tasks |= {name: smvs_task(arguments.smvs / folder) for name, folder in SMVS.items()}
    rows = ablate(tasks)
    write_json(arguments.out / "ablation.json", counts | {"rows": rows, "provenance": made})


if __name__ == "__main__":
    main()
