"""Samples along planes beside slow ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.datasets import RetrievalDataset, load_dataset
from indiret.planes import CHANNELS, sample_pair
from tests.planes.conftest import RETRIEVER


def few_landmarks(split: str = "validation", landmarks: int = 2) -> RetrievalDataset:
    """A few landmarks of Toytown with their photos, and no others."""
    whole = load_dataset("toytown", split=split)
    names = sorted({query.landmark for query in whole.queries})[:landmarks]
    queries = tuple(query for query in whole.queries if query.landmark in names)
    shown = {name for query in queries for name in query.positives}
    images = {name: path for name, path in whole.images.items() if name in shown}
    return replace(whole, images=images, queries=queries)


def test_channels_are_what_their_names_say(views):
    query, target, _ = views
    match = RETRIEVER.match_both(query, target)
    one = sample_pair(RETRIEVER, query, target)[0]
    found = RETRIEVER.plane_correspondence(query.template, target, match.forward)
    maps = dict(zip(CHANNELS, one.maps, strict=True))
    torch.testing.assert_close(one.matched_points, found.matched_points)
    torch.testing.assert_close(maps["response"], found.support, atol=1e-5, rtol=1e-5)
    patches = target.pyramid[match.forward.level]
    cosines = torch.einsum("klc,ijc->klij", query.template.patches, patches.float())
    inside = maps["inside"] > 0
    assert inside.any()
    best = (cosines.amax((2, 3)) - maps["cosine"])[inside]
    torch.testing.assert_close(maps["gap"][inside], best, atol=1e-4, rtol=1e-4)
    k, l = inside.nonzero()[0].tolist()
    better = int((cosines[k, l] > maps["cosine"][k, l]).sum())
    wanted = 1 - np.log(better + 1) / np.log(cosines[k, l].numel() + 1)
    assert float(maps["rank"][k, l]) == pytest.approx(wanted, abs=1e-4)
    assert (one.maps[:6, ~inside] == 0).all()
