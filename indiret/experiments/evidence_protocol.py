"""Measure a method's evidence over a data set, beside what costs nothing and what is possible.

An evidence pair is a query and one of its positives, other than its own photo, that has a region of
interest. Every map of the pair's target is measured alike: the method's, the trivial ones and the
ceilings.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.evaluation import (
    THRESHOLDS,
    average_to_grid,
    box_iou,
    centre_gaussian,
    ground_truth_matches,
    nested_bootstrap,
    otsu_iou,
    patch_match_accuracy,
    pixel_auc,
    threshold_ious,
    upsample_map,
)
from indiret.evidence import KINDS, Evidence, deletion, explain
from indiret.images import image_size, pixel_box
from indiret.retrieval import IndexedDatabase, Retriever, encode_query

SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)  # of the centre Gaussian, in half picture sides
OTHER = ", other landmark"  # ends the name of the row that explains pairs that do not match
WITH_INTERVAL = ("mIoU", "otsu_iou", "pixel_auc", "patch_match", "box_iou", "deletion")
FRAME = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # corners of a photo, y and x
Measures = dict[str, Any]
_Array = np.ndarray[Any, Any]


class EvidencePair(NamedTuple):
    query: Query
    name: str
    roi: np.ndarray


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
    retriever: Retriever, dataset: RetrievalDataset, database: IndexedDatabase
) -> dict[str, Measures]:
    """Mean figures of every kind of map over all evidence pairs of a data set.

    A row comes back for each kind of evidence, each trivial map and each ceiling: ``mIoU`` (with
    its standard deviations over thresholds and over pairs), ``otsu_iou``, ``pixel_auc`` and, for
    evidence with correspondence, ``patch_match``, its ``chance`` and ``coverage``; ``pairs`` and
    ``auc_left_out`` count; ``mIoU_ci`` and so on are 95 % intervals over landmarks and pairs. Of a
    network over T there is ``deletion``, too: the fall of the margin in logits when the top fifth
    of the target's cells is deleted; of a retriever that transfers points, ``box_iou``. Rows of
    another landmark explain the same targets against another query. Empty if there is no pair.
    """
    by_query = pairs_by_query(dataset, database.features)
    network, kinds = retriever.tensor_network, retriever.evidence_kinds
    sigma = _validation_sigma() if by_query else 0.0
    random = torch.Generator().manual_seed(0)
    asked = [pairs[0].query for pairs in by_query.values()]
    figures: dict[str, dict[tuple[str, str, int], Measures]] = {}

    def add(kind: str, pair: EvidencePair, row: Measures) -> None:
        key = pair.query.landmark, f"{pair.query.name} {pair.name}", 0
        figures.setdefault(kind, {}).setdefault(key, {}).update(row)

    for query in tqdm(asked, desc="explaining", unit="query", disable=None):
        pairs = by_query[query.name]
        targets = [database.features[pair.name] for pair in pairs]
        encoded = encode_query(retriever, dataset, query)
        evidence = _explanations(retriever, encoded, targets, kinds)
        matches = cache(partial(pair_matches, dataset, query))
        for kind, of_pairs in evidence.items():
            for pair, one in zip(pairs, of_pairs, strict=True):
                grid = tuple(one.pairs.shape)
                if grid[2:] != (1, 1):  # of a map of the target alone there is no match
                    add(kind, pair, _patch_match(one, matches(pair.name, grid)))
        if negative := _other_landmark(asked, query):
            other = encode_query(retriever, dataset, negative)
            others = _explanations(retriever, other, targets, kinds[:1] if network else kinds)
            evidence |= {kind + OTHER: of_pairs for kind, of_pairs in others.items()}
        maps = {
            kind: [one.target_map.numpy() for one in of_pairs]
            for kind, of_pairs in evidence.items()
        }
        grids = [drawn.shape for drawn in maps[kinds[0]]]
        maps |= {
            "all ones": [np.ones(grid) for grid in grids],
            "centre Gaussian": [centre_gaussian(pair.roi.shape, sigma) for pair in pairs],
            "ceiling: RoI": [pair.roi.astype(float) for pair in pairs],
            "ceiling: RoI on the grid": [
                average_to_grid(pair.roi, grid) for pair, grid in zip(pairs, grids, strict=True)
            ],
        }
        if network:
            tensor = network.correlate(encoded, targets)
            noise = torch.rand(len(pairs), *grids[0], generator=random)
            maps["raw tensor, maximum"] = list(tensor.mean(1).amax((3, 4)).numpy())
            maps["random"] = list(noise.numpy())
            deleted = {kind: _on_grid(drawn, grids[0]) for kind, drawn in maps.items()}
            deleted[f"{kinds[0]}, lowest fifth"] = -deleted[kinds[0]]
            for kind in deleted:
                if not kind.endswith(OTHER):
                    falls = deletion(network, tensor, deleted[kind]).tolist()
                    for pair, fall in zip(pairs, falls, strict=True):
                        add(kind, pair, {"deletion": fall})
        for kind, drawn in maps.items():
            for pair, values in zip(pairs, drawn, strict=True):
                add(kind, pair, _localisation(values, pair.roi))
        if retriever.transfers_points:
            for pair, target in zip(pairs, targets, strict=True):
                box = box_around(retriever.transfer_points(encoded, target, FRAME))
                add(kinds[0], pair, {"box_iou": box_iou(box, pair.roi)})
                add("all ones", pair, {"box_iou": box_iou((0, 0, 1, 1), pair.roi)})
    return {kind: _means(rows) for kind, rows in figures.items()}


def _explanations(
    retriever: Retriever, query: Any, targets: Sequence[Any], kinds: Sequence[str]
) -> dict[str, list[Evidence]]:
    """By its kind, the evidence of an encoded query against each target; a network's in batches."""
    if network := retriever.tensor_network:
        tensor = network.correlate(query, targets)
        return {kind: explain(network, tensor, **KINDS[kind]) for kind in kinds}
    return {kind: [retriever.explain(query, one, kind) for one in targets] for kind in kinds}


