"""Put the results of a grid where the book reads them.

    python -m tools.store_grid runs/toytown_fast

Writes each finished run's ``results.json``, rounded to five digits, into a folder of its own in
``indiret/data/reproduction``, or elsewhere; what lay there goes. Networks and notebooks stay where
they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from indiret.experiments.claims import STORED_GRID, read_measured
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path, help="folder that `indiret reproduce` filled")
    parser.add_argument("--to", type=Path, default=STORED_GRID, help="where the book reads them")
    arguments = parser.parse_args()
    print(f"{store(arguments.grid, arguments.to)} runs are stored in {arguments.to}")


if __name__ == "__main__":
    main()
