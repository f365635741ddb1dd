"""Indicative image retrieval: rank photos by learned relevance, and show which patches matched.

The names of a first search are here, imported when they are first asked for. All others live in
the file of their idea, at the top of the package for the paper's method, and in the wings for the
rest. What wings and other packages add to the method is in a `Registry`.
"""

import warnings
from collections.abc import Iterator, MutableMapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from indiret import baselines, planes
    from indiret.architectures import register_architecture
    from indiret.attention import HypersphereMask, register_mask
    from indiret.checkpoints import load_network, save_network
    from indiret.conv4d import Conv4d, PivotConv4d, resize4d
    from indiret.correlation import correlation_tensor
    from indiret.datasets import Query, RetrievalDataset, find_images, load_dataset
    from indiret.evaluation import average_precision, mean_average_precision
    from indiret.evidence import Evidence, explain
    from indiret.feedback import FeedbackConfig, refine_query, rerank_with_feedback
    from indiret.images import crop, read_image
    from indiret.index import Collection
    from indiret.metrics import register_metric
    from indiret.network import build_network
    from indiret.patches import extract_patches, register_patch_source
    from indiret.retrieval import (
        Hit,
        NetworkRetriever,
        Retriever,
        build_retriever,
        index_database,
        list_retrievers,
        rank,
        register_retriever,
    )
    from indiret.training import TrainingConfig, fit

__version__ = "0.1.0"

__all__ = [
    "Collection", "Conv4d", "Evidence", "FeedbackConfig", "Hit", "HypersphereMask",
    "NetworkRetriever", "PivotConv4d", "Query", "RetrievalDataset", "Retriever", "TrainingConfig",
    "average_precision", "baselines", "build_network", "build_retriever", "correlation_tensor",
    "crop", "explain", "extract_patches", "find_images", "fit", "index_database",
    "list_retrievers", "load_dataset", "load_network", "mean_average_precision", "planes", "rank",
    "read_image", "refine_query", "register_architecture", "register_mask", "register_metric",
    "register_patch_source", "register_retriever", "rerank_with_feedback", "resize4d",
    "save_network",
]  # fmt: skip

T = TypeVar("T")
HOMES = {  # where a name is, as above for those who only read; so `import indiret` costs nothing
    name: home
    for home, names in {
        "architectures": "register_architecture",
        "attention": "HypersphereMask register_mask",
        "checkpoints": "load_network save_network",
        "conv4d": "Conv4d PivotConv4d resize4d",
        "correlation": "correlation_tensor",
        "datasets": "Query RetrievalDataset find_images load_dataset",
        "evaluation": "average_precision mean_average_precision",
        "evidence": "Evidence explain",
        "feedback": "FeedbackConfig refine_query rerank_with_feedback",
        "images": "crop read_image",
        "index": "Collection",
        "metrics": "register_metric",
        "network": "build_network",
        "patches": "extract_patches register_patch_source",
        "retrieval": "Hit NetworkRetriever Retriever build_retriever index_database"
        " list_retrievers rank register_retriever",
        "training": "TrainingConfig fit",
    }.items()
    for name in names.split()
}


if not TYPE_CHECKING:  # which would believe in any name

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module 'indiret' has no attribute {name!r}")
        try:
            module = import_module(f"indiret.{HOMES.get(name, name)}")
        except ModuleNotFoundError as error:
            if error.name != f"indiret.{name}":
                raise
            raise AttributeError(f"module 'indiret' has no attribute {name!r}") from None
        return getattr(module, name) if name in HOMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@cache
def load_plugins() -> None:
    """Import all that registers something: our wings, and what other packages name.

    They do so in their metadata, as entry points of the group ``indiret.plugins``. One that cannot
    be imported is warned of and left out.
    """
    from importlib.metadata import entry_points

    import_module("indiret.baselines")
    import_module("indiret.planes")
    for point in entry_points(group="indiret.plugins"):
        try:
            point.load()
        except Exception as error:
            wrong = f"the plugin {point.name} ({point.value}) cannot be loaded: {error}"
            warnings.warn(wrong, stacklevel=2)


class Registry(MutableMapping[str, T]):
    """Entries by name; whoever looks for one that is not there, or lists all, loads the plugins.

    ``kind`` is to name in an error, when a name is taken. What the method itself registers is found
    without any plugin, so it may be looked up while modules are being imported.
    """

    def __init__(self, kind: str):
        self.kind, self._entries = kind, dict[str, T]()

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            load_plugins()
        return self._entries[name]

    def __setitem__(self, name: str, entry: T) -> None:
        if name in self._entries:
            taken = f"{self.kind} named {name!r} is registered already"
            raise ValueError(f"{taken}; choose another name.")
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        load_plugins()
        return len(self._entries)
