"""What ranking and explaining cost on one core: python benchmarks/ranking.py

Prints the time of a pair with patches cached, of the explanations as multiples of the forward pass,
and the peak memory of ranking 1,000 pictures.
"""

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from indiret.datasets import Query, load_dataset
from indiret.evidence import METHODS, explain
from indiret.network import build_network
from indiret.retrieval import NetworkRetriever, index_database, rank

PICTURES, PAIRS, REPEATS = 1000, 32, 7


def best_of(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    method = NetworkRetriever(build_network("base"))
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (PAIRS, 24, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PICTURES):
            picture = Image.fromarray(small[number % PAIRS]).resize((640, 480))
            picture.rotate(number % 360).save(Path(folder) / f"{number:04d}.jpg")
        database = load_dataset("folder", folder)
        asked = Query("query", "0000.jpg", None, "noise")
        database = replace(database, queries=(asked,))
        rank(method, [asked], database, index_database(method, database))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory after ranking {PICTURES} pictures: {peak:.2f} GiB")

    features = [method.encode(picture) for picture in small]
    query = method.encode_query(small[0])
    tensor = method.tensor(query, features)

    def forward() -> None:
        with torch.inference_mode():
            for pairs in tensor.split(method.batch):
                method.network(pairs)

    once = best_of(forward)
    scoring = best_of(lambda: method.score(query, features))
    print(f"scoring (tensor and forward): {1000 * scoring / PAIRS:.2f} ms a pair")
    print(f"forward alone:                {1000 * once / PAIRS:.2f} ms a pair")
    for name in METHODS:
        ratio = best_of(lambda name=name: explain(method.network, tensor, name)) / once  # type: ignore[misc]
        print(f"explain, {name:15} {ratio:9.2f} x the forward pass")


if __name__ == "__main__":
    main()
