"""The commands for the photos of a benchmark; ``data`` is tested with downloads, too."""

import json
from dataclasses import replace

import pytest

from indiret.datasets import load_dataset
from tests.cli.command import refused, run


def test_regions_are_proposed_and_evidence_is_measured_on_them(capsys, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    from indiret.baselines import region_proposals

    town = load_dataset("toytown", split="validation")
    queries = town.queries[:3]
    images = {name: town.images[name] for query in queries for name in query.positives}
    few = replace(town, queries=queries, images=images)
    monkeypatch.setattr("indiret.cli.options.load_dataset", lambda *_: few)
    file, results = tmp_path / "regions.json", tmp_path / "results.json"
    line = ("regions", "propose", "toytown", "--out", file)
    status, out, _ = run(capsys, *line)
    assert status == 0 and "of them done" in out and "IoU with the masks" in out
    monkeypatch.setattr(region_proposals, "_found", None)  # would fail: nothing is tried again
    assert run(capsys, *line)[0] == 0
    measure = ("evaluate", "--method", "mutual-nn", "--json", results)
    used = []
    for more in ((), ("--regions", file), ("--regions", file, "--unreviewed")):
        status, out, _ = run(capsys, *measure, *more)
        used.append(json.loads(results.read_text())["regions"])
        assert status == 0 and f"evidence is measured on {used[-1]}" in out
    assert used[0] == "the data set's own masks"
    assert "3 photos; regions: 3 query" in used[1] and "sift, unreviewed" in used[2]
    assert "--regions FILE" in refused(capsys, "evaluate", "--unreviewed")
    assert "not a region file" in refused(capsys, "evaluate", "--regions", results)
    assert "not a region file" in refused(capsys, *line[:-1], results)
    refused(capsys, "evaluate", "--regions", tmp_path / "absent.json")
