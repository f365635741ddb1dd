"""One long table of records, and what is told from it: means, paired differences, verdicts.

A row is one value of a landmark's query, a seed, a variant and a measure, with what else tells rows
apart (a round of feedback, a factor's strength).

Chapter: *Ranking and honest evaluation*.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from indiret.checkpoints import load_network, read_metadata, write_atomically, write_json
from indiret.datasets.files import MAX_JSON, read_json, read_text
from indiret.evaluation import TITLES, Interval, nested_bootstrap
from indiret.network import IndicativeNetwork

DATA = Path(__file__).parents[1] / "data"  # where results lie that the book reports
Values = dict[tuple[str, str, int], float]  # by landmark, query and seed
Row = dict[str, Any]  # of the table
Record = dict[str, Any]  # of a summary, or of several measures
# What a result depends on beside its settings, each as a hash in its provenance.
DEPENDS = ("ground truth", "photos", "regions", "weights")


class _Kept(TypedDict):
    """What a row must have that we read back."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    measure: str
    value: FiniteFloat


class StoredResult(TypedDict):
    """What a method's result must have that we read back; see `indiret.experiments.evaluate`."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    dataset: str
    method: str
    mAP: FiniteFloat
    mAP_ci: list[FiniteFloat]
    ms_per_query: FiniteFloat
    mb_per_image: FiniteFloat
    provenance: dict[str, Any]


class _Origin(BaseModel, extra="allow"):
    commit: str
    lock: str
    data_manifest: str
    python: str
    torch: str
    numpy: str
    machine: str
    device: str
    processes: int
    seconds: FiniteFloat
    processor_seconds: FiniteFloat


class _Precisions(BaseModel, extra="allow"):
    landmark: str
    query: str
    seed: int
    variant: str
    scheme: str
    __pydantic_extra__: dict[str, FiniteFloat | list[FiniteFloat]]  # measures


class ReportedRun(BaseModel, extra="allow"):
    """What a run's results must have to be reported."""

    config: Record
    fold: dict[str, int]
    records: list[_Precisions]
    provenance: _Origin


class StoredRun(ReportedRun):
    """What they must have to be those of a run; see `indiret.experiments.reproduction.run`."""

    identity: Record
    log: list[dict[str, FiniteFloat]]
    skipped: dict[str, str]


def long_rows(measures: Mapping[str, Any], **place: Any) -> list[Row]:
    """A row for each measure of one place.

    Examples
    --------
    >>> long_rows({"mAP": 0.5}, landmark="arch", query="arch_1", seed=0, variant="har")
    [{'landmark': 'arch', 'query': 'arch_1', 'seed': 0, 'variant': 'har', 'measure': 'mAP',
      'value': 0.5}]
    """
    return [place | {"measure": name, "value": value} for name, value in measures.items()]


def read_kept(path: Path, kind: Any = Record) -> Any:
    """What we wrote as json, checked by pydantic; None if it is missing, cut or of another shape.

    Whoever asks makes it again, once `set_aside` has taken what is broken out of the way.
    """
    try:
        found = read_json(path, kind)
        found = found.model_dump() if isinstance(found, BaseModel) else found
        json.dumps(found, allow_nan=False)
    except (OSError, ValueError):
        return None
    return found


def load_trained(path: Path, key: str) -> tuple[IndicativeNetwork, Any] | None:
    """A network from its file and what its metadata say under a key; None unless both are whole."""
    try:
        return load_network(path), json.loads(read_metadata(path)[key])
    except (OSError, ValueError, KeyError):
        return None


def set_aside(path: Path) -> None:
    """Give what cannot be read another name, if anything is there."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}.broken-{time.time_ns()}"))


def what_changed(made: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The names under which something else was written down than is here; empty if all agree.

    Examples
    --------
    >>> what_changed({"photos": "1f", "seed": 0}, {"photos": "2e", "regions": "", "seed": 0})
    'photos, regions'
    """
    return ", ".join(name for name in here if name not in made or made[name] != here[name])


