"""Proposals: a projected box against a known homography, and a file that is filled and resumed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from indiret.baselines import region_proposals
from indiret.baselines.region_proposals import mean_iou, propose, propose_regions, wanted_regions
from indiret.baselines.sift import SiftRansac
from indiret.datasets import (
    PhotoRegions,
    Query,
    Region,
    load_dataset,
    read_regions,
    region_mask,
    write_regions,
)
from indiret.evaluation import mask_iou
from indiret.images import image_size
from tests.baselines.toys import scene
from tests.shared_data import OXFORD, needs_oxford

cv2 = pytest.importorskip("cv2", reason="the extra baselines is not installed")

BOX = (60, 40, 260, 180)  # of the scenes, 320 x 240


PICTURE = scene(3, 240, 320)


def warped(homography) -> np.ndarray:
    return cv2.warpPerspective(PICTURE, np.array(homography, float), (320, 240))


def proposed(target: np.ndarray):
    x1, y1, x2, y2 = BOX
    sift = SiftRansac()
    return propose(sift, sift.encode(PICTURE[y1:y2, x1:x2]), sift.encode(target))


@pytest.mark.parametrize(
    "homography",
    [
        np.eye(3),
        np.array([[0.8, -0.2, 50], [0.2, 0.8, -5], [0, 0, 1]]),
        np.array([[1, 0.1, 5], [0, 0.9, 8], [4e-4, 0, 1]]),
    ],
)
def test_the_outline_is_where_the_homography_takes_the_box(homography):
    found = proposed(warped(homography))
    x1, y1, x2, y2 = BOX
    corners = np.array([[x1, y1, 1], [x2, y1, 1], [x2, y2, 1], [x1, y2, 1]]) @ homography.T
    expected = Region(tuple(map(tuple, (corners[:, :2] / corners[:, 2:]).tolist())))
    masks = [region_mask([one], (240, 320)) for one in (Region(found.points), expected)]
    assert mask_iou(*masks) > 0.97 and found.inliers > 50


def test_an_outline_that_leaves_the_photo_is_cut_along_its_edge():
    found = proposed(warped([[1, 0.3, 120], [0, 1, 0], [0, 0, 1]]))
    points = np.array(found.points)
    assert points.min() >= 0 and points[:, 0].max() == 320 and points[:, 1].max() <= 240
    for corner in ((192, 40), (234, 180), (320, 40), (320, 180)):  # two sheared, two on the edge
        assert np.hypot(*(points - corner).T).min() < 2


def test_what_is_not_verified_is_not_proposed(monkeypatch):
    assert proposed(scene(4, 240, 320)) is None  # another scene
    assert proposed(np.full((240, 320, 3), 90, np.uint8)) is None  # no keypoints
    inliers = proposed(PICTURE).inliers
    for least in (inliers, inliers + 1):
        monkeypatch.setattr(region_proposals, "MIN_INLIERS", least)
        assert bool(proposed(PICTURE)) == (least == inliers)


@pytest.mark.parametrize(
    "homography",
    [
        [[-1, 0, 320], [0, 1, 0], [0, 0, 1]],  # mirrored
        [[1, 0, 0], [0, 1, 0], [-1 / 100, 0, 1]],  # a corner behind the camera
        [[1, 0, -400], [0, 1, 0], [0, 0, 1]],  # beside the photo
        [[0.01, 0, 9], [0, 0.01, 9], [0, 0, 1]],  # a dot
    ],
)
def test_impossible_views_are_dropped(homography, monkeypatch):
    monkeypatch.setattr(SiftRansac, "homography", lambda *_: (np.array(homography, float), 99.0))
    assert proposed(PICTURE) is None


# ---------------------------------------------------------------------------- a whole data set


@pytest.fixture
def town():
    """Two landmarks of Toytown's validation set."""
    whole = load_dataset("toytown", split="validation")
    return replace(whole, queries=whole.queries[:6])


def test_a_file_holds_boxes_of_queries_and_one_open_proposal_for_other_photos(town, tmp_path):
    photos = propose_regions(town, tmp_path / "regions.json")[0]
    assert read_regions(tmp_path / "regions.json") == photos
    entries = json.loads((tmp_path / "regions.json").read_text())["images"]
    assert all(
        (town.path(entry["name"]).parent / entry["file_name"]).is_file() for entry in entries
    )
    asking = {query.image: query for query in town.queries}
    assert set(photos) == set(wanted_regions(town)) and set(asking) < set(photos)
    for name, photo in photos.items():
        assert photo.tried and photo.shape == image_size(town.path(name))
        if name in asking:
            (region,) = photo.regions
            assert region.box == asking[name].box and region.landmark == asking[name].landmark
            assert (region.origin, region.state) == ("query", "accepted") and photo.done
        else:
            assert len(photo.regions) <= 1 and not photo.done
            for region in photo.regions:
                assert (region.origin, region.state) == ("sift", "open")
                assert region.inliers >= region_proposals.MIN_INLIERS
    assert mean_iou(town, photos, "sift") > 0.5
    assert np.isnan(mean_iou(town, photos, "drawn"))


