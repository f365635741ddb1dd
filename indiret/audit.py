# SHIM
from indiret.experiments.audit import *  # noqa: F403
