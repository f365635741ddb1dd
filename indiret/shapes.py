# SHIM
from indiret.evaluation.shapes import SHAPES, matching_points, shape_precision  # noqa: F401
from indiret.evaluation.shapes import shape_recall as true_inside  # noqa: F401
