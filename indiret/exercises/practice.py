"""Checks of the chapters on search, evaluation, baselines and the paper's tables.

Chapters: *Quick tour*, *Ranking and honest evaluation* to *Your own photos*.
"""

from functools import partial

import torch
from torch.nn import functional as F

from indiret.baselines.pooling import gem, mac
from indiret.datasets import Query
from indiret.evaluation import average_precision, folds, pixel_auc, sign_flip_test
from indiret.exercises.checks import Answer, Hint, exercise, expect, random_tensor


# Chapter: Quick tour
@exercise
def check_right_at_random(answer: Answer) -> None:
    hint = "Each place is right with the chance positives / photos; add up all `top` places."
    mistakes = {
        "That is the chance of one place. Add up all of them.": 0.2,
        "There cannot be more right ones among the first than there are places.": 20.0,
    }
    expect(answer(100, 20, 5), 1.0, hint, mistakes)
    expect(answer(60, 9, 10), 1.5, hint)


@exercise
def check_countable(answer: Answer) -> None:
    found = answer(["c", "own", "a", "blurred", "b"], "own", {"blurred", "dark"})
    hint = "The query's own photo and every junk photo are left out; the others keep their order."
    if isinstance(found, set):
        raise Hint("The order of the ranking is lost: a set has none. Return a list.")
    mistakes = {
        "The query's own photo is still in the list.": ["c", "own", "a", "b"],
        "The junk photos are still in the list.": ["c", "a", "blurred", "b"],
        "The order of the ranking is lost: do not sort.": ["a", "b", "c"],
    }
    expect(found if found in (None, ...) else list(found), ["c", "a", "b"], hint, mistakes)


@exercise
def check_warmer_inside(answer: Answer) -> None:
    warm, other = random_tensor(2, 6, 7)
    inside = other > 0.4
    hint = "Compare every place inside with every place outside: won 1, tied a half, lost 0."
    for values in (warm, torch.ones(6, 7), warm.round()):
        wanted = pixel_auc(values.numpy(), inside.numpy())
        ours, others = values[inside][:, None], values[~inside]
        mistakes = {
            "A tie counts half; yours counts it in full.": (ours >= others).float().mean(),
            "A tie counts half; yours does not count it.": (ours > others).float().mean(),
            "Inside has to be warmer; yours counts where outside is.": 1 - wanted,
            "That is how many pairs are won. Divide by how many there are.": (
                wanted * ours.numel() * others.numel()
            ),
        }
        expect(answer(values, inside), wanted, hint, mistakes)


# Chapter: Reproducing the tables
@exercise
def check_trainings(answer: Answer) -> None:
    mistakes = {
        "Feedback needs no training of its own: two variants are trained.": 3 * 2 * 10 * 4,
        "Base and HAR are two trainings.": 3 * 2 * 10,
    }
    hint = "Which of the four variants have weights of their own?"
    expect(answer, 3 * 2 * 10 * 2, hint, mistakes)


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
        (0.1, 0.2, "reproduced", "not reproduced"),
        (-0.2, -0.1, "not reproduced", "reproduced"),
        (-0.3, 0.1, "inconclusive", "inconclusive"),
    ):
        for rises, wanted in zip((True, False), both, strict=True):
            hint = f"[{low}, {high}] with rises={rises} is {wanted}."
            expect(answer(low, high, rises), wanted, hint)


# Chapter: Ranking and honest evaluation
@exercise
def check_own_photo_alone(answer: Answer) -> None:
    mistakes = {
        "That is the precision at rank 1. AP weights it by its recall step.": 1.0,
        "By convention the precision before the first rank is 1, not 0.": 1 / 22,
        "There are 11 right answers, its own photo among them.": 1 / 12,
        "Its own photo counts as one of the 11.": 1 / 10,
    }
    hint = "One recall step of eleven, at precision 1 before and after it."
    expect(answer, 1 / 11, hint, mistakes)


@exercise
def check_ap_by_hand(answer: Answer) -> None:
    mistakes = {
        "That is AP without the trapezoid. Take the mean of precision before and after.": 5 / 6,
        "The precision before the first rank is 1.": 13 / 24,
    }
    hint = "Each right answer adds its recall step times the mean of P before and after."
    expect(answer(["a", "x", "b"], {"a", "b"}, set()), 19 / 24, hint, mistakes)
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
            both = len(known & {query.landmark for query in fold.test})
            mistakes = {"That counts landmarks. Count the queries of the test.": both}
            expect(answer(fold), wanted, hint, mistakes if both < wanted else None)


@exercise
def check_sign_flips(answer: Answer) -> None:
    mistakes = {
        "That is one side. Sums as far below 0 count, too.": 0.125,
        "That is how many there are. Divide by 2ᴺ.": 2,
        "The differences themselves are one of the ways: as far counts, too.": 0.0,
    }
    hint = "Of 8 ways, all + and all − are as far from 0: 2 / 8."
    expect(answer([0.1, 0.2, 0.3]), 0.25, hint, mistakes)
    values = (random_tensor(7) - 0.3).tolist()
    hint = "Count sums as far from 0 as the true one in either direction, among all 2ᴺ."
    expect(answer(values), sign_flip_test(values), hint)


