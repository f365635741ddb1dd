"""The votes and scores of pairs beside loops, on blobs and on Toytown."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from indiret.experiments.evidence_protocol import FRAME, box_around
from indiret.planes.features import PlaneConfig
from indiret.planes.matches import QUARTER_WEIGHT, PairMatch, PlaneMatch
from indiret.planes.matching import IMPOSTORS, PlaneRetriever
from indiret.planes.voting import hough_votes_by_quarter
from indiret.retrieval import build_retriever
from tests.planes.conftest import RETRIEVER, scene
from tools.fit_planes import encode_impostors


def test_a_small_part_is_found_by_the_close_template():
    """A part a fifth as long as the photo, for which no size makes room."""
    retriever = PlaneRetriever()
    whole = scene(0, 400, 500)
    part = retriever.encode(np.ascontiguousarray(whole[200:280, 300:400]))
    views = retriever.encode(whole)
    impostor = retriever.encode(scene(1, 400, 500))
    match = retriever.match_both(part, views)
    large = retriever.best_plane(part.template, views.pyramid)
    close = retriever.best_plane(part.close, views.pyramid[-1:])
    assert match.forward.close and not large.close
    assert match.forward.votes == pytest.approx(close.votes / 2)
    assert match.forward.z_score == close.z_score
    assert match.forward.quarters == large.quarters  # which the close template has not
    halved = close.votes * close.z_score / 2 + QUARTER_WEIGHT * large.quarters
    assert match.forward.score == pytest.approx(halved) and halved > large.score
    assert match.score > 2 * retriever.match_both(part, impostor).score
    corners = retriever.transfer_points(part, views, FRAME)
    np.testing.assert_allclose(box_around(corners), [0.5, 0.6, 0.7, 0.8], atol=0.03)
    where = retriever.explain(part, views).pairs.sum((2, 3))  # rows and columns of the target
    inside = where[int(0.5 * where.shape[0]) : 10, int(0.6 * where.shape[1]) : 12]
    assert inside.sum() > 0.5 * where.sum()  # all of its own direction, which has half


def test_the_best_plane_by_loops(views):
    template, pyramid = views[0].template, views[2].pyramid
    found = RETRIEVER.best_plane(template, pyramid)
    quarters = []  # (4, planes) of each size
    for level in pyramid:
        rows, columns, _ = level.shape
        answers = torch.einsum("ijc,klc->ijkl", level.float(), template.patches)
        parts = product(range(0, rows, 2), range(0, columns, 2))
        near = [
            answers[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((0, 1)) for i, j in parts
        ]
        near = (torch.stack(near) - 0.3).clamp_min(0)
        near /= (near.mean((1, 2), keepdim=True) + 0.001).sqrt()  # shared by those it answers
        near = near.view((rows + 1) // 2, (columns + 1) // 2, *near.shape[1:])
        quarters.append(4 * hough_votes_by_quarter(near).flatten(2).flatten(0, 1).numpy())
    of_size = [one.mean(0) for one in quarters]
    whole, apart = np.concatenate(of_size), np.concatenate(quarters, 1)
    assert found.votes == pytest.approx(whole.max(), rel=1e-4)
    z_score = (whole.max() - whole.mean()) / whole.std(ddof=1)
    assert found.z_score == pytest.approx(z_score, rel=1e-3)
    assert found.level == int(np.argmax([one.max() for one in of_size]))
    assert found.translation == int(np.argmax(of_size[found.level]))
    best, mean, deviation = apart.max(1), apart.mean(1), apart.std(1, ddof=1)
    assert found.quarters == pytest.approx((best * (best - mean) / deviation).mean(), rel=1e-3)
    assert found.score == found.votes * found.z_score + QUARTER_WEIGHT * found.quarters


def test_impostors_are_shipped_and_the_median_of_their_scores_divides():
    retriever = PlaneRetriever()
    fresh = encode_impostors(retriever)
    for shipped, one in zip(retriever.impostors, fresh, strict=True):
        torch.testing.assert_close(shipped.template.patches, one.template.patches)
        torch.testing.assert_close(shipped.close.patches, one.close.patches)
    target = retriever.encode(scene(7))
    found = [retriever.match_forward(one, target).forward.score for one in fresh]
    assert len(found) == IMPOSTORS
    assert target.background_score == pytest.approx(np.median(found), rel=1e-5)
    query = retriever.encode_query(scene(7)[20:80, 20:90])
    assert query.background_score == 1
    popular = target._replace(background_score=4 * target.background_score)
    blank = retriever.encode(np.full((40, 50, 3), 99, np.uint8))
    scores = retriever.score(query, [target, popular, blank])
    assert scores[0] == pytest.approx(2 * scores[1])
    assert blank.background_score > 0 and scores[2] == 0


@pytest.mark.parametrize("box", [(40, 30, 100, 78), (10, 8, 94, 75)])
def test_a_part_is_found_where_it_is(box):
    picture = scene(2)
    left, top, right, bottom = box
    query, target = RETRIEVER.encode(picture[top:bottom, left:right]), RETRIEVER.encode(picture)
    impostor = RETRIEVER.encode(scene(3))
    scores = RETRIEVER.score(query, [target, impostor])
    assert scores[0] > scores[1]

    found = RETRIEVER.correspondences(query, target)[1][0]
    corner, size = torch.tensor([top, left]), torch.tensor([bottom - top, right - left])
    truth = (corner + found.template_points * size) / torch.tensor(picture.shape[:2])
    apart = (found.matched_points - truth).abs() * torch.tensor(picture.shape[:2])  # pixels
    assert apart.median() < 3

    evidence = RETRIEVER.explain(query, target)
    assert evidence.score == pytest.approx(scores[0], rel=1e-5)
    assert evidence.pairs.shape[:2] == (11, 14) and evidence.pairs.min() >= 0
    m, n = evidence.target_map.shape
    rows, columns = (torch.arange(length).add(0.5) / length for length in (m, n))
    down = (rows > top / 96 - 1 / m) & (rows < bottom / 96 + 1 / m)
    across = (columns > left / 120 - 1 / n) & (columns < right / 120 + 1 / n)
    inside = evidence.target_map[down][:, across].sum() / evidence.target_map.sum()
    assert inside > 0.85


def test_a_direction_has_the_part_in_the_evidence_that_it_has_in_the_score(monkeypatch):
    picture = scene(2)
    query, target = (RETRIEVER.encode(one) for one in (picture[20:84, 10:100], picture))
    match = RETRIEVER.match_both(query, target)
    assert match.forward.score > 0 and match.backward.score > 0

    def alone(**changes: PlaneMatch) -> torch.Tensor:
        monkeypatch.setattr(RETRIEVER, "match_both", lambda *_: match._replace(**changes))
        return RETRIEVER.explain(query, target, "planes").pairs

    nothing = PlaneMatch(0.0, 0.0, 0, 0)
    there, back = alone(backward=nothing), alone(forward=nothing)
    assert 0 < there.sum() <= match.forward.score * 1.001  # less what lands outside
    torch.testing.assert_close(alone(), there + back)


def test_only_the_better_part_of_many_photos_is_matched_backward(scenes):
    query = RETRIEVER.encode(scene(2)[20:84, 10:100])
    views = scenes[:40]
    scores, matches = RETRIEVER.score_all(query, views)
    found = np.array([RETRIEVER.match_forward(query, target).score for target in views])
    assert sorted(matches) == sorted(np.argsort(-found)[:28].tolist())
    for place, one in matches.items():
        assert one == RETRIEVER.match_both(query, views[place])
        assert scores[place] == one.score
    left = [place for place in range(40) if place not in matches]
    assert max(scores[left]) < min(one.score for one in matches.values())
    np.testing.assert_array_equal(np.argsort(scores[left]), np.argsort(found[left]))
    assert scores.argmax() == 2
    few, both = RETRIEVER.score_all(query, views[:20])
    assert len(both) == 20 and few[7] == RETRIEVER.match_both(query, views[7]).score
    assert RETRIEVER.score(query, []).shape == (0,)


def test_rough_scores_are_votes_without_the_largest_size():
    """An oracle: the votes of a retriever whose photos have no such size."""
    smaller = PlaneRetriever(replace(RETRIEVER.config, pyramid=RETRIEVER.config.pyramid[:-1]))
    pictures = [scene(number) for number in range(4)]
    query, *targets = map(RETRIEVER.encode, pictures)
    same, *others = map(smaller.encode_query, pictures)
    pairs = zip(others, targets, strict=True)
    database = [one._replace(background_score=target.background_score) for one, target in pairs]
    expected = smaller.score(same, database)
    for retriever in (RETRIEVER, build_retriever("plane-net")):
        np.testing.assert_array_equal(retriever.score_roughly(query, targets), expected)


def test_a_pair_scores_both_directions():
    there, back = PlaneMatch(0.5, 4.0, 0, 0), PlaneMatch(0.25, 8.0, 1, 3)
    assert PairMatch(there, back).score == 8.0
    assert PairMatch(there, back._replace(quarters=4.0), background_score=4.0).score == 6.0


def test_plain_and_narrow_photos_have_evidence_too():
    pictures = [np.full((16, 16, 3), 99, np.uint8), scene(6, 16, 320), scene(6, 300, 20)]
    views = [RETRIEVER.encode(picture) for picture in pictures]
    for view in views:
        assert np.isfinite(RETRIEVER.score(view, views)).all()
        evidence = RETRIEVER.explain(view, views[1])
        assert torch.isfinite(evidence.pairs).all() and evidence.pairs.min() >= 0
    assert RETRIEVER.score(views[0], views).max() == 0
    assert RETRIEVER.explain(views[0], views[1]).matches() == []


@pytest.mark.parametrize("changes", [{"template": 8}, {"pyramid": ()}, {"close": 9}])
def test_bad_configurations(changes):
    with pytest.raises(ValueError, match="give sides of at least 16"):
        PlaneConfig(**changes)


def test_the_frame_of_a_part_is_transferred_to_the_whole(views):
    part, whole, _ = views
    box = box_around(RETRIEVER.transfer_points(part, whole, FRAME))
    np.testing.assert_allclose(box, [10 / 96, 20 / 120, 80 / 96, 110 / 120], atol=0.05)
    back = box_around(RETRIEVER.transfer_points(whole, part, FRAME))
    np.testing.assert_allclose(back, [-10 / 70, -20 / 90, 86 / 70, 100 / 90], atol=0.1)
