"""Put measurements of ``indiret compare`` where the book reads them.

    python -m tools.store_comparison runs/compare

Writes each result of the folder to ``indiret/data/comparison``, rounded to five digits, with the
command that made it. A result of a checkout with changes is refused: nobody could make it again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from indiret.experiments.comparison import STORED, Result, read_results
from tools.store_study import rounded


def command(result: Result) -> str:
    """What makes a result again."""
    name, _, split = result["dataset"].partition("/")
    where = f"--split {split}" if split else f"--dataset {name} --root FOLDER"
    alone = " --no-evidence" if result.get("evidence", {}) is None else ""
    return f"indiret compare {where}{alone} --methods {result['method']}"


def store(folder: Path, to: Path = STORED) -> list[Path]:
    """Copy the results of a folder, and return the files.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ValueError
        If one comes from a checkout with changes, or from none.
    """
    results = read_results(folder)
    for result in results:
        commit = result["provenance"]["commit"]
        if commit == "unknown" or commit.endswith("-dirty"):
            raise ValueError(
                f"{result['method']} on {result['dataset']} was measured by the commit {commit!r}; "
                "commit first, then measure again."
            )
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for result in results:
        result["provenance"]["command"] = command(result)
        name = f"{result['dataset']} {result['method']}".replace("/", "_").replace(":", "_")
        path = to / f"{name.replace(' ', '_')}.json"
        text = json.dumps(rounded(result), separators=(",", ":"), allow_nan=False)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(text + "\n", encoding="utf-8")
        written.append(Path(shutil.move(unfinished, path)))
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="that `indiret compare` wrote")
    try:
        written = store(parser.parse_args().folder)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(written)} results in {STORED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
