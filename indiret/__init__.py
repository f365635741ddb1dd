"""Indicative image retrieval: rank photos by learnt relevance, and show which patches matched.

The names of a first search are here. All others live in the file of their idea, at the top of the
package for the paper's method, and in the wings for the rest; `planes` and `baselines` are imported
so that their retrievers, masks and patch sources are registered.
"""

from indiret import baselines, planes
from indiret.architectures import register_architecture
from indiret.attention import HypersphereMask, register_mask
from indiret.checkpoints import load_network, save_network
from indiret.conv4d import Conv4d, PivotConv4d, resize4d
from indiret.correlation import correlation_tensor
from indiret.datasets import Query, RetrievalDataset, load_dataset
from indiret.evaluation import average_precision, mean_average_precision
from indiret.evidence import Evidence, explain
from indiret.feedback import FeedbackConfig, refine_query, rerank_with_feedback
from indiret.images import crop, find_images, read_image
from indiret.metrics import register_metric
from indiret.network import build_network
from indiret.patches import extract_patches, register_patch_source
from indiret.retrieval import (
    Hit,
    NetworkRetriever,
    Retriever,
    build_retriever,
    index_database,
    list_retrievers,
    rank,
    register_retriever,
)
from indiret.training import TrainingConfig, fit

__version__ = "0.1.0"

__all__ = [
    "Conv4d",
    "Evidence",
    "FeedbackConfig",
    "Hit",
    "HypersphereMask",
    "NetworkRetriever",
    "PivotConv4d",
    "Query",
    "RetrievalDataset",
    "Retriever",
    "TrainingConfig",
    "average_precision",
    "baselines",
    "build_network",
    "build_retriever",
    "correlation_tensor",
    "crop",
    "explain",
    "extract_patches",
    "find_images",
    "fit",
    "index_database",
    "list_retrievers",
    "load_dataset",
    "load_network",
    "mean_average_precision",
    "planes",
    "rank",
    "read_image",
    "refine_query",
    "register_architecture",
    "register_mask",
    "register_metric",
    "register_patch_source",
    "register_retriever",
    "rerank_with_feedback",
    "resize4d",
    "save_network",
]
