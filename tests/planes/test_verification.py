"""Planes asked again by finer patches, beside loops, on blobs, rows of windows and Toytown."""

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.planes import voting
from indiret.planes.correspondence import move_places
from indiret.planes.features import turn_back
from indiret.planes.gradients import PATCH_CELLS
from indiret.planes.matching import PlaneRetriever
from indiret.planes.turning import encode_turned
from indiret.planes.verification import (
    NAMED,
    NAMED_CLOSE,
    REACH,
    Direction,
    candidate_planes,
    verify,
)
from tests.planes.conftest import RETRIEVER, scene

HERE = torch.eye(3)[:, :2]


def shifted(down: float, right: float) -> torch.Tensor:
    return HERE + torch.tensor([[0, 0], [0, 0], [down, right]])


def test_support_and_moves_by_loops(views):
    part, whole, _ = views
    plane = torch.tensor([[0.7, 0.02], [-0.01, 0.75], [0.11, 0.16]])
    direction = Direction(part, whole)
    own, other = direction.alike_levels(plane)
    found = direction.along(plane, step=2, around=3)
    patches, others = part.pyramid[own].float()[::2, ::2], whole.pyramid[other].float()
    popular = voting.responses(others, part.template.patches).sub(0.3).clamp_min(0).mean((2, 3))
    cells = torch.tensor(others.shape[:2]) + PATCH_CELLS - 1
    start = (move_places(found.template_points, plane) * cells - PATCH_CELLS / 2).round().long()
    rows, columns = patches.shape[:2]
    near = range(-REACH, REACH + 1)
    agree = torch.zeros(rows, columns, 2 * REACH + 1, 2 * REACH + 1)
    for k, l, a, b in np.ndindex(*agree.shape):
        i, j = start[k, l, 0] + near[a], start[k, l, 1] + near[b]
        if 0 <= i < others.shape[0] and 0 <= j < others.shape[1]:
            x, y = others[i, j], patches[k, l]
            above = x @ y - 0.3 * x.norm() * y.norm()
            agree[k, l, a, b] = max(above, 0) / (popular[i, j] + 0.001) ** 0.5
    for k, l in np.ndindex(rows, columns):
        around = agree[max(k - 1, 0) : k + 2, max(l - 1, 0) : l + 2].mean((0, 1))
        support = float(around.max() - around.mean())
        assert float(found.support[k, l]) == pytest.approx(support, abs=1e-5)
        a, b = np.unravel_index(int(around.argmax()), around.shape)
        best = start[k, l] + torch.tensor([near[a], near[b]])
        placed = found.matched_points[k, l] * cells - PATCH_CELLS / 2
        assert (placed - best).abs().max() <= 1


def test_the_right_one_of_several_planes_is_bent_to_where_things_lie():
    """Named half a patch aside, the plane of a photo in itself comes back exact."""
    features = PlaneRetriever().encode(scene(3, 192, 240))
    wrong = [shifted(0.2, 0.0), shifted(-0.3, 0.3), HERE * torch.tensor([[1.3], [1.3], [1.0]])]
    best = verify([*wrong, shifted(0.01, -0.01)], features, features)
    np.testing.assert_allclose(best.plane, HERE, atol=4e-3)
    for found in (best.forward, best.backward):
        assert (found.template_points - found.matched_points).abs().max() < 0.02
    assert best.support > 2 * verify(wrong[:1], features, features).support


def test_a_row_of_windows_is_not_taken_for_the_next():
    """A plane a window aside meets equal windows, but for one thing."""
    windows = np.full((160, 320, 3), 90, np.uint8)
    for left in range(10, 300, 40):
        windows[30:130, left : left + 20] = 220
        windows[70:74, left : left + 20] = 90
    windows[60:140, 165:195, :] = scene(5, 80, 30)
    retriever = PlaneRetriever()
    query, target = retriever.encode(windows[:, 60:260]), retriever.encode(windows)
    truth = torch.tensor([[1.0, 0.0], [0.0, 200 / 320], [0.0, 60 / 320]])
    aside = truth + torch.tensor([[0, 0], [0, 0], [0, 40 / 320]])
    for planes in ([truth, aside], [aside, truth]):
        np.testing.assert_allclose(verify(planes, query, target).plane, truth, atol=0.02)


def test_planes_are_named_apart_and_the_most_voted_first(views):
    part, whole, _ = views
    found = list(candidate_planes(part, whole))
    large = [match for _, match in found if not match.close]
    assert len(large) <= NAMED and len(found) - len(large) <= NAMED_CLOSE
    votes = [match.votes for match in large]
    assert votes == sorted(votes, reverse=True)
    best = RETRIEVER.best_plane(part.template, whole.pyramid)
    assert large[0][2:4] == best[2:4] and large[0].votes == pytest.approx(best.votes, rel=1e-5)
    for one in large:
        for other in large:
            if one is not other and one.level == other.level:
                assert abs(one.translation - other.translation) > 2


def test_nothing_to_vote_for_is_no_plane():
    plain = RETRIEVER.encode(np.full((96, 120, 3), 99, np.uint8))
    assert RETRIEVER.verified(plain, plain) is None
    assert np.isnan(RETRIEVER.transfer_points(plain, plain, np.zeros((2, 2)))).all()
    assert verify([torch.zeros(3, 2)], plain, plain) is None  # a plane without area


@pytest.mark.parametrize("number", [6, 3])
def test_a_photo_that_was_turned_before_is_verified_in_its_own_places(number):
    """Turned anticlockwise by 90° and by 45°, and looked for in a photo that was turned so."""
    retriever = PlaneRetriever()
    picture = Image.fromarray(scene(4, 192, 240))
    turned = picture.rotate(15 * number, Image.Resampling.BICUBIC, expand=True)
    target = retriever.encode(np.asarray(turned))
    query = encode_turned(retriever, np.asarray(picture.convert("L")), number)
    best = retriever.verified(query, target)
    for here, there in (best.forward[:2], best.backward[1::-1]):
        truth = turn_back(there, (192, 240), 15.0 * number)
        inside = ((here > 0.2) & (here < 0.8)).all(-1)
        assert (here - truth)[inside].abs().median() < 0.02
