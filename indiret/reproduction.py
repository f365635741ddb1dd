# SHIM
from indiret.experiments.evaluate import *  # noqa: F403
from indiret.experiments.records import write_json  # noqa: F401
from indiret.experiments.runner import keep_settings  # noqa: F401
