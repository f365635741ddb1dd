# SHIM
from indiret.planes.training import PLANE_TRAINING as RECIPE  # noqa: F401
from indiret.planes.training import fit_plane_network  # noqa: F401