# Chapter: Your own photos
@exercise
def check_box_overlap(answer: Answer) -> None:
    hint = "Both hold 1 of the 7 pixels that at least one of (0, 0, 2, 2) and (1, 1, 3, 3) holds."
    mistakes = {
        "The pixels that both hold are counted twice below. Take them away once.": 1 / 8,
        "That is the area of both alone. Divide by the area of at least one.": 1.0,
        "That divides by one box. Divide by the area that at least one holds.": 1 / 4,
        "Boxes end before x2 and y2: (0, 0, 2, 2) holds 4 pixels.": 4 / 14,
    }
    expect(answer((0, 0, 2, 2), (1, 1, 3, 3)), 1 / 7, hint, mistakes)
    hint = "Boxes that lie apart have nothing in common: no width or height may fall below 0."
    expect(answer((0, 0, 2, 2), (5, 6, 9, 9)), 0.0, hint)


@exercise
def check_outline_area(answer: Answer) -> None:
    hint = "The triangle (0, 0), (4, 0), (0, 3) has area 6, either way round."
    double = "That is the sum. The area is half of it."
    expect(answer([(0, 0), (4, 0), (0, 3)]), 6.0, hint, {double: 12})
    sign = "The area has no sign: take the absolute value."
    expect(answer([(0, 3), (4, 0), (0, 0)]), 6.0, hint, {sign: -6})
    hint = "The square (1, 1), (3, 1), (3, 3), (1, 3) has area 4: it has four edges, not three."
    expect(answer([(1, 1), (3, 1), (3, 3), (1, 3)]), 4.0, hint)


@exercise
def check_carry_over(answer: Answer) -> None:
    shift = torch.tensor([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]]).numpy()
    hint = "A shift by (5, 7) takes the box (0, 0, 2, 1) to (5, 7), (7, 7), (7, 8), (5, 8)."
    mistakes = {
        "Go clockwise: top left, top right, bottom right, bottom left.": [
            [5, 7], [5, 8], [7, 8], [7, 7],
        ],
        "That is row by row. Go around the box.": [[5, 7], [7, 7], [5, 8], [7, 8]],
        "Return x and y of each corner; yours has a third number.": [
            [5, 7, 1], [7, 7, 1], [7, 8, 1], [5, 8, 1],
        ],
        "The array is (4, 2): a row for each corner.": [[5, 7, 7, 5], [7, 7, 8, 8]],
    }  # fmt: skip
    expect(answer(shift, (0, 0, 2, 1)), [[5, 7], [7, 7], [7, 8], [5, 8]], hint, mistakes)
    tilt = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]).numpy()
    hint = "The camera tilts: divide by the third number, which is 2 for the corner (2, 1)."
    expect(answer(tilt, (0, 0, 2, 1)), [[0, 0], [1, 0], [1, 0.5], [0, 1]], hint)


# Chapter: Baselines
@exercise
def check_generalised_mean(answer: Answer) -> None:
    maps = random_tensor(3, 4, 5)
    expect(answer(maps, 1), maps.mean((1, 2)), "For p = 1 GeM is the mean over places.")
    wanted = gem(maps[None], 3)[0]
    mistakes = {
        "The root is missing: raise the mean to 1 / p.": wanted**3,
        "Take the mean over places before the root, not the sum.": wanted * 20 ** (1 / 3),
        "The root comes after the mean; yours cancels the power.": maps.mean((1, 2)),
    }
    expect(answer(maps, 3), wanted, "Power, mean over places, root; per channel.", mistakes)


@exercise
def check_clear_matches(answer: Answer) -> None:
    near_twice = [0.8, 0.3, 0.31], [0.1, 0.11, 0.5]
    distances = torch.tensor([[0.2, 0.9, 0.7], *near_twice, [5.0, 1.0, 3.0]])
    hint = "Of four rows the first and last have one near partner, the others two: compare both."
    mistakes = {
        "That is a limit on the distance itself. Compare with the second smallest.": 3,
        "Return how many rows pass, not which.": [True, False, False, True],
    }
    expect(answer(distances, 0.8), 2, hint, mistakes)
    expect(answer(distances, 0.3), 1, "A smaller ratio is stricter: only row 0 is left at 0.3.")


@exercise
def check_expanded_query(answer: Answer) -> None:
    database, q = F.normalize(random_tensor(9, 4), dim=1), F.normalize(random_tensor(4), dim=0)
    order = (database @ q).argsort(descending=True)
    nearest, farthest = database[order[:3]], database[order[-3:]]
    unit = partial(F.normalize, dim=0)
    wanted = unit(q + nearest.sum(0))
    hint = "Add the query and its n nearest, then divide by the length."
    mistakes = {
        "The query itself is missing from the mean.": unit(nearest.sum(0)),
        "Make the mean a unit vector again.": (q + nearest.sum(0)) / 4,
        "That is the sum. Make it a unit vector again.": q + nearest.sum(0),
        "Those are the farthest. The nearest have the largest product.": unit(q + farthest.sum(0)),
    }
    expect(answer(q, database, 3), wanted, hint, mistakes)


@exercise
def check_largest_places(answer: Answer) -> None:
    maps, q = random_tensor(6, 3, 4), F.normalize(random_tensor(6), dim=0)
    maps[:2, 1, 2] = 2.0  # two channels have their maximum at one place
    parts = F.normalize(mac(maps[None])[0], dim=0) * q
    at = maps.flatten(1).argmax(1)
    wanted, single = torch.zeros(2, 3, 4)
    wanted.view(12).index_add_(0, at, parts)
    single.view(12)[at] = parts
    longer = wanted * mac(maps[None]).norm()
    mistakes = {
        "Two channels have their maximum at one place: add what both contribute.": single,
        "The places add up to the product. Divide by the length of MAC.": longer,
        "That is what each channel adds. Put it where the channel is largest.": parts,
        "Give the map the shape (rows, columns).": wanted.view(12),
    }
    hint = "A channel counts at the place of its maximum, and nowhere else."
    expect(answer(maps, q), wanted, hint, mistakes)
