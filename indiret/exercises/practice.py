"""Checks of the chapters on search, evaluation, baselines and the paper's tables.

Chapters: *Quick tour*, *Ranking and honest evaluation* to *Your own photos*.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.baselines.pooling import gem, mac
from indiret.datasets import Query
from indiret.evaluation import average_precision, folds, pixel_auc, sign_flip_test
from indiret.exercises.checks import Answer, exercise, expect, random_tensor


# Chapter: Quick tour
@exercise
def check_right_at_random(answer: Answer) -> None:
    hint = "Each place is right with the chance positives / photos; add up all `top` places."
    expect(answer(100, 20, 5), 1.0, hint)
    expect(answer(60, 9, 10), 1.5, hint)


@exercise
def check_countable(answer: Answer) -> None:
    found = answer(["c", "own", "a", "blurred", "b"], "own", {"blurred", "dark"})
    hint = (
        "The query's own photo and every junk photo are left out, and the others keep their order."
    )
    expect(found if found in (None, ...) else " ".join(found), "c a b", hint)


@exercise
def check_warmer_inside(answer: Answer) -> None:
    warm, other = random_tensor(2, 6, 7)
    inside = other > 0.4
    hint = "Compare every place inside with every place outside: won 1, tied a half, lost 0."
    for values in (warm, torch.ones(6, 7), warm.round()):
        wanted = pixel_auc(values.numpy(), inside.numpy())
        expect(answer(values, inside), wanted, hint)


# Chapter: Reproducing the tables
@exercise
def check_trainings(answer: Answer) -> None:
    expect(answer, 3 * 2 * 10 * 2, "Which of the four variants have weights of their own?")


@exercise
def check_distinct_views(answer: Answer) -> None:
    expect(answer(7, 1), 1.0, "One draw gives one.")
    expect(answer(2, 2), 1.5, "Two draws from two: half of the time both are the same.")
    for kinds, draws in ((6, 6), (40, 100)):
        chance = 1 - (1 - 1 / kinds) ** draws
        expect(answer(kinds, draws), kinds * chance, "One is missed by a draw with chance 1 − 1/n.")


@exercise
def check_verdict_of(answer: Answer) -> None:
    for low, high, *both in (
        (0.1, 0.2, "reproduced", "contradicted"),
        (-0.2, -0.1, "contradicted", "reproduced"),
        (-0.3, 0.1, "open", "open"),
    ):
        for rises, wanted in zip((True, False), both, strict=True):
            hint = f"[{low}, {high}] with rises={rises} is {wanted}."
            expect(answer(low, high, rises), wanted, hint)


# Chapter: Ranking and honest evaluation
@exercise
def check_own_photo_alone(answer: Answer) -> None:
    expect(answer, 1 / 11, "One recall step of eleven, at precision 1 before and after it.")


@exercise
def check_ap_by_hand(answer: Answer) -> None:
    expect(answer(["a", "x", "b"], {"a", "b"}, set()), 19 / 24, "The mean of P before and after.")
    expect(answer(["x", "a"], {"a"}, {"x"}), 1.0, "Junk is taken out before ranks are counted.")
    names = [f"photo{number}" for number in range(30)]
    order = [names[at] for at in random_tensor(30).argsort().tolist()]
    wanted = average_precision(order[:20], names[::3], names[1::7][:2])
    hint = "A positive that is never ranked still counts in the recall step: 1 / len(positives)."
    expect(answer(order[:20], set(names[::3]), set(names[1::7][:2])), wanted, hint)


@exercise
def check_leaking_queries(answer: Answer) -> None:
    queries = [Query(f"{name}_{i}", f"{name}{i}", None, name) for name in "abcde" for i in range(3)]
    for by, n in (("landmark", 5), ("query", 4)):
        for fold in folds(queries, by, n):
            known = {query.landmark for query in fold.train}
            wanted = sum(query.landmark in known for query in fold.test)
            hint = f"Folds by {by}: count the queries of the test whose landmark is in training."
            expect(answer(fold), wanted, hint)


@exercise
def check_sign_flips(answer: Answer) -> None:
    expect(answer([0.1, 0.2, 0.3]), 0.25, "Of 8 ways, all + and all − are as far from 0: 2 / 8.")
    values = (random_tensor(7) - 0.3).tolist()
    hint = "Count sums as far from 0 as the true one in either direction, among all 2ᴺ."
    expect(answer(values), sign_flip_test(values), hint)


# Chapter: Your own photos
@exercise
def check_box_overlap(answer: Answer) -> None:
    hint = "Both hold 1 of the 7 pixels that at least one of (0, 0, 2, 2) and (1, 1, 3, 3) holds."
    expect(answer((0, 0, 2, 2), (1, 1, 3, 3)), 1 / 7, hint)
    hint = "Boxes that lie apart have nothing in common: no width or height may fall below 0."
    expect(answer((0, 0, 2, 2), (5, 6, 9, 9)), 0.0, hint)


@exercise
def check_outline_area(answer: Answer) -> None:
    hint = "The triangle (0, 0), (4, 0), (0, 3) has area 6, either way round."
    expect(answer([(0, 0), (4, 0), (0, 3)]), 6.0, hint)
    expect(answer([(0, 3), (4, 0), (0, 0)]), 6.0, hint)
    hint = "The square (1, 1), (3, 1), (3, 3), (1, 3) has area 4: it has four edges, not three."
    expect(answer([(1, 1), (3, 1), (3, 3), (1, 3)]), 4.0, hint)


@exercise
def check_carry_over(answer: Answer) -> None:
    shift = torch.tensor([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]]).numpy()
    hint = "A shift by (5, 7) takes the box (0, 0, 2, 1) to (5, 7), (7, 7), (7, 8), (5, 8)."
    expect(answer(shift, (0, 0, 2, 1)), [[5, 7], [7, 7], [7, 8], [5, 8]], hint)
    tilt = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]).numpy()
    hint = "The camera tilts: divide by the third number, which is 2 for the corner (2, 1)."
    expect(answer(tilt, (0, 0, 2, 1)), [[0, 0], [1, 0], [1, 0.5], [0, 1]], hint)


# Chapter: Baselines
@exercise
def check_generalised_mean(answer: Answer) -> None:
    maps = random_tensor(3, 4, 5)
    expect(answer(maps, 1), maps.mean((1, 2)), "For p = 1 GeM is the mean over places.")
    expect(answer(maps, 3), gem(maps[None], 3)[0], "Power, mean over places, root; per channel.")


@exercise
def check_clear_matches(answer: Answer) -> None:
    near_twice = [0.8, 0.3, 0.31], [0.1, 0.11, 0.5]
    distances = torch.tensor([[0.2, 0.9, 0.7], *near_twice, [5.0, 1.0, 3.0]])
    hint = "Of four rows the first and last have one near partner, the others two: compare both."
    expect(answer(distances, 0.8), 2, hint)
    expect(answer(distances, 0.3), 1, "A smaller ratio is stricter: only row 0 is left at 0.3.")


@exercise
def check_expanded_query(answer: Answer) -> None:
    database, q = F.normalize(random_tensor(9, 4), dim=1), F.normalize(random_tensor(4), dim=0)
    nearest = database[(database @ q).argsort(descending=True)[:3]]
    wanted = F.normalize(q + nearest.sum(0), dim=0)
    hint = "Add the query and its n nearest, then divide by the length."
    expect(answer(q, database, 3), wanted, hint)


@exercise
def check_largest_places(answer: Answer) -> None:
    maps, q = random_tensor(6, 3, 4), F.normalize(random_tensor(6), dim=0)
    found = answer(maps, q)
    most = mac(maps[None])[0]
    wanted = (most * q / most.norm()) @ (maps == most[:, None, None]).flatten(1).float()
    if isinstance(found, Tensor):
        hint = "The places should add up to the cosine: mind the length."
        expect(found.sum(), wanted.sum(), hint)
    hint = "A channel counts at the place of its maximum, and nowhere else."
    expect(found, wanted.reshape(3, 4), hint)
