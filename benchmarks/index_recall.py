"""How well a collection on disk finds what the exhaustive search finds, at what cost.

`compare_roads` is a part of ``python -m benchmarks.index``. One search that verifies many photos
gives a whole curve, since a pair's score is that pair's alone: had fewer been verified, the others
would follow in the shortlist's order.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.datasets.toytown import SPLITS
from indiret.evaluation import average_precision, nested_bootstrap
from indiret.images import Picture, read_image
from indiret.index import Collection, build_shortlist
from indiret.index.collection import (
    MOST_NEW,
    MOST_VERIFIED,
    SCORED_AT_ONCE,
    by_both_ranks,
    score_photos,
)
from indiret.index.expansion import ask_again, best_answers
from indiret.index.segments import SegmentStore
from indiret.retrieval import LEAST, build_retriever, encode_query, index_database, sort_hits

METHOD = "plane-net"
LISTED = 200  # photos of a shortlist
VERIFIED = (0, 10, 20, 40, 60, 100, 200)  # of them
Values = dict[tuple[str, str, int], float]


class Found(NamedTuple):
    """A shortlist by both ranks with all its scores, and processor seconds of the five steps."""

    names: list[str]
    scores: list[float]
    query: float  # encode and describe the query
    shortlist: float
    choose: float  # rough scores of the whole list
    verify: float  # all photos of the list
    again: float  # ask with answers, and verify what only they find
    new: Mapping[str, float]  # these, with their scores

    def ranked(self, verified: int, new: Mapping[str, float] = MappingProxyType({})) -> list[str]:
        """The list if so many photos had been verified, and a few new ones."""
        judged = dict(zip(self.names[:verified], self.scores, strict=False)) | dict(new)
        return sorted(judged, key=lambda name: -judged[name]) + self.names[verified:]


def join(name: str, parts: Mapping[str, RetrievalDataset]) -> RetrievalDataset:
    """One database of several, each photo and query by the name of its part and its own."""
    images, photos, queries = dict[str, Path](), dict[str, Path](), list[Query]()
    for part, dataset in parts.items():
        images |= {f"{part}/{one}": path for one, path in dataset.images.items()}
        photos |= {f"{part}/{one}": path for one, path in dataset.query_images.items()}
        for query in dataset.queries:
            answers = {
                kind: frozenset(f"{part}/{one}" for one in getattr(query, kind))
                for kind in ("good", "ok", "junk")
            }
            names = {
                kind: f"{part}/{getattr(query, kind)}" for kind in ("name", "image", "landmark")
            }
            queries.append(replace(query, **names, **answers))
    return RetrievalDataset(name, Path(), images, tuple(queries), photos)


def all_toytown() -> RetrievalDataset:
    """All photos of Toytown; only the test part asks."""
    parts = {split: load_dataset("toytown", split=split) for split in SPLITS}
    asked = {
        part: town if part == "test" else replace(town, queries=()) for part, town in parts.items()
    }
    return join("toytown", asked)


def real_photos(root: Path) -> RetrievalDataset:
    """The Oxford sample among the distractors."""
    parts = {
        "oxford": load_dataset("oxford5k", root / "oxford5k_sample"),
        "distractors": load_dataset("folder", root / "distractors"),
    }
    return join("real", parts)


def link_photos(dataset: RetrievalDataset, folder: Path) -> dict[str, str]:
    """Make a folder of links to a database's photos; their names in it, and in the data set."""
    files = {
        f"{name.removesuffix(path.suffix)}{path.suffix}": name
        for name, path in dataset.images.items()
    }
    for file, name in files.items():
        link = folder / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(dataset.images[name].resolve())
    return files


def spread(queries: Sequence[Query], count: int) -> list[Query]:
    """So many queries, in turn one of each landmark."""
    left: dict[str, list[Query]] = {}
    for query in queries:
        left.setdefault(query.landmark, []).append(query)
    return [query for turn in zip_longest(*left.values()) for query in turn if query][:count]