def write_results(out: Path, results: Record) -> Record:
    """Write down and return what an experiment found, in its folder."""
    if (out / "results.json").is_dir():
        set_aside(out / "results.json")
    write_json(out / "results.json", results)
    return results


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write json lines whole or not at all, with the folders above them; the last has their number.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "rows.jsonl")
    >>> write_rows(path, long_rows({"mAP": 0.5}, query="arch_1"))
    >>> print(path.read_text(), end="")
    {"query": "arch_1", "measure": "mAP", "value": 0.5}
    {"rows": 1}
    """
    lines = [json.dumps(row, allow_nan=False) for row in rows]
    with write_atomically(path) as part:
        part.write_text("\n".join([*lines, json.dumps({"rows": len(lines)}), ""]), encoding="utf-8")


def read_rows(paths: Iterable[Path]) -> pd.DataFrame:
    """The table of all files that `write_rows` wrote, in their order; what a row has not is NaN.

    Raises ValueError if a file is empty, cut, or of no rows.
    """
    rows: list[_Kept] = []
    for path in paths:
        *lines, number = read_text(path, MAX_JSON).splitlines() or [""]
        if not lines or number != json.dumps({"rows": len(lines)}):
            raise ValueError(f"{path} is cut; delete it and start the same command again.")
        try:
            rows += TypeAdapter(list[_Kept]).validate_json(f"[{','.join(lines)}]")
        except ValueError as error:
            raise ValueError(f"{path} holds no rows of an experiment.") from error
    return pd.DataFrame(rows)


def plain_settings(config: Any) -> Record:
    """The values of a dataclass as json has them."""
    return dict(json.loads(json.dumps(asdict(config))))


def check_least(config: Any, **least: int) -> None:
    """Refuse, with a ValueError, a config with a value below its least."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name}={getattr(config, name)} is not at least {value}.")


def read_stored(name: str) -> Record:
    """The results of an experiment that come with the book: ``"study"``, ``"audit"``, …"""
    return dict(json.loads((DATA / name / "results.json").read_text()))


def keyed_values(rows: pd.DataFrame) -> Values:
    """The values of rows by their landmark, query and seed."""
    columns = rows[["landmark", "query", "seed", "value"]].itertuples(index=False)
    return {(landmark, query, int(seed)): float(x) for landmark, query, seed, x in columns}


def values_by(table: pd.DataFrame, *columns: str) -> dict[Any, Values]:
    """The values of rows by what stands in some columns, in the rows' order."""
    return {key: keyed_values(rows) for key, rows in table.groupby(list(columns), sort=False)}


def rounded_interval(values: Values, other: Values | None = None) -> dict[str, float]:
    """`nested_bootstrap` for a file: mean, low and high to five digits."""
    return {k: round(v, 5) for k, v in nested_bootstrap(values, other)._asdict().items()}


def mean_by_landmark(one: Values, other: Values) -> dict[str, float]:
    """The mean paired difference of each landmark, to five digits."""
    apart = pd.Series({key: value - other[key] for key, value in one.items()})
    return apart.groupby(level=0).mean().round(5).to_dict()


def paired_difference(one: Values, other: Values) -> Interval | None:
    """Interval of a difference over the keys that both have; None if there is none."""
    shared = complete({key: value for key, value in one.items() if key in other})
    return nested_bootstrap(shared, {key: other[key] for key in shared}) if shared else None


def complete(values: Values) -> Values:
    """Without queries that lack a seed, as an unfinished grid leaves them."""
    seeds = {seed for _, _, seed in values}
    return {k: v for k, v in values.items() if all((*k[:2], seed) in values for seed in seeds)}


def _three(interval: Interval | Mapping[str, float]) -> tuple[float, float, float]:
    values = interval if isinstance(interval, Mapping) else interval._asdict()
    return values["mean"], values["low"], values["high"]


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
    mean, low, high = (format(x, "+.3f" if signed else ".3f") for x in _three(interval))
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

    titles = line(TITLES.get(name, name) for name in head)
    return "\n".join([titles, "|---" * len(head) + "|", *map(line, rows)])


def interval_table(rows: Mapping[str, Mapping[str, Any]], measures: Sequence[str]) -> str:
    """Means with their 95 % intervals as a Markdown table, a row for each name."""
    cells = [[name, *(show_interval(row.get(m)) for m in measures)] for name, row in rows.items()]
    return markdown_table(["", *measures], cells)
