"""`indiret.experiments.claims`: every kind of claim can come out either way, and says why."""

import json
from collections import Counter

import pytest

from indiret.experiments import claims
from indiret.experiments.claims import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_RUN,
    NOT_TESTABLE,
    REPRODUCED,
    UNDERTRAINED,
    VERDICTS,
    Measured,
    judge_claims,
    read_claims,
    read_measured,
)
from indiret.experiments.records import paired_difference
from indiret.experiments.reproduction import RunConfig
from tests.reports.test_paper_report import ORIGIN
from tools.store_results import store_reproduction

CLAIM = {
    "variant": "har", "scheme": "none", "measure": "mAP", "against": "gain", "rises": True,
    "by": "query", "methods": ["thumbnail"], "dataset": "oxford5k", "published": 97.71,
}  # fmt: skip


def values(level: float, landmarks: int = 11, seeds: int = 1, spread: float = 0.01):
    return {
        (f"l{n}", f"l{n}_{i}", seed): level + spread * ((n + i) % 3 - 1)
        for n in range(landmarks)
        for i in range(5)
        for seed in range(seeds)
    }


def measured(dataset="oxford5k", **levels):
    """Levels of mAP by variant, in both fold schemes alike."""
    found = Measured(dataset, "base, fast setting", 55)
    for variant, level in levels.items():
        for by in ("query", "landmark"):
            cell = {"mAP": values(level), "mAP_without_query": values(level)}
            found.cells[by, variant, "none"] = cell
    return found


