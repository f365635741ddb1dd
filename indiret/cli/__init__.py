"""The ``indiret`` command: one file for each group of its commands."""

from indiret.cli.app import main

__all__ = ["main"]
