"""`indiret.experiments.reproduction`: a run is checked, done once, and tells where it is from."""

import ast
import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import pytest

from indiret.checkpoints import WEIGHTS
from indiret.datasets import PhotoRegions, Region, load_dataset, write_regions
from indiret.evaluation import average_precision, check_fold, training_data
from indiret.experiments import reproduction as runs
from indiret.experiments.evaluator import compare, evaluate, provenance
from indiret.experiments.grid import run_grid
from indiret.experiments.records import what_changed
from indiret.experiments.reproduction import RunConfig, identity, run, validation_data
from indiret.images import image_size
from indiret.retrieval import build_retriever, rank
from tests.experiments import damages
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
    assert values.pop("out") == ""
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


def test_a_method_runs_on_the_device_asked_for_or_says_that_it_cannot(town, tmp_path):
    with pytest.raises(ValueError, match="processor alone, not on cuda"):
        run(config_of(town, method="thumbnail", device="cuda"), tmp_path)


@pytest.fixture
def copy(town, tmp_path):
    """A town of which a test may change the files."""
    shutil.copytree(town.root, tmp_path / "copy")
    return load_dataset("oxford5k", tmp_path / "copy")


def change_truth(town):
    for path in (town.root / "groundtruth").glob("*_good.txt"):
        path.write_text("\n".join(path.read_text().split()[:2]) + "\n")


def change_photo(town):
    path = town.images[max(town.images)]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"seed": 1}, "seed"), ({"fold": 1, "attention": "har"}, "attention, fold")],
)
def test_a_folder_of_another_run_is_refused(town, tmp_path, changes, words):
    run(config_of(town), tmp_path)
    (tmp_path / "results.json").unlink()
    for lost in ("run.json", "network.safetensors"):  # what is left tells whose it is
        with pytest.raises(ValueError, match=f"{tmp_path} holds a run that differs in {words}"):
            run(config_of(town, **changes), tmp_path)
        (tmp_path / lost).unlink()


@pytest.mark.parametrize("change", [change_truth, change_photo])
def test_results_of_data_that_changed_are_not_finished(copy, tmp_path, change):
    what = {change_truth: "ground truth", change_photo: "photos"}[change]
    config = config_of(copy, method="thumbnail")
    assert run_grid([config], tmp_path / "out", notebooks=False) == {}
    change(copy)
    (reason,) = run_grid([config], tmp_path / "out", notebooks=False).values()
    assert f"holds a run that differs in {what};" in reason


def test_results_of_weights_that_changed_are_not_finished(town, tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes((WEIGHTS / "planes.safetensors").read_bytes())
    config = config_of(town, method="thumbnail")
    made = provenance(town, f"thumbnail,{weights}")
    weights.write_bytes(weights.read_bytes() + b" ")
    assert what_changed(made, provenance(town, f"thumbnail,{weights}")) == "weights"
    assert identity(config, made)["weights"] == made["weights"]


@pytest.mark.parametrize("method", ["", "network", "thumbnail"])
def test_results_do_not_depend_on_the_folder_where_one_stands(town, tmp_path, monkeypatch, method):
    town = replace(town, root=town.root.resolve())
    monkeypatch.chdir(tmp_path)
    before = provenance(town, method)
    (tmp_path / (method or "runs")).mkdir()
    (tmp_path / (method or "runs") / "results.json").write_text("1")
    assert provenance(town, method) == before


def test_exported_features_are_weights_and_what_lies_beside_an_experiment_is_not(
    town, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = ("", "thumbnail", "features=kept", "features=kept:gem+aqe")
    made = [provenance(town, name)["weights"] for name in names]
    (tmp_path / "kept/images").mkdir(parents=True)
    (tmp_path / "kept/images/a.npy").write_bytes(b"features")
    (tmp_path / "note.npy").write_text("of somebody else")
    again = [provenance(town, name)["weights"] for name in names]
    assert again[:2] == made[:2] and again[2] == again[3] != made[2]


def test_what_is_broken_is_made_again(town, tmp_path):
    config = config_of(town, method="thumbnail")
    records = run(config, tmp_path)["records"]
    for name in ("results.json", "run.json"):
        for times, _ in enumerate(damages(tmp_path / name), start=1):
            assert run(config, tmp_path)["records"] == records
            assert len(list(tmp_path.glob(f"{name}.broken-*"))) == times
        text = re.sub('"(commit|query)"', '"lost"', (tmp_path / name).read_text())
        (tmp_path / name).write_text(text)
        assert run(config, tmp_path)["records"] == records


@pytest.mark.parametrize("name", ["network.safetensors", "checkpoint.safetensors"])
def test_a_training_that_is_broken_is_made_again(town, tmp_path, name):
    config = config_of(town, steps=2)
    records = run(config, tmp_path)["records"]
    for _ in damages(tmp_path / name):
        (tmp_path / "results.json").unlink()
        if name.startswith("checkpoint"):
            (tmp_path / "network.safetensors").unlink()
        assert run(config, tmp_path)["records"] == records


def test_a_comparison_does_again_what_is_broken_or_of_other_data(copy, tmp_path, capsys):
    def measured():
        return compare(["thumbnail"], copy, tmp_path / "out", evidence=False)[0]

    first, file = measured(), next((tmp_path / "out").glob("*.json"))
    moment = file.stat().st_mtime_ns
    assert measured() == first and file.stat().st_mtime_ns == moment
    for _ in damages(file):
        assert measured()["AP"] == first["AP"] and file.is_file()
    change_photo(copy)
    assert measured()["provenance"]["photos"] != first["provenance"]["photos"]
    assert "thumbnail is measured anew: what differs is photos." in capsys.readouterr().err


@pytest.mark.parametrize("asks", [True, False])
def test_a_photo_that_breaks_late_counts_like_one_that_breaks_early(copy, tmp_path, asks):
    """As a positive and as the photo of a query; with `evaluate` and in a run of one fold."""
    query = copy.queries[1]
    name = query.image if asks else min(query.positives - {query.image})
    whole, found = copy.path(name).read_bytes(), []
    for broken in (whole[: len(whole) // 2], b"\0" * 200 + whole[200:]):
        copy.path(name).write_bytes(broken)
        town = load_dataset("oxford5k", copy.root)
        found.append(evaluate("thumbnail", town)["AP"])
    assert found[0] == found[1] and (query.name in found[0]) != asks
    copy.path(name).write_bytes(whole[: len(whole) // 2])
    results = evaluate("thumbnail", load_dataset("oxford5k", copy.root))
    queries, photos = len(copy.queries), len(copy.images)
    assert results["left_out"] == {"photos": [1, photos], "queries": [int(asks), queries]}
    assert name in results["skipped"]
    runs = run_folds(copy, tmp_path / "body")
    rows = [row for one in runs[:3] for row in one["records"]]
    assert {row["query"]: row["mAP"] for row in rows} == pytest.approx(found[0])
    copy.path(name).write_bytes(b"\0" * 200 + whole[200:])
    assert run_folds(copy, tmp_path / "header") == runs


def run_folds(town, out):
    """What runs of each fold find, of a method and of a network, without what the clock says."""
    given = [{"method": "thumbnail"}] * 3 + [{}] * 2
    configs = [config_of(town, fold=at % 3, **one) for at, one in enumerate(given)]
    found = [run(one, out / one.key) for one in configs]
    return [
        {what: one[what] for what in ("fold", "records")} | {"skipped": [*one["skipped"]]}
        for one in found
    ]


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
