# SHIM
from indiret.experiments.forecast import *  # noqa: F403
