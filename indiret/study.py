# SHIM
from indiret.experiments.claims import judge_gains as judge  # noqa: F401
from indiret.experiments.records import interval_table as table  # noqa: F401
from indiret.experiments.study import *  # noqa: F403
from indiret.experiments.study import STORED_STUDY as STORED  # noqa: F401
from indiret.experiments.study import VARIANT_NAMES as NAMES  # noqa: F401
