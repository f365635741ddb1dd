"""How hard the set is, by methods that are not ours and learn nothing.

The rankers and the official average precision are the library's own
(:mod:`indiret.baselines`, :mod:`indiret.evaluation`), run on the written files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

METHODS = ("colour-histogram", "thumbnail", "sift-ransac")


def _precision(query, names, scores):
    """AP with the query's own photo as a positive, and with it set aside as junk."""
    from indiret.evaluation import average_precision

    ranked = [names[k] for k in np.argsort(-scores, kind="stable")]
    others = set(query.positives) - {query.image}
    return (
        average_precision(ranked, query.positives, query.junk),
        average_precision(ranked, others, set(query.junk) | {query.image}),
    )


def baselines(folder, methods=METHODS, landmarks=None):
    """mAP of each method on a split, with and without the query's own photo.

    Returns ``{method: {"with_own", "without_own", "by_landmark"}}``, rounded to 4 places;
    ``by_landmark`` keeps the query's own photo.
    """
    from indiret.datasets import load_dataset
    from indiret.retrieval import build_retriever

    folder = Path(folder)
    data = load_dataset("toytown", root=folder.parent, split=folder.name)
    names, answer = list(data.images), {}
    for name in methods:
        method, kept = build_retriever(name), []
        prepared = [method.encode(data.read(n)) for n in names]
        for query in data.queries:
            if landmarks is None or query.landmark in landmarks:
                scores = np.asarray(method.score(method.encode(data.read_query(query)), prepared))
                kept.append((query.landmark, *_precision(query, names, scores)))
        by = {
            mark: round(float(np.mean([k[1] for k in kept if k[0] == mark])), 4)
            for mark in sorted({k[0] for k in kept})
        }
        answer[name] = {
            "with_own": round(float(np.mean([k[1] for k in kept])), 4),
            "without_own": round(float(np.mean([k[2] for k in kept])), 4),
            "by_landmark": by,
        }
    return answer


def chance(folder, draws=2000, seed=0):
    """Expected AP of random rankings, by simulation, with and without the own photo."""
    from indiret.datasets import load_dataset

    folder = Path(folder)
    data = load_dataset("toytown", root=folder.parent, split=folder.name)
    rng, names = np.random.default_rng(seed), list(data.images)
    draws = max(1, draws // len(data.queries))
    kept = [
        _precision(q, names, rng.random(len(names))) for q in data.queries for _ in range(draws)
    ]
    return {
        "with_own": round(float(np.mean([k[0] for k in kept])), 4),
        "without_own": round(float(np.mean([k[1] for k in kept])), 4),
    }
