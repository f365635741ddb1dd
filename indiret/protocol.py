# SHIM
from indiret.experiments.evidence_protocol import *  # noqa: F403
