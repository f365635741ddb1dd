"""Predictions and exercises of the chapters: guesses to reveal, answers to check.

Chapter: all.
"""

from indiret.exercises import indexing, method, planes, practice  # they register their checks
from indiret.exercises.checks import CHECKS, CheckResult, Hint, check, exercise, expect, guess

__all__ = [
    "CHECKS", "CheckResult", "Hint", "check", "exercise", "expect", "guess", "indexing", "method",
    "planes", "practice",
]  # fmt: skip
