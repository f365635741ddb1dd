# SHIM
from indiret.experiments.claims import *  # noqa: F403
