"""Put the results of a grid where the book reads them.

    indiret reproduce configs/toytown_fast.toml --dry-run --no-notebooks --json runs/forecast.json
    python -m tools.store_grid runs/toytown_fast --forecast runs/forecast.json

Writes each finished run's ``results.json``, rounded to five digits, into a folder of its own in
``indiret/data/reproduction``; what lay there goes. Networks and notebooks stay where they are.
A forecast is stored beside what the runs then needed, in ``indiret/data/forecast.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from indiret.claims import STORED_FORECAST, STORED_GRID, read_measured
from indiret.reproduction import write_json
from tools.store_study import rounded


def store(grid: Path, to: Path) -> int:
    """Copy the results of every finished run; return how many there are."""
    read_measured(grid)  # refuses an empty folder
    shutil.rmtree(to, ignore_errors=True)
    files = sorted(grid.glob("*/results.json"))
    for file in files:
        results = json.loads(file.read_text(encoding="utf-8"))
        results["log"] = results["log"][-1:]  # how it ended
        (to / file.parent.name).mkdir(parents=True)
        text = json.dumps(rounded(results), separators=(",", ":"))
        (to / file.parent.name / file.name).write_text(text + "\n", encoding="utf-8")
    return len(files)


def needed(grid: Path) -> dict[str, float]:
    """What the runs of a finished grid took: hours of the processor, and bytes of disk."""
    runs = [json.loads(file.read_text()) for file in grid.glob("*/results.json")]
    seconds = sum(run["provenance"]["processor_seconds"] for run in runs)
    disk = sum(file.stat().st_size for file in grid.glob("*/*") if file.suffix != ".ipynb")
    return {"runs": len(runs), "processor_hours": seconds / 3600, "disk": disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path, help="folder that `indiret reproduce` filled")
    parser.add_argument("--forecast", type=Path, help="what `--dry-run --json` wrote before")
    arguments = parser.parse_args()
    print(f"{store(arguments.grid, STORED_GRID)} runs are stored in {STORED_GRID}")
    if arguments.forecast:
        forecast = json.loads(arguments.forecast.read_text(encoding="utf-8"))
        both = {"forecast": forecast, "measured": needed(arguments.grid)}
        write_json(STORED_FORECAST, rounded(both))


if __name__ == "__main__":
    main()
