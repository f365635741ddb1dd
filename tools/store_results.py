"""Put the results of a long run where the book reads them.

    python -m tools.store_results audit runs/audit
    python -m tools.store_results robustness runs/robustness
    python -m tools.store_results ablation runs/ablation

Copies ``results.json`` to ``indiret/data/KIND``, rounded to five digits.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from indiret.experiments import ablation, audit, robustness
from tools.store_study import rounded

PLACES = {
    "ablation": ablation.STORED,
    "audit": audit.STORED,
    "robustness": robustness.STORED,
}


def store(run: Path, to: Path) -> None:
    """Copy from a run's folder what the book needs of it."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    to.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(results), separators=(",", ":"))
    (to / "results.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=PLACES)
    parser.add_argument("run", type=Path, help="folder that the command wrote")
    arguments = parser.parse_args()
    store(arguments.run, PLACES[arguments.kind])


if __name__ == "__main__":
    main()
