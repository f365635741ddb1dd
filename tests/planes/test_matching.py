from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.datasets import load_dataset
from indiret.evaluation import average_precision
from indiret.planevote import (
    NOTHING,
    PHOTO,
    PLANES,
    PRODUCT,
    QUARTERS,
    STRANGERS,
    Agreement,
    Found,
    Landing,
    PlaneConfig,
    PlanesMethod,
    PlaneViews,
    floats,
    responses,
)
from indiret.protocol import FRAME, box_around, measure_maps
from indiret.ranking import prepare, rank

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
    method = PlanesMethod()
    whole = scene(0, 400, 500)
    part = floats(method.prepare(np.ascontiguousarray(whole[200:280, 300:400])))
    views = floats(method.prepare(whole))
    stranger = floats(method.prepare(scene(1, 400, 500)))
    agreed = method.agree(part, views)
    large = method.find(part.templates[0], views.pyramid)
    close = method.find(part.close[0], views.pyramid[-1:])
    assert agreed.there.close and not large.close
    assert agreed.there.votes == pytest.approx(close.votes / 2)
    assert agreed.there.standing == close.standing
    assert agreed.there.quarters == large.quarters  # which the close template has not
    halved = close.votes * close.standing / 2 + QUARTERS * large.quarters
    assert agreed.there.worth == pytest.approx(halved) and halved > large.worth
    assert agreed.worth > 2 * method.agree(part, stranger).worth
    corners = method.carry(part, views, FRAME)
    np.testing.assert_allclose(box_around(corners), [0.5, 0.6, 0.7, 0.8], atol=0.03)
    where = method.explain(part, views).pairs.sum((2, 3))  # rows and columns of the target
    inside = where[int(0.5 * where.shape[0]) : 10, int(0.6 * where.shape[1]) : 12]
    assert inside.sum() > 0.5 * where.sum()  # all of its own direction, which has half


def test_products_in_used_memory_are_those_in_fresh():
    views = floats(PlanesMethod(SMALL).prepare(scene(0)))
    fresh = [responses(views.templates[0], level) for level in views.pyramid]
    for level, once in zip(views.pyramid, fresh, strict=True):
        assert torch.equal(responses(views.templates[0], level, PRODUCT), once)
    half = PlanesMethod(SMALL).prepare(scene(1))
    for used, level in zip(floats(half, PHOTO).pyramid, floats(half).pyramid, strict=True):
        assert torch.equal(used, level)
    with torch.inference_mode():
        big = PRODUCT.of(2 * PRODUCT.numbers.numel() + 1)
    big.zero_()  # also outside of it
    assert PRODUCT.of(3, 4).shape == (3, 4)


def test_the_best_plane_by_loops():
    method = PlanesMethod(SMALL)
    query, target = method.prepare(scene(0)), method.prepare(scene(1, 80, 120))
    pyramid = [level.float() for level in target.pyramid]
    found = method.find(query.templates[0], pyramid)
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
    assert found.standing == pytest.approx(
        (everywhere.max() - everywhere.mean()) / everywhere.std(ddof=1), rel=1e-3
    )
    assert found.size == int(np.argmax([max(of_size) for of_size in means]))
    assert found.place == int(np.argmax(means[found.size]))
    apart = np.array(quarters)
    best, mean, deviation = apart.max(1), apart.mean(1), apart.std(1, ddof=1)
    wanted = (best * (best - mean) / deviation).mean()
    assert found.quarters == pytest.approx(wanted, rel=1e-3)
    assert found.worth == found.votes * found.standing + QUARTERS * found.quarters


def test_chance_is_what_strangers_find():
    method = PlanesMethod(SMALL)
    town = load_dataset("toytown", split="train")
    views = method.prepare(scene(7))
    asking = [town.read_query(query) for query in town.queries[::20]]
    found = [method.ask(method.prepare_query(one), floats(views)).there.worth for one in asking]
    assert len(found) == STRANGERS and views.chance == pytest.approx(np.median(found))
    assert method.prepare_query(scene(7)).chance == 1
    query = method.prepare_query(scene(7)[20:80, 20:90])
    score = method.score(query, [views, views._replace(chance=4 * views.chance)])
    assert score[0] == pytest.approx(2 * score[1])
    blank = method.prepare(np.full((40, 50, 3), 99, np.uint8))
    assert blank.chance > 0 and method.score(query, [blank]) == 0


