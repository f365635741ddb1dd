# SHIM
from indiret.widgets.plane_explorer import PlaneExplorer as PlaneExplorer
from indiret.widgets.plane_explorer import known_plane_responses as lay_out_known  # noqa: F401
from indiret.widgets.plane_explorer import plane_responses as lay_out  # noqa: F401
