# SHIM
import sys

from indiret.experiments import evaluator as _evaluate
from indiret.experiments.evaluator import *  # noqa: F403
from indiret.experiments.records import write_json  # noqa: F401
from indiret.experiments.runner import keep_settings

_evaluate.keep_settings = keep_settings  # type: ignore[attr-defined]
sys.modules[__name__] = _evaluate
