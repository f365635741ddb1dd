"""The commands that do experiments."""

import json

from indiret.experiments.audit import AuditConfig
from tests.cli.command import refused, run
from tests.experiments import SMALL
from tests.tiny_town import make_tiny_town


def test_reproduce_fills_a_grid_and_report_reads_it(capsys, tmp_path):
    root = make_tiny_town(tmp_path / "town", "a").root
    config = tmp_path / "grid.toml"
    config.write_text(
        f'[run]\ndataset = "oxford5k"\nroot = "{root}"\nfolds = 3\nmethod = "thumbnail"\n'
        '[[grid]]\nby = ["query", "landmark"]\n'
    )
    line = "reproduce", config, "--out", tmp_path / "grid", "--no-notebooks", "--processes", 1
    file = tmp_path / "forecast.json"
    status, out, _ = run(capsys, *line, "--dry-run", "--seconds", 0.2, "--json", file)
    assert json.loads(file.read_text())["processor_hours"] > 0
    assert status == 0 and out.startswith("6 runs") and "GB of disk" in out
    assert not (tmp_path / "grid").exists()
    status, out, _ = run(capsys, *line)
    assert status == 0 and "Finished: 6 runs" in out
    status, out, _ = run(capsys, "report", tmp_path / "grid", "--out", tmp_path / "report")
    assert status == 0 and "report.html" in out
    assert "thumbnail" in (tmp_path / "report/report.md").read_text()


def test_reproduce_names_what_is_wrong(capsys, tmp_path):
    config = tmp_path / "grid.toml"
    config.write_text("[run]\nepochs = 3\n")
    assert "'epochs'" in refused(capsys, "reproduce", config)
    config.write_text('[run]\nmethod = "thumbnail"\nfolds = 10_001\n')
    sentence = refused(capsys, "reproduce", config)
    assert "these are 10,001 runs" in sentence and "--yes" in sentence
    config.write_text('[run]\nmethod = "thumbnail"\ndevice = "tpu"\n')
    assert "--device tpu" in refused(capsys, "reproduce", config)
    config.write_text(f'[run]\nmethod = "thumbnail"\ndataset = "oxford5k"\nroot = "{tmp_path}/no"')
    line = "reproduce", config, "--out", tmp_path / "out", "--processes", 1, "--no-notebooks"
    status, out, err = run(capsys, *line)
    assert (status, out) == (2, "") and "10 of 10 runs are not finished" in err
    assert "no run has finished" in refused(capsys, "report", tmp_path / "empty")


def test_more_runs_than_anybody_means_are_done_after_yes(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("indiret.cli.experiments.grid.MOST_RUNS", 1)
    asked = []
    monkeypatch.setattr(
        "indiret.cli.experiments.grid.run_grid", lambda configs, *_: asked.extend(configs) or {}
    )
    config = tmp_path / "grid.toml"
    config.write_text('[run]\nfolds = 2\nmethod = "thumbnail"\n[[grid]]\ndevice = ["meta", "cpu"]')
    status, out, err = run(capsys, "reproduce", config, "--yes")
    assert status == 0 and "Finished: 2 runs" in out  # each once, where it can be done
    assert err.count("thumbnail is measured on the processor") == 1
    assert [(one.fold, one.device) for one in asked] == [(0, "cpu"), (1, "cpu")]
    assert "--yes" in refused(capsys, "reproduce", config)


def test_audit_and_robustness_run_on_a_data_set(capsys, tmp_path, monkeypatch):
    town = make_tiny_town(tmp_path / "town", "t", landmarks=3, views=6)
    monkeypatch.setattr(AuditConfig, "network", SMALL)
    monkeypatch.setattr(AuditConfig.__init__, "__defaults__", (3, 1, 300, 2, SMALL))
    data = "--dataset", "oxford5k", "--root", town.root
    audit = "audit", *data, "--steps", 2, "--out", tmp_path / "audit"
    status, out, _ = run(capsys, *audit)
    assert status == 0 and "18 networks of 2 steps" in out and "the whole leak" in out
    assert (tmp_path / "audit" / "results.json").is_file()
    more = "--out", tmp_path / "robustness", "--methods", "colour-histogram"
    status, out, _ = run(capsys, "robustness", *data, *more)
    assert status == 0 and "scale, times smaller" in out
    assert "holds another audit" in refused(capsys, *audit, "--seeds", 2)


def test_an_unknown_variant_of_a_study_is_refused(capsys, tmp_path):
    out = tmp_path / "study"
    line = "study", "--variants", "none", "some", "--out", out
    assert "choose from none" in refused(capsys, *line)
    assert not out.exists()
