# SHIM
from indiret.planes.cascade import JUDGED, VOTED  # noqa: F401
from indiret.planes.cascade import PLANE_NETWORKS as PLANE_METHODS  # noqa: F401
from indiret.planes.cascade import load_plane_retriever as load_plane_method  # noqa: F401
