"""What CONTRIBUTING.md says can be added is added here, each in one place."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from indiret import attention, retrieval
from indiret.architectures import ARCHITECTURES, register_architecture, resnet18
from indiret.attention import MASKS
from indiret.datasets import loaders
from indiret.evaluation import mean_average_precision
from indiret.experiments.records import long_rows
from indiret.experiments.runner import collect_rows
from indiret.metrics import METRICS, register_metric
from indiret.network import NetworkConfig, build_network
from indiret.patches import PATCH_SOURCES, extract_patches, patch_source, register_patch_source
from indiret.retrieval import RETRIEVERS, build_retriever, rank
from tests.tiny_town import make_tiny_town

CODE = re.findall(
    r"```python\n(.*?)```",
    (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.fixture(autouse=True)
def registries():
    """Whatever a test registers is gone after it."""
    kept = [(registry, dict(registry)) for registry in (METRICS, ARCHITECTURES, MASKS, RETRIEVERS)]
    sources = list(PATCH_SOURCES)
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    PATCH_SOURCES[:] = sources
    patch_source.cache_clear()


def pair(config):
    """A network of a config, judging a pair of pictures."""
    network = build_network(config).eval()
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    tensor = network.correlate(network.encode(picture, query=True), [network.encode(picture)])
    return network, network.margin(tensor)


def test_a_metric():
    def brightness(products):
        p, q = products.means
        return -(p - q).abs()

    register_metric("brightness", brightness, range=(-1, 0))
    _, margin = pair(NetworkConfig(metrics=("brightness",), width=2))
    assert margin.isfinite().all()


def test_a_network():
    register_architecture("thin", lambda **settings: resnet18(**(settings | {"width": 2})))
    network, margin = pair({"architecture": "thin"})
    assert margin.isfinite().all() and next(iter(network.layers)) == "stem"


def test_a_patch_source():
    def load(name):
        return lambda picture, grid: extract_patches(picture, grid, size=1)

    register_patch_source(lambda name: name == "means", load)
    config = NetworkConfig(scheme="means", metrics=("cosine",), scales=(1.0,), shifts=1, width=2)
    assert pair(config)[1].isfinite().all()


def test_the_mask_that_contributing_shows():
    exec(CODE[0], {**vars(attention), "Tensor": Tensor, "nn": nn, "torch": torch})
    mask = MASKS["stripe"](8)
    theta = mask(torch.rand(2, 8, 4, 5, 4, 3))
    assert theta.shape == (1, 4, 5, 4, 3) and mask.parameters_summary() == {"sigma": 0.5}
    assert theta[0, 1, 0, 1, 0] == 1 and theta[0, 0, 0, 3, 0] < 0.2
    assert pair({"attention": "stripe", "width": 2})[1].isfinite().all()


def test_the_retriever_that_contributing_shows(tmp_path):
    exec(CODE[1], dict(vars(retrieval)))
    town = make_tiny_town(tmp_path / "t", "a", landmarks=3)
    hits = rank(build_retriever("brightness"), town.queries, town)
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    assert 0 < mean_average_precision(lists, town.queries) <= 1
    with pytest.raises(ValueError, match="ranks without evidence"):
        build_retriever("brightness").explain(0.0, 1.0)


def test_an_experiment(tmp_path):
    class Doubled(NamedTuple):
        number: int

        @property
        def key(self):
            return f"double-{self.number}"

    done = []

    def rows(config):
        done.append(config)
        place = {"landmark": "", "query": "", "seed": 0, "variant": config.key}
        return long_rows({"double": 2 * config.number}, **place)

    for _ in range(2):  # the second time it is all there
        table = collect_rows("doubling", [Doubled(1), Doubled(4)], rows, tmp_path)
    assert table["value"].tolist() == [2, 8] and len(done) == 2


def test_a_data_set(tmp_path, monkeypatch):
    town = make_tiny_town(tmp_path / "t", "a", landmarks=3)
    more = {**loaders.LOADERS, "mine": lambda name, folder: town}
    monkeypatch.setattr(loaders, "LOADERS", more)
    assert loaders.load_dataset("mine", tmp_path).landmarks == town.landmarks
