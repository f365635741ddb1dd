# SHIM
from indiret.experiments.claims import *  # noqa: F403
from indiret.experiments.records import paired_difference as paired  # noqa: F401
from indiret.experiments.records import show_interval as show  # noqa: F401
