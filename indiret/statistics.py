# SHIM
from indiret.evaluation.intervals import (  # noqa: F401
    Interval,
    fit_calibration,
    nested_bootstrap,
    sign_flip_test,
)
