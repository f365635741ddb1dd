"""Past the paper: matching patches of a flat thing lie on a plane of T, (i, j) = A (k, l) + t.

A retriever that votes for planes without learning, and a small network that reads T along the
best ones. `indiret.planes.training` is imported by those who train it.

Chapter: *Sphere or plane?*
"""

from indiret.planes.attention import GaussianMask, PlaneMask, PredictedHypersphereMask
from indiret.planes.expansion import ExpandedPlaneRetriever
from indiret.planes.features import PLANE_CONFIG, PlaneConfig, PlaneFeatures
from indiret.planes.geometry import Plane, sample_plane
from indiret.planes.gradients import PATCH_CELLS, cell_grid, dense_rootsift
from indiret.planes.matching import PlaneRetriever
from indiret.planes.network import (
    PlaneNetRetriever,
    PlaneNetwork,
    load_plane_network,
    save_plane_network,
)
from indiret.planes.patch_network import PatchNetwork, load_patch_network
from indiret.planes.samples import CHANNELS, collate, sample_pair
from indiret.planes.sources import FeaturePlaneNetRetriever, FeaturePlaneRetriever
from indiret.planes.turning import TurnedPlaneRetriever, TurnedQuery
from indiret.planes.voting import hough_votes, responses, threshold_relu_

__all__ = [
    "CHANNELS", "PATCH_CELLS", "PLANE_CONFIG", "ExpandedPlaneRetriever",
    "FeaturePlaneNetRetriever", "FeaturePlaneRetriever", "GaussianMask", "PatchNetwork", "Plane",
    "PlaneConfig", "PlaneFeatures", "PlaneMask", "PlaneNetRetriever", "PlaneNetwork",
    "PlaneRetriever", "PredictedHypersphereMask", "TurnedPlaneRetriever", "TurnedQuery",
    "cell_grid", "collate", "dense_rootsift", "hough_votes", "load_patch_network",
    "load_plane_network", "responses", "sample_pair",
    "sample_plane", "save_plane_network", "threshold_relu_",
]  # fmt: skip
