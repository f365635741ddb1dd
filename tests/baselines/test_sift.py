"""`indiret.baselines.sift`: against loops, on moved pictures and on real photos."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from indiret.baselines.region_proposals import propose
from indiret.baselines.sift import Keypoints, SiftRansac
from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.retrieval import build_retriever, rank
from tests.baselines.toys import scene
from tests.shared_data import OXFORD, needs_oxford

pytest.importorskip("cv2", reason="the extra baselines is not installed")


@pytest.fixture
def sift():
    return build_retriever("sift-ransac")


def test_sift_finds_a_moved_picture_and_its_homography(sift):
    picture = scene(3, 240, 320)
    moved = np.roll(picture, (12, 20), axis=(0, 1))
    query, target = sift.encode(picture), sift.encode(moved)
    matrix, score, *_ = sift.homography(query, target)
    assert score > 100
    np.testing.assert_allclose(matrix / matrix[2, 2], [[1, 0, 20], [0, 1, 12], [0, 0, 1]], atol=0.2)
    assert sift.score(query, [sift.encode(scene(4, 240, 320))])[0] < score / 5


def test_sift_matches_by_a_loop(sift):
    noise = np.random.default_rng(0).normal(0, 25, (120, 160, 3))
    noisy = np.clip(scene(5) + noise, 0, 255).astype(np.uint8)
    query, target = sift.encode(scene(5)), sift.encode(noisy)
    roots = [np.sqrt(k.descriptors / k.descriptors.sum(1, keepdims=True)) for k in (query, target)]
    expected = []
    for row, descriptor in enumerate(roots[0]):
        distance = np.linalg.norm(roots[1] - descriptor, axis=1)
        first, second = np.argsort(distance)[:2]
        if distance[first] < 0.8 * distance[second]:
            expected.append((row, first))
    found = list(zip(*sift.match(query, target), strict=True))
    assert len(expected) > 20
    assert len(set(found) ^ set(expected)) <= 0.02 * len(expected)  # ratios at the very edge


def test_sift_counts_a_target_keypoint_once(sift):
    random = np.random.default_rng(0)
    places = random.uniform(0, 200, (40, 2)).astype(np.float32)
    descriptors = random.integers(1, 256, (40, 128), dtype=np.uint8)
    target = Keypoints(places, descriptors, (200, 200), (200, 200))
    twice = Keypoints(
        np.repeat(places, 2, axis=0), np.repeat(descriptors, 2, axis=0), (200, 200), (200, 200)
    )
    assert sift.homography(twice, target)[1] == 40 + 80 / 10_000


def test_evidence_of_sift_lies_on_the_shared_part(sift):
    target = np.full((240, 320, 3), 128, np.uint8)
    target[:, 160:] = scene(3, 240, 160)
    query, photo = sift.encode(scene(3, 240, 160)), sift.encode(target)
    pairs = sift.explain(query, photo).pairs
    assert pairs.shape == (14, 14, 10, 10)
    assert pairs.sum().item() == pytest.approx(int(sift.score(query, [photo])[0]), rel=0.35)
    map_ = pairs.sum((2, 3))
    assert map_[:, 7:].sum() > 10 * map_[:, :5].sum()
    blank = sift.encode(np.full((64, 64, 3), 9, np.uint8))
    assert not sift.explain(query, blank).pairs.any()


def test_a_large_picture_is_made_smaller_and_a_small_one_is_not():
    photo = scene(3, 480, 640)
    whole, small = build_retriever("sift-ransac"), SiftRansac(long_side=320)
    found = small.encode(photo)
    assert found.size == (240, 320) and found.photo == (480, 640)
    same = whole.encode(scene(4, 240, 320)), small.encode(scene(4, 240, 320))
    assert all(np.array_equal(one, other) for one, other in zip(*same, strict=True))
    part = small.encode(photo[120:360, 160:480])
    middle = np.array([[0.5, 0.25]])
    np.testing.assert_allclose(
        small.transfer_points(part, found, middle), [[0.5, 0.375]], atol=0.01
    )
    proposal = propose(small, part, found)
    expected = [[160, 120], [480, 120], [480, 360], [160, 360]]
    for corner in expected:
        assert np.hypot(*(np.array(proposal.points) - corner).T).min() < 4


def test_structure_is_the_share_of_cells_with_a_keypoint(sift):
    half = np.full((240, 320, 3), 128, np.uint8)
    assert sift.structure(sift.encode(half)) == 0
    half[:, 160:] = scene(3, 240, 160)
    assert sift.structure(sift.encode(half)) == pytest.approx(0.5, abs=0.1)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"sift-ransac needs OpenCV.*indiret\[baselines\]"):
        build_retriever("sift-ransac")
    build_retriever("thumbnail")


@needs_oxford
def test_sift_is_far_better_on_real_photos():
    """One query among 30 photos, to be quick; on the whole sample SIFT reaches 0.77."""
    data = load_dataset("oxford5k", OXFORD)
    query = data.queries[7]
    names = sorted(query.positives)[:8]
    query = replace(query, good=frozenset(names), ok=frozenset())
    names += [name for name in data.images if name not in query.positives | query.junk][::6][:22]
    few = replace(data, images={name: data.images[name] for name in names})
    lists = (rank(build_retriever(name), [query], few) for name in ("sift-ransac", "thumbnail"))
    sift, thumbnail = (
        average_precision([hit.name for hit in ranked[query.name]], query.positives)
        for ranked in lists
    )
    assert sift > 0.6 and sift > thumbnail + 0.2


def test_sift_transfers_points_of_a_part_into_the_whole(sift):
    photo = scene(3, 192, 256)
    part, whole = sift.encode(photo[48:144, 64:192]), sift.encode(photo)
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]])
    expected = [[0.25, 0.25], [0.75, 0.75], [0.5, 0.375]]
    np.testing.assert_allclose(sift.transfer_points(part, whole, points), expected, atol=0.01)
    nothing = sift.encode(np.full_like(photo, 99))
    assert np.isnan(sift.transfer_points(part, nothing, points)).all()


def test_sift_transfers_no_point_behind_the_camera(sift, monkeypatch):
    view = sift.encode(np.full((40, 60, 3), 99, np.uint8))
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 30, 0, 1]])  # x = 30 is at infinity
    monkeypatch.setattr(sift, "homography", lambda *_: (horizon, 5.0))
    found = sift.transfer_points(view, view, np.array([[0.5, 0.25], [0.5, 0.75]]))
    np.testing.assert_allclose(found[0], [1.0, 0.5])
    assert np.isnan(found[1]).all()
