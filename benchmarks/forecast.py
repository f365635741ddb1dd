"""What a grid was thought to cost, and what it took: python benchmarks/forecast.py OUT.json

Forecasts the first folds of a grid as `indiret reproduce --dry-run` does, then does those runs one
by one in a fresh process, notebooks and all, and adds both to the file's list. The book reads
``indiret/data/forecast.json``.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from indiret.checkpoints import write_json
from indiret.experiments.forecast import SECONDS, estimate_grid
from indiret.experiments.grid import read_grid, run_grid
from indiret.experiments.reproduction import RunConfig


def busy() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    return sum(os.times()[:4])


def do(configs: list[RunConfig], folder: Path) -> dict[str, float]:
    """Do the runs; what they took."""
    began, used = time.monotonic(), busy()
    failed = run_grid(configs, folder)
    return {
        "runs": len(configs) - len(failed),
        "hours": (time.monotonic() - began) / 3600,
        "processor_hours": (busy() - used) / 3600,
        "disk": sum(file.stat().st_size for file in folder.glob("*/*")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="json file")
    parser.add_argument("--config", type=Path, default=Path("configs/toytown_fast.toml"))
    parser.add_argument("--folds", type=int, default=1, help="how many of the grid's, from 0")
    args = parser.parse_args()
    configs = [config for config in read_grid(args.config) if config.fold < args.folds]
    forecast = estimate_grid(configs, processes=1, seconds=SECONDS)
    print(forecast)
    fresh = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as folder, fresh:
        measured = fresh.submit(do, configs, Path(folder)).result()
    found = {"config": args.config.name, "forecast": forecast._asdict(), "measured": measured}
    before = json.loads(args.out.read_text()) if args.out.is_file() else []
    write_json(args.out, [*before, found])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
