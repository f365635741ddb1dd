"""Predictions and exercises of the chapters: guesses to reveal, answers to check.

Chapter: all.
"""

from indiret.exercises import method, planes, practice  # they register their checks
from indiret.exercises.checks import CHECKS, CheckResult, Hint, check, exercise, expect, guess

__all__ = [
    "CHECKS", "CheckResult", "Hint", "check", "exercise", "expect", "guess", "method", "planes",
    "practice",
]  # fmt: skip
