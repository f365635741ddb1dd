"""Put the results of a long run where the book reads them, rounded to five digits.

    python -m tools.store_results study runs/study
    python -m tools.store_results audit runs/audit
    python -m tools.store_results robustness runs/robustness
    python -m tools.store_results ablation runs/ablation
    python -m tools.store_results comparison runs/compare
    python -m tools.store_results reproduction runs/toytown_fast

The first four copy ``results.json`` to ``indiret/data/KIND``; of a study come the weights of seed 0
of three networks, too: without a mask, with HAR as printed, and with the mask that was best on
validation. A comparison's results say which command made them; one of a checkout with changes is
refused, since nobody could make it again. Of a reproduction every finished run's results go into a
folder of their own, and what lay there goes.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from indiret.checkpoints import write_atomically
from indiret.experiments import comparison, study
from indiret.experiments.claims import read_measured
from indiret.experiments.records import DATA

SHOWN = (study.BASE, "har")


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def write(path: Path, results: Any) -> Path:
    text = json.dumps(rounded(results), separators=(",", ":"), allow_nan=False)
    with write_atomically(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path


def store_results(run: Path, to: Path) -> list[Path]:
    """Copy the summary of a run."""
    return [write(to / "results.json", json.loads((run / "results.json").read_text()))]


def best_variant(logs: dict[str, list[dict[str, float]]]) -> str:
    """The mask with the best last validation mAP, mean over seeds."""
    last: dict[str, list[float]] = {}
    for name, log in logs.items():
        variant = name.rsplit("-", 1)[0]
        last.setdefault(variant, []).append(log[-1]["validation_map"])
    return max((v for v in last if v not in SHOWN), key=lambda variant: fmean(last[variant]))


def store_study(run: Path, to: Path) -> list[Path]:
    """Copy from a study's folder what the book needs of it."""
    written = store_results(run, to)
    results = json.loads(written[0].read_text(encoding="utf-8"))
    known = [variant for variant in SHOWN if variant in results["config"]["variants"]]
    for variant in (*known, best_variant(results["logs"])):
        copied = shutil.copy(study.weights_path(run, variant, 0), to / f"{variant}-0.safetensors")
        written.append(Path(copied))
    return written


def command(result: comparison.Result) -> str:
    """What makes a result of a comparison again."""
    name, _, split = result["dataset"].partition("/")
    where = f"--split {split}" if split else f"--dataset {name} --root FOLDER"
    alone = " --no-evidence" if result.get("evidence", {}) is None else ""
    return f"indiret compare {where}{alone} --methods {result['method']}"


def store_comparison(run: Path, to: Path) -> list[Path]:
    """Copy the results of a comparison, a file each; ValueError if one is of no clean commit."""
    results = comparison.read_results(run)
    for result in results:
        commit = result["provenance"]["commit"]
        if commit == "unknown" or commit.endswith("-dirty"):
            raise ValueError(
                f"{result['method']} on {result['dataset']} was measured by the commit {commit!r}; "
                "commit first, then measure again."
            )
    written = []
    for result in results:
        result["provenance"]["command"] = command(result)
        name = f"{result['dataset']} {result['method']}".replace("/", "_").replace(":", "_")
        written.append(write(to / f"{name.replace(' ', '_')}.json", result))
    return written


def store_reproduction(run: Path, to: Path) -> list[Path]:
    """Copy the results of every finished run of a grid; networks and notebooks stay."""
    read_measured(run)  # refuses an empty folder
    shutil.rmtree(to, ignore_errors=True)
    written = []
    for file in sorted(run.glob("*/results.json")):
        results = json.loads(file.read_text(encoding="utf-8"))
        results["log"] = results["log"][-1:]  # how it ended
        written.append(write(to / file.parent.name / file.name, results))
    return written


KINDS = dict.fromkeys(("ablation", "audit", "robustness"), store_results) | {
    "study": store_study,
    "comparison": store_comparison,
    "reproduction": store_reproduction,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("run", type=Path, help="folder that the command wrote")
    parser.add_argument("--to", type=Path, help="instead of indiret/data/KIND")
    arguments = parser.parse_args()
    to = arguments.to or DATA / arguments.kind
    try:
        written = KINDS[arguments.kind](arguments.run, to)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(written)} files in {to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
