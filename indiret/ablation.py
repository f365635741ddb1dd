# SHIM
from indiret.experiments.ablation import *  # noqa: F403
from indiret.experiments.ablation import ABLATIONS as ROWS  # noqa: F401
from indiret.experiments.ablation import STORED_ABLATION as STORED  # noqa: F401
