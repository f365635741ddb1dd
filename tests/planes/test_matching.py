"""The votes and scores of pairs beside loops, on blobs and on Toytown."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.planes.correspondence import PlaneCorrespondence
from indiret.planes.matching import (
    IMPOSTORS,
    NO_MATCH,
    PLANE_CONFIGS,
    QUARTER_WEIGHT,
    PairMatch,
    PlaneConfig,
    PlaneFeatures,
    PlaneMatch,
    PlaneRetriever,
    to_float32,
)
from indiret.protocol import FRAME, box_around, measure_maps
from indiret.ranking import prepare, rank
from tools.fit_planes import encode_impostors

SMALL = PlaneConfig(template=48, pyramid=(32, 48, 72), close=24)


def scene(seed: int, height: int = 96, width: int = 120) -> np.ndarray:
    """Smooth blobs of all sizes, which look alike after small moves and resizing."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (3, 6, 12, 24):
        blobs = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        picture += np.asarray(
            Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)
        )
    return (picture / 4).astype(np.uint8)


def test_a_small_part_is_found_by_the_close_template():
    """A part a fifth as long as the photo, for which no size makes room."""
    retriever = PlaneRetriever()
    whole = scene(0, 400, 500)
    part = to_float32(retriever.encode(np.ascontiguousarray(whole[200:280, 300:400])))
    views = to_float32(retriever.encode(whole))
    impostor = to_float32(retriever.encode(scene(1, 400, 500)))
    match = retriever.match_both(part, views)
    large = retriever.best_plane(part.templates[0], views.pyramid)
    close = retriever.best_plane(part.close[0], views.pyramid[-1:])
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


