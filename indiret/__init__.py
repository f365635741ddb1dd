"""Indicative image retrieval: rank photos by learnt relevance, and show which patches matched.

The names of a first search are here; all others live in the module of their idea.
"""

from indiret.attention import HypersphereMask
from indiret.conv4d import Conv4d, PivotConv4d, resize4d
from indiret.correlation import correlation_tensor, register_metric
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.evaluation import average_precision, mean_average_precision
from indiret.evidence import Evidence, explain
from indiret.feedback import refine_query
from indiret.images import crop, find_images, read_image
from indiret.networks import build_network, load_network, save_network
from indiret.patches import extract_patches
from indiret.ranking import Hit, NetworkMethod, prepare, rank, rank_again
from indiret.training import TrainingConfig, fit

__version__ = "0.1.0"

__all__ = [
    "Conv4d",
    "Evidence",
    "Hit",
    "HypersphereMask",
    "NetworkMethod",
    "PivotConv4d",
    "Query",
    "RetrievalDataset",
    "TrainingConfig",
    "average_precision",
    "build_network",
    "correlation_tensor",
    "crop",
    "explain",
    "extract_patches",
    "find_images",
    "fit",
    "load_dataset",
    "load_network",
    "mean_average_precision",
    "prepare",
    "rank",
    "rank_again",
    "read_image",
    "refine_query",
    "register_metric",
    "resize4d",
    "save_network",
]
