"""Evidence measures over a data set, against a slow loop and against what must hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.datasets import load_dataset
from indiret.evaluation import centre_gaussian, otsu_iou, pixel_auc
from indiret.evidence import explain
from indiret.experiments.evidence_protocol import SIGMA, evidence_pairs, measure_evidence
from indiret.network import CONFIGS, build_network
from indiret.retrieval import NetworkRetriever, index_database


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    method = NetworkRetriever(build_network(replace(CONFIGS["base"], width=4)))
    town = load_dataset("toytown", split="validation")
    few = replace(town, queries=(town.queries[0], town.queries[-1]))
    database = index_database(method, few)
    return method, few, database, measure_evidence(method, few, database)


def test_figures_equal_a_loop_over_pairs(measured):
    method, town, database, figures = measured
    found = {"otsu_iou": [], "pixel_auc": []}
    for pair in evidence_pairs(town):
        query = method.encode_query(town.read_query(pair.query))
        tensor = method.tensor(query, [database.features[pair.name]])
        values = explain(method.network, tensor, "combined")[0].target_map.numpy()
        found["otsu_iou"].append(otsu_iou(values, pair.roi))
        found["pixel_auc"].append(pixel_auc(values, pair.roi))
    row = figures["combined"]
    assert row["pairs"] == len(found["otsu_iou"])
    assert 0 <= row["patch_match"] <= 1 and 0 < row["chance"] < 0.1 < row["coverage"] <= 1
    for name, values in found.items():
        assert row[name] == pytest.approx(np.nanmean(values), abs=0.02)


def test_trivial_maps_and_ceilings_stand_where_they_must(measured):
    figures = measured[3]
    assert figures["all ones"]["pixel_auc"] == pytest.approx(0.5)
    assert figures["random"]["pixel_auc"] == pytest.approx(0.5, abs=0.05)
    assert figures["ceiling: RoI"]["pixel_auc"] == pytest.approx(1)
    assert figures["ceiling: RoI"]["otsu_iou"] == pytest.approx(1)
    ceilings = figures["ceiling: RoI"], figures["ceiling: RoI on the grid"]
    assert 1 > ceilings[0]["mIoU"] > ceilings[1]["mIoU"] > 0.5
    for row in figures.values():
        assert row.get("mIoU", 0) <= ceilings[0]["mIoU"] + 1e-9


def test_own_photos_are_no_evidence_pairs(measured):
    for pair in evidence_pairs(measured[1]):
        assert pair.name in pair.query.positives - {pair.query.image} and pair.roi.any()


def test_the_centre_gaussian_is_the_best_on_validation():
    pairs = evidence_pairs(load_dataset("toytown", split="validation"))
    rois = {pair.name: pair.roi for pair in pairs}.values()
    best = {
        sigma: np.mean([otsu_iou(centre_gaussian(roi.shape, sigma), roi) for roi in rois])
        for sigma in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)
    }
    assert max(best, key=best.get) == SIGMA
