"""Measure a method's evidence over a data set, beside what costs nothing and what is possible.

An evidence pair is a query and one of its positives, other than its own photo, that has a region of
interest. Every map of the pair's target is measured alike: the method's, the trivial ones and the
ceilings.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.evaluation import (
    average_to_grid,
    centre_gaussian,
    nested_bootstrap,
    otsu_iou,
    patch_match_accuracy,
    pixel_auc,
    threshold_ious,
    true_partners,
    upsample_map,
)
from indiret.evidence import Evidence, deletion, explain
from indiret.images import image_size, pixel_box
from indiret.localisation import THRESHOLDS, box_iou
from indiret.ranking import NetworkMethod, Prepared, prepare_query

DEFAULT_EVIDENCE = "combined"  # the best on Toytown validation; see book/decisions
EVIDENCE = {
    "combined": {"method": "combined"},
    "hirescam, stem": {"method": "hirescam", "layers": "stem"},
    "input_gradient": {"method": "input_gradient"},
    "gradcam (Eq. 3, literal)": {"method": "gradcam", "layers": "blocks"},
}
SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)  # of the centre Gaussian, in half picture sides
OTHER = ", other landmark"  # ends the name of the row that explains pairs that do not match
WITH_INTERVAL = (
    "mIoU",
    "otsu_iou",
    "pixel_auc",
    "patch_match",
    "box_iou",
    "deletion",
)  # with an interval
FRAME = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # corners of a photo, y and x
Measures = dict[str, Any]
Array = np.ndarray[Any, Any]


class EvidencePair(NamedTuple):
    query: Query
    name: str
    roi: np.ndarray


class Figures:
    """What was measured, by kind of map and by pair."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[str, str, int], Measures]] = {}

    def add(self, kind: str, pair: EvidencePair, row: Measures) -> None:
        """Add to the figures of one map of one pair."""
        key = pair.query.landmark, f"{pair.query.name} {pair.name}", 0
        self.rows.setdefault(kind, {}).setdefault(key, {}).update(row)

    def means(self) -> dict[str, Measures]:
        """A row for each kind of map."""
        return {kind: _means(rows) for kind, rows in self.rows.items()}


def evidence_pairs(dataset: RetrievalDataset) -> Iterator[EvidencePair]:
    """Every (query, other positive with a RoI), in order."""
    for query in dataset.queries:
        for name in sorted(query.positives - {query.image}):
            roi = dataset.roi(name, query.landmark) if name in dataset.images else None
            if roi is not None:
                yield EvidencePair(query, name, roi)


def best_sigma(dataset: RetrievalDataset) -> float:
    """The σ whose centre Gaussian has the best mean Otsu IoU; give validation pictures."""
    rois = {pair.name: pair.roi for pair in evidence_pairs(dataset)}.values()
    scores = [
        np.mean([otsu_iou(centre_gaussian(roi.shape, s), roi) for roi in rois]) for s in SIGMAS
    ]
    return SIGMAS[int(np.argmax(scores))]


@cache
def _validation_sigma() -> float:
    return best_sigma(load_dataset("toytown", split="validation"))


def measure_evidence(
    method: NetworkMethod, dataset: RetrievalDataset, prepared: Prepared
) -> dict[str, Measures]:
    """Mean figures of every kind of map over all evidence pairs of a data set.

    Parameters
    ----------
    method
        The network.
    dataset
        With regions of interest; Toytown also has patch correspondence.
    prepared
        From `indiret.ranking.prepare` with this method and data set.

    Returns
    -------
    dict
        A row for each kind of evidence, each trivial map and ceiling: ``mIoU`` (with its standard
        deviations over thresholds and over pairs), ``otsu_iou``, ``pixel_auc``, ``deletion`` (fall
        of the margin in logits when the top fifth of the target's cells is deleted), for evidence
        with correspondence ``patch_match``, its ``chance`` and ``coverage``; ``pairs`` and
        ``auc_left_out`` count. ``mIoU_ci`` and so on are 95 % intervals, of landmarks and pairs
        inside them drawn again. ``other landmark`` explains the same targets against a query of
        another landmark. Empty if there is no evidence pair.
    """
    by_query = pairs_by_query(dataset, prepared.features)
    if not by_query:
        return {}
    sigma = _validation_sigma()
    figures = Figures()
    random = torch.Generator().manual_seed(0)
    asked = [pairs[0].query for pairs in by_query.values()]
    for query in tqdm(asked, desc="explaining", unit="query", disable=None):
        pairs = by_query[query.name]
        targets = [prepared.features[pair.name] for pair in pairs]
        tensor = method.tensor(method.prepare_query(dataset.read_query(query)), targets)
        evidence = {
            kind: explain(method.network, tensor, **settings)  # type: ignore[arg-type]
            for kind, settings in EVIDENCE.items()
        }
        for number, pair in enumerate(pairs):
            partners = known_partners(dataset, pair.query, pair.name, tensor.shape[2:])
            for kind, of_pairs in evidence.items():
                figures.add(kind, pair, _patch_match(of_pairs[number], partners))
        stranger = _other_landmark(asked, query)
        if stranger:
            other = method.tensor(method.prepare_query(dataset.read_query(stranger)), targets)
            evidence[DEFAULT_EVIDENCE + OTHER] = explain(method.network, other, DEFAULT_EVIDENCE)
        maps = {
            kind: [one.target_map.numpy() for one in of_pairs]
            for kind, of_pairs in evidence.items()
        } | _maps_without_network(pairs, tensor, sigma, random)
        grid = tuple(tensor.shape[2:4])
        for kind, drawn in maps.items():
            falls = deletion(method.network, tensor, _on_grid(drawn, grid))
            for pair, values, fall in zip(pairs, drawn, falls.tolist(), strict=True):
                figures.add(kind, pair, _localisation(values, pair.roi))
                if not kind.endswith(OTHER):
                    figures.add(kind, pair, {"deletion": fall})
        lowest = deletion(method.network, tensor, -_on_grid(maps[DEFAULT_EVIDENCE], grid))
        for pair, fall in zip(pairs, lowest.tolist(), strict=True):
            figures.add(f"{DEFAULT_EVIDENCE}, lowest fifth", pair, {"deletion": fall})
    return figures.means()


