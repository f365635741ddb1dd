# SHIM
from indiret.experiments.evaluate import *  # noqa: F403
