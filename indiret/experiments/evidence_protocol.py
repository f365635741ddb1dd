"""Measure a method's evidence over a data set, beside what costs nothing and what is possible.

An evidence pair is a query and one of its positives, other than its own photo, that has a region of
interest. Every map of the pair's target is measured alike: the method's, the trivial ones and the
ceilings.

Chapter: *Ranking and honest evaluation*.
"""

import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor
from tqdm import tqdm

from indiret import evaluation
from indiret.datasets import GONE, Geometry, Query, RetrievalDataset, read_all
from indiret.evidence import KINDS, Evidence, deletion, explain
from indiret.images import image_size, pixel_box
from indiret.network import IndicativeNetwork
from indiret.retrieval import IndexedDatabase, Retriever, encode_query

SIGMA = 0.8  # of the centre Gaussian, the best Otsu IoU on Toytown's validation pictures
EXPLAINED = 4  # positives of a query, evenly spread, whose evidence is measured
OTHER = ", other landmark"  # ends the name of the row that explains pairs that do not match
WITH_INTERVAL = ("mIoU", "otsu_iou", "pixel_auc", "patch_match", "box_iou", "deletion")
FRAME = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # corners of a photo, y and x
WHOLE = [0.0, 0.0, 1.0, 1.0]
Measures = dict[str, Any]
_Array = np.ndarray[Any, Any]


class EvidencePair(NamedTuple):
    query: Query
    name: str
    roi: np.ndarray


def evidence_pairs(dataset: RetrievalDataset) -> Iterator[EvidencePair]:
    """Every (query, other positive with a RoI), in order; photos that are gone with a warning."""
    for query in dataset.queries:
        for name in sorted((query.positives - {query.image}) & dataset.images.keys()):
            try:
                roi = dataset.roi(name, query.landmark)
            except GONE as error:
                warnings.warn(f"{error} It is not explained.", stacklevel=2)
                continue
            if roi is not None:
                yield EvidencePair(query, name, roi)


def spread_pairs(
    dataset: RetrievalDataset, ranked: Container[str], explained: int | None = EXPLAINED
) -> dict[str, list[EvidencePair]]:
    """By the query's name its evidence pairs whose target is ranked: so many, or all, spread."""
    found: dict[str, list[EvidencePair]] = {}
    for pair in evidence_pairs(dataset) if explained != 0 else ():
        if pair.name in ranked:
            found.setdefault(pair.query.name, []).append(pair)
    for name, own in found.items():
        count = min(explained or len(own), len(own))
        found[name] = [own[at] for at in np.linspace(0, len(own) - 1, count).round().astype(int)]
    return found


