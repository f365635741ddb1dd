# SHIM
from indiret.experiments.runner import *  # noqa: F403
