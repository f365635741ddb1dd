"""Predictions and exercises of the chapters: guesses to reveal, answers to check.

Chapter: all.
"""

from indiret.exercises import (  # they register their checks
    experiments,
    indexing,
    method,
    planes,
    practice,
)
from indiret.exercises.checks import CHECKS, CheckResult, Hint, check, exercise, expect, guess

__all__ = [
    "CHECKS", "CheckResult", "Hint", "check", "exercise", "expect", "experiments", "guess",
    "indexing", "method", "planes", "practice",
]  # fmt: skip
