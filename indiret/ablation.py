# SHIM
from indiret.experiments.ablation import *  # noqa: F403