def test_the_best_plane_by_loops():
    retriever = PlaneRetriever(SMALL)
    query, target = retriever.encode(scene(0)), retriever.encode(scene(1, 80, 120))
    pyramid = [level.float() for level in target.pyramid]
    found = retriever.best_plane(query.templates[0], pyramid)
    patches, means = query.templates[0].patches, []
    K, L, _ = patches.shape
    halves = range((K + 1) // 2), range((L + 1) // 2)
    quarters: list[list[float]] = [[], [], [], []]
    for level in pyramid:
        rows, columns, _ = level.shape
        answers = (torch.einsum("klc,ijc->klij", patches, level) - 0.3).clamp_min(0)
        near = torch.stack(
            [
                answers[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((2, 3))
                for i in range(0, rows, 2)
                for j in range(0, columns, 2)
            ],
            -1,
        ).view(K, L, (rows + 1) // 2, (columns + 1) // 2)
        near /= (near.mean((0, 1)) + 0.001).sqrt()  # a patch is shared between those it answers
        of_size = []
        for a in range(-(K // 2), near.shape[2] + K // 2 - K + 1):
            for b in range(-(L // 2), near.shape[3] + L // 2 - L + 1):
                sums = [0.0] * 4
                for k in range(K):
                    for l in range(L):
                        if 0 <= a + k < near.shape[2] and 0 <= b + l < near.shape[3]:
                            quarter = 2 * (k not in halves[0]) + (l not in halves[1])
                            sums[quarter] += near[k, l, a + k, b + l].item()
                of_size.append(sum(sums) / (K * L))
                for own, one in zip(quarters, sums, strict=True):
                    own.append(4 * one / (K * L))
        means.append(of_size)
    everywhere = np.concatenate(means)
    assert found.votes == pytest.approx(everywhere.max(), rel=1e-4)
    assert found.z_score == pytest.approx(
        (everywhere.max() - everywhere.mean()) / everywhere.std(ddof=1), rel=1e-3
    )
    assert found.level == int(np.argmax([max(of_size) for of_size in means]))
    assert found.translation == int(np.argmax(means[found.level]))
    apart = np.array(quarters)
    best, mean, deviation = apart.max(1), apart.mean(1), apart.std(1, ddof=1)
    wanted = (best * (best - mean) / deviation).mean()
    assert found.quarters == pytest.approx(wanted, rel=1e-3)
    assert found.score == found.votes * found.z_score + QUARTER_WEIGHT * found.quarters


def test_impostors_are_shipped_and_the_median_of_their_scores_divides():
    retriever = PlaneRetriever()
    fresh = encode_impostors(retriever, load_dataset("toytown", split="train"))
    for shipped, one in zip(retriever.impostors, fresh, strict=True):
        torch.testing.assert_close(shipped.templates[0].patches, one.templates[0].patches)
        torch.testing.assert_close(shipped.close[0].patches, one.close[0].patches)
    target = retriever.encode(scene(7))
    found = [retriever.match_forward(one, to_float32(target)).forward.score for one in fresh]
    assert len(found) == IMPOSTORS
    assert target.background_score == pytest.approx(np.median(found), rel=1e-5)
    query = retriever.encode_query(scene(7)[20:80, 20:90])
    assert query.background_score == 1
    popular = target._replace(background_score=4 * target.background_score)
    blank = retriever.encode(np.full((40, 50, 3), 99, np.uint8))
    scores = retriever.score(query, [target, popular, blank])
    assert scores[0] == pytest.approx(2 * scores[1])
    assert blank.background_score > 0 and scores[2] == 0


def test_four_threads_score_as_one():
    retriever = PlaneRetriever(SMALL)
    features = [retriever.encode(scene(seed)) for seed in range(4)]
    alone = [retriever.score(query, features) for query in features]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: retriever.score(query, features), features * 4))
    np.testing.assert_array_equal(together, alone * 4)


@pytest.mark.parametrize("box", [(40, 30, 100, 78), (10, 8, 94, 75)])
def test_a_part_is_found_where_it_is(box):
    retriever = PlaneRetriever(SMALL)
    picture = scene(2)
    left, top, right, bottom = box
    query, target = retriever.encode(picture[top:bottom, left:right]), retriever.encode(picture)
    impostor = retriever.encode(scene(3))
    scores = retriever.score(query, [target, impostor])
    assert scores[0] > scores[1]

    found = landed(retriever, query, target)
    corner, size = torch.tensor([top, left]), torch.tensor([bottom - top, right - left])
    truth = (corner + found.template_points * size) / torch.tensor(picture.shape[:2])
    apart = (found.matched_points - truth).abs() * torch.tensor(picture.shape[:2])  # pixels
    assert apart.median() < 3

    evidence = retriever.explain(query, target)
    assert evidence.score == pytest.approx(scores[0], rel=1e-5)
    assert evidence.pairs.shape[:2] == (11, 14) and evidence.pairs.min() >= 0
    m, n = evidence.target_map.shape
    rows, columns = (torch.arange(length).add(0.5) / length for length in (m, n))
    down = (rows > top / 96 - 1 / m) & (rows < bottom / 96 + 1 / m)
    across = (columns > left / 120 - 1 / n) & (columns < right / 120 + 1 / n)
    inside = evidence.target_map[down][:, across].sum() / evidence.target_map.sum()
    assert inside > 0.85


def test_a_direction_has_the_part_in_the_evidence_that_it_has_in_the_score(monkeypatch):
    retriever = PlaneRetriever(SMALL)
    picture = scene(2)
    query, target = (
        to_float32(retriever.encode(picture[20:84, 10:100])),
        to_float32(retriever.encode(picture)),
    )
    match = retriever.match_both(query, target)
    assert match.forward.score > 0 and match.backward.score > 0

    def alone(**changes: PlaneMatch) -> torch.Tensor:
        monkeypatch.setattr(retriever, "match_both", lambda *_: match._replace(**changes))
        return retriever.explain(query, target).pairs

    there, back = alone(backward=NO_MATCH), alone(forward=NO_MATCH)
    assert 0 < there.sum() <= match.forward.score * 1.001  # less what lands outside
    torch.testing.assert_close(alone(), there + back)


def test_only_the_better_part_of_many_photos_is_matched_backward():
    retriever = PlaneRetriever(SMALL)
    query = to_float32(retriever.encode(scene(2)[20:84, 10:100]))
    views = [retriever.encode(scene(seed)) for seed in range(40)]
    scores, matches = retriever.score_all(query, views)
    found = np.array([retriever.match_forward(query, to_float32(target)).score for target in views])
    assert sorted(matches) == sorted(np.argsort(-found)[:28].tolist())
    for place, one in matches.items():
        assert one == retriever.match_both(query, to_float32(views[place]))
        assert scores[place] == one.score
    left = [place for place in range(40) if place not in matches]
    assert max(scores[left]) < min(one.score for one in matches.values())
    np.testing.assert_array_equal(np.argsort(scores[left]), np.argsort(found[left]))
    assert scores.argmax() == 2
    few, both = retriever.score_all(query, views[:20])
    assert len(both) == 20 and few[7] == retriever.match_both(query, to_float32(views[7])).score
    assert retriever.score(query, []).shape == (0,)


def test_a_pair_scores_both_directions_and_more_upright():
    there, back = PlaneMatch(0.5, 4.0, 0, 0), PlaneMatch(0.25, 8.0, 1, 3)
    assert PairMatch(3, there, back).score == 4.0
    assert PairMatch(0, there, back).score == 8.0
    assert PairMatch(0, there, back._replace(quarters=4.0), background_score=4.0).score == 6.0


def landed(
    retriever: PlaneRetriever, query: PlaneFeatures, target: PlaneFeatures
) -> PlaneCorrespondence:
    """Where the query's patches lie in the target, by its own direction alone."""
    query, target = to_float32(query), to_float32(target)
    match = retriever.match_both(query, target)
    return retriever.plane_correspondence(query.templates[match.turn], target, match.forward)


def test_a_turned_photo_is_found_turned():
    retriever = PlaneRetriever(PLANE_CONFIGS["planes-turned"])
    picture = scene(4, 192, 240)
    query = retriever.encode(picture)
    for number, turn in ((3, 90), (11, -30)):
        turned = Image.fromarray(picture).rotate(turn, Image.Resampling.BICUBIC, expand=turn == 90)
        target = retriever.encode(np.asarray(turned))
        assert retriever.match_both(to_float32(query), to_float32(target)).turn == number
        if turn == 90:  # anticlockwise: what was right is above
            found = landed(retriever, query, target)
            y, x = found.template_points.unbind(-1)
            truth = torch.stack([1 - x, y], -1)
            assert (found.matched_points - truth).abs().median() < 0.03
            back = landed(retriever, target, query)
            y, x = back.template_points.unbind(-1)
            truth = torch.stack([x, 1 - y], -1)
            assert (back.matched_points - truth).abs().median() < 0.03


def test_patches_beyond_the_edge_of_a_turned_photo_are_left():
    retriever = PlaneRetriever(replace(SMALL, turns=8))
    template = retriever.encode(scene(5)).templates[1]
    outside = ((template.points < 0) | (template.points > 1)).any(-1)
    assert outside.any() and (template.patches[outside] == 0).all()
    assert (template.patches.norm(dim=-1)[~outside] > 0.5).any()


def test_plain_and_narrow_photos_have_evidence_too():
    retriever = PlaneRetriever(SMALL)
    pictures = [np.full((16, 16, 3), 99, np.uint8), scene(6, 16, 320), scene(6, 300, 20)]
    views = [retriever.encode(picture) for picture in pictures]
    for view in views:
        assert np.isfinite(retriever.score(view, views)).all()
        evidence = retriever.explain(view, views[1])
        assert torch.isfinite(evidence.pairs).all() and evidence.pairs.min() >= 0
    assert retriever.score(views[0], views).max() == 0
    assert retriever.explain(views[0], views[1]).matches() == []


@pytest.mark.parametrize(
    "changes",
    [{"template": 8}, {"pyramid": ()}, {"turns": 0}, {"coarse": 9}],
)
def test_bad_configurations(changes):
    with pytest.raises(ValueError, match="does not make planes: give sides of at least 16"):
        PlaneConfig(**changes)


def test_toytown_is_ranked_and_its_evidence_measured():
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    names = sorted(query.positives) + [n for n in town.images if n not in query.positives][:6]
    few = replace(town, images={n: town.images[n] for n in names}, queries=(query,))
    retriever = PlaneRetriever()
    prepared = prepare(retriever, few)
    ranked = [hit.name for hit in rank(retriever, [query], few, prepared)[query.name]]
    assert ranked[0] == query.image
    assert average_precision(ranked, query.positives, query.junk) > 0.6
    rows = measure_maps(retriever, few, prepared)
    assert rows["planes"]["pairs"] == len(query.positives - {query.image})
    assert rows["planes"]["pixel_auc"] > rows["all ones"]["pixel_auc"]
    assert rows["planes"]["patch_match"] > 3 * rows["planes"]["chance"]


def test_the_frame_of_a_part_is_transferred_to_the_whole():
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    height, width = whole.shape[:2]
    truth = np.array([10 / height, 20 / width, 80 / height, 110 / width])
    retriever = PlaneRetriever(SMALL)
    query, target = retriever.encode(part), retriever.encode(whole)
    box = box_around(retriever.transfer_points(query, target, FRAME))
    np.testing.assert_allclose(box, truth, atol=0.05)
    back = box_around(retriever.transfer_points(target, query, FRAME))
    sides = np.array([70 / height, 90 / width] * 2)
    outside = np.array([-10 / height, -20 / width, 1 - 10 / height, 1 - 20 / width]) / sides
    np.testing.assert_allclose(back, outside, atol=0.1)
