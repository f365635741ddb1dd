"""Past the paper: matching patches of a flat thing lie on a plane of T, (i, j) = A (k, l) + t.

A retriever that votes for planes without learning, a small network that reads T along the best
ones, its training, and a cascade of all three steps.

Chapter: *Sphere or plane?*
"""

from indiret.planes.cascade import PLANE_NETWORKS, PlaneCascadeRetriever, load_plane_retriever
from indiret.planes.geometry import Plane, sample_plane
from indiret.planes.gradients import PATCH_CELLS, cell_grid, dense_rootsift
from indiret.planes.matching import PLANE_CONFIGS, PlaneConfig, PlaneFeatures, PlaneRetriever
from indiret.planes.network import (
    PlaneNetRetriever,
    PlaneNetwork,
    is_plane_network,
    load_plane_network,
    save_plane_network,
)
from indiret.planes.samples import CHANNELS, collate, sample_pair
from indiret.planes.training import PLANE_TRAINING, fit_plane_network
from indiret.planes.voting import hough_votes, responses, threshold_relu_

__all__ = [
    "CHANNELS",
    "PATCH_CELLS",
    "PLANE_CONFIGS",
    "PLANE_NETWORKS",
    "PLANE_TRAINING",
    "Plane",
    "PlaneCascadeRetriever",
    "PlaneConfig",
    "PlaneFeatures",
    "PlaneNetRetriever",
    "PlaneNetwork",
    "PlaneRetriever",
    "cell_grid",
    "collate",
    "dense_rootsift",
    "fit_plane_network",
    "hough_votes",
    "is_plane_network",
    "load_plane_network",
    "load_plane_retriever",
    "responses",
    "sample_pair",
    "sample_plane",
    "save_plane_network",
    "threshold_relu_",
]

# SHIM: old names, and T with the query's patches first, for the explorer of planes
from indiret.planes import geometry

PARTS = PATCH_CELLS


def sample_plane(responses, plane):  # type: ignore  # noqa: F811
    return geometry.sample_plane(responses.permute(2, 3, 0, 1), plane)


# END SHIM
