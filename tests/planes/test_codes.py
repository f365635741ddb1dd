"""Codes of photos beside the photos: the same places and shapes, and nearly the same scores."""

import numpy as np
import pytest
import torch

from indiret.planes import PlaneRetriever
from tests.planes.conftest import RETRIEVER, SMALL, TURNED, scene


@pytest.mark.parametrize("config", [SMALL, TURNED], ids=["upright", "turned"])
def test_unpacked_photos_have_the_shapes_of_the_photos(config):
    retriever = PlaneRetriever(config)
    features = retriever.encode(scene(1))
    found = retriever.unpack(memoryview(retriever.pack(features)))
    assert found.shape == features.shape
    assert found.background_score == pytest.approx(features.background_score)
    for one, other in zip(found.pyramid, features.pyramid, strict=True):
        assert one.shape == other.shape and one.dtype == torch.bfloat16
    for kind in ("templates", "close", "coarse"):
        for one, other in zip(getattr(found, kind), getattr(features, kind), strict=True):
            torch.testing.assert_close(one.points, other.points)
            cosines = torch.cosine_similarity(one.patches, other.patches, dim=-1)
            assert cosines[other.patches.norm(dim=-1) > 0.1].mean() > 0.75  # root of 2 / pi


def test_a_part_is_found_among_unpacked_photos(scenes):
    query = RETRIEVER.encode_query(np.ascontiguousarray(scene(2)[20:84, 10:100]))
    unpacked = [RETRIEVER.unpack(RETRIEVER.pack(one)) for one in scenes[:20]]
    scores = RETRIEVER.score(query, unpacked)
    assert scores.argmax() == 2 and scores[2] > 2 * np.sort(scores)[-2]
