"""What a grid was thought to cost, and what it took: python benchmarks/forecast.py OUT.json

Forecasts the first folds of a grid as `indiret reproduce --dry-run` does, then does those runs in
this process, notebooks and all, and writes both into ``indiret/data/forecast.json`` or elsewhere.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from indiret.cost import SECONDS, estimate_grid
from indiret.grid import read_grid, run_grid
from indiret.reproduction import write_json


def busy() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    return sum(os.times()[:4])


def peak() -> int:
    """Bytes of this process and of its largest child, as if at one moment."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="json file")
    parser.add_argument("--config", type=Path, default=Path("configs/toytown_fast.toml"))
    parser.add_argument("--folds", type=int, default=1, help="how many of the grid's, from 0")
    args = parser.parse_args()
    configs = [config for config in read_grid(args.config) if config.fold < args.folds]
    forecast = estimate_grid(configs, processes=1, seconds=SECONDS)
    print(forecast)
    with tempfile.TemporaryDirectory() as folder:
        began, used = time.monotonic(), busy()
        failed = run_grid(configs, Path(folder))
        measured = {
            "runs": len(configs) - len(failed),
            "hours": (time.monotonic() - began) / 3600,
            "processor_hours": (busy() - used) / 3600,
            "memory": peak(),
            "disk": sum(file.stat().st_size for file in Path(folder).glob("*/*")),
        }
    found = {"config": args.config.name, "forecast": forecast._asdict(), "measured": measured}
    write_json(args.out, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
