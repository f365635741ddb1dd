"""The tool that takes the plane votes apart: what it measures, and that its variants differ."""

import numpy as np
import pytest
import torch

from indiret.planes import PlaneConfig, PlaneRetriever
from tests.planes.conftest import scene
from tools.ablate_planes import VARIANTS, Task, ablate, precisions, reciprocal_rank

SMALL = PlaneConfig(template=48, pyramid=(32, 48))
POOLED = [name for name, (kind, _) in VARIANTS.items() if kind.__name__ == "Pooled"]


def test_precisions_of_many_positives_and_of_one():
    names = ["a", "b", "c", "d"]
    task = Task(queries=[("q", {"a", "b"}, names), ("r", {"c"}, names)])
    scores = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 1.0, 3.0, 2.0])]
    assert list(precisions(task, scores).values()) == [1.0, 0.25]  # halves of a trapezium
    assert reciprocal_rank(Task(queries=task.queries[1:]), scores[1:]) == 0.5


@pytest.mark.parametrize("name", POOLED)
def test_a_variant_changes_the_responses(name):
    features = PlaneRetriever(SMALL).encode(scene(0))
    template, patches = features.template, features.pyramid[1]
    whole = PlaneRetriever(SMALL).pooled_responses(template, patches)
    changed = VARIANTS[name][0](SMALL).pooled_responses(template, patches)
    assert changed.shape == whole.shape and not torch.equal(changed, whole)


def test_every_row_is_measured_and_the_first_is_the_retriever(monkeypatch):
    monkeypatch.setattr("tools.ablate_planes.encode_impostors", lambda *_: [])
    monkeypatch.setattr(PlaneRetriever, "background_score", lambda self, features: 1.0)
    whole = scene(0)
    pictures = {"part": whole[10:80, 20:110], "whole": whole, "other": scene(1)}
    task = Task(pictures, [("part", {"whole"}, ["whole", "other"])])
    rows = ablate({"toytown": task, "crops": task})
    assert rows[0]["name"] == "as it is" and rows[0]["gain"] == [0, 0, 0]
    assert len(rows) == 23 and all(0 < row["crops"] <= 1 for row in rows)
