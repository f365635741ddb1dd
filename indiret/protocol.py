# SHIM
from indiret.experiments.evidence_protocol import *  # noqa: F403
from indiret.experiments.evidence_protocol import WITH_INTERVAL as MEASURES  # noqa: F401
