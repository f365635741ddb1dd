"""What a collection on disk costs and finds: python -m benchmarks.index OUT.json --work FOLDER

Every figure is a ratio or a sum within one run, and is kept in OUT.json by its stage; a run may do
some stages alone (``--stages search update``), and each run prints what all of them have so far,
beside what was wanted. ``--quick`` does all but `recall` small: that says that they work, no more.

    rates    seconds and bytes of each step, of a photo or of a query
    search   the second search of a folder: in memory, in a running process, from the command line
    update   10 photos added to many, 10 removed; memory of a search
    recall   Toytown, and real photos of ``../shared/data`` (INDIRET_SHARED_DATA) among distractors
    growth   the shortlist alone by the number of photos, up to a million descriptions

Photos come from `tools.make_collection`. One thread, unless a stage says otherwise.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import torch

from benchmarks.index_growth import (
    METHOD,
    fill_index,
    grow,
    in_child,
    peak_of_search,
)
from benchmarks.index_recall import (
    all_toytown,
    compare_roads,
    rank_exhaustively,
    real_photos,
    spread,
)
from indiret.baselines.maps import empty_cache
from indiret.checkpoints import write_json
from indiret.images import read_image
from indiret.index import Collection
from indiret.index.collection import MOST_VERIFIED, SHORTLISTED
from indiret.index.shortlist import build_shortlist
from indiret.retrieval import LEAST, build_retriever
from tools.make_collection import make_collection

ROADS = ("pixels", "efficientnet-lite0:rmac")
SHARED = Path(os.environ.get("INDIRET_SHARED_DATA", "../shared/data"))
CHANGED = 10  # photos that are added and removed


class Size(NamedTuple):
    """How much the stages do."""

    searched: int  # photos of the folder that is searched again
    updated: int  # photos of the collection that is changed
    grown: tuple[int, ...]  # descriptions of the shortlist
    queries: int  # of each data set that are compared with the exhaustive search
    encoded: int  # photos by which encoding and the search in memory are timed
    pool: int  # photos whose codes stand for others
    timed: int  # queries whose time is taken


FULL = Size(5_000, 20_000, (1_000, 10_000, 100_000, 1_000_000), 20, 60, 256, 5)
QUICK = Size(70, 90, (100, 300), 2, 4, 8, 2)


class Seconds(NamedTuple):
    """What something took: by the clock, and of the processor, with other processes it started."""

    wall: float
    processor: float


def mean_time(calls: Iterable[Callable[[], object]]) -> Seconds:
    """Mean of some calls, the first left out."""
    first, *others = calls
    first()
    began, used = time.perf_counter(), busy()
    for call in others:
        call()
    return Seconds((time.perf_counter() - began) / len(others), (busy() - used) / len(others))


def busy() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def hard_links(photos: Sequence[Path], folder: Path) -> list[Path]:
    """The same files in another folder."""
    links = [folder / path.parent.name / path.name for path in photos]
    for path, link in zip(photos, links, strict=True):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        os.link(path, link)
    return links


def measure_search(size: Size, work: Path) -> dict[str, Any]:
    """Seconds of the second search of a folder: in memory, in a running process, by the command."""
    photos = make_collection(work / "town", size.searched + size.timed + 1)
    asked, folder = photos[size.searched :], work / "searched"
    few = hard_links(photos[: size.searched], folder)[: size.encoded]
    with Collection.open(folder, METHOD, ROADS[0]) as collection:
        first = mean_time([lambda: None, collection.update])

        def search(query: Path) -> None:
            collection.update()
            collection.search(query)

        running = mean_time(partial(search, query) for query in asked)
    command = [sys.executable, "-m", "indiret", "search", "--shortlist", ROADS[0]]
    commanded = mean_time(
        partial(subprocess.check_output, [*command, query, folder]) for query in asked
    )
    retriever = build_retriever(METHOD)

    def search_in_memory() -> None:
        features = [retriever.encode(read_image(path)) for path in few]
        retriever.score(retriever.encode_query(read_image(asked[0])), features)

    in_memory = mean_time([search_in_memory] * 2)
    times = size.searched / len(few)
    return {
        "photos": size.searched,
        "in_memory": Seconds(times * in_memory.wall, times * in_memory.processor),
        "measured_by": len(few),
        "running": running,
        "command": commanded,
        "first": first,
    }


def measure_update(size: Size, work: Path) -> dict[str, Any]:
    """Seconds to find nothing changed, to add and to remove ten of many photos; memory.

    All but the ten are files of a few bytes, with the descriptions, changed at random, and codes of
    a few photos.
    """
    photos = make_collection(work / "town", size.pool + CHANGED + size.timed)
    pool, added_photos = photos[: size.pool], photos[size.pool : size.pool + CHANGED]
    folder, index, road = work / "changed", work / "changed.index", ROADS[0]
    for old in (folder, index):  # by an earlier run
        rmtree(old, ignore_errors=True)
    folder.mkdir()
    fill_index(folder, index, road, pool, size.updated)
    with Collection.open(folder, METHOD, road, index) as collection:
        nothing = mean_time([collection.update] * 3)
        new = hard_links(added_photos, folder / "new")
        added = mean_time([lambda: None, collection.update])
        asked = [path.relative_to(folder).as_posix() for path in new]
        found = [collection.search(folder / name, 1)[0].name for name in asked]
        for link in new:
            link.unlink()
        removed = mean_time([lambda: None, collection.update])
        left = {hit.name for hit in collection.search(photos[-1], 10**9)} & {*asked}
    return {
        "photos": size.updated,
        "nothing": nothing,
        "added": added,
        "found": sum(a == b for a, b in zip(asked, found, strict=True)),
        "removed": removed,
        "still_found": len(left),
        "peak": in_child(peak_of_search, folder, index, road, photos[-size.timed :]),
    }


def measure_rates(size: Size, work: Path) -> dict[str, Any]:
    """Processor seconds and bytes of each step, of a photo or of a query."""
    retriever, shortlists = build_retriever(METHOD), {road: build_shortlist(road) for road in ROADS}
    paths = make_collection(work / "town", size.encoded)
    pictures = [read_image(path) for path in paths]
    features = [retriever.encode(picture) for picture in pictures]
    packed = [retriever.pack(one) for one in features]
    queries = [retriever.encode_query(picture) for picture in pictures[: size.timed + 1]]

    def seconds(function: Callable[..., object], *arguments: Sequence[Any]) -> float:
        return mean_time(map(partial, repeat(function), *arguments)).processor

    def verify(query: Any) -> None:
        retriever.score(query, [retriever.unpack(one) for one in packed[:LEAST]])

    def choose(query: Any) -> None:
        retriever.score_roughly(query, [retriever.unpack(one) for one in packed])

    with empty_cache():  # of backbones' maps
        describe = {
            road: seconds(one.describe, pictures, features) for road, one in shortlists.items()
        }
    with empty_cache():
        describe_query = {
            road: seconds(one.describe_query, pictures, features)
            for road, one in shortlists.items()
        }
    return {
        "read": seconds(read_image, paths),
        "encode": seconds(retriever.encode, pictures),
        "code": seconds(lambda one: retriever.pack(retriever.encode_to_pack(one)), pictures),
        "describe": describe,
        "query": seconds(retriever.encode_query, pictures),
        "describe_query": describe_query,
        "verify": seconds(verify, queries) / len(packed[:LEAST]),
        "choose": seconds(choose, queries) / len(packed),
        "listed": SHORTLISTED,
        "verified": MOST_VERIFIED,
        "codes": sum(map(len, packed)) / len(packed),
    }


def measure_recall(size: Size, work: Path) -> dict[str, Any]:
    """Each road on Toytown and on real photos, beside the exhaustive search of some queries."""
    found = {}
    for dataset, part in ((all_toytown(), "test/"), (real_photos(SHARED), "oxford/")):
        queries = [query for query in dataset.queries if query.name.startswith(part)]
        few = spread(queries, size.queries)
        exhaustive = rank_exhaustively(dataset, few, work / f"exhaustive {dataset.name}.json")
        found[dataset.name] = compare_roads(dataset, queries, ROADS, work, exhaustive)
    return found


def measure_growth(size: Size, work: Path) -> dict[str, Any]:
    """Each road's shortlist alone, by the number of photos."""
    photos = make_collection(work / "town", size.pool + size.timed)
    return {
        road: grow(road, size.grown, photos[size.timed :], photos[: size.timed], work)
        for road in ROADS
    }


