"""Put a study's results where the book reads them.

    python -m tools.store_study runs/study

Writes ``indiret/data/study/results.json``, rounded to five digits, and the weights of seed 0 of
three networks: without a mask, with HAR as printed, and with the mask that was best on validation.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

from indiret.experiments import study

SHOWN = (study.BASE, "har")


def best_variant(logs: dict[str, list[dict[str, float]]]) -> str:
    """The mask with the best last validation mAP, mean over seeds."""
    last: dict[str, list[float]] = {}
    for name, log in logs.items():
        variant = name.rsplit("-", 1)[0]
        last.setdefault(variant, []).append(log[-1]["validation_map"])
    return max((v for v in last if v not in SHOWN), key=lambda variant: fmean(last[variant]))


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def store(out: Path, to: Path) -> None:
    """Copy from a study's folder what the book needs of it."""
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    to.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(results), separators=(",", ":"))
    (to / "results.json").write_text(text + "\n", encoding="utf-8")
    known = [variant for variant in SHOWN if variant in results["config"]["variants"]]
    for variant in (*known, best_variant(results["logs"])):
        shutil.copy(study.weights_path(out, variant, 0), to / f"{variant}-0.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="folder that `indiret study` wrote")
    store(parser.parse_args().study, study.STORED)


if __name__ == "__main__":
    main()