def measure_maps(method: Any, dataset: RetrievalDataset, prepared: Prepared) -> dict[str, Measures]:
    """The same figures for a method that is no network, from its own ``evidence``.

    Parameters
    ----------
    method
        A `indiret.ranking.Method` whose ``evidence(query, target)`` gives tensors by kind: target
        maps (m, n), or patch pairs (m, n, m', n'), which have a patch match too. One whose
        ``carry(query, target, points)`` says where points of the query lie has a ``box_iou``.
    dataset, prepared
        As for `measure_evidence`.

    Returns
    -------
    dict
        Rows as `measure_evidence` gives them, without ``deletion`` and what comes from the tensor.
        Empty if there is no evidence pair, or the method has no evidence for it.
    """
    by_query = pairs_by_query(dataset, prepared.features)
    sigma = _validation_sigma() if by_query else 0.0
    asked = [pairs[0].query for pairs in by_query.values()]
    figures = Figures()
    for query in tqdm(asked, desc="explaining", unit="query", disable=None):
        features = prepare_query(method, dataset, query)
        stranger = _other_landmark(asked, query)
        strange = prepare_query(method, dataset, stranger) if stranger else None
        for pair in by_query[query.name]:
            target = prepared.features[pair.name]
            kinds = dict(method.evidence(features, target))
            if not kinds:
                continue
            if strange is not None:
                others = method.evidence(strange, target)
                kinds |= {kind + OTHER: values for kind, values in others.items()}
            maps: dict[str, Array] = {}
            for kind, values in kinds.items():
                if values.ndim == 4:
                    evidence = Evidence(0.0, values)
                    maps[kind] = evidence.target_map.numpy()
                    if not kind.endswith(OTHER):
                        partners = known_partners(dataset, pair.query, pair.name, values.shape)
                        figures.add(kind, pair, _patch_match(evidence, partners))
                else:
                    maps[kind] = values.numpy()
            if hasattr(method, "carry"):
                box = box_around(method.carry(features, target, FRAME))
                figures.add(next(iter(kinds)), pair, {"box_iou": box_iou(box, pair.roi)})
                figures.add("all ones", pair, {"box_iou": box_iou((0, 0, 1, 1), pair.roi)})
            grid = next(iter(maps.values())).shape
            maps |= {
                "all ones": np.ones(grid),
                "centre Gaussian": centre_gaussian(pair.roi.shape, sigma),
                "ceiling: RoI": pair.roi.astype(float),
                "ceiling: RoI on the grid": average_to_grid(pair.roi, grid),
            }
            for kind, drawn in maps.items():
                figures.add(kind, pair, _localisation(drawn, pair.roi))
    return figures.means()


def box_around(points: Array) -> list[float]:
    """Top, left, bottom and right of points (N, 2); the whole photo if one of them is unknown.

    Examples
    --------
    >>> box_around(np.array([[0.5, 0.25], [0.75, 1.0]]))
    [0.5, 0.25, 0.75, 1.0]
    """
    if np.isnan(points).any():
        return [0.0, 0.0, 1.0, 1.0]
    return [*points.min(0).tolist(), *points.max(0).tolist()]


def pairs_by_query(
    dataset: RetrievalDataset, ranked: Container[str]
) -> dict[str, list[EvidencePair]]:
    """The evidence pairs whose target is ranked, by the name of their query."""
    found: dict[str, list[EvidencePair]] = {}
    for pair in evidence_pairs(dataset):
        if pair.name in ranked:
            found.setdefault(pair.query.name, []).append(pair)
    return found