@pytest.mark.parametrize("box", [(40, 30, 100, 78), (10, 8, 94, 75)])
def test_a_part_is_found_where_it_is(box):
    method = PlanesMethod(SMALL)
    picture = scene(2)
    left, top, right, bottom = box
    query, target = method.prepare(picture[top:bottom, left:right]), method.prepare(picture)
    stranger = method.prepare(scene(3))
    scores = method.score(query, [target, stranger])
    assert scores[0] > scores[1]

    landing = landed(method, query, target)
    corner, size = torch.tensor([top, left]), torch.tensor([bottom - top, right - left])
    truth = (corner + landing.voters * size) / torch.tensor(picture.shape[:2])
    apart = (landing.places - truth).abs() * torch.tensor(picture.shape[:2])  # pixels
    assert apart.median() < 3

    evidence = method.explain(query, target)
    assert evidence.score == pytest.approx(scores[0], rel=1e-5)
    assert evidence.pairs.shape[:2] == (11, 14) and evidence.pairs.min() >= 0
    m, n = evidence.target_map.shape
    rows, columns = (torch.arange(length).add(0.5) / length for length in (m, n))
    down = (rows > top / 96 - 1 / m) & (rows < bottom / 96 + 1 / m)
    across = (columns > left / 120 - 1 / n) & (columns < right / 120 + 1 / n)
    inside = evidence.target_map[down][:, across].sum() / evidence.target_map.sum()
    assert inside > 0.85


def test_a_direction_has_the_part_in_the_evidence_that_it_has_in_the_worth(monkeypatch):
    method = PlanesMethod(SMALL)
    picture = scene(2)
    query, target = (
        floats(method.prepare(picture[20:84, 10:100])),
        floats(method.prepare(picture)),
    )
    agreed = method.agree(query, target)
    assert agreed.there.worth > 0 and agreed.back.worth > 0

    def alone(**changes: Found) -> torch.Tensor:
        monkeypatch.setattr(method, "agree", lambda *_: agreed._replace(**changes))
        return method.explain(query, target).pairs

    there, back = alone(back=NOTHING), alone(there=NOTHING)
    assert 0 < there.sum() <= agreed.there.worth * 1.001  # less what lands outside
    torch.testing.assert_close(alone(), there + back)


def test_only_the_better_part_of_many_photos_answers():
    method = PlanesMethod(SMALL)
    query = floats(method.prepare(scene(2)[20:84, 10:100]))
    views = [method.prepare(scene(seed)) for seed in range(40)]
    scores, agreed = method.survey(query, views)
    found = np.array([method.ask(query, floats(target)).worth for target in views])
    assert sorted(agreed) == sorted(np.argsort(-found)[:28].tolist())
    for place, one in agreed.items():
        assert one == method.agree(query, floats(views[place]))
        assert scores[place] == one.worth
    silent = [place for place in range(40) if place not in agreed]
    assert max(scores[silent]) < min(one.worth for one in agreed.values())
    np.testing.assert_array_equal(np.argsort(scores[silent]), np.argsort(found[silent]))
    assert scores.argmax() == 2
    few, all_answer = method.survey(query, views[:20])
    assert len(all_answer) == 20 and few[7] == method.agree(query, floats(views[7])).worth
    assert method.score(query, []).shape == (0,)


def test_a_pair_is_worth_both_directions_and_more_upright():
    there, back = Found(0.5, 4.0, 0, 0), Found(0.25, 8.0, 1, 3)
    assert Agreement(3, there, back).worth == 4.0
    assert Agreement(0, there, back).worth == 8.0
    assert Agreement(0, there, back._replace(quarters=4.0), chance=4.0).worth == 6.0


