# SHIM
from indiret.experiments.grid import *  # noqa: F403
