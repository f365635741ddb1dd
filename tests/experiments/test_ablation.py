"""The table of choices, on a town of posters."""

import json

import pytest

from indiret.experiments import ablation
from indiret.experiments.ablation import ABLATIONS, KEPT, REFERENCE, row_costs, run_ablation
from indiret.network import build_network
from tests.tiny_town import make_tiny_town

CHOSEN = (REFERENCE, "views: the paper's four", "layout: pivot", "layout: flat")
SMALL = {
    name: ABLATIONS[name].replace(grid=(6, 6), query_grid=(4, 4), size=8, width=2, blocks=(1,))
    for name in CHOSEN
}


def no_costs(rows, train):
    return {name: {"ms_per_photo": 1.0, "ms_per_step": 2.0} for name in rows}


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towns")
    return [make_tiny_town(folder / n, n[0], seed=i) for i, n in enumerate(("train", "valid"))]


@pytest.fixture(scope="module")
def finished(towns, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "row_costs", no_costs)
        return out, run_ablation(out, *towns, SMALL, steps=2, seeds=2)


def test_every_row_is_compared_with_the_reference(finished):
    out, results = finished
    assert json.loads((out / "results.json").read_text()) == results
    assert list(results["rows"]) == [*CHOSEN, KEPT]
    reference = results["rows"][REFERENCE]
    assert reference["gain"] == {"mean": 0, "low": 0, "high": 0}
    for row in results["rows"].values():
        assert row["ms_per_step"] == 2
        gain = row["mAP"]["mean"] - reference["mAP"]["mean"]
        assert row["gain"]["mean"] == pytest.approx(gain, abs=1e-4)
        assert row["gain"]["low"] <= row["gain"]["mean"] <= row["gain"]["high"]
    assert results["queries"] == 4  # of 6: two chose the step


def test_rows_that_differ_in_the_network_alone_share_their_pairs(towns, tmp_path, monkeypatch):
    made = []
    original = ablation.BatchSampler
    monkeypatch.setattr(
        ablation, "BatchSampler", lambda *a, **k: made.append(a[1]) or original(*a, **k)
    )
    monkeypatch.setattr(ablation, "row_costs", no_costs)
    reference = SMALL[REFERENCE]
    rows = {
        REFERENCE: reference,
        "vgg": reference.replace(architecture="vgg11"),
        "flat": reference.replace(conv="flat", width=4),
    }
    run_ablation(tmp_path, *towns, rows, steps=2)
    assert len(made) == 1


def test_a_row_costs_the_least_of_what_it_cost_after_the_first_round(towns, monkeypatch):
    clock = iter([0.0, 0.1, 0.2, 1.0, 5.0, 9.0, 10.0, 12.0, 15.0])
    monkeypatch.setattr(ablation.time, "process_time", lambda: next(clock))
    costs = row_costs({REFERENCE: SMALL[REFERENCE]}, towns[0], rounds=2)
    assert costs == {REFERENCE: {"ms_per_photo": 1000, "ms_per_step": 3000}}


def test_every_row_is_the_network_that_it_names():
    for config in ABLATIONS.values():
        build_network(config)
    changed = {
        name: [key for key in vars(config) if vars(config)[key] != vars(ABLATIONS[REFERENCE])[key]]
        for name, config in ABLATIONS.items()
    }
    assert changed.pop(REFERENCE) == []
    wanted = {
        "views": ["metrics"], "grid": ["grid", "query_grid"], "layout": ["conv"],
        "target at": ["scales"], "target through": ["shifts"],
        "query at": ["query_scales"], "query through": ["query_shifts"],
    }  # fmt: skip
    for name, keys in changed.items():
        kind = next(kind for kind in wanted if name.startswith(kind))
        assert [key for key in keys if key != "width"] == wanted[kind]


def test_a_killed_table_goes_on(finished, towns, monkeypatch):
    out, results = finished
    (out / "layout-pivot-1.jsonl").unlink()
    trained = []
    original = ablation.fit
    monkeypatch.setattr(ablation, "fit", lambda *a, **k: trained.append(a[0]) or original(*a, **k))
    again = run_ablation(out, *towns, SMALL, steps=2, seeds=2)
    assert trained == [SMALL["layout: pivot"]]
    pivot, before = (r["rows"]["layout: pivot"] for r in (again, results))
    assert pivot["mAP"] == before["mAP"]
    with pytest.raises(ValueError, match="another ablation: other settings"):
        run_ablation(out, *towns, SMALL, steps=3)


def test_a_table_needs_its_reference(towns, tmp_path):
    with pytest.raises(ValueError, match="have no 'reference'"):
        run_ablation(tmp_path, *towns, {"layout: flat": SMALL["layout: flat"]})
    with pytest.raises(ValueError, match="seeds=0 is not at least 1"):
        run_ablation(tmp_path, *towns, SMALL, seeds=0)
    assert not list(tmp_path.iterdir())
