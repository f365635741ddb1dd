"""Find each query's reference among all of its category: ``python -m tools.rank_pairs FOLDER``.

For folders of pairs such as SMVS's categories, whole photos, no boxes. Even-numbered queries
report; odd ones (``--odd``) are there to choose by. Writes the mean reciprocal rank with its
interval, how often the right photo is first, and milliseconds of processor time a pair, for each
category and method, into ``indiret/data/planes/smvs.json``. A method that is stored there at the
same commit is not measured again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from indiret.checkpoints import write_json
from indiret.datasets import load_dataset
from indiret.evaluation import nested_bootstrap
from indiret.experiments.evaluator import provenance
from indiret.retrieval import build_retriever

OUT = Path(__file__).parents[1] / "indiret" / "data" / "planes" / "smvs.json"
METHODS = ("sift-ransac", "plane-net-turned")


def rank_pairs(name: str, folder: Path, odd: bool = False) -> dict[str, Any]:
    """One category by one method."""
    pairs, method = load_dataset("pairs", folder), build_retriever(name)
    queries = [q for q in pairs.queries if int(Path(q.image).stem) % 2 == odd]
    references = sorted({image for query in pairs.queries for image in query.positives})
    bar = tqdm(references, desc=f"{name}, {folder.name}", unit="photo", disable=None)
    database = [method.encode(pairs.read(image)) for image in bar]
    found, spent = {}, 0.0
    for query in tqdm(queries, desc=f"{name}, {folder.name}", unit="query", disable=None):
        encoded = method.encode_query(pairs.read_query(query))
        began = time.process_time()
        scores = method.score(encoded, database)
        spent += time.process_time() - began
        right = scores[[image in query.positives for image in references]].max()
        found[query.name, query.name, 0] = 1 / np.count_nonzero(scores >= right)
    ranks = np.array(list(found.values()))
    mean, low, high = nested_bootstrap(found)[:3]
    return {
        "method": name,
        "category": folder.name,
        "queries": len(queries),
        "references": len(references),
        "MRR": round(mean, 4),
        "MRR_ci": [round(low, 4), round(high, 4)],
        "first": round(float((ranks == 1).mean()), 4),
        "ms": round(1000 * spent / (len(queries) * len(references)), 2),
        "provenance": provenance(pairs),
    }


def main() -> None:
    """Measure what is not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a folder of pairs for each category")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--odd", action="store_true", help="the queries to choose by")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(arguments.out.read_text()) if arguments.out.is_file() else []
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        pairs = load_dataset("pairs", folder)
        for name in arguments.methods:
            there = (name, folder.name, provenance(pairs)["commit"])
            known = [(r["method"], r["category"], r["provenance"]["commit"]) for r in stored]
            if there not in known:
                stored = [r for r in stored if (r["method"], r["category"]) != there[:2]]
                stored.append(rank_pairs(name, folder, arguments.odd))
                write_json(arguments.out, stored)
            shown = next(r for r in stored if (r["method"], r["category"]) == there[:2])
            print({key: value for key, value in shown.items() if key != "provenance"}, flush=True)


if __name__ == "__main__":
    main()
