"""Widgets to point, move and draw with, live in a notebook and as HTML in a page.

anywidget is loaded with the first widget that is asked for.
"""

from importlib import import_module
from typing import Any

__all__ = [
    "Annotator", "Candidate", "Explorer", "GuessNetwork", "KernelTrainer", "MapRound",
    "PlaneExplorer", "PlaneResponses", "TensorSlices", "explore", "explore_ranked",
    "known_plane_responses", "photos_page", "plane_responses", "small_tensors",
]  # fmt: skip

_MODULES = {"Annotator": "annotator", "Candidate": "payload", "photos_page": "photos"}
_MODULES |= {"TensorSlices": "slices"}
_MODULES |= dict.fromkeys(("KernelTrainer", "small_tensors"), "kernel_trainer")
_MODULES |= dict.fromkeys(("GuessNetwork", "MapRound"), "guess_network")
_MODULES |= dict.fromkeys(("Explorer", "explore", "explore_ranked"), "explorer")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES.get(name, 'plane_explorer')}")
    return getattr(module, name)
