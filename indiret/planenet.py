# SHIM
from indiret.planes.network import (  # noqa: F401
    JUDGED,
    NAME,
    is_plane_network,
    load_plane_network,
    save_plane_network,
)
from indiret.planes.network import PlaneNetRetriever as PlaneNetMethod  # noqa: F401
