"""A pair has one score and one evidence, whatever stands beside it and whatever its caller set."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indiret.retrieval import list_retrievers
from tests.baselines.toys import build, scene
from tests.callers import SETTINGS

LITE0 = "efficientnet-lite0"
NAMES = [name for name in list_retrievers() if name.startswith(LITE0) and "cam-" not in name]
NAMES = [name for name in NAMES if not name.endswith(":verifier")]  # the core's own
NAMES += ["colour-histogram", "thumbnail", "mutual-nn", "sift-ransac", "thumbnail,sift-ransac"]
SIZES = [(120, 160), (120, 160), (64, 200), (120, 160), (200, 120), (80, 80)]


def answers(name, pictures, query):
    """Scores of pictures, and evidence of the first."""
    retriever = build(name)
    database = [*map(retriever.encode, pictures)]
    asked = retriever.encode_query(query)
    explained = [retriever.explain(asked, database[0], k) for k in retriever.evidence_kinds]
    scores = retriever.score(asked, database)
    assert all(one.score == scores[0] for one in explained)
    return scores, [one.pairs.numpy() for one in explained]


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_has_one_score(name, monkeypatch, tmp_path):
    pictures = [scene(seed, *size) for seed, size in enumerate(SIZES)]
    query = scene(0, 120, 160)[10:100, 20:150]
    scores, evidence = answers(name, pictures, query)

    def check(found, order=slice(None)):
        np.testing.assert_array_equal(found[0], scores[order])
        for one, other in zip(found[1], evidence, strict=True):
            np.testing.assert_array_equal(one, other)

    for number, setting in enumerate(SETTINGS.values()):
        monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / str(number)))
        with setting():
            check(answers(name, pictures, query))
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "alone"))
    for place in (0, 4):  # in another folder, of one photo
        found = answers(name, [pictures[place]], query)[0]
        assert found.tolist() == [scores[place]]
    check(answers(name, [pictures[0], *pictures[:0:-1]], query), [0, *range(5, 0, -1)])
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: answers(name, pictures, query), range(4)):
            check(found)