def pair_measures(pair: EvidencePair, evidence: Evidence, partners: Array | None) -> Measures:
    """``mIoU``, ``otsu_iou``, ``pixel_auc`` and, with correspondence, ``patch_match`` of one pair.

    ``partners`` are those of the pair, where they are known. ``pixel_auc`` is NaN where the region
    is empty or the whole picture.
    """
    values = evidence.target_map.numpy()
    measured = {"mIoU": float(np.mean(threshold_ious(values, pair.roi)))}
    measured |= {"otsu_iou": otsu_iou(values, pair.roi), "pixel_auc": pixel_auc(values, pair.roi)}
    return measured | _patch_match(evidence, partners)


def known_partners(
    dataset: RetrievalDataset, query: Query, name: str, grid: Sequence[int]
) -> Array | None:
    """The exact correspondence of a query's patches and a picture's, where the data set has it.

    The query's patches cover its box, the target's all of it; ``grid`` is (m, n, m', n'). Returns
    (m', n', 2) as `indiret.correspondence.true_partners` makes it, or None, also where the photo
    does not show the query's landmark.
    """
    if name not in query.positives | query.junk:
        return None  # surface points of two landmarks have coordinates of their own
    asked, target = dataset.geometry(query.image), dataset.geometry(name)
    if asked is None or target is None:
        return None
    height, width = image_size(dataset.path(query.image))
    box = pixel_box(query.box or (0, 0, width, height), (height, width))
    return true_partners(asked, target, box, grid[2:], image_size(dataset.path(name)), grid[:2])


def _maps_without_network(
    pairs: list[EvidencePair], tensor: Tensor, sigma: float, random: torch.Generator
) -> dict[str, list[np.ndarray]]:
    grid = tuple(tensor.shape[2:4])
    return {
        "raw tensor, maximum": list(tensor.mean(1).amax((3, 4)).numpy()),
        "all ones": [np.ones(grid) for _ in pairs],
        "random": list(torch.rand(len(pairs), *grid, generator=random).numpy()),
        "centre Gaussian": [centre_gaussian(pair.roi.shape, sigma) for pair in pairs],
        "ceiling: RoI": [pair.roi.astype(float) for pair in pairs],
        "ceiling: RoI on the grid": [average_to_grid(pair.roi, grid) for pair in pairs],
    }


def _localisation(values: np.ndarray, roi: np.ndarray) -> Measures:
    values = upsample_map(values, roi.shape)
    at = {
        f"IoU@{t:.1f}": iou for t, iou in zip(THRESHOLDS, threshold_ious(values, roi), strict=True)
    }
    return {"otsu_iou": otsu_iou(values, roi), "pixel_auc": pixel_auc(values, roi)} | at


def _patch_match(evidence: Evidence, partners: Array | None) -> Measures:
    if partners is None:
        return {}
    found = patch_match_accuracy(evidence.matches(20), partners, evidence.target_map.shape)
    return {"patch_match": found.accuracy, "chance": found.chance, "coverage": found.coverage}


def _other_landmark(queries: list[Query], query: Query) -> Query | None:
    """The next query, in order and round, that asks for another landmark."""
    at = queries.index(query)
    others = (q for q in queries[at + 1 :] + queries[:at] if q.landmark != query.landmark)
    return next(others, None)


def _on_grid(maps: list[np.ndarray], grid: tuple[int, ...]) -> Tensor:
    averaged = [m if m.shape == grid else average_to_grid(m, grid) for m in maps]
    return torch.from_numpy(np.stack(averaged).astype(np.float32))


def _means(rows: Mapping[tuple[str, str, int], Measures]) -> Measures:
    """Mean of every figure over the pairs that have it; a NaN (no AUC) is left out and counted."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    columns = {name: {key: row[name] for key, row in rows.items() if name in row} for name in names}
    ious = [columns.pop(name) for name in names if name.startswith("IoU@")]
    if ious:
        table = np.array([list(column.values()) for column in ious])
        columns["mIoU"] = dict(zip(ious[0], table.mean(0).tolist(), strict=True))
    means: Measures = {"pairs": max(map(len, columns.values()))}
    for name, column in columns.items():
        known = {key: value for key, value in column.items() if np.isfinite(value)}
        if known:
            means[name] = float(np.mean(list(known.values())))
        if known and name in WITH_INTERVAL:
            means[f"{name}_ci"] = list(nested_bootstrap(known)[1:])
    if ious:
        means["mIoU_sd_over_thresholds"] = float(table.mean(1).std())
        means["mIoU_sd_over_pairs"] = float(table.mean(0).std())
        means["auc_left_out"] = int(np.isnan(list(columns["pixel_auc"].values())).sum())
    return means
