"""The systems that indicative retrieval is compared with, each registered as a retriever.

`verifier_training` and `region_proposals` are imported by those who use them.

Chapter: *Baselines*.
"""

from indiret.baselines.backbones import PretrainedBackbone, load_backbone
from indiret.baselines.descriptors import OPTIONS, POOLINGS
from indiret.baselines.maps import empty_cache, extract, load_maps
from indiret.baselines.matchers import MATCHERS, LearnedMatcher
from indiret.baselines.neighbours import NeighbourRetriever
from indiret.baselines.reranking import (
    AGAIN,
    SHORTLIST,
    FusedRetriever,
    TwoStageRetriever,
    rerank_option,
)
from indiret.baselines.sift import SiftRansac
from indiret.baselines.simple import ColourHistogram, MutualNearest, Thumbnail
from indiret.baselines.verifiers import VERIFIERS, is_verifier_name, load_verifier, save_verifier

__all__ = [
    "AGAIN", "MATCHERS", "OPTIONS", "POOLINGS", "SHORTLIST", "VERIFIERS", "ColourHistogram",
    "FusedRetriever", "LearnedMatcher", "MutualNearest", "NeighbourRetriever", "PretrainedBackbone",
    "SiftRansac", "Thumbnail", "TwoStageRetriever", "empty_cache", "extract", "is_verifier_name",
    "load_backbone", "load_maps", "load_verifier", "rerank_option", "save_verifier",
]  # fmt: skip
