"""What each part of the plane vote adds and costs: ``python -m tools.ablate_planes``.

Ranks with one choice changed at a time, on Toytown validation (one query of each landmark against
its other positives and 36 strangers) and, with ``--smvs FOLDER``, on odd-numbered landmarks and
paintings of SMVS (against all odd references) and on small parts of its landmarks (against all odd
queries' photos). Writes ``ablation.json`` and,
for looks at ever fewer photos, ``cascade.json``, both into ``indiret/data/planes``.

``ablation.json`` is ``{"rows": [{"name", "toytown", "gain", "landmarks", "paintings", "crops",
"ms"}]}``: mAP without the query's own photo, its paired difference to the first row with its
interval, MRR, and milliseconds of processor time a pair, of the directions that count. In all rows
but two every photo votes in the query. ``cascade.json`` is
``{"points": [{"voted", "judged", "toytown", "ms"}], "ms"}``: shares of the database that the vote
and the network look at, mAP, mean milliseconds over all pairs, and what each look costs where it is
made.
"""

from __future__ import annotations

import argparse
import math
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
from indiret.cascade import PlaneCascade
from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.images import Picture
from indiret.planenet import load_plane_network
from indiret.planevote import (
    ANSWERING,
    NOTHING,
    PLANES,
    Agreement,
    Found,
    PlaneConfig,
    PlanesMethod,
    PlaneViews,
    Template,
    floats,
)
from indiret.reproduction import provenance, write_json
from indiret.reranking import best, lift
from indiret.statistics import nested_bootstrap

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes"
STRANGERS = 36
SMVS = {"landmarks": "landmarks", "paintings": "museum_paintings"}
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
Scored = Callable[[Sequence[Agreement]], np.ndarray]
Precisions = dict[tuple[str, str, int], float]


