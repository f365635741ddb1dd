# SHIM
from indiret.experiments.robustness import *  # noqa: F403