def rank_exhaustively(
    dataset: RetrievalDataset, queries: Sequence[Query], file: Path
) -> dict[str, list[str]]:
    """Lists of all photos by the search in memory; ``file`` keeps those that are there already."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    missing = [query for query in queries if query.name not in found]
    if missing:
        method = build_retriever(METHOD)
        database = index_database(method, dataset)
        names, features = list(database.features), list(database.features.values())
        for query in tqdm(missing, desc="exhaustive", unit="query", disable=None):
            scores = method.score(encode_query(method, dataset, query), features)
            found[query.name] = [hit.name for hit in sort_hits(method, names, scores)]
            write_json(file, found)
    return {query.name: found[query.name] for query in queries}


def describe_all(collection: Collection, road: str, folder: Path) -> SegmentStore:
    """The segments of another road, for the photos of a collection."""
    catalogue, shortlist = collection.store.catalogue, build_shortlist(road)
    segments = SegmentStore(folder, shortlist)
    photos = catalogue.find(sorted({*catalogue.numbers()} - segments.numbers()))
    described = {
        number: shortlist.describe(read_image(collection.folder / photo.names[0]), None)
        for number, photo in tqdm(photos.items(), desc=road, unit="photo", disable=None)
    }
    segments.add(described, catalogue.photos())
    return segments


def ask(
    collection: Collection, segments: SegmentStore, picture: Picture, names: Mapping[str, str]
) -> Found:
    """The shortlist of a query in a collection whose files have these names in the data set."""
    retriever, catalogue, clock = (
        collection.retriever,
        collection.store.catalogue,
        time.process_time,
    )
    began = clock()
    features = retriever.encode_query(picture)
    described = segments.shortlist.describe_query(picture, features)
    asked = clock()
    numbers = segments.search(described, LISTED)[0][:LISTED].tolist()
    photos = catalogue.find(numbers)
    named = clock()

    def score(numbers: Sequence[int], rough: bool) -> NDArray[np.float64]:
        pairs = [(number, photos[number].content) for number in numbers]
        size = SCORED_AT_ONCE if rough else LEAST
        parts = [pairs[at : at + size] for at in range(0, len(pairs), size)]
        codes = collection.store.codes
        found = [score_photos(retriever, codes, features, rough, part) for part in parts]
        return np.concatenate([np.empty(0), *found])

    numbers = by_both_ranks(numbers, score(numbers, rough=True))
    chosen = clock()
    scores = score(numbers, rough=False)
    ended = clock()
    answers = best_answers(numbers[:MOST_VERIFIED], scores[:MOST_VERIFIED])
    files = [collection.folder / photos[number].names[0] for number in answers]
    again = ask_again(segments, files, LISTED, map)
    photos |= catalogue.find(again)
    again = [number for number in again if number not in numbers][:MOST_NEW]
    new = [names[photos[number].names[0]] for number in again]
    found = [names[photos[number].names[0]] for number in numbers]
    more = dict(zip(new, score(again, rough=False).tolist(), strict=True))
    steps = asked - began, named - asked, chosen - named, ended - chosen, clock() - ended
    return Found(found, scores.tolist(), *steps, more)


def precisions(queries: Sequence[Query], lists: Mapping[str, Sequence[str]]) -> Values:
    """Average precision by query; its own photo counts neither for nor against."""
    return {
        (query.landmark, query.name, 0): average_precision(
            lists[query.name], query.positives - {query.image}, query.junk | {query.image}
        )
        for query in queries
        if query.positives - {query.image}
    }


def recalls(queries: Sequence[Query], lists: Mapping[str, Sequence[str]]) -> Values:
    """Share of a query's answers in its list, its own photo left out."""
    return {
        (query.landmark, query.name, 0): len(wanted & set(lists[query.name])) / len(wanted)
        for query in queries
        if (wanted := query.positives - {query.image})
    }


def measure_road(
    found: Mapping[str, Found],
    queries: Sequence[Query],
    exhaustive: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Recall and mAP by how many are verified; with intervals, and paired with the exhaustive."""
    compared = [query for query in queries if query.name in exhaustive]
    best = precisions(compared, exhaustive)
    rows = []
    for verified in VERIFIED:
        lists = {name: one.ranked(verified) for name, one in found.items()}
        listed = {name: one.names[: verified or LISTED] for name, one in found.items()}
        row = {
            "verified": verified,
            "recall": nested_bootstrap(recalls(queries, listed)),
            "mAP": nested_bootstrap(precisions(queries, lists)),
        }
        if best:
            row["difference"] = nested_bootstrap(precisions(compared, lists), best)
        rows.append(row)
    few = {name: one.ranked(MOST_VERIFIED) for name, one in found.items()}
    more = {name: one.ranked(MOST_VERIFIED, one.new) for name, one in found.items()}
    again = {
        "recall": nested_bootstrap(recalls(queries, more)),
        "mAP": nested_bootstrap(precisions(queries, more)),
        "gain": nested_bootstrap(precisions(queries, more), precisions(queries, few)),
        "asked": sum(bool(one.new) for one in found.values()),
    }
    if best:
        again["difference"] = nested_bootstrap(precisions(compared, more), best)
    times = {
        step: float(np.mean([getattr(one, step) for one in found.values()]))
        for step in ("query", "shortlist", "choose", "verify", "again")
    }
    return {"queries": len(queries), "seconds": times, "rows": rows, "again": again} | (
        {"exhaustive": nested_bootstrap(best), "compared": len(compared)} if best else {}
    )


def compare_roads(
    dataset: RetrievalDataset,
    queries: Sequence[Query],
    roads: Sequence[str],
    work: Path,
    exhaustive: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """`measure_road` of each shortlist over one database, whose index stays in ``work``."""
    files, measured = link_photos(dataset, work / dataset.name), {}
    index = work / f"{dataset.name}.index"
    with Collection.open(work / dataset.name, METHOD, roads[0], index) as collection:
        collection.update()
        for road in roads:
            segments: Any = collection.store.segments
            if road != roads[0]:
                segments = describe_all(collection, road, work / f"{dataset.name} {road}")
            bar = tqdm(queries, desc=f"{dataset.name}, {road}", unit="query", disable=None)
            found = {
                query.name: ask(collection, segments, dataset.read_query(query), files)
                for query in bar
            }
            measured[road] = measure_road(found, queries, exhaustive)
    return measured
