# SHIM
from indiret.planes import responses as _responses
from indiret.planes import threshold_relu_ as weigh  # noqa: F401
from indiret.planes.matching import PLANE_CONFIGS as PLANES  # noqa: F401
from indiret.planes.matching import PlaneConfig  # noqa: F401
from indiret.planes.matching import PlaneRetriever as PlanesMethod  # noqa: F401


def responses(template, patches):
    return _responses(patches, template.patches).permute(2, 3, 0, 1)