def box_around(points: _Array) -> list[float]:
    """Top, left, bottom and right of points (N, 2); the whole photo if one of them is unknown."""
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


def pair_measures(pair: EvidencePair, evidence: Evidence, matches: _Array | None) -> Measures:
    """``IoU`` by threshold, ``mIoU``, ``otsu_iou``, ``pixel_auc``, ``patch_match`` of one pair.

    ``matches`` are those of the pair, where they are known. ``pixel_auc`` is NaN where the region
    is empty or the whole picture.
    """
    values = evidence.target_map.numpy()
    ious = threshold_ious(values, pair.roi)
    measured = {
        "IoU": ious,
        "mIoU": float(np.mean(ious)),
        "otsu_iou": otsu_iou(values, pair.roi),
        "pixel_auc": pixel_auc(values, pair.roi),
    }
    return measured | _patch_match(evidence, matches)


def pair_matches(
    dataset: RetrievalDataset, query: Query, name: str, grid: Sequence[int]
) -> _Array | None:
    """The exact correspondence of a query's patches and a picture's, where the data set has it.

    The query's patches cover its box, the target's all of it; ``grid`` is (m, n, m', n'). Returns
    (m', n', 2) as `indiret.evaluation.ground_truth_matches` makes it, or None; None, too, where
    the photo does not show the query's landmark.
    """
    if name not in query.positives | query.junk:
        return None  # surface points of two landmarks have coordinates of their own
    asked, target = dataset.geometry(query.image), dataset.geometry(name)
    if asked is None or target is None:
        return None
    height, width = image_size(dataset.path(query.image))
    box = pixel_box(query.box or (0, 0, width, height), (height, width))
    return ground_truth_matches(
        asked, target, box, grid[2:], image_size(dataset.path(name)), grid[:2]
    )


def _localisation(values: np.ndarray, roi: np.ndarray) -> Measures:
    values = upsample_map(values, roi.shape)
    ious = zip(THRESHOLDS, threshold_ious(values, roi), strict=True)
    at = {f"IoU@{threshold:.1f}": iou for threshold, iou in ious}
    return {"otsu_iou": otsu_iou(values, roi), "pixel_auc": pixel_auc(values, roi)} | at


def _patch_match(evidence: Evidence, matches: _Array | None) -> Measures:
    if matches is None:
        return {}
    found = patch_match_accuracy(evidence.matches(20), matches, evidence.target_map.shape)
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
