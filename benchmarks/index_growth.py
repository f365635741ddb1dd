"""Time, memory and disk of a shortlist by the number of photos, and of a whole search.

A part of ``python -m benchmarks.index``. Photos that are too many to encode are stood in for: their
descriptions and codes are those of a few hundred, the descriptions changed at random.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indiret.images import read_image
from indiret.index import Collection
from indiret.index.catalogue import Entry, State
from indiret.index.segments import SegmentStore
from indiret.index.shards import SHARD, PhotoCodes
from indiret.index.shortlist import build_shortlist
from indiret.index.store import UnsavedPhotos
from indiret.retrieval import build_retriever

METHOD = "plane-net"
MOST_BYTES = 5e9  # of descriptions; where they would be more, each keeps one posting of several


def change(described: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """A description like another: a bit of sixteen of its words, or a little of each number."""
    if described.dtype.names:  # postings: the same patches, seen a little differently
        flips = random.integers(2**24, size=(4, len(described)), dtype=np.uint32)
        changed = described.copy()
        changed["word"] ^= np.bitwise_and.reduce(flips)
        return changed
    noise = random.integers(-8, 9, described.shape)
    return np.clip(described + noise, -127, 127).astype(described.dtype)


def describe_pool(road: str, photos: Sequence[Path]) -> tuple[list[bytes], list[NDArray[Any]]]:
    """Codes and descriptions of a few photos."""
    retriever, shortlist = build_retriever(METHOD), build_shortlist(road)
    packed, described = [], []
    for path in photos:
        features = retriever.encode_to_pack(picture := read_image(path))
        packed.append(retriever.pack(features))
        described.append(shortlist.describe(picture, features))
    return packed, described


def fill_index(folder: Path, index: Path, road: str, pool: Sequence[Path], count: int) -> None:
    """Index so many files of a few bytes as if they were photos like those of a pool."""
    packed, described = describe_pool(road, pool)
    random = np.random.default_rng(0)
    with Collection.open(folder, METHOD, road, index) as collection:
        for first in range(0, count, SHARD):
            batch = UnsavedPhotos()
            for number in range(first, min(first + SHARD, count)):
                name = f"{number // 1000:03}/{number:06}.jpg"
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(name)
                status, content = path.stat(), blake2b(name.encode(), digest_size=16).hexdigest()
                batch.records[number] = PhotoCodes(content, packed[number % len(packed)])
                batch.described[number] = change(described[number % len(described)], random)
                state = State(status.st_size, status.st_ctime_ns)
                batch.files[name] = Entry(state, number)
            collection.store.save(batch)
        collection.store.tidy()


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(function, *arguments).result()


def peak_memory() -> float:
    """Largest memory of this process so far in bytes, its mapped files' pages among it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak_of_search(folder: Path, index: Path, road: str, queries: Sequence[Path]) -> float:
    """Bytes of a process that opens an index and searches it."""
    torch.set_num_threads(1)
    with Collection.open(folder, METHOD, road, index) as collection:
        for query in queries:
            collection.search(query)
    return peak_memory()


def time_searches(road: str, folder: Path, queries: Sequence[Any]) -> dict[str, float]:
    """Mean processor seconds of a query whose lists are in memory, the first's, and peak bytes."""
    torch.set_num_threads(1)
    start, times = peak_memory(), []
    store = SegmentStore(folder, build_shortlist(road))
    for query in [*queries, *queries]:
        began = time.process_time()
        store.search(query, 200)
        times.append(time.process_time() - began)
    again = times[len(queries) :]
    return {
        "seconds": sum(again) / len(again),
        "first": times[0],
        "peak": peak_memory(),
        "program": start,
        "segments": len(store.segments()),
    }


def grow(
    road: str, counts: Sequence[int], photos: Sequence[Path], asked: Sequence[Path], work: Path
) -> list[dict[str, float]]:
    """Time, memory and disk of one road's shortlist, by how many photos it holds."""
    shortlist, retriever = build_shortlist(road), build_retriever(METHOD)
    _, described = describe_pool(road, photos)
    pictures = [read_image(path) for path in asked]
    queries = [shortlist.describe_query(one, retriever.encode_query(one)) for one in pictures]
    size = np.mean([one.nbytes for one in described])
    rows = []
    for count in counts:
        thinned = 1 + int(count * size / MOST_BYTES)
        kept = [one[::thinned] for one in described] if thinned > 1 else described
        random, began = np.random.default_rng(0), time.process_time()
        with TemporaryDirectory(dir=work) as folder:
            store = SegmentStore(Path(folder), shortlist)
            for first in range(0, count, SHARD):
                numbers = range(first, min(first + SHARD, count))
                store.add({n: change(kept[n % len(kept)], random) for n in numbers}, ())
            store.compact(range(count), count)
            built = time.process_time() - began
            found = in_child(time_searches, road, Path(folder), queries)
            disk = sum(path.stat().st_size for path in Path(folder).iterdir())
        rows.append({"photos": count, "thinned": thinned, "build": built, "disk": disk} | found)
    return rows
