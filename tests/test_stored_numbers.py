"""Stored results agree with each other, and bear out what records and chapters say in words.

Figures of pages come from the results themselves (`tools.render_pages`); what is checked here is
what no template can fill in.
"""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from indiret.checkpoints import load_network
from indiret.experiments.claims import published
from indiret.network import parameter_count
from tools.render_pages import DATA, ROOT, comparison, difference, stored

LITE = "efficientnet-lite0:"
TEST, OXFORD = comparison("toytown/test"), comparison("oxford5k")
LEARNT = ("siam-fv", "non-metric", "deep-retrieval")


def markdown(chapter: int) -> str:
    (path,) = (ROOT / "notebooks").glob(f"{chapter:02}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return " ".join(" ".join(c.source.split()) for c in cells if c.cell_type == "markdown")


def test_stored_files_have_finite_numbers():
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number of a stored result")

    for path in DATA.rglob("*.json"):
        json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_results_of_one_thing_agree():
    verified = stored("verifiers.json")["rows"]
    for name in LEARNT:
        same = verified[f"{name}, network"]["mAP"]["mean"]
        assert TEST[LITE + name]["mAP"] == pytest.approx(same, abs=1e-4)
    assert verified[f"{LITE}rmac"]["mAP"]["mean"] == pytest.approx(TEST[f"{LITE}rmac"]["mAP"])
    assert len({run["provenance"]["commit"] for run in stored("reproduction/*/results.json")}) == 1


def test_what_records_say():
    again = ("aqe", "diffusion", "kreciprocal", ",")
    once = [name for name in OXFORD if name.startswith(LITE) and not any(a in name for a in again)]
    best = max(OXFORD[name]["mAP"] for name in (*once, "sift-ransac"))
    assert min(OXFORD[name]["mAP"] for name in ("planes", "plane-net")) > best
    assert difference(TEST["plane-net"], TEST["planes"])[1] < 0, "adds little to the ranking"
    assert TEST["base"]["mAP"] < TEST["sift-ransac"]["mAP"]
    for by in (TEST, OXFORD):
        raised = [name for name in by if name.endswith("+kreciprocal")]
        assert len(raised) == 9
        assert all(by[n]["mAP"] > by[n.removesuffix("+kreciprocal")]["mAP"] for n in raised)
    gains = stored("verifiers.json")["gains"]
    assert all(row["low"] > 0 for name, row in gains.items() if not name.startswith("gem"))
    leaks = stored("audit/results.json")["comparisons"]
    assert min(leaks[n]["low"] for n in ("the whole leak", "of it, knowing the photos")) > 0
    assert leaks["of it, knowing the landmark"]["low"] < 0


def test_other_cnns_rank_no_worse():
    rows = stored("ablation/cnns/results.json")["rows"]
    assert all(rows[name]["gain"]["mean"] > 0 for name in ("vgg11", "inception"))


def test_guards_of_real_folders_cost_a_search_little():
    assert 0 < max(stored("guards.json")["share"].values()) <= 0.02


def test_what_chapters_quote():
    paper = published("oxford5k")
    best, base = paper["Base+HAR"], paper["Base"]
    assert best["mAP_sd"] / (best["mAP"] - base["mAP"]) > 30
    assert f"{best['mAP'] - base['mAP']:.2f} percentage points above Base" in markdown(8)
    assert "more than thirty times as wide" in markdown(8)
    assert f"{best['mAP']} % on Oxford-5k" in markdown(11)
    assert f"to the {parameter_count(load_network('base')):,}" in markdown(7)