def verdicts(found: dict[str, Any]) -> list[tuple[str, float, str]]:
    """What was wanted, what was measured, and the bound with its sign."""
    rows: list[tuple[str, float, str]] = []
    if rates := found.get("rates"):
        ratio = (rates["read"] + rates["encode"]) / (rates["read"] + rates["code"])
        rows.append(("a photo read and encoded: times faster than for memory", ratio, ">= 3"))
    if search := found.get("search"):
        at = f"second search of {search['photos']:,} photos"
        rows += [
            (f"{at}: times faster", search["in_memory"][1] / search["running"][1], ">= 100"),
            (f"{at}: seconds in a running process", search["running"][0], "<= 0.5"),
            (f"{at}: seconds from the command line", search["command"][0], "<= 1.5"),
        ]
    if update := found.get("update"):
        at = f"{update['photos']:,} photos"
        rows += [
            (f"{at}: seconds to add ten", update["added"][0], "<= 5"),
            (f"{at}: removed photos that are found", update["still_found"], "<= 0"),
            (f"{at}: GB of a search", update["peak"] / 1e9, "<= 1"),
        ]
    for name, recall in found.get("recall", {}).items():
        for road, one in recall.items():
            last, gap = one["rows"][-1], one["again"]["difference"][0]
            least = ">= 0.98" if name == "toytown" else ">= 0.90" if road == "pixels" else ">= 0.95"
            rows += [
                (f"{name}, {road}: recall at {last['verified']}", last["recall"][0], least),
                (f"{name}, {road}: recall of all listed", one["again"]["recall"][0], least),
                (f"{name}, {road}: mAP less the exhaustive", gap, ">= -0.01"),
            ]
    for road, grown in found.get("growth", {}).items():
        if rates and grown:
            bytes_ = rates["codes"] + grown[0]["disk"] / grown[0]["photos"]
            rows.append((f"{road}: KB a photo, codes and shortlist", bytes_ / 1e3, "<= 120"))
        seconds = {row["photos"]: row["seconds"] for row in grown}
        if {10_000, 100_000} <= seconds.keys():
            ratio = seconds[100_000] / seconds[10_000]
            rows.append((f"{road}: shortlist of 100,000 over 10,000", ratio, "<= 1.5"))
            peak = next(row["peak"] for row in grown if row["photos"] == 100_000)
            rows.append((f"{road}: GB of a shortlist of 100,000", peak / 1e9, "<= 1"))
    return rows


