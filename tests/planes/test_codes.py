"""Codes of photos beside the photos: the same places and shapes, and nearly the same scores."""

import numpy as np
import pytest
import torch

from indiret.planes.codes import code_query
from tests.planes.conftest import RETRIEVER, scene


def test_unpacked_photos_have_the_shapes_of_the_photos():
    features = RETRIEVER.encode(scene(1))
    found = RETRIEVER.unpack(memoryview(RETRIEVER.pack(features)))
    assert found.shape == features.shape
    assert found.structure == pytest.approx(RETRIEVER.structure(features))
    assert found.background_score == pytest.approx(RETRIEVER.background_score(found))
    for one, other in zip(found.pyramid, features.pyramid, strict=True):
        assert one.shape == other.shape and one.dtype == torch.bfloat16
    for one, other in zip(found.pyramid, features.pyramid, strict=True):
        cosines = torch.cosine_similarity(one.float(), other.float(), dim=-1)
        assert cosines[other.float().norm(dim=-1) > 0.5].mean() > 0.75  # the root of 2 / π is 0.8
    for one, other in ((found.template, features.template), (found.close, features.close)):
        torch.testing.assert_close(one.points, other.points)
        rounded = other.patches.clamp(-0.5, 0.5)
        torch.testing.assert_close(one.patches, rounded, atol=1 / 256, rtol=0)


def test_a_coded_query_is_close_to_the_query_and_stays_as_it_is(scenes):
    kept = RETRIEVER.unpack(RETRIEVER.pack(scenes[1]))
    query = code_query(scenes[0], kept)
    for one, other in zip(query.pyramid, scenes[0].pyramid, strict=True):
        torch.testing.assert_close(
            one.float(), other.float().clamp(-0.5, 0.5), atol=1 / 256, rtol=0
        )
    assert code_query(query, kept) is query and code_query(scenes[0], scenes[1]) is scenes[0]


def test_a_part_is_found_among_unpacked_photos(scenes):
    query = RETRIEVER.encode_query(np.ascontiguousarray(scene(2)[20:84, 10:100]))
    unpacked = [RETRIEVER.unpack(RETRIEVER.pack(one)) for one in scenes[:20]]
    scores = RETRIEVER.score(query, unpacked)
    assert scores.argmax() == 2 and scores[2] > 2 * np.sort(scores)[-2]
