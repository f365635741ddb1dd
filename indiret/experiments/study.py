"""The study of attention and feedback: every mask, every scheme, several seeds, one command.

All networks of one seed learn side by side from the same pairs, and are measured on the same
tensors, so that they differ in nothing but their masks. Whatever is finished is written down at
once: a study that was killed goes on where it was.

Chapters: *Hypersphere attention*, *Indicative feedback*.
"""

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.attention import MASKS
from indiret.datasets import ClickedPair, Query, RetrievalDataset
from indiret.evaluation import (
    TITLES,
    Interval,
    average_precision,
    average_to_grid,
    nested_bootstrap,
    point_match_accuracy,
    strongest_targets,
)
from indiret.evidence import explain
from indiret.experiments.evaluate import keep_settings, provenance, write_json
from indiret.experiments.evidence_protocol import (
    DEFAULT_EVIDENCE,
    EvidencePair,
    evidence_pairs,
    known_partners,
    pair_measures,
)
from indiret.feedback import query_weights, refine_query, weight_tensor
from indiret.images import pixel_box, read_image
from indiret.networks import (
    CONFIGS,
    Described,
    IndicativeNetwork,
    NetworkConfig,
    build_network,
    load_network,
    save_network,
)
from indiret.ranking import FeedbackConfig, NetworkMethod, answer_votes, prepare
from indiret.sampling import Lessons, PairSampler
from indiret.training import TrainingConfig, ValidationLook, fit

BASE = "none"
KINDS = ("mean", "max", "oracle", "answers")
MEASURES = ("mAP", "mAP@5", "mAP@10", "mAP@20", "mAP_without_query")
EVIDENCE_MEASURES = ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
JUDGED_AGAIN = 100  # first targets that a second round judges; the others keep their order
NAMES = {
    "none": "Base",
    "har": "HAR (as printed)",
    "har-normalised": "HAR, normalised",
    "predicted": "predicted centre",
    "gaussian": "full Gaussian",
    "plane": "plane",
}
STORED = Path(__file__).parents[1] / "data" / "study"
Record = dict[str, Any]  # variant, seed, scheme, and a value for each measure
Networks = Mapping[tuple[str, int], IndicativeNetwork]  # by variant and seed


@dataclass(frozen=True)
class StudyConfig:
    """What is compared, and how long each network learns."""

    variants: tuple[str, ...] = (BASE, *MASKS)
    seeds: int = 5
    steps: int = 1000  # the shipped network learns from 5000
    choosing_seeds: int = 2  # whose Base chooses the schemes on validation
    explained: int = 4  # positives of a query whose evidence is measured
    network: NetworkConfig = CONFIGS["base"]

    def __post_init__(self) -> None:
        if BASE not in self.variants or len(set(self.variants)) < len(self.variants):
            raise ValueError(
                f"variants={self.variants} is not allowed; give {BASE!r}, with which the others "
                "are compared, and each of them once."
            )
        for name in ("seeds", "choosing_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not at least 1.")

    def recipe(self, seed: int) -> TrainingConfig:
        """How a network of one seed is trained."""
        return TrainingConfig(steps=self.steps, validate_every=250, seed=seed)


@dataclass(frozen=True)
class Scheme:
    """A second round: weights by feedback, or by the true region of the query (the oracle)."""

    feedback: FeedbackConfig
    oracle: bool = False

    def weights(self, network: IndicativeNetwork, answers: Tensor, region: Tensor | None) -> Tensor:
        """w (m', n') in 0 … 1, from the tensors of the first answers or from the region."""
        if self.oracle:
            if region is None:
                raise ValueError(
                    "the oracle needs the query's true region; this data set has none."
                )
            return query_weights(region, self.feedback.hard)
        evidence = explain(network, answers[: self.feedback.n], self.feedback.evidence)
        refined = refine_query(evidence, self.feedback.pool, self.feedback.normalise)
        return query_weights(refined, self.feedback.hard)


