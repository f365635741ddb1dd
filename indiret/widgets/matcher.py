"""The plane vote in JavaScript: its source, and the constants that it needs, packed for a page.

Chapter: *Sphere or plane?*
"""

import numpy as np

from indiret.checkpoints import find_weights, load_tensors
from indiret.planes.gradients import fitted_tensors
from indiret.planes.matching import IMPOSTORS, PLANE_CONFIG
from indiret.planes.network import NAME
from indiret.widgets.base import join_modules
from indiret.widgets.payload import pack

CODE_OF_ONE = 2**15  # the code of 1 in whitened patches, as in ``products.js``

# each behind those that it imports
_CORE = (
    *("arithmetic", "pixels", "products", "gradients", "voting", "geometry", "samples", "features"),
    *("frames", "matching", "network", "scores", "evidence", "matcher"),
)


def pack_matcher() -> bytes:
    """Constants for ``matcherData`` of ``data.js``, as ``unpack`` of ``shared.js`` unpacks them.

    Examples
    --------
    >>> len(pack_matcher()) < 400_000
    True
    """
    fitted, config = fitted_tensors(), PLANE_CONFIG
    _, weights = load_tensors(find_weights(NAME))
    floats = {name: fitted[name] for name in ("mean", "matrix")} | weights
    parts = [tensor.float().numpy().astype("<f4").tobytes() for tensor in floats.values()]
    impostors = []
    for number in range(IMPOSTORS):
        shapes = {}
        for kind in ("template", "close"):
            patches = fitted[f"impostor.{number}.{kind}"].numpy()
            shapes[kind] = patches.shape
            parts.append(np.rint(patches * CODE_OF_ONE).astype("<i2").tobytes())
        impostors.append(shapes)
    header = {
        "sides": {"template": config.template, "close": config.close, "pyramid": config.pyramid},
        "weights": [(name, tensor.numel()) for name, tensor in floats.items()],
        "impostors": impostors,
    }
    return pack(header, parts)


def page_source() -> str:
    """What a page needs: ``matcherData``, ``createWorkerPool``, ``release``, no other name."""
    names = "{ matcherData, createWorkerPool, release }"
    body = _joined("arithmetic", "data", "scores", "ranking", "pool", "memory")
    return f"const {names} = (() => {{\n{body}\nreturn {names};\n}})();\n"


def worker_source() -> str:
    """What ``createWorkerPool`` makes workers of."""
    return _joined("headers", "decode", *_CORE, "memory", "worker")


def _joined(*names: str) -> str:
    return join_modules(*(f"match/{name}" for name in names))
