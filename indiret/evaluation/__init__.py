"""The measures: of a ranked list, of a map, of patch correspondence, and how sure a number is.

`ranking` has average precision, `localisation` what compares a map with a region, `correspondence`
what compares matches with the ground truth, `crossvalidation` makes folds, `intervals` has the
bootstrap, a sign-flip test and calibration, `shapes` fits shapes to the matches in the tensor, and
`lines` describes the lines drawn between matched patches.

Chapter: *Ranking and honest evaluation*.
"""

from indiret.evaluation.correspondence import (
    NO_MATCH,
    PatchMatches,
    PointMatches,
    ground_truth_matches,
    ground_truth_points,
    patch_match_accuracy,
    point_match_accuracy,
    strongest_targets,
)
from indiret.evaluation.crossvalidation import (
    SPLIT_PROTOCOLS,
    Fold,
    check_fold,
    folds,
    held_out_images,
    training_data,
)
from indiret.evaluation.intervals import (
    Interval,
    fit_calibration,
    nested_bootstrap,
    robust_z_score,
    sign_flip_test,
)
from indiret.evaluation.lines import LinePattern, line_pattern, map_coverage
from indiret.evaluation.localisation import (
    THRESHOLDS,
    Ceilings,
    average_to_grid,
    box_iou,
    centre_gaussian,
    evidence_iou,
    iou_ceilings,
    mask_iou,
    otsu_iou,
    pixel_auc,
    scale_map,
    threshold_ious,
    upsample_map,
)
from indiret.evaluation.ranking import (
    SETUPS,
    TITLES,
    average_precision,
    mean_average_precision,
    mean_precision,
    precision_at,
    select_setup,
)
from indiret.evaluation.shapes import SHAPES, matching_points, shape_precision, shape_recall

__all__ = [
    "NO_MATCH", "SETUPS", "SHAPES", "SPLIT_PROTOCOLS", "THRESHOLDS", "TITLES", "Ceilings",
    "Fold", "Interval", "LinePattern", "PatchMatches", "PointMatches", "average_precision",
    "average_to_grid", "box_iou", "centre_gaussian", "check_fold", "evidence_iou",
    "fit_calibration", "folds", "ground_truth_matches", "ground_truth_points",
    "held_out_images", "iou_ceilings", "line_pattern", "map_coverage", "mask_iou",
    "matching_points", "mean_average_precision", "mean_precision", "nested_bootstrap",
    "otsu_iou", "patch_match_accuracy", "pixel_auc", "point_match_accuracy", "precision_at",
    "robust_z_score", "scale_map", "select_setup", "shape_precision", "shape_recall",
    "sign_flip_test", "strongest_targets", "threshold_ious", "training_data", "upsample_map",
]  # fmt: skip
