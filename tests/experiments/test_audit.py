"""The leak audit, on a town of posters."""

import json
from dataclasses import replace

import pytest

from indiret.datasets import load_dataset
from indiret.evaluation import held_out_images, mean_average_precision
from indiret.experiments import audit
from indiret.experiments.audit import AuditConfig, arrange, fold_precisions, run_audit
from indiret.experiments.query_evaluator import QueryEvaluator
from indiret.network import build_network
from indiret.retrieval import NetworkRetriever, index_database, rank
from tests.experiments import SMALL, record_calls
from tests.tiny_town import make_tiny_town

CONFIG = AuditConfig(folds=3, steps=4, looks=2, network=SMALL)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town") / "audited", "c", views=6)


@pytest.fixture(scope="module")
def finished(audited, towns, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    return out, run_audit(out, CONFIG, audited, towns[1])


def shown(dataset, landmark):
    own = [query for query in dataset.queries if query.landmark == landmark]
    return set().union(*(query.positives | {query.image} for query in own))


@pytest.fixture(scope="module", params=[0, 1])
def toytown(request):
    town = load_dataset("toytown", split="test")
    return town, list(arrange(town, 4, seed=request.param))


def test_each_query_is_asked_once_of_every_arrangement(toytown):
    town, trainings = toytown
    assert len({one.key for one in trainings}) == len(trainings) == 4 * 6
    for name in {one.arrangement for one in trainings}:
        asked = [q.name for one in trainings if one.arrangement == name for q in one.test]
        assert sorted(asked) == sorted(query.name for query in town.queries)


def test_what_differs_is_only_what_was_met_in_training(toytown):
    _, trainings = toytown
    by_name = {(one.arrangement, one.number): one for one in trainings}
    for number in range(4):
        without, other, same, shuffled = (
            by_name[name, number]
            for name in ("without", "other photos", "same photos", "shuffled labels")
        )
        for one in (other, same, shuffled):
            assert one.test == without.test
            sizes = [
                sorted(len(shown(part.train, name)) for name in part.train.landmarks)
                for part in (one, without)
            ]
            assert sizes[0] == sizes[1]
        for query in same.test:
            looked_for = query.positives - {query.image}
            assert looked_for and query.image in query.positives
            assert not looked_for & (without.train.images.keys() | other.train.images.keys())
            assert shown(same.train, query.landmark) == looked_for
            assert query.landmark not in without.train.landmarks
            assert shown(other.train, query.landmark) <= query.junk
            assert looked_for <= shuffled.train.images.keys()
        assert set(shuffled.train.images) == set(same.train.images)
        assert any(shown(shuffled.train, n) != shown(same.train, n) for n in same.train.landmarks)


def test_no_photo_that_asks_is_learnt_from(toytown):
    for one in toytown[1]:
        assert not {query.image for query in one.test} & one.train.images.keys()
        for query in one.train.queries:
            assert query.positives | {query.image} <= one.train.images.keys()


def test_fold_databases_hold_the_answers_and_share_the_rest(toytown):
    town, trainings = toytown
    for one in (one for one in trainings if one.arrangement == "landmark folds"):
        named = held_out_images(one.test, "landmark")
        rest = len(town.images) - len(named)
        assert named <= one.nearby
        assert len(one.nearby - named) == pytest.approx(rest / 4, abs=1)


def test_a_fold_is_measured_as_the_library_does(audited):
    retriever = NetworkRetriever(build_network(SMALL).eval())
    features = index_database(retriever, audited).features
    names, query = list(audited.images), audited.queries[0]
    asked = QueryEvaluator(retriever, audited, query, features.__getitem__)
    ours = asked.ranked(retriever.network, names)
    found = fold_precisions(ours, query, frozenset(names))
    ranked = {query.name: [hit.name for hit in rank(retriever, [query], audited)[query.name]]}
    for measure, without in (("mAP", False), ("mAP_without_query", True)):
        wanted = mean_average_precision(ranked, [query], exclude_query=without)
        for prefix in ("", "fold_"):  # here the fold's own database is the whole one
            assert found[prefix + measure] == pytest.approx(wanted, abs=1e-5)
    alone = fold_precisions(ours, query, query.positives)
    assert alone["fold_mAP"] == 1 > alone["mAP"]


def test_differences_are_paired_and_have_intervals(finished, audited):
    out, results = finished
    assert json.loads((out / "results.json").read_text()) == results
    assert results["trainings"] == 3 * 6
    means = {name: row[audit.HONEST]["mean"] for name, row in results["arrangements"].items()}
    for text, (one, other) in audit.COMPARISONS.items():
        row = results["comparisons"][text]
        assert row["mean"] == pytest.approx(means[one] - means[other], abs=1e-4)
        assert row["low"] <= row["mean"] <= row["high"] and 0 < row["p"] <= 1
        assert set(row["landmarks"]) == set(audited.landmarks)
    for effects in results["protocol"].values():
        assert effects["epoch chosen on the test"]["mean"] >= 0
        assert effects["own photo counted"]["mean"] > -1e-9
    assert "the whole leak" in audit.audit_summary(results)


def test_a_killed_audit_goes_on_and_ends_the_same(finished, audited, towns, monkeypatch):
    out, results = finished
    (out / "same-photos-0-1.jsonl").unlink()
    (out / "without-0-0.jsonl.part").write_text('{"half')  # what a kill in the middle leaves
    trained = record_calls(monkeypatch, audit, "fit")
    again = run_audit(out, CONFIG, audited, towns[1])
    assert len(trained) == 1
    assert again | {"seconds": 0} == results | {"seconds": 0}


def test_a_photo_that_is_gone_is_skipped_by_name(audited, towns, tmp_path):
    gone = sorted(audited.queries[0].positives - {audited.queries[0].image})[0]
    there = replace(audited, images=audited.images | {gone: tmp_path / f"{gone}.jpg"})
    results = run_audit(tmp_path, replace(CONFIG, steps=1), there, towns[1])
    assert f"There is no file {tmp_path / gone}.jpg" in results["skipped"][gone]


def test_settings_that_cannot_be_met_are_refused(finished, audited, towns, tmp_path):
    for wrong in ({"steps": 0}, {"folds": 1}):
        with pytest.raises(ValueError, match="not at least"):
            AuditConfig(**wrong)
    with pytest.raises(ValueError, match="make more folds"):
        list(arrange(audited, 2, seed=0))
    with pytest.raises(ValueError, match="namely steps"):
        run_audit(finished[0], replace(CONFIG, steps=5), audited, towns[1])
    with pytest.raises(ValueError, match="choose from"):
        run_audit(tmp_path / "out", replace(CONFIG, folds=99), audited, towns[1])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="fewer than 4 photos"):
        list(arrange(make_tiny_town(tmp_path / "few", "f", views=4), 3, seed=0))


def test_what_the_book_reports_is_whole():
    results = audit.stored_audit()
    assert results["comparisons"].keys() == audit.COMPARISONS.keys()
    assert results["trainings"] == 6 * results["config"]["folds"] * results["config"]["seeds"]
    assert not results["provenance"]["commit"].endswith("dirty")
