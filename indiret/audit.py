# SHIM
from indiret.experiments.audit import *  # noqa: F403
from indiret.experiments.audit import FULL_AUDIT as FULL  # noqa: F401
from indiret.experiments.audit import STORED_AUDIT as STORED  # noqa: F401
from indiret.experiments.audit import audit_summary as tell  # noqa: F401
