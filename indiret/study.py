# SHIM
from indiret.experiments.study import *  # noqa: F403