def test_what_was_tried_or_decided_is_left(town, tmp_path, monkeypatch):
    path = tmp_path / "regions.json"
    photos, _ = propose_regions(town, path)
    decided = next(name for name, photo in photos.items() if not photo.done)
    before = photos[decided]  # by a person, untried
    photos[decided] = PhotoRegions(before.shape, nothing=True, file=before.file)
    write_regions(path, photos)
    written = path.read_bytes()
    monkeypatch.setattr(region_proposals, "_found", None)
    propose_regions(town, path)
    assert path.read_bytes() == written


def test_a_photo_that_two_landmarks_share_gets_a_region_of_each(tmp_path):
    left, right = scene(1, 160, 160), scene(2, 160, 160)
    pictures = {"left": left, "right": right, "both": np.concatenate([left, right], axis=1)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    dataset = load_dataset("folder", tmp_path)
    queries = tuple(
        Query(name, f"{name}.png", (0, 0, 160, 160), name, frozenset({"both.png"}), frozenset())
        for name in ("left", "right")
    )
    dataset = replace(dataset, queries=queries)
    photos, _ = propose_regions(dataset, tmp_path / "regions.json")
    regions = photos["both.png"].regions
    boxes = {region.landmark: region.box for region in regions}
    np.testing.assert_allclose(boxes["left"], (0, 0, 160, 160), atol=2)
    np.testing.assert_allclose(boxes["right"], (160, 0, 320, 160), atol=2)


def test_a_photo_that_cannot_be_read_is_skipped_aloud_and_tried_again(town, tmp_path):
    asking = {query.image for query in town.queries}
    name = min(town.queries[0].positives - asking)
    half = tmp_path / "half.jpg"
    half.write_bytes(town.path(name).read_bytes()[:4000])
    few = replace(town, queries=town.queries[:1], images={**town.images, name: half})
    gone = max(town.queries[0].positives - asking)
    few.images[gone] = tmp_path / "gone.jpg"
    photos, skipped = propose_regions(few, tmp_path / "regions.json")
    assert sorted(skipped) == [name, gone] and "truncated" in skipped[name]
    assert not photos[name].tried
    assert sum(photo.tried for photo in photos.values()) == len(photos) - 1 > 1


def test_what_cannot_be_filled_is_refused(town, tmp_path):
    with pytest.raises(ValueError, match="no queries"):
        propose_regions(replace(town, queries=()), tmp_path / "regions.json")
    (tmp_path / "results.json").write_text('{"mAP": 1}')
    with pytest.raises(ValueError, match="not a region file"):
        propose_regions(town, tmp_path / "results.json")
    assert (tmp_path / "results.json").read_text() == '{"mAP": 1}'


@needs_oxford
def test_real_photos_get_proposals_near_the_boxes_drawn_by_the_benchmark():
    """Boxes of two queries of one landmark, one projected into the other's photo."""
    oxford = load_dataset("oxford5k", OXFORD)
    sift, ious = SiftRansac(), []
    for asking, other in zip(oxford.queries, oxford.queries[1:], strict=False):
        if asking.landmark == other.landmark and other.image != asking.image:
            pictures = oxford.read_query(asking), oxford.read(other.image)
            if found := propose(sift, *map(sift.encode, pictures)):
                truth = oxford.roi(other.image)
                ious.append(mask_iou(region_mask([Region(found.points)], truth.shape), truth))
    assert len(ious) >= 5 and np.mean(ious) > 0.5


def test_wanted_are_positives_and_asking_photos_of_the_database():
    query = Query("a_1", "asks", (0, 0, 9, 9), "a", frozenset({"good"}), frozenset({"ok"}))
    whole = load_dataset("toytown", split="validation")
    images = dict.fromkeys(("asks", "good", "other"), next(iter(whole.images.values())))
    dataset = replace(whole, queries=(query,), images=images)
    assert wanted_regions(dataset) == {"asks": [query], "good": [query]}
