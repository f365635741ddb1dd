# SHIM
from indiret.evaluation.localisation import (  # noqa: F401
    THRESHOLDS,
    average_to_grid,
    box_iou,
    mask_iou,
    otsu_iou,
    pixel_auc,
)