def measure_evidence(
    retriever: Retriever, dataset: RetrievalDataset, database: IndexedDatabase
) -> dict[str, Measures]:
    """Mean figures of every kind of map over all evidence pairs of a data set; empty if none.

    A row comes back for each kind of evidence, each trivial map and each ceiling: ``mIoU`` (with
    its standard deviations over thresholds and over pairs), ``otsu_iou``, ``pixel_auc`` and, for
    evidence with correspondence, ``patch_match``, its ``chance`` and ``coverage``; ``pairs`` and
    ``auc_left_out`` count; ``mIoU_ci`` and so on are 95 % intervals over landmarks and pairs. Of a
    network over T there is ``deletion``, too: the fall of the margin in logits when the top fifth
    of the target's cells is deleted; of a retriever that transfers points, ``box_iou``. Rows of
    another landmark explain the same targets against another query. Queries whose photos are gone
    are left out, and named in the database's ``skipped``.
    """
    by_query = spread_pairs(dataset, database.features, explained=None)
    network, kinds = retriever.tensor_network, retriever.evidence_kinds
    random = torch.Generator().manual_seed(0)
    queries = {name: pairs[0].query for name, pairs in by_query.items()}
    encoded, gone = read_all(queries, lambda name: encode_query(retriever, dataset, queries[name]))
    database.skipped |= {queries[name].image: why for name, why in gone.items()}
    asked = [queries[name] for name in encoded]
    figures: dict[str, dict[tuple[str, str, int], Measures]] = {}

    def add(kind: str, pairs: Sequence[EvidencePair], rows: Iterable[Measures]) -> None:
        for pair, row in zip(pairs, rows, strict=True):
            key = pair.query.landmark, f"{pair.query.name} {pair.name}", 0
            figures.setdefault(kind, {}).setdefault(key, {}).update(row)

    for query in tqdm(asked, desc="explaining", unit="query", disable=None):
        pairs, asking = by_query[query.name], encoded[query.name]
        targets = [database.features[pair.name] for pair in pairs]
        evidence = _explanations(retriever, asking, targets, kinds)
        matches = cache(partial(pair_matches, dataset, query))
        for kind, found in evidence.items():
            named = zip(pairs, found, strict=True)
            add(kind, pairs, [_patch_match(e, matches(p.name, e.pairs.shape)) for p, e in named])
        if negative := _other_landmark(asked, query):
            some = kinds[:1] if network else kinds
            others = _explanations(retriever, encoded[negative.name], targets, some)
            evidence |= {kind + OTHER: found for kind, found in others.items()}
        maps = {kind: [e.target_map.numpy() for e in found] for kind, found in evidence.items()}
        rois, grids = [pair.roi for pair in pairs], [drawn.shape for drawn in maps[kinds[0]]]
        maps |= _trivial_maps(rois, grids)
        if network:
            tensor = network.correlate(asking, targets)
            noise = torch.rand(len(pairs), *grids[0], generator=random)
            maps["raw tensor, maximum"] = list(tensor.mean(1).amax((3, 4)).numpy())
            maps["random"] = list(noise.numpy())
            for kind, falls in _deletions(network, tensor, maps, kinds[0]).items():
                add(kind, pairs, [{"deletion": fall} for fall in falls])
        for kind, drawn in maps.items():
            add(kind, pairs, map(localisation, drawn, rois))
        if retriever.transfers_points:
            corners = [retriever.transfer_points(asking, one, FRAME) for one in targets]
            boxes = {kinds[0]: list(map(box_around, corners)), "all ones": [WHOLE] * len(pairs)}
            for kind, around in boxes.items():
                ious = map(evaluation.box_iou, around, rois)
                add(kind, pairs, [{"box_iou": iou} for iou in ious])
    return {kind: _means(rows) for kind, rows in figures.items()}


def _explanations(
    retriever: Retriever, query: Any, targets: Sequence[Any], kinds: Sequence[str]
) -> dict[str, list[Evidence]]:
    """By its kind, the evidence of an encoded query against each target; a network's in batches."""
    if network := retriever.tensor_network:
        tensor = network.correlate(query, targets)
        return {kind: explain(network, tensor, **KINDS[kind]) for kind in kinds}
    return {kind: [retriever.explain(query, one, kind) for one in targets] for kind in kinds}


def _trivial_maps(
    rois: Sequence[_Array], grids: Sequence[tuple[int, ...]]
) -> dict[str, list[_Array]]:
    """By its kind, a map of each region: what costs nothing, and what is possible."""
    return {
        "all ones": [np.ones(grid) for grid in grids],
        "centre Gaussian": [evaluation.centre_gaussian(roi.shape, SIGMA) for roi in rois],
        "ceiling: RoI": [roi.astype(float) for roi in rois],
        "ceiling: RoI on the grid": list(map(evaluation.average_to_grid, rois, grids)),
    }


def _deletions(
    network: IndicativeNetwork, tensor: Tensor, maps: Mapping[str, list[_Array]], best: str
) -> dict[str, list[float]]:
    """By the kind of map, how far each margin falls; of the ``best`` also where it is lowest."""
    grid = tuple(tensor.shape[2:4])
    order = {k: _on_grid(drawn, grid) for k, drawn in maps.items() if not k.endswith(OTHER)}
    order[f"{best}, lowest fifth"] = -order[best]
    return {kind: deletion(network, tensor, one).tolist() for kind, one in order.items()}