@dataclass
class Task:
    """Pictures by name, and (query, its answers, what is ranked) by name."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    asked: list[tuple[str, set[str], list[str]]] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        return sum(len(names) for _, _, names in self.asked)


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


class Ninths(PlanesMethod):
    """Nine parts of the template instead of four."""

    split = 3


class Unwhitened(PlanesMethod):
    """Patches less the mean patch of Toytown, not divided by how much they differ."""

    def prepare_query(self, picture: Picture) -> PlaneViews:
        whitened = planevote.whiten
        planevote.whiten = _centred
        try:
            return super().prepare_query(picture)
        finally:
            planevote.whiten = whitened


class LargeAlone(PlanesMethod):
    """No close templates."""

    def seek(self, asked: PlaneViews, searched: PlaneViews, turn: int) -> Found:
        return self.find(asked.templates[turn], searched.pyramid)


class Glance(PlanesMethod):
    """Small templates alone, in the smaller sizes."""

    def agree(self, query: PlaneViews, target: PlaneViews, turn: int | None = None) -> Agreement:
        return self.glance(query, target)


def _centred(patches: Tensor) -> Tensor:
    mean, _ = planes._whitening()
    return F.normalize(patches - mean, dim=-1) * patches.norm(dim=-1, keepdim=True)


def wholes(agreed: Agreement) -> float:
    """Without quarters, and without chance."""
    return sum(one.votes * one.standing for one in (agreed.there, agreed.back))


def each(worth: Callable[[Agreement], float]) -> Scored:
    """Every photo votes in the query."""
    return lambda pairs: np.array([worth(agreed) for agreed in pairs])


as_it_is = each(lambda agreed: agreed.worth)


def answering(share: float) -> Scored:
    """Only the photos in which the query finds most vote in it."""

    def scores(pairs: Sequence[Agreement]) -> np.ndarray:
        found = np.array([agreed._replace(back=NOTHING).worth for agreed in pairs])
        kept = best(found, share)
        return lift(found, kept, [pairs[place].worth for place in kept])

    return scores


CHOSEN = PLANES["planes"]
SIZES = CHOSEN.pyramid
# name: (what finds the planes, its configuration, what makes scores of them)
ROWS: dict[str, tuple[type[PlanesMethod], PlaneConfig, Scored]] = {
    "as it is": (PlanesMethod, CHOSEN, as_it_is),
    "quarters count nothing": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: wholes(a) / math.sqrt(a.chance)),
    ),
    "quarters alone": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: (a.there.quarters + a.back.quarters) / math.sqrt(a.chance)),
    ),
    "chance counts nothing": (PlanesMethod, CHOSEN, each(lambda a: a._replace(chance=1.0).worth)),
    "neither quarters nor chance (before)": (PlanesMethod, CHOSEN, each(wholes)),
    "product of directions": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: a.there.worth * a.back.worth / a.chance),
    ),
    "query in target alone": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: a._replace(back=NOTHING).worth),
    ),
    "target in query alone": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: a._replace(there=NOTHING).worth),
    ),
    "mean response of wholes alone": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: a.there.votes + a.back.votes),
    ),
    "standing of wholes alone": (
        PlanesMethod,
        CHOSEN,
        each(lambda a: a.there.standing + a.back.standing),
    ),
    "the better 70 % answer (as used)": (PlanesMethod, CHOSEN, answering(ANSWERING)),
    "the better half answers": (PlanesMethod, CHOSEN, answering(0.5)),
    "patches not shared": (Unshared, CHOSEN, as_it_is),
    "not whitened": (Unwhitened, CHOSEN, as_it_is),
    "no floor": (NoFloor, CHOSEN, as_it_is),
    "no tolerance": (Exact, CHOSEN, as_it_is),
    "every second of the pyramid's patches": (Checkerboard, CHOSEN, as_it_is),
    "voters shared, too": (VotersShared, CHOSEN, as_it_is),
    "ninths for quarters": (Ninths, CHOSEN, as_it_is),
    "no close templates": (LargeAlone, CHOSEN, as_it_is),
    "template of 88 pixels, six sizes": (
        PlanesMethod,
        replace(CHOSEN, template=88, pyramid=SIZES[:6]),
        as_it_is,
    ),
    "without the largest size": (PlanesMethod, replace(CHOSEN, pyramid=SIZES[:6]), as_it_is),
    "an eighth size": (PlanesMethod, replace(CHOSEN, pyramid=(*SIZES, 352)), as_it_is),
    "a glance alone": (Glance, CHOSEN, as_it_is),
}
DIRECTIONS = {  # looked at, of two
    "query in target alone": 1.0,
    "target in query alone": 1.0,
    "the better 70 % answer (as used)": 1 + ANSWERING,
    "the better half answers": 1.5,
}


def toytown_task(strangers: int | None = STRANGERS) -> Task:
    """One query of each of Toytown's validation landmarks, and drawn strangers or all."""
    town = load_dataset("toytown", split="validation")
    random, task = np.random.default_rng(1), Task()
    for landmark in town.landmarks:
        query = [query for query in town.queries if query.landmark == landmark][-1]
        known = query.positives | query.junk | {query.image}
        strange = [name for name in town.images if name not in known]
        if strangers is not None:
            strange = [str(name) for name in random.choice(strange, strangers, replace=False)]
        answers = query.positives - {query.image}
        names = [*sorted(answers), *strange]
        task.pictures |= {n: town.read(n) for n in names if n not in task.pictures}
        task.pictures[f"query {query.name}"] = town.read_query(query)
        task.asked.append((f"query {query.name}", set(answers), names))
    return task


def smvs_task(folder: Path) -> Task:
    """The odd queries of a category of SMVS, and its odd references."""
    pairs, task = load_dataset("pairs", folder), Task()
    odd = [query for query in pairs.queries if int(Path(query.image).stem) % 2]
    names = sorted({name for query in odd for name in query.positives})
    task.pictures = {name: pairs.read(name) for name in names}
    for query in odd:
        task.pictures[f"query {query.name}"] = pairs.read_query(query)
        task.asked.append((f"query {query.name}", set(query.positives), names))
    return task


def crops_task(folder: Path) -> Task:
    """Parts of odd references, a fifth to two fifths as long, among the photos of odd queries.

    Of six random parts that which has most structure.
    """
    pairs, task, random = load_dataset("pairs", folder), Task(), np.random.default_rng(1)
    odd = [query for query in pairs.queries if int(Path(query.image).stem) % 2]
    task.pictures = {query.name: pairs.read_query(query) for query in odd}
    for query in odd:
        (answer,) = query.positives
        photo = pairs.read(answer)
        size = (np.array(photo.shape[:2]) * random.uniform(0.2, 0.4)).round().astype(int)
        corners = random.integers(0, np.array(photo.shape[:2]) - size + 1, (6, 2))
        parts = [photo[y : y + size[0], x : x + size[1]] for y, x in corners]
        task.pictures[f"part {query.name}"] = np.ascontiguousarray(max(parts, key=structure))
        task.asked.append((f"part {query.name}", {query.name}, [one.name for one in odd]))
    return task


def structure(picture: Picture) -> float:
    """Mean difference of neighbouring pixels."""
    grey = picture.mean(2)
    return float(sum(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))


