"""The tool that takes the plane vote apart: what it measures, and that its ways differ."""

import numpy as np
import torch

from indiret import planevote
from indiret.planevote import PlaneConfig, PlanesMethod
from tools.ablate_planes import (
    ROWS,
    Checkerboard,
    Exact,
    Task,
    Unwhitened,
    precisions,
    reciprocal_rank,
)

SMALL = PlaneConfig(template=48, pyramid=(32, 48))


def picture(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return small.repeat(10, axis=0).repeat(10, axis=1)


def test_precisions_of_many_answers_and_of_one():
    names = ["a", "b", "c", "d"]
    task = Task(asked=[("q", {"a", "b"}, names), ("r", {"c"}, names)])
    scores = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 1.0, 3.0, 2.0])]
    assert list(precisions(task, scores).values()) == [1.0, 0.25]  # halves of a trapezium
    assert reciprocal_rank(Task(asked=task.asked[1:]), scores[1:]) == 0.5


def test_a_way_changes_the_answers_that_its_name_says():
    views = planevote.floats(PlanesMethod(SMALL).prepare(picture(0)))
    template, patches = views.templates[0], views.pyramid[1]
    whole = PlanesMethod(SMALL).answers(template, patches)
    for kind in (Exact, Checkerboard):
        fewer = kind(SMALL).answers(template, patches)
        assert fewer.shape == whole.shape and not torch.equal(fewer, whole)


def test_patches_are_whitened_again_afterwards():
    before = planevote.whiten
    raw = Unwhitened(SMALL).prepare(picture(1)).pyramid[0]
    assert planevote.whiten is before
    assert raw.shape[-1] == 128 and torch.isfinite(raw).all()


def test_the_first_row_is_the_method():
    name, (kind, config, _) = next(iter(ROWS.items()))
    assert name == "as it is"
    assert kind is PlanesMethod and config == planevote.PLANES["planes"]
