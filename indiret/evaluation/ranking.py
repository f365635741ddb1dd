"""How good a ranked list is: average precision, precision at k, the revisited setups.

Everything is pure arithmetic on names.

Chapter: *Ranking and honest evaluation*.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from indiret.datasets import Query

# How tables call what results name by a key.
TITLES = {
    "mAP_without_query": "without its photo",
    "ms_per_query": "ms a query",
    "mb_per_image": "MB an image",
    "otsu_iou": "Otsu IoU",
    "pixel_auc": "pixel AUC",
    "patch_match": "patch match",
}

SETUPS = ("easy", "medium", "hard")  # of the revisited benchmarks


def average_precision(
    ranked: Sequence[str],
    positives: Collection[str],
    junk: Collection[str] = (),
    k: int | None = None,
) -> float:
    """Average precision of one ranked list, by the trapezoid of the Oxford benchmark's program.

    Junk is taken out of the list before ranks are counted. With rank r, recall
    R_r = hits / positives and precision P_r = hits / r, starting from R_0 = 0 and P_0 = 1, it is
    Σ_r (R_r − R_{r−1}) (P_r + P_{r−1}) / 2. A positive that is never ranked adds nothing. With k,
    only the first k ranks count, and recall is measured against min(k, positives).

    Raises ValueError if there are no positives, or a name is ranked twice or positive and junk.

    Examples
    --------
    >>> average_precision(["a", "x", "b"], positives={"a", "b"})
    0.7916666666666666
    >>> average_precision(["a", "x", "b"], positives={"a", "b"}, junk={"x"})
    1.0
    """
    positives, junk = frozenset(positives), frozenset(junk)
    if not positives:
        raise ValueError("Average precision needs at least one positive; the set given is empty.")
    if both := positives & junk:
        raise ValueError(f"{min(both)!r} is given as positive and as junk; keep one.")
    if len(set(ranked)) < len(ranked):
        repeated = next(name for name, times in Counter(ranked).items() if times > 1)
        raise ValueError(f"{repeated!r} is ranked twice; rank each name once.")
    if k is not None and k < 1:
        raise ValueError(f"k={k} is not at least 1; leave it out to take the whole list.")
    kept = [name in positives for name in ranked if name not in junk][:k]
    hits = np.cumsum(np.asarray(kept, dtype=float))
    precision = np.concatenate([[1.0], hits / np.arange(1, len(hits) + 1)])
    step = 1 / (len(positives) if k is None else min(k, len(positives)))
    return float(step * ((precision[1:] + precision[:-1]) / 2)[kept].sum())


def mean_average_precision(
    rankings: Mapping[str, Sequence[str]],
    queries: Iterable[Query],
    k: int | None = None,
    exclude_query: bool = False,
) -> float:
    """Mean over queries of `average_precision`: mAP, or mAP@k, of ranked names by query.

    With ``exclude_query``, the query's own photo is junk, as if it were not in the database; the
    official protocol keeps it, as a positive that is found for free. Raises ValueError if there are
    no queries or one is not ranked, and as `average_precision`.

    Examples
    --------
    >>> query = Query("mill_1", "a", None, "mill", good=frozenset({"a", "b"}))
    >>> mean_average_precision({"mill_1": ["a", "x", "b"]}, [query], exclude_query=True)
    0.25
    """
    values = []
    for query in queries:
        if query.name not in rankings:
            raise ValueError(f"The query {query.name!r} has no ranked list; rank every query.")
        own = {query.image} if exclude_query else set()
        positives, junk = query.positives - own, query.junk | own
        try:
            values.append(average_precision(rankings[query.name], positives, junk, k))
        except ValueError as error:
            raise ValueError(f"Query {query.name!r}: {error}") from error
    if not values:
        raise ValueError("There are no queries to average over.")
    return float(np.mean(values))


def precision_at(
    ranked: Sequence[str], positives: Collection[str], junk: Collection[str] = (), k: int = 10
) -> float:
    """Share of right answers among the first k, as the revisited benchmark's program counts it.

    Junk is taken out first. Where the last positive stands before rank k, only the ranks up to it
    count: a query with three answers, found at once, has precision 1 at ten.
    """
    average_precision(ranked, positives, junk, k)  # for its checks
    kept = np.array([name in positives for name in ranked if name not in junk], dtype=bool)
    if not kept.any():
        return 0.0
    first = min(int(np.flatnonzero(kept)[-1]) + 1, k)
    return float(kept[:first].sum() / first)


def mean_precision(
    rankings: Mapping[str, Sequence[str]], queries: Sequence[Query], k: int
) -> float:
    """Mean over queries of `precision_at`: mP@k; raises as `mean_average_precision`."""
    mean_average_precision(rankings, queries, k)  # for its checks
    return float(np.mean([precision_at(rankings[q.name], q.positives, q.junk, k) for q in queries]))


def select_setup(queries: Iterable[Query], setup: str) -> list[Query]:
    """Queries of a revisited benchmark with the answers of one of its three setups.

    In ``easy`` the hard answers are junk, in ``hard`` the easy ones, in ``medium`` none. Queries
    without a positive are left out, as the benchmark does.

    Examples
    --------
    >>> query = Query("mill_1", "q", None, "mill", frozenset("e"), frozenset("h"), frozenset("j"))
    >>> hard, = select_setup([query], "hard")
    >>> sorted(hard.positives), sorted(hard.junk)
    (['h'], ['e', 'j'])
    """
    if setup not in SETUPS:
        raise ValueError(f"There is no setup {setup!r}; choose one of {', '.join(SETUPS)}.")
    selected = []
    for query in queries:
        if setup == "easy":
            query = replace(query, ok=frozenset(), junk=query.junk | query.ok)
        elif setup == "hard":
            query = replace(query, good=frozenset(), junk=query.junk | query.good)
        if query.positives:
            selected.append(query)
    return selected
