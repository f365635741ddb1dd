# SHIM
from indiret.evaluation.crossvalidation import SPLIT_PROTOCOLS as SCHEMES  # noqa: F401
from indiret.evaluation.crossvalidation import Fold, check_fold, folds, training_data  # noqa: F401
from indiret.evaluation.crossvalidation import held_out_images as held_back  # noqa: F401
