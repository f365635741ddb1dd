"""One long table of records, and what is told from it: means, paired differences, verdicts.

A row is one value of a landmark's query, a seed, a variant and a measure, with what else tells rows
apart (a round of feedback, a factor's strength). pandas holds the table, json lines keep it.

Chapter: *Ranking and honest evaluation*.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from indiret.checkpoints import write_atomically
from indiret.evaluation import TITLES, Interval, nested_bootstrap

DATA = Path(__file__).parents[1] / "data"  # where results lie that the book reports
Values = dict[tuple[str, str, int], float]  # by landmark, query and seed
Row = dict[str, Any]  # of the table
Record = dict[str, Any]  # of a summary, or of several measures


def long_rows(measures: Mapping[str, Any], **place: Any) -> list[Row]:
    """A row for each measure of one place.

    Examples
    --------
    >>> long_rows({"mAP": 0.5}, landmark="arch", query="arch_1", seed=0, variant="har")
    [{'landmark': 'arch', 'query': 'arch_1', 'seed': 0, 'variant': 'har', 'measure': 'mAP',
      'value': 0.5}]
    """
    return [place | {"measure": name, "value": value} for name, value in measures.items()]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write json lines whole or not at all, with the folders above them."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")


def read_rows(paths: Iterable[Path]) -> pd.DataFrame:
    """The table of all files, in their order; what a row has not is NaN."""
    return pd.DataFrame([json.loads(line) for p in paths for line in p.read_text().splitlines()])


def plain_settings(config: Any) -> Record:
    """The values of a dataclass as json has them."""
    plain: Record = json.loads(json.dumps(asdict(config)))
    return plain


def check_least(config: Any, **least: int) -> None:
    """Refuse, with a ValueError, a config with a value below its least."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name}={getattr(config, name)} is not at least {value}.")


def read_stored(name: str) -> Record:
    """The results of an experiment that come with the book: ``"study"``, ``"audit"``, …"""
    results: Record = json.loads((DATA / name / "results.json").read_text())
    return results


def select_values(table: pd.DataFrame, measure: str, **where: Any) -> Values:
    """Values of one measure by landmark, query and seed, of the rows where columns have values."""
    chosen = table["measure"] == measure
    for column, wanted in where.items():
        chosen &= table[column] == wanted
    return keyed_values(table[chosen])


def keyed_values(rows: pd.DataFrame) -> Values:
    """The values of rows by their landmark, query and seed."""
    keys = zip(rows["landmark"], rows["query"], map(int, rows["seed"]), strict=True)
    return dict(zip(keys, map(float, rows["value"]), strict=True))


def values_by(table: pd.DataFrame, *columns: str) -> dict[Any, Values]:
    """The values of rows by what stands in some columns, in the rows' order."""
    return {key: keyed_values(rows) for key, rows in table.groupby(list(columns), sort=False)}


def rounded_interval(values: Values, other: Values | None = None) -> dict[str, float]:
    """`nested_bootstrap` for a file: mean, low and high to five digits."""
    return {k: round(v, 5) for k, v in nested_bootstrap(values, other)._asdict().items()}


def mean_by_landmark(one: Values, other: Values) -> dict[str, float]:
    """The mean paired difference of each landmark, to five digits."""
    apart: dict[str, list[float]] = {}
    for key, value in one.items():
        apart.setdefault(key[0], []).append(value - other[key])
    return {name: round(float(np.mean(values)), 5) for name, values in sorted(apart.items())}


def paired_difference(one: Values, other: Values) -> Interval | None:
    """Interval of a difference over the keys that both have; None if there is none."""
    shared = complete({key: value for key, value in one.items() if key in other})
    return nested_bootstrap(shared, {key: other[key] for key in shared}) if shared else None


def complete(values: Values) -> Values:
    """Without queries that lack a seed, as an unfinished grid leaves them."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for landmark, query, seed in values:
        seeds.setdefault((landmark, query), set()).add(seed)
    all_seeds = {seed for _, _, seed in values}
    return {key: value for key, value in values.items() if seeds[key[:2]] == all_seeds}


def _three(interval: Interval | Mapping[str, float]) -> Interval:
    if isinstance(interval, Mapping):
        return Interval(interval["mean"], interval["low"], interval["high"])
    return interval


def side_of_zero(interval: Interval | Mapping[str, float], rises: bool = True) -> int:
    """1 if the whole interval lies on the claimed side of zero, -1 on the other, 0 on both."""
    _, low, high = _three(interval)
    side = int(low > 0) - int(high < 0)
    return side if rises else -side


def show_interval(interval: Interval | Mapping[str, float] | None, signed: bool = False) -> str:
    """A mean with its interval, to three digits; nothing of None.

    Examples
    --------
    >>> show_interval(Interval(0.5, 0.4, 0.6)), show_interval(Interval(0.1, -0.02, 0.2), True)
    ('0.500 (0.400 … 0.600)', '+0.100 (-0.020 … +0.200)')
    """
    if interval is None:
        return ""
    form = "+.3f" if signed else ".3f"
    mean, low, high = (format(value, form) for value in _three(interval))
    return f"{mean} ({low} … {high})"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; measures in its head have their titles.

    Examples
    --------
    >>> print(markdown_table(["", "otsu_iou"], [["Base", "0.5"], ["HAR", ""]]))
    | | Otsu IoU |
    |---|---|
    | Base | 0.5 |
    | HAR | |
    """

    def line(cells: Iterable[str]) -> str:
        return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"

    titles = [TITLES.get(name, name) for name in head]
    return "\n".join([line(titles), "|---" * len(titles) + "|", *map(line, rows)])


def interval_table(rows: Mapping[str, Mapping[str, Any]], measures: Sequence[str]) -> str:
    """Means with their 95 % intervals as a Markdown table, a row for each name."""
    cells = [[name, *(show_interval(row.get(m)) for m in measures)] for name, row in rows.items()]
    return markdown_table(["", *measures], cells)
