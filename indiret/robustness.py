# SHIM
from indiret.experiments.robustness import *  # noqa: F403
from indiret.experiments.robustness import ROBUSTNESS_METHODS as METHODS  # noqa: F401
from indiret.experiments.robustness import STORED_ROBUSTNESS as STORED  # noqa: F401
