"""Experiments on data sets: what a method is worth, by how much, and why to believe it.

An experiment is a list of configs and a function from a config to rows; the
runner does what is missing, and the records hold the rows in one table and sum it up.
"""

from indiret.experiments.ablation import run_ablation, stored_ablation
from indiret.experiments.audit import (
    FULL_AUDIT,
    AuditConfig,
    audit_summary,
    run_audit,
    stored_audit,
)
from indiret.experiments.claims import (
    ClaimVerdict,
    Measured,
    count_verdicts,
    judge_claims,
    judge_gains,
    read_claims,
    read_measured,
)
from indiret.experiments.comparison import (
    Published,
    ablation_table,
    evidence_table,
    ranking_table,
    read_published,
    read_results,
    second_look_table,
    verifier_table,
)
from indiret.experiments.evaluator import compare, evaluate, provenance
from indiret.experiments.evidence_protocol import (
    DEFAULT_EVIDENCE,
    EVIDENCE,
    EvidencePair,
    evidence_pairs,
    known_partners,
    measure_evidence,
    measure_maps,
)
from indiret.experiments.forecast import estimate, estimate_grid, measure_rates
from indiret.experiments.grid import read_grid, run_grid, run_together
from indiret.experiments.query_evaluator import QueryEvaluator
from indiret.experiments.records import (
    interval_table,
    long_rows,
    markdown_table,
    show_interval,
    write_json,
)
from indiret.experiments.reproduction import RunConfig, run
from indiret.experiments.robustness import ROBUSTNESS_METHODS, run_robustness, stored_robustness
from indiret.experiments.runner import cluster, collect_rows, in_turn, processes, run_missing
from indiret.experiments.study import (
    VARIANT_NAMES,
    StudyConfig,
    cells,
    query_region,
    run_study,
    stored_networks,
    stored_results,
    validation_curves,
)

__all__ = [
    "DEFAULT_EVIDENCE",
    "EVIDENCE",
    "FULL_AUDIT",
    "ROBUSTNESS_METHODS",
    "VARIANT_NAMES",
    "AuditConfig",
    "ClaimVerdict",
    "EvidencePair",
    "Measured",
    "Published",
    "QueryEvaluator",
    "RunConfig",
    "StudyConfig",
    "ablation_table",
    "audit_summary",
    "cells",
    "cluster",
    "collect_rows",
    "compare",
    "count_verdicts",
    "estimate",
    "estimate_grid",
    "evaluate",
    "evidence_pairs",
    "evidence_table",
    "in_turn",
    "interval_table",
    "judge_claims",
    "judge_gains",
    "known_partners",
    "long_rows",
    "markdown_table",
    "measure_evidence",
    "measure_maps",
    "measure_rates",
    "processes",
    "provenance",
    "query_region",
    "ranking_table",
    "read_claims",
    "read_grid",
    "read_measured",
    "read_published",
    "read_results",
    "run",
    "run_ablation",
    "run_audit",
    "run_grid",
    "run_missing",
    "run_robustness",
    "run_study",
    "run_together",
    "second_look_table",
    "show_interval",
    "stored_ablation",
    "stored_audit",
    "stored_networks",
    "stored_results",
    "stored_robustness",
    "validation_curves",
    "verifier_table",
    "write_json",
]
