"""`indiret.experiments.reproduction`: a run is checked, done once, and tells where it is from."""

import ast
import json
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import pytest

from indiret.datasets import PhotoRegions, Region, write_regions
from indiret.evaluation import average_precision, check_fold, training_data
from indiret.experiments import reproduction as runs
from indiret.experiments.reproduction import RunConfig, finished, run, validation_data
from indiret.images import image_size
from indiret.retrieval import build_retriever, rank
from tests.tiny_town import make_tiny_town

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("town"), "a", landmarks=6, views=4)


def config_of(town, **changes):
    settings = {"dataset": "oxford5k", "root": str(town.root), "folds": 3, "steps": 3}
    return RunConfig.from_dict(settings | changes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 40}, "setting='epochs' is not known; choose from dataset"),
        ({"folds": "10"}, "folds='10': .* integer"),
        ({"fast": 1}, "fast=1: .* boolean"),
        ({"metrics": "zncc"}, "metrics='zncc': .* tuple"),
        ({"metrics": ["zncc", 3]}, r"metrics=\('zncc', 3\): .* string"),
        ({"metrics": ["sift"]}, "'sift' is not known"),
        ({"dataset": "oxford"}, "dataset='oxford' is not known"),
        ({"by": "photo"}, "choose from query, landmark"),
        ({"fold": 10}, "fold=10 is not below folds=10"),
        ({"feedback": ["median"]}, "'median' is not known; choose from mean, max"),
        ({"method": "thumbnail", "feedback": ["max"]}, "feedback needs a network"),
    ],
)
def test_names_types_and_values_are_checked(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        RunConfig.from_dict(settings)


def test_a_key_tells_runs_apart_and_is_a_plain_folder_name():
    one = RunConfig(dataset="oxford5k", root="/a/b")
    assert one.key != replace(one, steps=7).key != replace(one, root="/c").key
    assert RunConfig(method="torchvision/vgg16:max").key.isascii()
    assert "/" not in RunConfig(method="torchvision/vgg16:max").key
    many = RunConfig(metrics=("zncc",), feedback=["max"])
    assert RunConfig.from_dict(many.plain) == many and many.feedback == ("max",)


def test_the_notebook_declares_exactly_the_settings():
    cells = nbformat.read(ROOT / "notebooks/reproduce.ipynb", as_version=4).cells
    (declared,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    for line in declared.source.splitlines():
        (assigned,) = ast.parse(line).body
        values[assigned.target.id] = ast.literal_eval(assigned.value)
        assert "  # " in line
    assert values.pop("out") == "runs/one"
    assert list(values) == [field.name for field in fields(RunConfig)]
    assert RunConfig.from_dict(values) == RunConfig()


@pytest.mark.parametrize("by", ["query", "landmark"])
def test_nothing_of_a_test_query_is_learnt_from_or_looked_at(town, by):
    for number in range(3):
        config = config_of(town, by=by, fold=number)
        fold = config.part(town)
        check_fold(fold, by)
        train, look = training_data(town, fold, by), validation_data(config, town, fold)
        for part in (train, look):
            for query in fold.test:
                withheld = {query.image} if by == "query" else query.positives | query.junk
                assert not withheld & part.images.keys()
                assert query.name not in {q.name for q in part.queries}
        assert {q.name for q in look.queries} == {q.name for q in fold.validation}


def test_a_run_measures_its_fold_and_is_not_done_twice(town, tmp_path, monkeypatch):
    config = config_of(town, attention="har", feedback=["mean", "max"], by="query", fold=1)
    results = run(config, tmp_path / "one")
    assert results == json.loads((tmp_path / "one/results.json").read_text())
    asked = {query.name for query in config.part(town).test}
    assert {(row["query"], row["scheme"]) for row in results["records"]} == {
        (query, scheme) for query in asked for scheme in ("none", "mean", "max")
    }
    row = results["records"][0]
    assert 0 <= row["mAP_without_query"] <= row["mAP"] <= 1 and row["variant"] == "har"
    assert results["config"]["by"] == "query" and results["log"][-1]["step"] == 3
    origin = results["provenance"]
    assert len(origin["lock"]) == len(origin["data_manifest"]) == 64
    assert origin["seconds"] > 0 and origin["processor_seconds"] > 0 and origin["device"] == "cpu"
    assert {"commit", "torch", "python", "machine"} <= set(origin)

    monkeypatch.setattr(runs, "_run", lambda *_: pytest.fail("done twice"))
    assert run(config, tmp_path / "one") == results


def test_results_that_are_broken_or_of_another_run_do_not_count(town, tmp_path):
    config = config_of(town, method="thumbnail")
    results = run(config, tmp_path)
    assert finished(config, tmp_path) == results
    assert finished(replace(config, seed=1), tmp_path) is None
    whole = (tmp_path / "results.json").read_text()
    for broken in (whole[: len(whole) // 2], "", "[]", "null"):
        (tmp_path / "results.json").write_text(broken)
        assert finished(config, tmp_path) is None
    assert run(config, tmp_path)["records"] == results["records"]


def test_measures_are_those_of_the_whole_list(town, tmp_path):
    """The slow way: rank with everything encoded, and average precision of each list."""
    config = config_of(town, method="colour-histogram")
    ranked = rank(build_retriever("colour-histogram"), config.part(town).test, town)
    for row in run(config, tmp_path)["records"]:
        (query,) = [q for q in town.queries if q.name == row["query"]]
        names = [hit.name for hit in ranked[query.name]]
        assert row["mAP"] == average_precision(names, query.positives, query.junk)


def test_evidence_is_measured_where_there_are_regions(town, tmp_path, monkeypatch):
    config = RunConfig(steps=2, folds=11, fold=1, feedback=("max",))
    town = config.load()
    queries = tuple(
        replace(query, good=good, ok=frozenset(), junk=frozenset())
        for query in town.queries[::5]
        for good in [frozenset(sorted(query.positives)[:3]) | {query.image}]
    )
    kept = set().union(*(query.good for query in queries))
    images = {name: path for name, path in town.images.items() if name in kept}
    small = replace(town, images=images, queries=queries)
    monkeypatch.setattr(RunConfig, "load", lambda self: small)
    rows = run(config, tmp_path)["records"]
    assert [row["scheme"] for row in rows] == ["none", "max"]
    for row in rows:
        assert len(row["IoU"]) == 10 and row["mIoU"] == pytest.approx(sum(row["IoU"]) / 10)
        assert row["mIoU, all ones"] == pytest.approx(row["IoU"][0])
        assert row["mIoU"] < row["mIoU, ceiling"] < 1
        assert {"patch_match", "pixel_auc", "mIoU, combined"} <= set(row)


def test_a_run_says_which_regions_it_used(town, tmp_path):
    """Boxes without a file; with one, what was drawn, and evidence on nothing else."""
    asked = {query.image for query in town.queries}
    views = {name: town.path(name) for name in town.images if name not in asked and "_" in name}
    drawn = {name: PhotoRegions(image_size(path), [Region.from_box((0, 0, 40, 40))])
             for name, path in views.items()}  # fmt: skip
    write_regions(tmp_path / "drawn.json", drawn)
    plain = run(config_of(town), tmp_path / "plain")
    chosen = run(config_of(town, regions=str(tmp_path / "drawn.json")), tmp_path / "drawn")
    assert plain["regions"] == "the boxes of the queries"
    assert all("IoU" not in row for row in plain["records"])  # each photo that asks asks once
    assert chosen["regions"].startswith("drawn.json (SHA-256 ") and "drawn" in chosen["regions"]
    assert all("IoU" in row for row in chosen["records"])
