# SHIM
from indiret.evaluation.correspondence import NO_MATCH as NO_PARTNER  # noqa: F401
from indiret.evaluation.correspondence import (  # noqa: F401
    PointMatches,
    point_match_accuracy,
    strongest_targets,
)
from indiret.evaluation.correspondence import ground_truth_matches as true_partners  # noqa: F401
from indiret.evaluation.correspondence import ground_truth_points as true_places  # noqa: F401