def candidates() -> dict[str, Scheme]:
    """The schemes among which validation chooses, by a name that starts with their kind."""
    found = {
        f"{pool}, n={n}, {'each sums to 1' if even else 'raw'}, λ={strength:g}": Scheme(
            FeedbackConfig(n=n, pool=pool, normalise=even, strength=strength)
        )
        for pool, n, even, strength in itertools.product(
            ("mean", "max"), (3, 10), (False, True), (0.3, 0.6)
        )
    }
    for n in (1, 2, 3, 5):
        found[f"answers, n={n}"] = Scheme(FeedbackConfig(n=n, weigh="answers"))
    for strength in (0.3, 0.6, 1.0):
        found[f"oracle, λ={strength:g}"] = Scheme(FeedbackConfig(strength=strength), oracle=True)
    return found


def run_study(
    out: Path,
    config: StudyConfig,
    train: RetrievalDataset,
    validation: RetrievalDataset,
    tests: Mapping[str, RetrievalDataset],
    clicked: Sequence[ClickedPair] = (),
) -> dict[str, Any]:
    """Train, choose on validation, measure on the tests once, and sum up.

    Parameters
    ----------
    out
        Folder of everything that is finished; what lies there is not done again.
    config
        What is compared.
    train, validation
        Data sets that share no landmark.
    tests
        By name; the first is the one that differences are drawn from.
    clicked
        Photos with clicked points, for patch matches on real photos.

    Returns
    -------
    dict
        What `summarise` says of each test, the validation table, what was learnt, provenance. Also
        written to ``out/results.json``.

    Raises
    ------
    ValueError
        If ``out`` holds a study of other settings.
    """
    keep_settings(out / "study.json", _plain(config) | {"data": train.manifest_hash()})
    train_variants(out, train, validation, config)
    networks = {
        (variant, seed): load_network(weights_path(out, variant, seed))
        for seed in range(config.seeds)
        for variant in config.variants
    }
    choosing = {key: net for key, net in networks.items() if key[0] == BASE}
    choosing = {key: choosing[key] for key in list(choosing)[: config.choosing_seeds]}
    asked = replace(validation, queries=validation.queries[::2])
    measure(out / "validation", choosing, candidates(), asked, explained=0)
    tried = _validation_table(read_records(out / "validation", asked))
    schemes = {}
    for kind in KINDS:
        if of_kind := [name for name in tried if name.startswith(kind)]:
            schemes[kind] = candidates()[max(of_kind, key=tried.__getitem__)]
    results: dict[str, Any] = {"config": _plain(config), "provenance": provenance(train)}
    results["validation"] = tried
    results["schemes"] = {kind: asdict(scheme) for kind, scheme in schemes.items()}
    for name, dataset in tests.items():
        measure(out / name, networks, schemes, dataset, config.explained)
        results[name] = summarise(read_records(out / name, dataset), dataset)
    if clicked:
        results["clicked"] = match_clicked(networks, clicked)
    results["logs"] = {
        f"{variant}-{seed}": json.loads(_log_path(out, variant, seed).read_text())["log"]
        for variant, seed in networks
    }
    write_json(out / "results.json", results)
    return results


def stored_results() -> dict[str, Any]:
    """The results of the study that the book reports, as `run_study` returned them."""
    results: dict[str, Any] = json.loads((STORED / "results.json").read_text())
    return results


def stored_networks() -> dict[str, Path]:
    """Weights of seed 0 that come with the results, by variant: none, har, and the best other."""
    files = {path.stem.removesuffix("-0"): path for path in STORED.glob("*-0.safetensors")}
    return {variant: files[variant] for variant in NAMES if variant in files}


def cells(results: Mapping[str, Any], dataset: str = "toytown") -> dict[tuple[str, str], Record]:
    """The rows of one test by (variant, scheme)."""
    return {(row["variant"], row["scheme"]): row for row in results[dataset]["rows"]}