def landed(method: PlanesMethod, query: PlaneViews, target: PlaneViews) -> Landing:
    """Where the query's patches lie in the target, by its own direction alone."""
    query, target = floats(query), floats(target)
    agreed = method.agree(query, target)
    return method.land(query.templates[agreed.turn], target, agreed.there)


def test_a_turned_photo_is_found_turned():
    method = PlanesMethod(PLANES["planes-turned"])
    picture = scene(4, 192, 240)
    query = method.prepare(picture)
    for number, turn in ((3, 90), (11, -30)):
        turned = Image.fromarray(picture).rotate(turn, Image.Resampling.BICUBIC, expand=turn == 90)
        target = method.prepare(np.asarray(turned))
        assert method.agree(floats(query), floats(target)).turn == number
        if turn == 90:  # anticlockwise: what was right is above
            landing = landed(method, query, target)
            truth = torch.stack([1 - landing.voters[..., 1], landing.voters[..., 0]], -1)
            assert (landing.places - truth).abs().median() < 0.03
            back = landed(method, target, query)
            truth = torch.stack([back.voters[..., 1], 1 - back.voters[..., 0]], -1)
            assert (back.places - truth).abs().median() < 0.03


def test_patches_beyond_the_edge_of_a_turned_photo_are_silent():
    method = PlanesMethod(replace(SMALL, turns=8))
    template = method.prepare(scene(5)).templates[1]
    outside = ((template.where < 0) | (template.where > 1)).any(-1)
    assert outside.any() and (template.patches[outside] == 0).all()
    assert (template.patches.norm(dim=-1)[~outside] > 0.5).any()


def test_plain_and_narrow_photos_have_evidence_too():
    method = PlanesMethod(SMALL)
    pictures = [np.full((16, 16, 3), 99, np.uint8), scene(6, 16, 320), scene(6, 300, 20)]
    views = [method.prepare(picture) for picture in pictures]
    for view in views:
        assert np.isfinite(method.score(view, views)).all()
        evidence = method.explain(view, views[1])
        assert torch.isfinite(evidence.pairs).all() and evidence.pairs.min() >= 0
    assert method.score(views[0], views).max() == 0
    assert method.explain(views[0], views[1]).matches() == []


@pytest.mark.parametrize(
    "changes",
    [{"template": 8}, {"pyramid": ()}, {"step": 3}, {"step": 0}, {"turns": 0}, {"small": 9}],
)
def test_bad_configurations(changes):
    with pytest.raises(ValueError, match="does not make planes: give sides of at least 16"):
        PlaneConfig(**changes)


def test_toytown_is_ranked_and_its_evidence_measured():
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    names = sorted(query.positives) + [n for n in town.images if n not in query.positives][:6]
    few = replace(town, images={n: town.images[n] for n in names}, queries=(query,))
    method = PlanesMethod()
    prepared = prepare(method, few)
    ranked = [hit.name for hit in rank(method, [query], few, prepared)[query.name]]
    assert ranked[0] == query.image
    assert average_precision(ranked, query.positives, query.junk) > 0.6
    rows = measure_maps(method, few, prepared)
    assert rows["planes"]["pairs"] == len(query.positives - {query.image})
    assert rows["planes"]["pixel_auc"] > rows["all ones"]["pixel_auc"]
    assert rows["planes"]["patch_match"] > 3 * rows["planes"]["chance"]


def test_the_frame_of_a_part_is_carried_into_the_whole():
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    height, width = whole.shape[:2]
    truth = np.array([10 / height, 20 / width, 80 / height, 110 / width])
    method = PlanesMethod(SMALL)
    box = box_around(method.carry(method.prepare(part), method.prepare(whole), FRAME))
    np.testing.assert_allclose(box, truth, atol=0.05)
    back = box_around(method.carry(method.prepare(whole), method.prepare(part), FRAME))
    sides = np.array([70 / height, 90 / width] * 2)
    outside = np.array([-10 / height, -20 / width, 1 - 10 / height, 1 - 20 / width]) / sides
    np.testing.assert_allclose(back, outside, atol=0.1)