def precisions(task: Task, scores: Sequence[np.ndarray]) -> Precisions:
    """Average precision by query, each of a landmark of its own."""
    found = {}
    for (query, answers, names), row in zip(task.asked, scores, strict=True):
        ranked = [names[place] for place in np.argsort(-row, kind="stable")]
        found[query, query, 0] = average_precision(ranked, answers, ())
    return found


def reciprocal_rank(task: Task, scores: Sequence[np.ndarray]) -> float:
    """Mean of one over the place of the right answer."""
    found = []
    for (_, answers, names), row in zip(task.asked, scores, strict=True):
        right = max(score for name, score in zip(names, row, strict=True) if name in answers)
        found.append(1 / np.count_nonzero(row >= right))
    return float(np.mean(found))


def find_all(method: PlanesMethod, task: Task) -> tuple[list[list[Agreement]], float]:
    """The planes of every pair of a task, and milliseconds of processor time a pair."""
    views = {name: floats(method.prepare(picture)) for name, picture in task.pictures.items()}
    found, began = [], time.process_time()
    for query, _, names in task.asked:
        asked = views[query]
        found.append([method.agree(asked, views[name]) for name in names])
    return found, (time.process_time() - began) * 1000 / task.pairs


def ablate(tasks: dict[str, Task]) -> list[dict[str, Any]]:
    """A row of figures for each of `ROWS`, the method as it is first."""
    known: dict[Any, Any] = {}
    rows: list[dict[str, Any]] = []
    as_it_is: Precisions = {}
    for name, (kind, config, scored) in tqdm(ROWS.items(), unit="row", disable=None):
        row: dict[str, Any] = {"name": name}
        for place, task in tasks.items():
            key = kind, config, place
            if key not in known:
                known[key] = find_all(kind(config), task)
            found, ms = known[key]
            scores = [scored(of_query) for of_query in found]
            if place != "toytown":
                row[place] = round(reciprocal_rank(task, scores), 4)
                continue
            measured = precisions(task, scores)
            as_it_is = as_it_is or measured
            gain = nested_bootstrap(measured, as_it_is)
            row |= {"toytown": round(float(np.mean(list(measured.values()))), 4)}
            row |= {"gain": [round(value, 4) for value in gain[:3]]}
            row |= {"ms": round(ms * DIRECTIONS.get(name, 2.0) / 2, 2)}
        rows.append(row)
        tqdm.write(str(row))
    return rows


def cascade(task: Task) -> dict[str, Any]:
    """How quality and cost grow with the shares that the vote and the network look at."""
    method = PlaneCascade(load_plane_network())
    views = {name: method.prepare(picture) for name, picture in task.pictures.items()}
    looks: list[list[np.ndarray]] = [[], [], []]
    ms = np.zeros(len(looks))
    for query, _, names in tqdm(task.asked, desc="cascade", unit="query", disable=None):
        asked, targets = floats(views[query]), [views[name] for name in names]
        times = [time.process_time()]
        seen = [method.glance(asked, target) for target in targets]
        times.append(time.process_time())
        votes = [method.vote(asked, *pair) for pair in zip(targets, seen, strict=True)]
        times.append(time.process_time())
        margins = method.judge(asked, list(zip(targets, votes, strict=True)))
        times.append(time.process_time())
        ms += 1000 * np.diff(times) / task.pairs
        for look, found in zip(looks, (seen, votes), strict=False):
            look.append(np.array([agreed.worth for agreed in found]))
        looks[2].append(margins)
    points = []
    for voted in SHARES:
        for judged in (0.0, voted / 4, voted / 2, voted):
            scores = []
            for first, second, third in zip(*looks, strict=True):
                row, sizes = first, [round(share * first.size) for share in (voted, judged)]
                for size, again in zip(sizes, (second, third), strict=True):
                    kept = np.argsort(-row, kind="stable")[:size]
                    row = lift(row, kept, again[kept]) if size else row
                scores.append(row)
            values = list(precisions(task, scores).values())
            cost = float(ms @ [1, voted, judged])
            points.append({"voted": voted, "judged": judged})
            points[-1] |= {"toytown": round(float(np.mean(values)), 4), "ms": round(cost, 2)}
    names = ("glance", "vote", "network")
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
        tasks["crops"] = crops_task(arguments.smvs / SMVS["landmarks"])
    counts = {"queries": len(tasks["toytown"].asked), "strangers": STRANGERS}
    write_json(arguments.out / "ablation.json", counts | {"rows": ablate(tasks)} | made)


if __name__ == "__main__":
    main()