def box_around(points: _Array) -> list[float]:
    """Top, left, bottom and right of points (N, 2); the whole photo if one of them is unknown."""
    if np.isnan(points).any():
        return WHOLE
    return [*points.min(0).tolist(), *points.max(0).tolist()]


def localisation(values: np.ndarray, roi: np.ndarray) -> Measures:
    """``IoU`` by threshold, ``mIoU``, ``otsu_iou`` and ``pixel_auc`` (NaN if the region is all)."""
    values = evaluation.upsample_map(values, roi.shape)
    ious = evaluation.threshold_ious(values, roi)
    return {
        "IoU": ious,
        "mIoU": float(ious.mean()),
        "otsu_iou": evaluation.otsu_iou(values, roi),
        "pixel_auc": evaluation.pixel_auc(values, roi),
    }


def pair_measures(pair: EvidencePair, evidence: Evidence, matches: _Array | None) -> Measures:
    """`localisation` and ``patch_match`` of one pair, given its true matches where known."""
    return localisation(evidence.target_map.numpy(), pair.roi) | _patch_match(evidence, matches)


def pair_matches(
    dataset: RetrievalDataset, query: Query, name: str, grid: Sequence[int]
) -> _Array | None:
    """The exact correspondence of a query's patches and a picture's, None where nobody knows it.

    The query's patches cover its box, the target's all of it; ``grid`` is (m, n, m', n'). Returns
    (m', n', 2) as `indiret.evaluation.ground_truth_matches` makes it.
    """
    if tuple(grid[2:]) == (1, 1):  # a map of the target alone
        return None
    if (known := pair_geometry(dataset, query, name)) is None:
        return None
    shape = image_size(dataset.path(name))
    return evaluation.ground_truth_matches(*known, grid[2:], shape, grid[:2])


def pair_geometry(
    dataset: RetrievalDataset, query: Query, name: str
) -> tuple[Geometry, Geometry, tuple[int, int, int, int]] | None:
    """Surfaces of a query and a picture, and the query's box in pixels, None where nobody knows."""
    if name not in query.positives | query.junk:
        return None  # surface points of two landmarks have coordinates of their own
    asked, target = dataset.geometry(query.image), dataset.geometry(name)
    if asked is None or target is None:
        return None
    height, width = image_size(dataset.path(query.image))
    return asked, target, pixel_box(query.box or (0, 0, width, height), (height, width))


def _patch_match(evidence: Evidence, matches: _Array | None) -> Measures:
    if matches is None:
        return {}
    shape = evidence.target_map.shape
    found = evaluation.patch_match_accuracy(evidence.matches(20), matches, shape)
    return {"patch_match": found.accuracy, "chance": found.chance, "coverage": found.coverage}


def _other_landmark(queries: list[Query], query: Query) -> Query | None:
    """The next query, in order and round, that asks for another landmark."""
    at = queries.index(query)
    others = (q for q in queries[at + 1 :] + queries[:at] if q.landmark != query.landmark)
    return next(others, None)


def _on_grid(maps: list[np.ndarray], grid: tuple[int, ...]) -> Tensor:
    averaged = [m if m.shape == grid else evaluation.average_to_grid(m, grid) for m in maps]
    return torch.from_numpy(np.stack(averaged).astype(np.float32))


def _means(rows: Mapping[tuple[str, str, int], Measures]) -> Measures:
    """Mean of every figure over the pairs that have it; a NaN (no AUC) is left out and counted."""
    table = DataFrame.from_dict(rows, orient="index")
    means: Measures = {"pairs": int(table.notna().sum().max())}
    if "IoU" in table:
        ious = np.stack(table.pop("IoU"))
        means["mIoU_sd_over_thresholds"] = float(ious.mean(0).std())
        means["mIoU_sd_over_pairs"] = float(ious.mean(1).std())
        means["auc_left_out"] = int(table["pixel_auc"].isna().sum())
    for name in table:
        if known := table[name].dropna().to_dict():
            means[name] = float(np.mean(list(known.values())))
            if name in WITH_INTERVAL:
                means[f"{name}_ci"] = list(evaluation.nested_bootstrap(known)[1:])
    return means