def validation_curves(results: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Validation mAP along training by mask, mean over seeds: rows of ``step`` and ``mAP``."""
    curves: dict[str, list[dict[str, float]]] = {}
    for variant in results["config"]["variants"]:
        seeds = range(results["config"]["seeds"])
        logs = [results["logs"][f"{variant}-{seed}"] for seed in seeds]
        looks = [[row for row in log if "validation_map" in row] for log in logs]
        curves[NAMES[variant]] = [
            {"step": rows[0]["step"], "mAP": float(np.mean([r["validation_map"] for r in rows]))}
            for rows in zip(*looks, strict=True)
        ]
    return curves


def table(rows: Mapping[str, Record], measures: Sequence[str]) -> str:
    """Means with their 95 % intervals as a Markdown table, a row for each name.

    Examples
    --------
    >>> print(table({"Base": {"mAP": {"mean": 0.5, "low": 0.4, "high": 0.6}}}, ["mAP"]))
    | | mAP |
    |---|---|
    | Base | 0.500 (0.400 … 0.600) |
    """
    heads = [TITLES.get(measure, measure) for measure in measures]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        known = [row.get(measure) for measure in measures]
        shown = [f"{k['mean']:.3f} ({k['low']:.3f} … {k['high']:.3f})" if k else "" for k in known]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


class Claim(NamedTuple):
    """What the paper's Tables 1 and 2 are said to show, as a difference that can be measured."""

    text: str
    variant: str
    scheme: str
    measure: str
    against: str  # "gain" over Base in one round, or "feedback_gain" over one round of its own
    rises: bool


CLAIMS = (
    Claim("HAR raises mAP", "har", "none", "mAP", "gain", True),
    Claim("HAR raises mIoU", "har", "none", "mIoU", "gain", True),
    Claim("mean feedback after HAR raises mIoU", "har", "mean", "mIoU", "feedback_gain", True),
    Claim("max feedback after HAR raises mIoU", "har", "max", "mIoU", "feedback_gain", True),
    Claim("mean feedback after HAR raises mAP", "har", "mean", "mAP", "feedback_gain", True),
    Claim("max feedback after HAR lowers mAP", "har", "max", "mAP", "feedback_gain", False),
    Claim("HAR and mean feedback together raise mAP", "har", "mean", "mAP", "gain", True),
    Claim("HAR and mean feedback together raise mIoU", "har", "mean", "mIoU", "gain", True),
)


def judge(results: Mapping[str, Any], dataset: str = "toytown") -> str:
    """Each of `CLAIMS` with the difference measured and a verdict, as a Markdown table.

    A claim is supported if the whole 95 % interval lies on its side of zero, contradicted if it
    lies on the other, and not supported if it holds zero.
    """
    lines = ["| the paper's tables say | here, paired difference | verdict |", "|---|---|---|"]
    rows = cells(results, dataset)
    for claim in CLAIMS:
        found = rows[claim.variant, claim.scheme][claim.measure][claim.against]
        low, high = (
            (found["low"], found["high"]) if claim.rises else (-found["high"], -found["low"])
        )
        verdict = "supported" if low > 0 else "contradicted" if high < 0 else "not supported"
        figures = f"{found['mean']:+.3f} ({found['low']:+.3f} … {found['high']:+.3f})"
        lines.append(f"| {claim.text} | {figures} | {verdict} |")
    return "\n".join(lines)


def weights_path(out: Path, variant: str, seed: int) -> Path:
    """Where a study keeps one of its networks."""
    return out / "networks" / f"{variant}-{seed}" / "network.safetensors"


def train_variants(
    out: Path, train: RetrievalDataset, validation: RetrievalDataset, config: StudyConfig
) -> None:
    """Train every network that is not there yet, all variants of a seed side by side."""
    todo = {
        seed: [v for v in config.variants if not weights_path(out, v, seed).exists()]
        for seed in range(config.seeds)
    }
    if not any(todo.values()):
        return
    describer = build_network(config.network)
    sampler = PairSampler(train, describer, config.recipe(seed=0))
    look = ValidationLook(validation, describer, config.recipe(seed=0), keep=True)
    origin = provenance(train)
    for seed, variants in todo.items():
        recipe = config.recipe(seed)
        lessons = Lessons(sampler, first=seed * config.steps, keep=32)

        def learn(
            variant: str, recipe: TrainingConfig = recipe, lessons: Lessons = lessons
        ) -> None:
            path = weights_path(out, variant, recipe.seed)
            shape = config.network.replace(name=variant, attention=variant)
            network, log = fit(
                shape, train, validation, recipe, path.parent, lessons=lessons, look=look
            )
            record = {"training": asdict(recipe), "provenance": origin, "log": log}
            write_json(_log_path(out, variant, recipe.seed), record)
            save_network(network, path)

        with ThreadPoolExecutor(max(1, len(variants))) as side_by_side:
            list(side_by_side.map(learn, variants))


def measure(
    out: Path,
    networks: Networks,
    schemes: Mapping[str, Scheme],
    dataset: RetrievalDataset,
    explained: int = 4,
) -> None:
    """Rank and explain with every network, in one round and under every scheme.

    The tensors of a query are made once for all. Each query's records are written to a file of
    its own when they are complete; queries whose file is there are passed over.

    Parameters
    ----------
    out
        Folder of the files.
    networks
        By (variant, seed); all describe pictures alike.
    schemes
        Second rounds by name, besides ``"none"``.
    dataset
        With queries.
    explained
        Positives of a query, evenly spread, whose evidence is measured.
    """
    left = [query for query in dataset.queries if not _record_path(out, query).exists()]
    if not left:
        return
    method = NetworkMethod(next(iter(networks.values())))
    database = prepare(method, dataset).features
    pairs: dict[str, list[EvidencePair]] = {}
    for pair in evidence_pairs(dataset) if explained else ():
        if pair.name in database:
            pairs.setdefault(pair.query.name, []).append(pair)
    workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    with ThreadPoolExecutor(workers) as threads:
        for query in tqdm(left, desc=f"measuring {out.name}", unit="query", disable=None):
            tensor = _tensors(method, method.prepare_query(dataset.read_query(query)), database)
            own = pairs.get(query.name, [])
            spread = np.linspace(0, len(own) - 1, min(explained, len(own))).round().astype(int)
            job = _Job(query, dataset, database, tensor, [own[at] for at in spread])
            records = threads.map(
                lambda item, job=job: job.records(item[1], item[0], schemes), networks.items()
            )
            write_json(_record_path(out, query), [row for rows in records for row in rows])


@dataclass(frozen=True)
class _Job:
    """One query, its tensors against the whole database, and the pairs to explain."""

    query: Query
    dataset: RetrievalDataset
    database: Mapping[str, Described]
    tensor: Tensor
    pairs: Sequence[EvidencePair]

    @cached_property
    def names(self) -> list[str]:
        return list(self.database)

    @cached_property
    def partners(self) -> list[np.ndarray | None]:
        grid = self.tensor.shape[2:]
        names = [pair.name for pair in self.pairs]
        return [known_partners(self.dataset, self.query, name, grid) for name in names]

    def records(
        self, network: IndicativeNetwork, key: tuple[str, int], schemes: Mapping[str, Scheme]
    ) -> list[Record]:
        margins = _margins(network, self.tensor)
        order = self._order(margins, range(len(self.names)))
        others = [at for at in order if self.names[at] != self.query.image]
        again, rest = order[:JUDGED_AGAIN], order[JUDGED_AGAIN:]
        region = query_region(self.dataset, self.query, self.tensor.shape[4:])
        first = {"variant": key[0], "seed": key[1], "scheme": "none"}
        rows = [first | self._precisions(order) | self._evidence(network)]
        for name, scheme in schemes.items():
            feedback = scheme.feedback
            row, answers = first | {"scheme": name}, others[: feedback.n]
            if feedback.weigh == "answers":
                if key[0] != BASE:  # n more rankings each: the others are left out
                    continue
                scores = margins[again] + self._votes(network, answers, again, feedback)
            elif scheme.oracle and region is None:
                continue
            else:
                weights = scheme.weights(network, self.tensor[answers], region)
                weighted = weight_tensor(self.tensor[again], weights, feedback.strength)
                scores = _margins(network, weighted)
                row |= self._evidence(network, weights, feedback.strength)
            rows.append(row | self._precisions(self._order(scores, again) + rest))
        return rows

    def _votes(
        self,
        network: IndicativeNetwork,
        answers: Sequence[int],
        again: Sequence[int],
        feedback: FeedbackConfig,
    ) -> np.ndarray:
        evidences = explain(network, self.tensor[answers], feedback.evidence)
        found = [(again.index(at), self.dataset.read(self.names[at])) for at in answers]
        features = [self.database[self.names[at]] for at in again]
        return answer_votes(NetworkMethod(network), evidences, found, features, feedback.level)

    def _order(self, scores: np.ndarray, places: Sequence[int]) -> list[int]:
        """Places by falling score, ties by name."""
        by_score = sorted(zip(-scores, (self.names[at] for at in places), places, strict=True))
        return [at for _, _, at in by_score]

    def _precisions(self, order: Sequence[int]) -> dict[str, float]:
        ranked = [self.names[at] for at in order]
        positives, junk, own = self.query.positives, self.query.junk, {self.query.image}
        values = {"mAP": average_precision(ranked, positives, junk)}
        for k in (5, 10, 20):
            values[f"mAP@{k}"] = average_precision(ranked, positives, junk, k)
        if positives - own:
            values["mAP_without_query"] = average_precision(ranked, positives - own, junk | own)
        return values

    def _evidence(
        self, network: IndicativeNetwork, weights: Tensor | None = None, strength: float = 0.0
    ) -> dict[str, float]:
        if not self.pairs:
            return {}
        rows = self.tensor[[self.names.index(pair.name) for pair in self.pairs]]
        if weights is not None:
            rows = weight_tensor(rows, weights, strength)
        measured = [
            pair_measures(pair, evidence, partners)
            for pair, evidence, partners in zip(
                self.pairs, explain(network, rows, DEFAULT_EVIDENCE), self.partners, strict=True
            )
        ]
        found = {m: [row[m] for row in measured if m in row] for m in EVIDENCE_MEASURES}
        return {name: float(np.nanmean(values)) for name, values in found.items() if values}


def query_region(dataset: RetrievalDataset, query: Query, grid: Sequence[int]) -> Tensor | None:
    """How much of each query patch shows the landmark, (m', n') in 0 … 1: the oracle's Q*.

    ``None`` where the data set does not tell, or knows no more than the box itself.
    """
    if not (dataset.root / "masks").is_dir():
        return None
    roi = dataset.roi(query.image)
    if roi is None:
        return None
    x1, y1, x2, y2 = pixel_box(query.box, roi.shape) if query.box else (0, 0, *roi.shape[::-1])
    return torch.from_numpy(average_to_grid(roi[y1:y2, x1:x2], grid)).float()


def read_records(out: Path, dataset: RetrievalDataset) -> dict[str, list[Record]]:
    """What `measure` wrote, by the query's name."""
    return {q.name: json.loads(_record_path(out, q).read_text()) for q in dataset.queries}


def summarise(records: Mapping[str, list[Record]], dataset: RetrievalDataset) -> dict[str, Any]:
    """Means with intervals, and differences from Base and from one round, paired.

    Parameters
    ----------
    records
        From `read_records`.
    dataset
        Tells the landmark of each query.

    Returns
    -------
    dict
        ``rows``: for each variant and scheme, by measure, ``mean``, ``low``, ``high`` and the same
        of ``gain`` over Base in one round and of ``feedback_gain`` over the variant's own first
        round; ``AP`` lists average precision by query and, inside, seed; ``queries`` counts.
    """
    landmark = {query.name: query.landmark for query in dataset.queries}
    values: dict[tuple[str, str], dict[str, dict[tuple[str, str, int], float]]] = {}
    for name, of_query in records.items():
        for row in of_query:
            cell = values.setdefault((row["variant"], row["scheme"]), {})
            for measure_name in (*MEASURES, *EVIDENCE_MEASURES):
                if measure_name in row:
                    by_key = cell.setdefault(measure_name, {})
                    by_key[landmark[name], name, row["seed"]] = row[measure_name]
    rows = []
    for (variant, scheme), cell in values.items():
        summary: Record = {"variant": variant, "scheme": scheme, "AP": _by_query(cell["mAP"])}
        for name, known in cell.items():
            summary[name] = figures = _interval(nested_bootstrap(known))
            if (variant, scheme) != (BASE, "none"):
                figures["gain"] = _interval(nested_bootstrap(known, values[BASE, "none"][name]))
            if scheme != "none":
                alone = values[variant, "none"][name]
                figures["feedback_gain"] = _interval(nested_bootstrap(known, alone))
        rows.append(summary)
    return {"rows": rows, "queries": len(records)}


def match_clicked(networks: Networks, pairs: Sequence[ClickedPair]) -> list[Record]:
    """Where each network's evidence sends clicked points: shares within one and two patches."""
    rows = list[Record]()
    for (variant, seed), network in networks.items():
        found = []
        for pair in pairs:
            query, target = read_image(pair.query), read_image(pair.target)
            asked = network.describe(query, query=True)
            tensor = network.correlate(asked, [network.describe(target)])
            evidence = explain(network, tensor, DEFAULT_EVIDENCE)[0].pairs
            guess = strongest_targets(evidence, pair.query_points, query.shape, target.shape)
            found.append(
                point_match_accuracy(guess, pair.target_points, target.shape, network.config.grid)
            )
        names, values = found[0]._fields, np.mean(found, axis=0).tolist()
        rows.append({"variant": variant, "seed": seed} | dict(zip(names, values, strict=True)))
    return rows


def _validation_table(records: Mapping[str, list[Record]]) -> dict[str, float]:
    """Mean AP by scheme, queries' own photos left out."""
    found: dict[str, list[float]] = {}
    for row in itertools.chain.from_iterable(records.values()):
        found.setdefault(row["scheme"], []).append(row["mAP_without_query"])
    return {scheme: float(np.mean(values)) for scheme, values in found.items()}


def _tensors(method: NetworkMethod, asked: Described, database: Mapping[str, Described]) -> Tensor:
    described = list(database.values())
    starts = range(0, len(described), method.batch)
    return torch.cat([method.tensor(asked, described[at : at + method.batch]) for at in starts])


@torch.inference_mode()
def _margins(network: IndicativeNetwork, tensor: Tensor) -> np.ndarray:
    return torch.cat([network.margin(part) for part in tensor.split(8)]).double().numpy()


def _by_query(values: Mapping[tuple[str, str, int], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (_, query, _), value in sorted(values.items()):
        found.setdefault(query, []).append(round(value, 5))
    return found


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: round(value, 5) for name, value in interval._asdict().items()}


def _plain(config: StudyConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def _record_path(out: Path, query: Query) -> Path:
    return out / f"{query.name}.json"


def _log_path(out: Path, variant: str, seed: int) -> Path:
    return weights_path(out, variant, seed).with_name("log.json")
