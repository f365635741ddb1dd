# SHIM
from indiret.experiments.reproduction import *  # noqa: F403