@pytest.fixture(autouse=True)
def nothing_stored(tmp_path, monkeypatch):
    """Of other commands; the paper's own data stay."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/paper").symlink_to(claims.DATA / "paper")
    monkeypatch.setattr(claims, "DATA", tmp_path / "data")
    return tmp_path / "data"


def keep(path, content):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def test_about_twenty_claims_each_with_a_verdict_and_a_reason():
    verdicts = judge_claims(measured(none=0.5))
    assert len(verdicts) == len(read_claims()) >= 20
    assert all(v.verdict in VERDICTS and v.reason and v.where for v in verdicts)
    counts = Counter(v.verdict for v in verdicts)
    assert counts[NOT_RUN] > 5 and counts[NOT_TESTABLE] >= 4


@pytest.mark.parametrize(
    ("kind", "changes", "levels", "verdict"),
    [
        ("gain", {}, {"har": 0.6}, REPRODUCED),
        ("gain", {}, {"har": 0.4}, NOT_REPRODUCED),
        ("gain", {}, {"har": 0.5}, INCONCLUSIVE),
        ("gain", {}, {}, NOT_RUN),
        ("gain", {"rises": False}, {"har": 0.4}, REPRODUCED),
        ("gain", {"rises": False}, {"har": 0.6}, NOT_REPRODUCED),
        ("above", {"variant": "none", "bound": 0.4}, {}, REPRODUCED),
        ("above", {"variant": "none", "bound": 0.5}, {}, INCONCLUSIVE),
        ("above", {"variant": "none", "bound": 0.6}, {}, NOT_REPRODUCED),
        ("above", {"bound": 0.6}, {}, NOT_RUN),
        ("beats", {}, {"thumbnail": 0.2}, REPRODUCED),
        ("beats", {}, {"thumbnail": 0.5}, INCONCLUSIVE),
        ("beats", {}, {"thumbnail": 0.7}, NOT_REPRODUCED),
        ("beats", {}, {}, NOT_RUN),
        ("value", {"variant": "none"}, {"none": 0.98}, REPRODUCED),
        ("value", {"variant": "none"}, {}, NOT_REPRODUCED),
        ("value", {}, {}, NOT_RUN),
        ("value", {"dataset": "paris6k"}, {}, NOT_TESTABLE),
    ],
)
def test_each_kind_comes_out_either_way(kind, changes, levels, verdict):
    found = measured(**{"none": 0.5} | levels)
    assert claims.JUDGES[kind](CLAIM | changes, found)[1] == verdict


@pytest.mark.parametrize(
    ("low", "rising", "falling"),
    [(0.01, "reproduced", "not reproduced"), (-0.01, "inconclusive", "inconclusive")],
)
def test_gains_of_a_study_are_judged_by_their_intervals(low, rising, falling):
    figures = {"mean": 0.02, "low": low, "high": 0.03}
    row = dict.fromkeys(("mAP", "mIoU"), dict.fromkeys(("gain", "feedback_gain"), figures))
    gains = [claim for claim in read_claims() if claim["kind"] == "gain"]
    rows = [row | {"variant": c["variant"], "scheme": c["scheme"]} for c in gains]
    lines = claims.judge_gains({"toytown": {"rows": rows}}).splitlines()[2:]
    for claim, line in zip(gains, lines, strict=True):
        assert line.endswith(f"| {rising if claim['rises'] else falling} |")


def test_a_gain_is_taken_from_the_study_where_one_is_stored(nothing_stored):
    gain = {"mean": -0.1, "low": -0.2, "high": -0.05}
    row = {"variant": "har", "scheme": "none", "mAP": {"gain": gain}}
    keep(nothing_stored / "study/results.json", {"toytown": {"rows": [row]}})
    ours, verdict, reason = claims._gain(CLAIM, measured("toytown", none=0.5, har=0.6))
    assert verdict == NOT_REPRODUCED and "five seeds" in reason
    assert ours.startswith("-0.100") and "+0.100" in ours
    assert claims._gain(CLAIM, measured("oxford5k", none=0.5, har=0.6))[1] == REPRODUCED


def test_rivals_may_come_from_what_is_stored(nothing_stored):
    ap = {query: value for (_, query, _), value in values(0.7).items()}
    row = {"method": "thumbnail", "dataset": "oxford5k", "AP": ap}
    keep(nothing_stored / "comparison/one.json", row)
    assert claims._beats(CLAIM, measured(none=0.5))[1] == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("by_query", "verdict"), [(0.6, NOT_REPRODUCED), (0.5, INCONCLUSIVE), (0.4, REPRODUCED)]
)
def test_a_leak_is_told_with_its_sign(by_query, verdict):
    found = measured(none=0.5)
    found.cells["query", "none", "none"]["mAP_without_query"] = values(by_query, spread=0.02)
    assert claims._leak({}, found)[1] == verdict
    del found.cells["landmark", "none", "none"]
    assert claims._leak({}, found)[1] == NOT_RUN


def test_a_part_of_a_grid_judges_nothing():
    found = measured(none=0.5, har=0.9, thumbnail=0.1)
    found.cells["query", "har", "none"]["mAP"].popitem()
    ours, verdict, reason = claims._gain(CLAIM, found)
    assert verdict == NOT_RUN and "54 of 55 queries" in reason and ours.startswith("+0.4")
    found.cells["query", "none", "none"]["mAP"].popitem()
    for kind in ("above", "leak", "beats", "value"):
        claim = CLAIM | {"variant": "none", "bound": 0.1}
        assert claims.JUDGES[kind](claim, found)[1] == NOT_RUN
    found.queries = 25
    assert claims._value(CLAIM, found)[1] == NOT_TESTABLE


def test_the_audit_is_asked_first(nothing_stored):
    leak = {"mean": 0.2, "low": 0.1, "high": 0.3}
    keep(nothing_stored / "audit/results.json", {"comparisons": {"the whole leak": leak}})
    ours, verdict, _ = claims._leak({}, measured("toytown", none=0.5))
    assert verdict == NOT_REPRODUCED and "the audit: +0.200" in ours


def test_facts_are_computed():
    assert claims._parameters()[:2] == ("11.2 M", REPRODUCED)
    assert claims._mask_peak()[1] == NOT_REPRODUCED
    ours, verdict, reason = claims._hypersphere()
    assert verdict == NOT_REPRODUCED and "plane 0." in ours and "of a plane -0." in reason


@pytest.mark.parametrize(
    ("ball", "sphere", "verdict"),
    [
        (0.5, 0.1, REPRODUCED),
        (0.1, 0.5, REPRODUCED),
        (0.1, 0.2, NOT_REPRODUCED),
        (0.1, 0.3, INCONCLUSIVE),
    ],
)
def test_the_better_of_ball_and_sphere_is_set_beside_a_plane(ball, sphere, verdict):
    found = {"ball": values(ball), "sphere": values(sphere), "plane": values(0.3)}
    ours, judged, _ = claims.judge_shapes(found)
    assert judged == verdict and ours.startswith("ball" if ball > sphere else "sphere")


def test_an_unfinished_grid_is_paired_where_it_can_be():
    one, other = values(0.6, seeds=2), values(0.5, seeds=2)
    del one["l0", "l0_0", 1]
    assert paired_difference(one, other).mean == pytest.approx(0.1, abs=1e-9)
    assert paired_difference({}, other) is None


def test_a_grid_is_stored_without_what_the_book_does_not_read(tmp_path):
    folder = write_run(tmp_path / "grid", RunConfig(), 1 / 3, log=[1, 2])
    (folder / "network.safetensors").write_text("large")
    assert len(store_reproduction(tmp_path / "grid", tmp_path / "stored")) == 1
    (found,) = read_measured(tmp_path / "stored")
    assert found.cells["landmark", "none", "none"]["mAP"] == {("a", "a_1", 0): 0.33333}
    assert found.runs[0]["log"] == [2]
    (copied,) = (tmp_path / "stored").iterdir()
    assert [file.name for file in copied.iterdir()] == ["results.json"]


def write_run(out, config, value, **changes):
    """The results of a run that asked one query."""
    row = {"landmark": "a", "query": "a_1", "variant": "none", "seed": config.seed}
    row |= {"scheme": "none", "mAP": value}
    results = {"config": config.plain, "records": [row], "fold": {"train": 4, "test": 1}, "log": []}
    results["provenance"] = ORIGIN
    keep(out / config.key / "results.json", results | changes)
    return out / config.key


def test_networks_of_a_few_steps_show_nothing(tmp_path):
    for by in ("query", "landmark"):
        write_run(tmp_path, RunConfig(by=by, steps=20), 0.5, fold={"test": 1})
    verdicts = zip(read_claims(), judge_claims(*read_measured(tmp_path)), strict=True)
    shown = {claim["kind"]: found.verdict for claim, found in verdicts if claim["kind"] != "fact"}
    assert shown["leak"] == shown["beats"] == UNDERTRAINED
    assert set(shown.values()) == {UNDERTRAINED, NOT_RUN, NOT_TESTABLE}


def test_broken_results_are_left_out_by_name(tmp_path):
    whole = write_run(tmp_path, RunConfig(), 0.5)
    text = (whole / "results.json").read_text()
    broken = ["", text[:99], "[]", text.replace("0.5", "NaN")]
    broken += [text.replace(f'"{name}"', '"lost"') for name in ("fast", "query", "commit")]
    for number, content in enumerate(broken):
        (tmp_path / f"broken{number}").mkdir()
        (tmp_path / f"broken{number}/results.json").write_text(content)
    (tmp_path / "folder/results.json").mkdir(parents=True)
    with pytest.warns(UserWarning, match="left out") as warned:
        (found,) = read_measured(tmp_path)
    assert len(found.runs) == 1 and len(warned) == len(broken) + 1


def test_settings_are_not_mixed(tmp_path):
    for config in (RunConfig(), RunConfig(seed=1), RunConfig(fast=False)):
        write_run(tmp_path, config, 0.5)
    fast, full = read_measured(tmp_path)
    assert (len(fast.runs), len(full.runs)) == (2, 1) and full.setting.endswith("full setting")
    with pytest.raises(ValueError, match="no run has finished"):
        read_measured(tmp_path / "nothing")
