# SHIM
from indiret.experiments.query_evaluator import EXPLAINED, JUDGED_AGAIN, precisions  # noqa: F401
from indiret.experiments.reproduction import *  # noqa: F403