def show(name: str, value: float, bound: str) -> str:
    """A line of the table at the end."""
    sign, limit = bound.split()
    met = value >= float(limit) if sign == ">=" else value <= float(limit)
    return f"{'yes' if met else 'NO':4}{value:10.3f} {bound:8} {name}"


STAGES: dict[str, Callable[[Size, Path], dict[str, Any]]] = {
    "rates": measure_rates,
    "search": measure_search,
    "update": measure_update,
    "recall": measure_recall,
    "growth": measure_growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="json file")
    parser.add_argument("--work", type=Path, required=True, help="folder of photos and indexes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=[*STAGES])
    parser.add_argument("--quick", action="store_true", help="a few photos, to see that it works")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["INDIRET_CACHE"] = str(arguments.work.resolve() / "cache")
    found = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    torch_version = torch.__version__.partition("+")[0]
    found["machine"] = f"{platform.machine()}, one thread, torch {torch_version}"
    for stage in arguments.stages:
        load = os.getloadavg()[0]  # others at work make seconds longer
        found[stage] = STAGES[stage](QUICK if arguments.quick else FULL, arguments.work)
        found["load"] = found.get("load", {}) | {stage: [load, os.getloadavg()[0]]}
        write_json(arguments.out, found)
    for row in verdicts(found):
        print(show(*row))


if __name__ == "__main__":
    main()
