"""Folds: which queries to learn from, to choose by and to test with, and what must not cross.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from indiret.datasets import Query, RetrievalDataset

SPLIT_PROTOCOLS = ("query", "landmark")


class Fold(NamedTuple):
    """The queries of one fold: to learn from, to test with, and to make choices by."""

    train: tuple[Query, ...]
    test: tuple[Query, ...]
    validation: tuple[Query, ...] = ()


def folds(
    queries: Sequence[Query], by: str = "query", n: int = 10, seed: int = 0, validation: float = 0.0
) -> tuple[Fold, ...]:
    """Split queries at random into n folds of (almost) equal size, each the test set once.

    By ``"query"``, only queries with the same photo stay together, so that a landmark is in train
    and test (most likely the paper's way); by ``"landmark"``, all queries of a landmark do. Of the
    other folds, the share ``validation`` is set aside for choices, at least one if not 0, drawn
    anew for each fold.

    Raises ValueError if n is not from 2 to the number of queries or landmarks, or ``validation``
    leaves nothing to learn from.

    Examples
    --------
    >>> queries = [Query(f"{name}_{i}", f"{name}{i}", None, name) for name in "abc" for i in (1, 2)]
    >>> fold = folds(queries, by="landmark", n=3, validation=0.2)[0]
    >>> [[query.name for query in part] for part in fold]
    [['b_1', 'b_2'], ['c_1', 'c_2'], ['a_1', 'a_2']]
    """
    units = _units(queries, by)
    distinct = sorted(set(units))
    if not 2 <= n <= len(distinct):
        raise ValueError(
            f"n={n}: queries cannot be split into so many folds by {by}; choose from 2 to "
            f"{len(distinct)}, how many there are to split."
        )
    if not 0 <= validation < 1:
        raise ValueError(f"validation={validation} must be from 0 to 1: a share to set aside.")
    shuffled = np.random.default_rng(seed).permutation(len(distinct))
    fold_of = {distinct[unit]: place % n for place, unit in enumerate(shuffled)}
    parted = []
    for number in range(n):
        others = [unit for unit in distinct if fold_of[unit] != number]
        aside = max(round(validation * len(others)), 1) if validation else 0
        if aside == len(others):
            raise ValueError(
                f"validation={validation} sets {aside} of {len(others)} aside by {by}; leave at "
                "least one to learn from."
            )
        random = np.random.default_rng((seed, number))
        chosen = set(random.permutation(others)[:aside].tolist())
        sides: tuple[list[Query], ...] = ([], [], [])
        for query, unit in zip(queries, units, strict=True):
            sides[1 if fold_of[unit] == number else 2 * (unit in chosen)].append(query)
        fold = Fold(*map(tuple, sides))
        check_fold(fold, by)
        parted.append(fold)
    return tuple(parted)


def check_fold(fold: Fold, by: str) -> None:
    """Raise a ValueError that names what crosses the parts of a fold.

    By ``"query"``, no query and no query's photo may be in two parts; by ``"landmark"``, no
    landmark either.

    Examples
    --------
    >>> one, two = (Query(f"mill_{i}", f"mill{i}", None, "mill") for i in (1, 2))
    >>> check_fold(Fold((one,), (two,)), by="landmark")
    Traceback (most recent call last):
    ValueError: The landmark 'mill' is in train and in test of one fold; keep it in one.
    """
    _units((), by)  # for its check
    kinds = {"name": "query", "image": "query's photo"}
    if by == "landmark":
        kinds["landmark"] = "landmark"
    for field, kind in kinds.items():
        where: dict[str, str] = {}
        for part in ("train", "test", "validation"):
            for value in sorted({getattr(query, field) for query in getattr(fold, part)}):
                if where.setdefault(value, part) != part:
                    raise ValueError(
                        f"The {kind} {value!r} is in {where[value]} and in {part} of one fold; "
                        "keep it in one."
                    )


def training_data(dataset: RetrievalDataset, fold: Fold, by: str) -> RetrievalDataset:
    """The part of a data set that may be learned from in a fold.

    Landmarks meet in photos: one of Oxford's shows All Souls and the Radcliffe Camera, and is an
    answer for both. So by ``"query"``, the photos of the test and validation queries are held out;
    by ``"landmark"``, all their answers and junk, too. The queries are those of ``fold.train`` that
    have an answer left beside their own photo; ValueError if there is none.
    """
    check_fold(fold, by)
    held_out = held_out_images((*fold.test, *fold.validation), by)
    images = {name: path for name, path in dataset.images.items() if name not in held_out}
    left = (query.among(images.keys()) for query in fold.train if query.image not in held_out)
    queries = [query for query in left if query.positives - {query.image}]
    if not queries:
        raise ValueError(f"No query of {dataset.name} is left to learn from in this fold.")
    photos = {query.image: dataset.path(query.image) for query in queries}
    return replace(dataset, images=images, queries=tuple(queries), query_images=photos)


def held_out_images(queries: Iterable[Query], by: str) -> set[str]:
    """The photos that `training_data` leaves out for these test or validation queries."""
    if by == "query":
        return {query.image for query in queries}
    return set().union(*({q.image} | q.positives | q.junk for q in queries))


def _units(queries: Sequence[Query], by: str) -> list[str]:
    if by not in SPLIT_PROTOCOLS:
        raise ValueError(f"by={by!r} is not known; choose 'query' or 'landmark'.")
    return [query.image if by == "query" else query.landmark for query in queries]
