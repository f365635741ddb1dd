"""Tables and figures of comparison: they show what was stored, and every reported figure has a
source."""

import csv
import json
from importlib.resources import files

import numpy as np
import pytest

from indiret.experiments.comparison import (
    EVIDENCE_COLUMNS,
    PUBLISHED,
    RANKING_COLUMNS,
    evidence_table,
    ranking_table,
    read_published,
    read_results,
    second_look_table,
    verifier_table,
)
from tools.store_results import store_comparison


def result(method="gem", value=0.5, dataset="toytown/test", commit="a" * 40):
    figures = dict.fromkeys((*RANKING_COLUMNS, "ms_per_query", "mb_per_image"), value)
    figures |= {f"{name}_ci": [value - 0.1, value + 0.123456789] for name in RANKING_COLUMNS}
    provenance = {"commit": commit}
    return {"method": method, "dataset": dataset, **figures, "provenance": provenance}


def written(folder, *results):
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(results):
        (folder / f"{number}.json").write_text(json.dumps(one))
    return folder


def test_the_papers_own_rows_are_those_of_its_tables():
    reported = {(row.method, row.dataset): row.mAP for row in read_published()}
    for dataset in ("oxford5k", "paris6k"):
        text = files("indiret").joinpath(f"data/paper/{dataset}.csv").read_text()
        for row in csv.DictReader(text.splitlines()):
            key = f"{row['method']} (Zhang et al.)", dataset
            assert reported[key] == pytest.approx(float(row["mAP"]) / 100)


def test_every_reported_figure_stands_once_and_says_where_it_was_read():
    rows = read_published()
    assert len({(row.method, row.dataset) for row in rows}) == len(rows) > 40
    assert all(2007 <= row.year <= 2022 for row in rows)
    assert {row.dataset for row in rows} == {"oxford5k", "paris6k"}
    assert all("second hand" in row.note for row in rows if row.place.startswith("quoted"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("method,", "name,"),
        (",84.44,", ",184.44,"),
        (",84.44,", ",high,"),
        ("Tables 1 and 2", ""),
        (",paris6k,73.60,", ",73.60,"),
    ],
)
def test_a_broken_file_of_figures_is_refused(tmp_path, old, new):
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match="for list"):
        read_published(path)


def test_results_are_read_by_data_set_and_best_first(tmp_path):
    other = result("gem", 0.9, dataset="oxford5k")
    folder = written(tmp_path / "out", result("thumbnail", 0.1), result("gem", 0.6), other)
    found = read_results(folder, "toytown/test")
    assert [one["method"] for one in found] == ["gem", "thumbnail"]
    assert len(read_results(folder)) == 3
    with pytest.raises(FileNotFoundError, match="no results on paris6k in"):
        read_results(folder, "paris6k")
    (folder / "9.json").write_text('{"method": "gem"}')
    with pytest.raises(ValueError, match=r"9\.json .* at dataset field required"):
        read_results(folder)


def test_what_is_stored_is_rounded_and_says_where_it_came_from(tmp_path):
    folder = written(tmp_path / "out", result("efficientnet-lite0:gem", 0.6))
    (path,) = store_comparison(folder, tmp_path / "stored")
    assert path.name == "toytown_test_efficientnet-lite0_gem.json"
    (kept,) = read_results(tmp_path / "stored")
    assert kept["mAP_ci"] == [0.5, 0.72346]
    command = "indiret compare --split test --methods efficientnet-lite0:gem"
    assert kept["provenance"] == {"commit": "a" * 40, "command": command}


@pytest.mark.parametrize("commit", ["unknown", "0123abc-dirty"])
def test_a_result_that_nobody_could_make_again_is_not_stored(tmp_path, commit):
    folder = written(tmp_path / "out", result(), result(commit=commit))
    with pytest.raises(ValueError, match="commit first, then measure again"):
        store_comparison(folder, tmp_path / "stored")
    assert not (tmp_path / "stored").exists()


