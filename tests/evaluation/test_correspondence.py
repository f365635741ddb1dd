"""`indiret.evaluation.correspondence`: true matches against a loop, and hand-made scenes."""

import numpy as np
import pytest

from indiret.datasets import Geometry
from indiret.evaluation.correspondence import (
    ground_truth_matches,
    patch_match_accuracy,
    point_match_accuracy,
    strongest_targets,
)


def camera(azimuth, width=320, height=240, focal=300.0, distance=4.0, scale=1.0):
    """A camera that looks at the origin from a given side; `scale` is the matrix's own."""
    c, s = np.cos(azimuth), np.sin(azimuth)
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    inner = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return scale * inner @ np.column_stack([turn, [0, 0, distance]])


def view(matrix, planes, width=320, height=240):
    """Geometry of upright rectangles z = a, seen by ray casting, nearest first; None hides."""
    rows, columns = height // 10, width // 10
    x, y = np.meshgrid(10 * np.arange(columns) + 5, 10 * np.arange(rows) + 5)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(matrix[:, :3]).T
    eye = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
    positions = np.full((rows, columns, 3), np.nan)
    nearest = np.full((rows, columns), np.inf)
    for depth, reach, seen in planes:
        along = (depth - eye[2]) / rays[..., 2]
        points = eye + along[..., None] * rays
        hit = (np.abs(points[..., :2]) <= reach).all(axis=-1) & (along > 0) & (along < nearest)
        nearest[hit] = along[hit]
        positions[hit] = points[hit] if seen else np.nan
    return Geometry(positions, matrix)


def by_hand(query_view, target_view, box, query_grid, target_grid, shape):
    """`ground_truth_matches` as a loop over query patches."""
    matches = np.full((*query_grid, 2), -1)
    for k, l in np.ndindex(*query_grid):
        x = box[0] + (l + 0.5) * (box[2] - box[0]) / query_grid[1]
        y = box[1] + (k + 0.5) * (box[3] - box[1]) / query_grid[0]
        point = query_view.positions[int(y // 10), int(x // 10)]
        u, v, w = target_view.camera @ [*point, 1]
        if not (0 <= u / w < shape[1] and 0 <= v / w < shape[0]):
            continue
        shown = target_view.positions[int(v / w // 10), int(u / w // 10)]
        depth = (target_view.camera @ [*shown, 1])[2]
        if w / depth > 1.05 or np.isnan(depth):
            continue
        matches[k, l] = np.array([v / w, u / w]) // np.divide(shape, target_grid)
    return matches


WHOLE = (0, 0, 320, 240)
WALL = (0.0, 1.0, True)
TREE = (-1.5, 0.25, False)  # in front of the wall, not of the landmark
PORCH = (-1.0, 0.3, True)  # in front, and of the landmark


@pytest.mark.parametrize("planes", [[WALL], [WALL, TREE], [WALL, PORCH]])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_matches_equal_the_loop(planes, scale):
    query_view = view(camera(-0.4), planes)
    target_view = view(camera(0.5, focal=260, scale=scale), planes)
    arguments = (40, 30, 300, 220), (9, 12)
    fast = ground_truth_matches(query_view, target_view, *arguments, (240, 320), (14, 11))
    slow = by_hand(query_view, target_view, *arguments, (14, 11), (240, 320))
    np.testing.assert_array_equal(fast, slow)
    assert 0.2 < (fast[..., 0] >= 0).mean() < 1


def test_what_lies_behind_the_camera_has_no_match():
    """Mirrored through the camera's eye, a point falls on the same pixel, from behind."""
    target = view(camera(0.0), [(0.0, 9.0, True)])
    mirrored = Geometry([0, 0, -8] - target.positions, target.camera)
    for query, visible in ((target, True), (mirrored, False)):
        matches = ground_truth_matches(query, target, WHOLE, (8, 16), (240, 320), (8, 16))
        patches = np.moveaxis(np.indices((8, 16)), 0, -1)
        np.testing.assert_array_equal(matches, patches if visible else -1)


def test_accuracy_counts_hits_within_one_patch():
    truth = np.full((4, 5, 2), -1)
    truth[0, 0], truth[0, 1], truth[0, 2] = (2, 2), (2, 3), (0, 0)
    matches = [
        (3, 3, 0, 0, 0.9),  # a corner neighbour: hit
        (2, 3, 0, 1, 0.8),  # exact: hit
        (0, 2, 0, 2, 0.7),  # two columns off: miss
        (1, 1, 3, 3, 0.6),  # no match: miss
        (0, 0, 1, 1, 0.5),  # beyond the first four
    ]
    result = patch_match_accuracy(matches, truth, (6, 6), first=4)
    assert result.accuracy == 0.5 and result.coverage == 3 / 20
    assert result.chance == pytest.approx((9 + 9 + 4) / (36 * 20))
    assert patch_match_accuracy(matches[:2], truth, (6, 6), first=4).accuracy == 0.5
    assert patch_match_accuracy([], truth, (6, 6)).accuracy == 0


@pytest.mark.parametrize(
    ("matches", "grid", "first", "words"),
    [
        ([(0, 0, 0, 0), (0, 0, 0, 1)], (6, 6), 20, "target patch is matched twice"),
        ([(0, 0, 0, 0), (0, 1, 0, 0)], (6, 6), 20, "query patch is matched twice"),
        ([(0, 0, -1, 0)], (6, 6), 20, "outside the grids"),
        ([], (6, 6), 0, "first=0"),
        ([], (6, 0), 20, "not two sides"),
    ],
)
def test_bad_matches(matches, grid, first, words):
    with pytest.raises(ValueError, match=words):
        patch_match_accuracy(matches, np.zeros((4, 5, 2), int), grid, first)


def test_clicked_points_are_followed_to_the_strongest_patch():
    random = np.random.default_rng(0)
    pairs = random.random((3, 4, 5, 6))
    points = random.random((30, 2)) * (120, 100)
    predicted = strongest_targets(pairs, points, (100, 120), (90, 80))
    for (x, y), (u, v) in zip(points, predicted, strict=True):
        block = pairs[:, :, int(y / 20), int(x / 20)]
        i, j = np.unravel_index(block.argmax(), block.shape)
        assert (u, v) == ((j + 0.5) * 20, (i + 0.5) * 30)
    with pytest.raises(ValueError, match="outside the query picture"):
        strongest_targets(pairs, [[121, 5]], (100, 120), (90, 80))


def test_point_accuracy():
    clicked = np.array([[5.0, 5], [15, 5], [25, 25], [35, 35]])
    predicted = np.array([[14.0, 14], [35, 5], [np.nan, 5], [35, 35]])
    result = point_match_accuracy(predicted, clicked, (40, 40), (4, 4))
    assert (result.within_one, result.within_two) == (0.5, 0.75)
    errors = sorted([np.hypot(9, 9), 20, np.inf, 0])
    assert result.error == pytest.approx((errors[1] + errors[2]) / 2 / np.hypot(40, 40))
    assert point_match_accuracy(np.full((4, 2), np.nan), clicked, (40, 40), (4, 4)).error == np.inf
    with pytest.raises(ValueError, match="got 1 for 4"):
        point_match_accuracy(predicted[:1], clicked, (40, 40), (4, 4))
