# SHIM
from indiret.experiments.audit import *  # noqa: F403
from indiret.experiments.audit import summary as tell  # noqa: F401