@pytest.mark.parametrize("dataset", ["toytown/test", "oxford5k"])
def test_the_stored_comparison_is_complete(dataset):
    """Every method of the library's own list that the tables name, with intervals that hold it."""
    results = {one["method"]: one for one in read_results(dataset=dataset)}
    poolings = {f"efficientnet-lite0:{name}" for name in ("mean", "mac", "spoc", "crow", "rmac")}
    assert poolings | {"sift-ransac", "mutual-nn", "colour-histogram", "base"} <= set(results)
    for one in results.values():
        assert one["provenance"]["command"] and len(one["provenance"]["commit"]) == 40
        assert len(one["AP"]) == one["queries"]
        assert np.mean(list(one["AP"].values())) == pytest.approx(one["mAP"], abs=1e-4)
        rows = [(one, RANKING_COLUMNS)]
        rows += [(row, EVIDENCE_COLUMNS) for row in (one.get("evidence") or {}).values()]
        for row, names in rows:
            for name in names:
                if row.get(name) is not None:
                    low, high = row[f"{name}_ci"]
                    assert 0 <= low <= row[name] + 1e-5 and row[name] <= high + 1e-5 <= 1 + 2e-5


def test_a_ranking_table_has_a_row_for_each_method_and_leaves_gaps():
    gap = result("b", 0.2) | {"mAP_without_query": None}
    head, _, first, second = ranking_table([result("a", 0.5), gap]).splitlines()
    assert head.startswith("| method | mAP | without its photo | mAP@5 |")
    assert first.startswith("| a | 0.500 (0.40 … 0.62) |")
    assert second.startswith("| b | 0.200 (0.10 … 0.32) | | 0.200")
    assert {line.count("|") for line in (head, first, second)} == {len(RANKING_COLUMNS) + 4}


def test_second_looks_have_columns_of_their_own():
    values = {"l:gem": 0.5, "l:gem+aqe": 0.6, "l:gem+aqe5": 0.4, "l:gem+ms+kreciprocal": 0.7}
    results = [result(name, value) for name, value in values.items()]
    results += [result("l:gem+ms", 0.55), result("l:mac+diffusion20", 0.8)]
    head, _, *rows = ranking_table(results, ["mAP"], again="kreciprocal").splitlines()
    assert head == "| method | mAP | mAP, +kreciprocal | ms a query | MB an image |"
    assert rows == [
        "| l:gem | 0.500 (0.40 … 0.62) | | 0 | 0.5 |",
        "| l:gem+ms | 0.550 (0.45 … 0.67) | 0.700 (0.60 … 0.82) | 1 | 0.55 |",
    ]
    assert len(ranking_table(results, ["mAP"]).splitlines()) == 4
    looks = second_look_table([*results, result("l:gem+diffusion", 0.3)]).splitlines()
    assert looks[0] == "| method | as it is | aqe | aqe5 | diffusion |" and len(looks) == 3
    assert [cell[:5] for cell in looks[2].split(" | ")[1:]] == ["0.500", "0.600", "0.400", "0.300"]


def test_a_verifiers_gain_stands_beside_what_it_is_over(tmp_path):
    half, more = ({"mean": v, "low": v - 0.1, "high": v + 0.1} for v in (0.5, 0.625))
    rows = {"old": {"mAP": half}, "new": {"mAP": more}}
    gain = {"mean": 0.125, "low": -0.01, "high": 0.25}
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"rows": rows, "gains": {"new − old": gain}}))
    assert verifier_table(path).splitlines()[2] == (
        "| new | old | 0.625 (0.525 … 0.725) | 0.500 (0.400 … 0.600) | +0.125 (-0.010 … +0.250) |"
    )


def test_an_evidence_table_shows_maps_once_and_those_of_another_landmark_never():
    row = {"mIoU": 0.3, "otsu_iou": 0.4, "pixel_auc": 0.5}
    kinds = "saliency", "similarity", "similarity, other landmark", "all ones", "ceiling: RoI"
    one = {"method": "gem", "evidence": dict.fromkeys(kinds, row)}
    network = {"method": "base", "evidence": {"hirescam, stem": row, "combined, lowest fifth": {}}}
    lines = evidence_table([one, network, {"method": "thumbnail"}]).splitlines()[2:]
    shown = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in lines]
    methods = [("gem", "saliency"), ("gem", "similarity"), ("base", "hirescam, stem")]
    assert shown == [*methods, ("", "all ones"), ("", "ceiling: RoI")]
