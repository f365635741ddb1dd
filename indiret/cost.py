# SHIM
from typing import NamedTuple

from indiret.experiments.forecast import *  # noqa: F403
from indiret.experiments.forecast import STORED_FORECAST as STORED  # noqa: F401


class RunRates(NamedTuple):
    """Rates as the file of the page on scale keeps them."""

    photo: float
    pair: float
    read: float = 0.0
    target: float = 0.0
    query: float = 0.0
    step: float = 0.0
    explained: float = 0.0
    kept: int = 0
    pixels: int = 0
    weights: int = 0
