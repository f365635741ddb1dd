"""Experiments on data sets: which method is better, by how much, and why to believe it.

An experiment is a list of configs and a function from a config to rows; the
runner does what is missing, and the records hold the rows in one table and sum it up.
"""

from indiret.experiments.ablation import run_ablation, stored_ablation
from indiret.experiments.audit import AuditConfig, run_audit, stored_audit
from indiret.experiments.claims import judge_claims, judge_gains, read_claims, read_measured
from indiret.experiments.comparison import (
    evidence_table,
    ranking_table,
    read_published,
    read_results,
)
from indiret.experiments.evaluator import compare, evaluate, provenance
from indiret.experiments.evidence_protocol import evidence_pairs, measure_evidence, pair_matches
from indiret.experiments.forecast import estimate, estimate_grid, measure_rates
from indiret.experiments.grid import read_grid, run_grid
from indiret.experiments.records import interval_table, long_rows, markdown_table, show_interval
from indiret.experiments.reproduction import RunConfig, run
from indiret.experiments.robustness import run_robustness, stored_robustness
from indiret.experiments.runner import collect_rows, run_missing
from indiret.experiments.study import StudyConfig, run_study, stored_results

__all__ = [
    "AuditConfig", "RunConfig", "StudyConfig", "collect_rows", "compare", "estimate",
    "estimate_grid", "evaluate", "evidence_pairs", "evidence_table", "interval_table",
    "judge_claims", "judge_gains", "long_rows", "markdown_table", "measure_evidence",
    "measure_rates", "pair_matches", "provenance", "ranking_table", "read_claims", "read_grid",
    "read_measured", "read_published", "read_results", "run", "run_ablation", "run_audit",
    "run_grid", "run_missing", "run_robustness", "run_study", "show_interval", "stored_ablation",
    "stored_audit", "stored_results", "stored_robustness",
]  # fmt: skip
