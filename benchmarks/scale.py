"""Rehearse a full-size ranking with stand-ins: python benchmarks/scale.py book/scale.json

Ranks generated photos of real size (1024 × 768) in blocks with an untrained `base`, whose weights
do not matter for time and memory. `--photos 5063 --queries 55` is Oxford itself; fewer are a part.
`--fast` takes the coarse grids of the fast setting. The file keeps one rehearsal of each setting;
in the full one it also measures what a run of the reproduction needs of this machine, from which
`tools/render_pages.py` works out the whole. One thread.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from indiret.checkpoints import write_json
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.experiments.forecast import measure_run_rates
from indiret.experiments.reproduction import RunConfig
from indiret.network import build_network
from indiret.retrieval import NetworkRetriever, rank_in_blocks

FILES = 64  # distinct photos; the database names them over and over


def stand_ins(folder: Path, photos: int, queries: int) -> RetrievalDataset:
    """As many photos by name as asked for, each decoded anew whenever it is read."""
    random = np.random.default_rng(0)
    for number in range(FILES):
        small = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((1024, 768), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:02d}.jpg", quality=90)
    files = sorted(folder.glob("*.jpg"))
    images = {f"photo_{number:07d}": files[number % FILES] for number in range(photos)}
    box = (200, 150, 800, 600)
    asked = tuple(
        Query(f"query_{number}", f"photo_{number:07d}", box, f"landmark_{number // 5}")
        for number in range(queries)
    )
    whole = load_dataset("folder", folder)
    return replace(whole, images=images, queries=asked, query_images={})


def peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="json file")
    parser.add_argument("--photos", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--fast", action="store_true", help="coarse grids")
    parser.add_argument("--seconds", type=float, default=30, help="of measuring a run's parts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = RunConfig(fast=args.fast)
    found = json.loads(args.out.read_text()) if args.out.is_file() else {"rehearsals": {}}
    if not args.fast:
        rates = measure_run_rates(config, config.load(), args.seconds)
        found["rates"] = {name: getattr(rates, name) for name in ("photo", "pair", "step", "kept")}
        found["rates"] |= {"target": rates.photo, "query": rates.photo}
    method = NetworkRetriever(build_network(config.shape))
    with tempfile.TemporaryDirectory() as folder:
        database = stand_ins(Path(folder), args.photos, args.queries)
        first = replace(database, images=dict(list(database.images.items())[: args.block]))
        rank_in_blocks(method, database.queries, first, args.block)
        after_one = peak()
        used, began = time.process_time(), time.monotonic()
        rank_in_blocks(method, database.queries, database, args.block)
        used, wall = time.process_time() - used, time.monotonic() - began
    rehearsal = {
        "photos": args.photos, "queries": args.queries, "block": args.block,
        "gb_after_one_block": after_one, "gb_at_the_end": peak(), "processor_seconds": used,
        "wall_seconds": wall,
    }  # fmt: skip
    machine = f"{platform.machine()}, one thread, torch {torch.__version__.partition('+')[0]}"
    found["machine"] = machine
    found["rehearsals"]["fast" if args.fast else "full"] = rehearsal
    write_json(args.out, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
