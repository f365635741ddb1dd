"""Turned and oblique queries: the view that is found, pairs left alone, and points that go back."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from indiret.datasets import load_dataset
from indiret.planes import turning
from indiret.planes.features import template_points, turn_back
from indiret.retrieval import build_retriever
from tests.planes.conftest import RETRIEVER, scene

TURNED = turning.TurnedPlaneRetriever(RETRIEVER)


def turn(picture: np.ndarray, degrees: float) -> np.ndarray:
    return np.asarray(
        Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    )


@cache
def town():
    """Some photos of Toytown, and queries of those, with the retriever that is shipped."""
    dataset, retriever = (
        load_dataset("toytown", split="validation"),
        build_retriever(turning.TURNED),
    )
    queries = dataset.queries[::16]
    names = sorted({sorted(query.positives)[0] for query in queries})
    return dataset, retriever, queries, names, [retriever.encode(dataset.read(n)) for n in names]


def test_a_disc_upright_is_part_of_the_photo_and_turned_the_same_patches():
    picture = RETRIEVER.prepare(scene(3, 240, 320))
    discs = turning.encode_discs(RETRIEVER, picture)
    quarter = turning.DISC_TURNS // 4
    again = turning.encode_discs(RETRIEVER, np.rot90(picture).copy())
    here = discs[quarter].norm(dim=-1) > 0
    assert here.float().mean() > 0.5
    cosines = F.cosine_similarity(discs[quarter][here], again[0][here], dim=-1)
    assert cosines.median() > 0.95
    assert (discs[:, 0, 0] == 0).all(), "the corners of the disc's square"


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, -75.0, 180.0])
def test_points_turn_back(degrees):
    shape = 300, 400
    turned = turn(np.zeros((*shape, 3), np.uint8), degrees)
    points = torch.tensor([[0.5, 0.5], [0.1, 0.7]])
    y, x = ((points - 0.5) * torch.tensor(shape)).unbind(-1)
    angle = np.deg2rad(degrees)
    moved = torch.stack(
        [np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x], -1
    )
    frame = torch.tensor(turned.shape[:2])
    torch.testing.assert_close(
        turn_back(moved / frame + 0.5, shape, degrees), points, atol=1e-4, rtol=0
    )
    every, inside = template_points(shape, degrees, 112, step=1)
    assert every.shape[:2] == inside.shape
    assert ((every[inside] > 0) & (every[inside] < 1)).all()


def test_turned_queries_of_toytown_are_found_and_upright_ones_score_as_before():
    dataset, retriever, queries, names, database = town()
    upright, right = build_retriever("plane-net"), {0: 0, 90: 0, 195: 0}
    for query in queries:
        picture = dataset.read_query(query)
        for degrees in right:
            encoded = retriever.encode_query(turn(picture, degrees))
            scores, turns = retriever.score(encoded, database), retriever.views(encoded, database)
            right[degrees] += names[int(scores.argmax())] in query.positives
            as_before = upright.score(encoded.upright, database)
            for place, number in enumerate(turns):
                if number == 0:
                    assert scores[place] == as_before[place]
                elif names[place] in query.positives:
                    off = (degrees + number * 360 / turning.DISC_TURNS + 180) % 360 - 180
                    assert abs(off) <= 20
    assert right[0] == len(queries) and min(right.values()) >= len(queries) - 1, right


def test_evidence_and_points_of_a_turned_query_lie_in_the_query_as_it_is():
    picture = scene(4, 192, 240)
    retriever = build_retriever(turning.TURNED)
    target = retriever.encode(picture)
    for degrees in (90, 180):
        query = retriever.encode_query(np.rot90(picture, degrees // 90).copy())
        points = np.array([[0.3, 0.4], [0.6, 0.7]])
        y, x = points.T
        truth = np.column_stack([x, 1 - y] if degrees == 90 else [1 - y, 1 - x])
        moved = retriever.transfer_points(query, target, points)
        np.testing.assert_allclose(moved, truth, atol=0.03)
        evidence = retriever.explain(query, target)
        assert evidence.score == pytest.approx(retriever.score(query, [target])[0])
        upright = torch.rot90(evidence.pairs, -degrees // 90, (2, 3))  # the query's axes
        i, j, k, l = upright.nonzero().T
        off = torch.maximum((i - k).abs(), (j - l).abs())
        assert upright[i, j, k, l][off <= 1].sum() > 0.8 * upright.sum()


@pytest.mark.parametrize("width", turning.SQUEEZED)
def test_a_photo_seen_from_aside_is_found_and_its_points_lie_in_it(width):
    picture = scene(4, 384, 480)
    retriever = build_retriever(turning.TURNED)
    target = retriever.encode(turning.squeeze(picture, width))
    query = retriever.encode_query(picture)
    assert retriever.views(query, [target])[0] >= turning.DISC_TURNS, "one of the squeezed views"
    upright, squeezed = (
        build_retriever("plane-net").score(view, [target])[0]
        for view in (query.upright, retriever.best_view(query, target))
    )
    assert retriever.score(query, [target])[0] == squeezed > upright + 10
    points = np.array([[0.3, 0.4], [0.6, 0.7]])
    np.testing.assert_allclose(retriever.transfer_points(query, target, points), points, atol=0.03)
    pairs = retriever.explain(query, target).pairs
    i, j, k, l = pairs.nonzero().T
    rows, columns = (torch.tensor(pairs.shape) - 1).clamp_min(1).unflatten(0, (2, 2)).unbind(1)
    near = ((i / rows[0] - k / rows[1]).abs() < 0.2) & (
        (j / columns[0] - l / columns[1]).abs() < 0.2
    )
    assert pairs[i, j, k, l][near].sum() > 0.8 * pairs.sum()


def test_coded_targets_are_found_turned_too_and_stored_queries_are_upright():
    picture = scene(4, 192, 240)
    retriever = build_retriever(turning.TURNED)
    photos = [picture, scene(5, 192, 240)]
    coded = [retriever.unpack(retriever.pack(retriever.encode_to_pack(one))) for one in photos]
    query = retriever.encode_query(turn(picture, -60))
    assert retriever.views(query, coded) == [turning.DISC_TURNS // 6, 0]
    first, second = retriever.score(query, coded)
    assert first > second + 10
    assert retriever.views(coded[0], coded) == [0, 0]
    assert retriever.fingerprint() == build_retriever("plane-net").fingerprint()
    assert retriever.structure(query) > 0.3


def test_what_the_caller_has_set_changes_nothing():
    picture, retriever = scene(4, 192, 240), build_retriever(turning.TURNED)
    target = retriever.encode(picture)
    found = []
    for context in (torch.device("cpu"), torch.device("meta"), torch.autocast("cpu")):
        with context:
            query = retriever.encode_query(turn(picture, 120))
            evidence = retriever.explain(query, target)
            found.append((evidence.score, *retriever.score(query, [target, target])))
    assert found[0] == found[1] == found[2]
    assert len({*found[0]}) == 1 and found[0][0] > 20


def test_plain_and_narrow_photos_turn_nowhere():
    pictures = [np.full((16, 16, 3), 99, np.uint8), scene(6, 16, 320), scene(6, 300, 20)]
    database = [TURNED.encode(picture) for picture in pictures]
    for picture in pictures:
        query = TURNED.encode_query(picture)
        assert TURNED.views(query, database)[0] == 0
        assert np.isfinite(TURNED.score(query, database)).all()
        assert np.isfinite(RETRIEVER.score(query.view(5), database)).all()
