"""The table of choices, on a town of posters."""

import json
from dataclasses import replace

import pytest

from indiret.experiments import ablation
from indiret.experiments.ablation import ABLATIONS, CNNS, KEPT, REFERENCE, row_costs, run_ablation
from tests.experiments import SMALL as REDUCED
from tests.experiments import record_calls

CHOSEN = (REFERENCE, "views: the paper's four", "layout: pivot", "layout: flat")
SMALL = {
    name: ABLATIONS[name].replace(
        grid=REDUCED.grid, query_grid=REDUCED.query_grid, size=8, width=2, blocks=(1,)
    )
    for name in CHOSEN
}


@pytest.fixture(scope="module", autouse=True)
def no_costs():
    def costs(rows, train):
        return {name: {"ms_per_photo": 1.0, "ms_per_step": 2.0} for name in rows}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "row_costs", costs)
        yield


@pytest.fixture(scope="module")
def finished(towns, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    return out, run_ablation(out, *towns, SMALL, steps=2, seeds=2)


def test_every_row_is_compared_with_the_reference(finished):
    out, results = finished
    assert json.loads((out / "results.json").read_text()) == results
    assert list(results["rows"]) == [*CHOSEN, KEPT]
    reference = results["rows"][REFERENCE]
    assert reference["gain"] == {"mean": 0, "low": 0, "high": 0}
    for row in results["rows"].values():
        gain = row["mAP"]["mean"] - reference["mAP"]["mean"]
        assert row["gain"]["mean"] == pytest.approx(gain, abs=1e-4)
        assert row["gain"]["low"] <= row["gain"]["mean"] <= row["gain"]["high"]
        assert row["ms_per_step"] == 2
    assert results["queries"] == 2  # of 4: two chose the step


def test_rows_that_differ_in_the_network_alone_share_their_pairs(towns, tmp_path, monkeypatch):
    made = record_calls(monkeypatch, ablation, "BatchSampler")
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


def test_every_row_changes_the_choice_that_it_names():
    choices = {
        "views": {"metrics"}, "grid": {"grid", "query_grid"}, "layout": {"conv", "width"},
        "vgg11": {"architecture"}, "inception": {"architecture"},
        "target at": {"scales"}, "target through": {"shifts"},
        "query at": {"query_scales"}, "query through": {"query_shifts"},
    }  # fmt: skip
    reference = vars(ABLATIONS[REFERENCE])
    for name, config in (*ABLATIONS.items(), *CNNS.items()):
        changed = {key for key, value in vars(config).items() if value != reference[key]}
        named = [choices[start] for start in choices if name.startswith(start)]
        assert (changed and changed <= named[0]) if named else name == REFERENCE


def test_a_killed_table_goes_on(finished, towns, monkeypatch):
    out, results = finished
    (out / "layout-pivot-1.jsonl").unlink()
    trained = record_calls(monkeypatch, ablation, "fit")
    assert run_ablation(out, *towns, SMALL, steps=2, seeds=2) == results
    assert [config for config, *_ in trained] == [SMALL["layout: pivot"]]
    with pytest.raises(ValueError, match=r"another ablation: .*namely steps"):
        run_ablation(out, *towns, SMALL, steps=3)
    with pytest.raises(ValueError, match="namely validation"):
        run_ablation(out, towns[0], replace(towns[1], queries=()), SMALL, steps=2)


@pytest.mark.parametrize(
    ("rows", "seeds", "sentence"),
    [(CHOSEN[1:], 1, "have no 'reference'"), (CHOSEN, 0, "seeds=0 is not at least 1")],
)
def test_a_table_needs_its_reference(towns, tmp_path, rows, seeds, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_ablation(tmp_path, *towns, {name: SMALL[name] for name in rows}, seeds=seeds)
    assert not list(tmp_path.iterdir())
