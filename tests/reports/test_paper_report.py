"""The paper report: whole pages from whole and unfinished grids, with every text escaped."""

import json

import pytest

from indiret.checkpoints import save_network
from indiret.experiments.claims import read_claims
from indiret.experiments.grid import read_grid
from indiret.experiments.reproduction import RunConfig
from indiret.network import build_network
from indiret.reports.paper_report import write_paper_report
from tests.reports.page import Page

ORIGIN = {
    "commit": "abc", "lock": "def", "data_manifest": "123", "python": "3", "torch": "2",
    "numpy": "2", "machine": "x", "device": "cpu", "processes": 1, "seconds": 2.0,
    "processor_seconds": 3.0,
}  # fmt: skip


def fill(folder, configs):
    """Results as `run` writes them, with numbers of no network."""
    for config in configs:
        records = []
        for number in range(3):
            row = {"query": f"<b>l{number}</b>_1", "landmark": f"l{number}", "seed": config.seed}
            row |= {"variant": config.variant}
            if config.method == "network":
                row["IoU"] = [0.3 - 0.02 * t for t in range(10)]
            for scheme in ("none", *config.feedback):
                level = 0.5 + 0.1 * number + 0.05 * (config.by == "query")
                measures = {name: level for name in ("mAP", "mAP@5", "mAP@10", "mAP@20", "mIoU")}
                measures |= {"mAP_without_query": level, "pixel_auc": 0.7}
                measures |= {"mIoU, ceiling": 0.7, "mIoU, all ones": 0.3, "mIoU, combined": 0.4}
                records.append(row | {"scheme": scheme} | measures)
        results = {"config": config.plain, "records": records}
        if config.method == "network":
            looks = {400: 0.3, 800: 0.4}
            results["log"] = [
                {"step": s, "loss": 1 - m, "validation_map": m} for s, m in looks.items()
            ]
        results["regions"] = "drawn.json (SHA-256 12): 3 photos"
        results["fold"] = {"train": 0, "test": 3, "validation": 0}
        results["provenance"] = ORIGIN
        (folder / config.key).mkdir(parents=True)
        (folder / config.key / "results.json").write_text(json.dumps(results))


def test_a_grid_becomes_two_pages(tmp_path):
    configs = [
        RunConfig(dataset="oxford5k", by=by, attention=attention, feedback=feedback)
        for by in ("query", "landmark")
        for attention, feedback in (("none", ()), ("har", ("mean", "max")))
    ]
    fill(tmp_path / "grid", configs)
    markdown, html = write_paper_report(tmp_path / "grid", tmp_path / "out")
    text, page = markdown.read_text(), html.read_text()
    for claim in read_claims():
        assert claim["text"].split("(")[0].split("[")[0].strip() in text
    assert "| Base | the paper | 0.977 ± 0.021 |" in text
    assert "ours, folds by landmark | 0.600 (" in text and "+0.050 (+0.050 … +0.050)" in text
    (tmp_path / "again.toml").write_text(text.split("```")[1].removeprefix("toml"))
    assert {*read_grid(tmp_path / "again.toml")} == {*configs}
    assert "| steps | 800 |" in text and "| attention | har; none |" in text
    assert "Regions of interest: drawn.json (SHA-256 12): 3 photos." in text
    tags = Page(page).tags
    assert tags.count("table") >= 4 and "script" not in tags
    assert "http" not in page.replace("http-equiv", "")
    for picture in ("depth.png", "thresholds.png", "learning.png"):
        assert f"({picture})" in text and (tmp_path / "out" / picture).stat().st_size > 5000
    assert not list((tmp_path / "out").glob("*.part"))


def test_an_unfinished_grid_of_two_commits_and_odd_names_has_a_report_too(tmp_path):
    town = "<i>|*town*"
    fill(tmp_path, [RunConfig(dataset="oxford5k", method="thumbnail", seed=s) for s in (0, 1)])
    one, other = tmp_path.glob("*/results.json")
    other.write_text(other.read_text().replace('"abc"', '"other"'))
    one.write_text(one.read_text().replace('"machine": "x"', f'"machine": "{town}"'))
    text, page = (path.read_text() for path in write_paper_report(tmp_path, tmp_path / "report"))
    assert "Regions of interest: none was used." in text
    assert "thumbnail" in text and "not run" in text
    assert "The runs differ in commit;" in text and "The runs differ in lock" not in text
    assert town not in page and "&lt;i&gt;|*town*" in page
    assert r"&lt;i&gt;\|\*town\*, x |" in text and town in Page(page).text


def test_networks_of_one_fold_show_their_evidence(tmp_path):
    configs = [RunConfig(attention=attention) for attention in ("none", "har")]
    fill(tmp_path, configs)
    for config in configs:
        save_network(build_network("base"), tmp_path / config.key / "network.safetensors")
    markdown, _ = write_paper_report(tmp_path, tmp_path / "report")
    assert "(evidence.png)" in markdown.read_text()
    assert (tmp_path / "report" / "evidence.png").stat().st_size > 5000


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run has finished"):
        write_paper_report(tmp_path, tmp_path / "out")
