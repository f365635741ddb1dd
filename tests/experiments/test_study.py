"""The study of attention and feedback, on a town of posters."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from indiret.attention import MASKS
from indiret.checkpoints import load_network
from indiret.datasets import ClickedPair, load_dataset
from indiret.evaluation import average_precision
from indiret.experiments import records, study
from indiret.experiments.claims import judge_gains
from indiret.experiments.query_evaluator import QueryEvaluator
from indiret.experiments.study import StudyConfig, query_region, run_study
from indiret.network import build_network
from indiret.retrieval import NetworkRetriever, index_database, rank
from tests.experiments import SMALL, damages, lose_photo, record_calls
from tests.tiny_town import make_tiny_town
from tools.store_results import store_study

CONFIG = StudyConfig(("none", "plane"), seeds=2, steps=4, explained=2, network=SMALL)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town") / "test", "t", seed=2)


@pytest.fixture(scope="module")
def finished(towns, town, tmp_path_factory):
    out, first = tmp_path_factory.mktemp("study"), next(iter(town.images.values()))
    points = [np.array([[10.0, 10], [30, 30]])] * 2
    clicked = [ClickedPair(str(one), first, one, *points) for one in (first, Path("gone.jpg"))]
    return out, run_study(out, CONFIG, *towns, {"toytown": town}, clicked)


def test_every_variant_is_measured_in_one_round_and_two(finished):
    out, results = finished
    cells = {(row["variant"], row["scheme"]) for row in results["toytown"]["rows"]}
    schemes = ("none", "mean", "max")  # posters have no masks, so no oracle
    both = {(variant, scheme) for variant in CONFIG.variants for scheme in schemes}
    assert cells == both | {("none", "answers")}
    for row in results["toytown"]["rows"]:
        assert 0 <= row["mAP"]["low"] <= row["mAP"]["mean"] <= row["mAP"]["high"] <= 1
        assert ("gain" in row["mAP"]) == ((row["variant"], row["scheme"]) != ("none", "none"))
        assert ("feedback_gain" in row["mAP"]) == (row["scheme"] != "none")
        assert np.mean(list(row["AP"].values())) == pytest.approx(row["mAP"]["mean"], abs=1e-4)
    assert len(results["clicked"]) == len(CONFIG.variants) * CONFIG.seeds
    assert results["skipped"].keys() == {"gone.jpg"}
    assert json.loads((out / "results.json").read_text()) == results
    assert "stage1.0 sigma" in results["logs"]["plane-0"][-1]


def test_variants_of_a_seed_see_the_same_pairs(finished, towns, tmp_path):
    out, _ = finished
    alone = StudyConfig(("none",), seeds=2, steps=4, network=SMALL)
    study.train_variants(tmp_path, *towns, alone)
    for seed in range(2):
        beside, apart = (
            load_network(study.weights_path(folder, "none", seed)).state_dict()
            for folder in (out, tmp_path)
        )
        assert all(torch.equal(beside[name], apart[name]) for name in apart)


def test_what_is_finished_is_not_done_again(finished, towns, town, monkeypatch):
    out, results = finished
    (out / "toytown" / f"{town.queries[1].name}.jsonl").unlink()
    monkeypatch.setattr(study, "fit", lambda *a, **k: pytest.fail("trained again"))
    asked = record_calls(monkeypatch, study, "QueryEvaluator")
    again = run_study(out, CONFIG, *towns, {"toytown": town})
    assert len(asked) == 1
    assert again["toytown"] == results["toytown"]


def test_what_is_broken_is_made_again(finished, towns, town, monkeypatch):
    out, results = finished
    trained = record_calls(monkeypatch, study, "fit")
    for times, _ in enumerate(damages(study.weights_path(out, "plane", 1)), start=1):
        again = run_study(out, CONFIG, *towns, {"toytown": town})
        assert again["toytown"] == results["toytown"]
        assert [config.name for config, *_ in trained] == ["plane"] * times


def test_a_photo_that_is_gone_is_skipped_by_name(finished, town, tmp_path, monkeypatch):
    network, query = load_network(study.weights_path(finished[0], "none", 0)), town.queries[1]
    lose_photo(monkeypatch, query.image)
    table = study.measure_networks(tmp_path, {("none", 0): network}, {}, town, explained=1)
    summary = study.summarise_study(table)
    assert summary["skipped"] == {query.name: f"There is no file {query.image}.jpg."}
    assert summary["queries"] == len(summary["rows"][0]["AP"]) == len(town.queries) - 1


def test_measures_of_other_networks_are_refused(finished, town):
    with pytest.raises(ValueError, match="another measurement"):
        study.measure_networks(
            finished[0] / "toytown", {("none", 0): build_network(SMALL)}, {}, town, explained=1
        )


def test_settings_that_say_nothing_are_refused(finished, towns):
    for wrong in ({"variants": ("har",)}, {"seeds": 0}):
        with pytest.raises(ValueError, match=r"not (allowed|at least 1)"):
            StudyConfig(**wrong)
    with pytest.raises(ValueError, match="namely seeds"):
        run_study(finished[0], replace(CONFIG, seeds=1), *towns, {})


def test_the_oracle_is_the_landmark_within_the_box():
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    region = query_region(town, query, (10, 10))
    x1, y1, x2, y2 = (round(side) for side in query.box)
    assert region.shape == (10, 10) and 0 <= region.min() and region.max() <= 1
    shown = town.roi(query.image)[y1:y2, x1:x2].mean()
    assert region.mean().item() == pytest.approx(shown, abs=1e-3)


def test_a_second_round_weighs_the_query_by_its_first_answers(town):
    torch.manual_seed(0)
    method = NetworkRetriever(build_network(SMALL))
    features = index_database(method, town).features
    asked = QueryEvaluator(method, town, town.queries[0], features.__getitem__)
    names, region = list(town.images), torch.tensor(np.eye(4) / 2)
    schemes = study.candidates()
    mean = schemes["mean, n=3, raw, λ=0.3"]
    again, change = asked.second_round(method.network, names, mean)
    weights = change.keywords["weights"]
    assert weights.shape == (4, 4) and weights.max() == 1 and sorted(again) == sorted(names)
    _, change = asked.second_round(method.network, names, schemes["oracle, λ=1"], region)
    assert change.keywords["weights"].equal(2 * region)
    assert asked.second_round(method.network, names, schemes["answers, n=1"])[1] is None
    assert asked.second_round(method.network, names, replace(mean, evidence="hirescam"))[1]


def test_what_the_book_needs_is_stored(finished, tmp_path, monkeypatch):
    out, results = finished
    store_study(out, tmp_path / "study")
    for module in (study, records):
        monkeypatch.setattr(module, "DATA", tmp_path)
    kept = study.stored_results()
    assert kept["logs"].keys() == results["logs"].keys()
    assert len(kept["toytown"]["rows"]) == len(results["toytown"]["rows"])
    networks = study.stored_networks()
    assert list(networks) == ["none", "plane"]
    original = load_network(study.weights_path(out, "plane", 0)).state_dict()
    copied = load_network(networks["plane"]).state_dict()
    assert all(torch.equal(copied[name], original[name]) for name in original)


def test_validation_curves_are_means_over_seeds(finished):
    _, results = finished
    curves = study.validation_curves(results)
    assert list(curves) == ["Base", "plane"]
    last = [results["logs"][f"plane-{seed}"][-1]["validation_map"] for seed in (0, 1)]
    assert curves["plane"][-1] == {"step": 4, "mAP": pytest.approx(np.mean(last))}


def test_a_shipped_network_gives_the_stored_precision():
    results, town = study.stored_results(), load_dataset("toytown", split="test")
    method = NetworkRetriever(load_network(study.stored_networks()["none"]))
    query = town.queries[7]
    names = [hit.name for hit in rank(method, [query], town)[query.name]]
    stored = study.cells(results)["none", "none"]["AP"][query.name][0]
    assert average_precision(names, query.positives, query.junk) == pytest.approx(stored, abs=1e-4)


def test_the_chapters_say_what_the_study_found():
    """Chapters 7 and 8 conclude in words; these are the numbers behind them."""
    results = study.stored_results()
    rows = study.cells(results)
    gains = {v: rows[v, "none"][m]["gain"] for v in MASKS for m in ("mAP", "patch_match")}
    assert all(gain["low"] < 0 for gain in gains.values())  # no mask is above Base for sure
    assert {v for v in MASKS if rows[v, "none"]["mAP"]["gain"]["high"] < 0} == {"har", "plane"}
    curves = study.validation_curves(results)
    assert all(curves["Base"][-1]["mAP"] >= curve[-1]["mAP"] for curve in curves.values())
    weighed = [row for (_, scheme), row in rows.items() if scheme in ("mean", "max", "oracle")]
    assert all(row["mAP"]["feedback_gain"]["low"] < 0 for row in weighed)
    asking = rows["none", "answers"]["mAP"]["feedback_gain"]
    oracle = rows["none", "oracle"]["mAP"]["feedback_gain"]
    assert asking["low"] > 0 and asking["mean"] >= oracle["mean"] / 3
    assert "| reproduced |" not in judge_gains(results)
