"""Predictions and exercises of the chapters: guesses to reveal, answers to check.

A chapter holds each exercise in three cells next to each other: the task, with its grade (★☆☆ to
★★★) in the heading; the starter, which ends in a call of `check`; and the solution with a typical
mistake, folded away in the page. Only the checks are here, so that a chapter gives nothing away.
``tests/test_exercises.py`` takes all of it out of the chapters and runs it.

Chapter: all.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.attention import attend, coordinates
from indiret.conv4d import Conv4d
from indiret.correlation import PatchProducts
from indiret.datasets import Query
from indiret.descriptors import gem, mac
from indiret.evaluation import average_precision, folds
from indiret.evidence import Evidence
from indiret.feedback import refine_query, weight_tensor
from indiret.localisation import pixel_auc
from indiret.networks import CONFIGS, build_network, parameter_count
from indiret.patches import patch_length
from indiret.statistics import sign_flip_test

Answer = Any  # a number or a function, as the exercise asks for


@dataclass(frozen=True)
class Guess:
    """A question with its answer folded away, in a live notebook as in a page without a server."""

    question: str
    answer: object

    def __repr__(self) -> str:
        return f"{self.question} (Guess first; the answer is in .answer.)"

    def _repr_html_(self) -> str:
        question, answer = (html.escape(str(text)) for text in (self.question, self.answer))
        return (
            f'<details class="guess"><summary><strong>Guess first:</strong> {question}</summary>'
            f"<p>{answer}</p></details>"
        )


def guess(question: str, answer: object) -> Guess:
    """Ask for a prediction; the answer opens when the question is clicked.

    Parameters
    ----------
    question
        Plain text.
    answer
        Anything with a text of its own; best a value that the cell computes.

    Examples
    --------
    >>> guess("How many patches?", 14 * 14)
    How many patches? (Guess first; the answer is in .answer.)
    """
    return Guess(question, answer)


class Hint(Exception):
    """What is wrong with an answer, and where to look."""


@dataclass(frozen=True)
class Verdict:
    """What `check` found; it prints itself."""

    right: bool
    hint: str = ""

    def __repr__(self) -> str:
        return "✓ Right." if self.right else f"✗ Not yet. {self.hint}"


CHECKS: dict[str, Callable[[Answer], None]] = {}


def exercise(judge: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Register a check under its function's name; it raises a `Hint` for a wrong answer."""
    if judge.__name__ in CHECKS:
        raise ValueError(f"an exercise named {judge.__name__!r} is registered already.")
    CHECKS[judge.__name__] = judge
    return judge


def check(name: str, answer: Answer) -> Verdict:
    """Check an answer to a chapter's exercise.

    Parameters
    ----------
    name
        The exercise's, as its starter gives it.
    answer
        What the task asks for: a number, or a function, which is tried on numbers drawn by a fixed
        seed.

    Returns
    -------
    Verdict
        Right, or a hint.

    Raises
    ------
    ValueError
        If there is no such exercise.

    Examples
    --------
    >>> check("tensor_entries", 14 * 14 * 10 * 10)
    ✗ Not yet. One view has 14 · 14 · 10 · 10 entries; how many views are there? (Yours: 19600.)
    >>> check("tensor_entries", 6 * 14 * 14 * 10 * 10)
    ✓ Right.
    """
    if name not in CHECKS:
        raise ValueError(f"there is no exercise {name!r}; choose from {', '.join(CHECKS)}.")
    try:
        CHECKS[name](answer)
    except Hint as hint:
        return Verdict(False, str(hint))
    except Exception as error:  # whatever the reader's code may raise
        return Verdict(False, f"Your code raised {type(error).__name__}: {error}")
    return Verdict(True)


def expect(found: Answer, wanted: object, hint: str) -> None:
    """Raise the hint unless both are the same numbers, of one shape, up to rounding."""
    if found is None or found is ...:
        raise Hint("There is no answer yet: replace the `...`.")
    have, want = (torch.as_tensor(value).to(torch.float64) for value in (found, wanted))
    if have.shape != want.shape:
        raise Hint(f"{hint} (Your shape is {tuple(have.shape)}, not {tuple(want.shape)}.)")
    if not torch.allclose(have, want, rtol=1e-4, atol=1e-5):
        raise Hint(f"{hint} (Yours: {found}.)" if have.numel() < 5 else hint)


def _drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


# Quick tour


@exercise
def right_by_lot(answer: Answer) -> None:
    hint = (
        "Each place is right with the chance positives / photos; count the right ones of all `top`."
    )
    expect(answer(100, 20, 5), 1.0, hint)
    expect(answer(60, 9, 10), 1.5, hint)


@exercise
def countable(answer: Answer) -> None:
    names, junk = ["c", "own", "a", "blurred", "b"], {"blurred", "dark"}
    found = answer(names, "own", junk)
    if found is ...:
        expect(found, 0, "")
    if "blurred" in found or "own" in found:
        raise Hint("The query's own photo and every junk photo are left out; look for both.")
    if list(found) != ["c", "a", "b"]:
        raise Hint(f"All others stay, and in the list's order. (Yours: {found}.)")


@exercise
def warmer_inside(answer: Answer) -> None:
    warm, other = _drawn(2, 6, 7)
    inside = other > 0.4
    hint = "Compare every place inside with every place outside: won 1, tied a half, lost 0."
    for values in (warm, torch.ones(6, 7), warm.round()):
        wanted = pixel_auc(values.numpy(), inside.numpy())
        expect(answer(values, inside), wanted, hint)


# Patches and metrics


@exercise
def patch_values(answer: Answer) -> None:
    wanted = patch_length(16, "pyramid")
    expect(answer, wanted, "Count pixels, colours and windows: a pyramid has more than one.")


@exercise
def patch_at(answer: Answer) -> None:
    expect(answer(0, 0, (2, 4), (100, 200)), (0, 0), "The first pixel is in patch (0, 0).")
    hint = "Pixel (x, y) = (199, 10) of a picture 100 high and 200 wide is in row 0, column 3."
    expect(answer(199, 10, (2, 4), (100, 200)), (0, 3), hint)
    expect(answer(30, 70, (14, 10), (100, 50)), (9, 6), "Multiply before you divide by the side.")


@exercise
def zncc(answer: Answer) -> None:
    p, q = _drawn(2, 192)
    expect(answer(p, p), 1.0, "A patch is like itself: zncc(p, p) is 1.")
    expect(answer(p, q + 0.5), answer(p, q), "A brighter q should change nothing: mind the means.")
    expect(answer(p, 3 * q), answer(p, q), "A q of more contrast should change nothing.")
    products = PatchProducts(p[None, None], q[None, None])
    if abs(float(answer(p, q)) - float(products.zncc)) > 0.01:  # the library's floor for flat ones
        raise Hint("It differs from the library's on two drawn patches.")


@exercise
def chi_square(answer: Answer) -> None:
    p, q = _drawn(2, 5, 12), _drawn(1, 3, 12)
    far = (p[:, :, None] - q[:, None]).square() / (p[:, :, None] + q[:, None])
    hint = "Take −½ Σ (p − q)² / (p + q) for all pairs; larger has to mean more alike."
    expect(answer(PatchProducts(p, q)), -far.sum(-1) / 2, hint)


# The 4-D correlation tensor


@exercise
def tensor_entries(answer: Answer) -> None:
    hint = "One view has 14 · 14 · 10 · 10 entries; how many views are there?"
    expect(answer, 6 * 14 * 14 * 10 * 10, hint)


@exercise
def best_target(answer: Answer) -> None:
    R = _drawn(6, 5, 3, 4)
    R[4, 1, 2, 3], R[2, 3, 0, 1] = 2, 3
    expect(answer(R, 2, 3), (4, 1), "The target comes first: the query patch fixes R[:, :, k, l].")
    expect(answer(R, 0, 1), (2, 3), "Row and column: divide the flat place by the columns.")


@exercise
def mutual_pairs(answer: Answer) -> None:
    R = torch.zeros(1, 3, 1, 3)
    R[0, 0, 0, 0], R[0, 1, 0, 1], R[0, 2, 0, 1], R[0, 2, 0, 2] = 0.9, 0.5, 0.8, 0.3
    expect(
        answer(R), 2, "Both have to choose each other: a best match in one direction is no pair."
    )
    R = _drawn(4, 5, 3, 6)
    flat = R.flatten(2).flatten(0, 1)
    both = (flat == flat.amax(0, keepdim=True)) & (flat == flat.amax(1, keepdim=True))
    expect(answer(R), both.sum(), "Compare with the maximum over (i, j) and with that over (k, l).")


@exercise
def plane_mean(answer: Answer) -> None:
    R = _drawn(6, 6, 4, 4)
    inside = [R[k + 1, l + 2, k, l] for k in range(4) for l in range(4)]
    expect(answer(R, 1, 2), torch.stack(inside).mean(), "Take the mean of R[k + t, l + u, k, l].")
    cut = [R[k - 2, l + 3, k, l] for k in range(2, 4) for l in range(3)]
    hint = "Skip what falls outside the target. A negative index is no error in Python: it wraps."
    expect(answer(R, -2, 3), torch.stack(cut).mean(), hint)


# Convolution in four dimensions


@exercise
def kernel_weights(answer: Answer) -> None:
    hint = "A kernel has 3⁴ taps for every pair of an input and an output channel."
    expect(answer, Conv4d(6, 8, 3, bias=False).weight.numel(), hint)


@exercise
def output_length(answer: Answer) -> None:
    expect(answer(14, 3, 1, 1), 14, "Stride 1 and padding 1 keep a line of 14 as long as it is.")
    for setting in ((14, 3, 2, 1), (7, 3, 2, 1), (10, 5, 3, 0)):
        length, kernel, stride, padding = setting
        wanted = F.conv1d(
            torch.ones(1, 1, length), torch.ones(1, 1, kernel), stride=stride, padding=padding
        ).shape[-1]
        expect(answer(*setting), wanted, f"Count the places of the kernel for {setting}.")


@exercise
def mirror_kernel(answer: Answer) -> None:
    wanted = torch.zeros(3, 3, 3, 3)
    for v in range(3):
        for w in range(3):
            wanted[v, 2 - w, v, w] = 1
    hint = "In a mirror image a step right (w) in the query is a step left (u) in the target."
    expect(answer(), wanted, hint)


@exercise
def conv4d_from_2d(answer: Answer) -> None:
    conv = Conv4d(1, 1, 3, padding=1, bias=False)
    conv.weight.data.copy_(_drawn(3, 3, 3, 3))
    x = _drawn(5, 4, 6, 3)
    wanted = conv(x[None, None]).detach()[0, 0]
    found = answer(x, conv.weight.detach()[0, 0])
    hint = "Tap (t, u) reads the input at row i + t − 1 and column j + u − 1, zeros outside."
    expect(found, wanted, hint)


# A 4-D ResNet learns to match


@exercise
def probability(answer: Answer) -> None:
    logits = 4 * _drawn(5, 2) - 2
    hint = "Divide exp(relevant) by the sum of both; only the difference of the logits counts."
    expect(answer(logits), logits.softmax(1)[:, 1], hint)


@exercise
def loss_of_margins(answer: Answer) -> None:
    margins, labels = 6 * _drawn(8) - 3, torch.tensor([1, 0] * 4)
    expect(answer(torch.zeros(4), labels[:4]), 0.6931472, "Not knowing costs log 2 a pair.")
    logits = torch.stack([torch.zeros(8), margins], dim=1)
    hint = "−log sigmoid(margin) for a match, −log sigmoid(−margin) for none; the mean over pairs."
    expect(answer(margins, labels), F.cross_entropy(logits, labels), hint)


@exercise
def swap(answer: Answer) -> None:
    tensor = _drawn(2, 3, 4, 5, 6, 7)
    hint = "swapped[b, v, k, l, i, j] = T[b, v, i, j, k, l]: permute the axes, do not reshape."
    expect(answer(tensor), tensor.permute(0, 1, 4, 5, 2, 3), hint)


# From Grad-CAM to evidence


@exercise
def evidence_maps(answer: Answer) -> None:
    M = _drawn(3, 4, 2, 5)
    target, query = answer(M)
    expect(target, M.sum((2, 3)), "P is a map over the target: sum over the query's k, l.")
    expect(query, M.sum((0, 1)), "Q is a map over the query: sum over the target's i, j.")


@exercise
def grad_cam(answer: Answer) -> None:
    feature, gradient = _drawn(2, 3, 4, 5) - 0.5
    alpha = gradient.mean((1, 2))
    wanted = (alpha[:, None, None] * feature).sum(0).relu()
    expect(answer(feature, gradient), wanted, "First weight and add the channels, then cut at 0.")


@exercise
def total_contribution(answer: Answer) -> None:
    weight, bias = _drawn(20) - 0.5, 0.3

    def judge(x: Tensor) -> Tensor:
        return x @ weight + bias

    x = _drawn(2, 20)[0]
    hint = "Σ gradient · x: for a judge that is linear it is judge(x) − judge(0)."
    expect(answer(judge, x), judge(x) - bias, hint)


# Reproducing the tables


@exercise
def trainings(answer: Answer) -> None:
    expect(answer, 3 * 2 * 10 * 2, "Which of the four variants have weights of their own?")


@exercise
def distinct_views(answer: Answer) -> None:
    expect(answer(7, 1), 1.0, "One draw gives one.")
    expect(answer(2, 2), 1.5, "Two draws from two: half of the time both are the same.")
    for kinds, draws in ((6, 6), (40, 100)):
        chance = 1 - (1 - 1 / kinds) ** draws
        expect(answer(kinds, draws), kinds * chance, "One is missed by a draw with chance 1 − 1/n.")


@exercise
def verdict_of(answer: Answer) -> None:
    for low, high, rises, wanted in (
        (0.1, 0.2, True, "reproduced"),
        (-0.2, -0.1, True, "contradicted"),
        (-0.1, 0.3, True, "open"),
        (-0.2, -0.1, False, "reproduced"),
        (0.1, 0.2, False, "contradicted"),
        (-0.3, 0.1, False, "open"),
    ):
        if (found := answer(low, high, rises)) is None or found is ...:
            raise Hint("There is no answer yet: replace the `...`.")
        if found != wanted:
            raise Hint(f"[{low}, {high}] with rises={rises} is {wanted}. (Yours: {found}.)")


# Ranking and honest evaluation


@exercise
def own_photo_alone(answer: Answer) -> None:
    positives = [f"mill{number}" for number in range(11)]
    wanted = average_precision(positives[:1] + list("abc"), positives)
    expect(answer, wanted, "One recall step of eleven, at precision 1 before and after it.")


@exercise
def ap_by_hand(answer: Answer) -> None:
    expect(answer(["a", "x", "b"], {"a", "b"}, set()), 19 / 24, "The mean of P before and after.")
    expect(answer(["x", "a"], {"a"}, {"x"}), 1.0, "Junk is taken out before ranks are counted.")
    names = [f"photo{number}" for number in range(30)]
    order = [names[at] for at in _drawn(30).argsort().tolist()]
    wanted = average_precision(order[:20], names[::3], names[1::7][:2])
    hint = "A positive that is never ranked still counts in the recall step: 1 / len(positives)."
    expect(answer(order[:20], set(names[::3]), set(names[1::7][:2])), wanted, hint)


@exercise
def leaking_queries(answer: Answer) -> None:
    queries = [Query(f"{name}_{i}", f"{name}{i}", None, name) for name in "abcde" for i in range(3)]
    for by, n in (("landmark", 5), ("query", 4)):
        for fold in folds(queries, by, n):
            known = {query.landmark for query in fold.train}
            wanted = sum(query.landmark in known for query in fold.test)
            hint = f"Folds by {by}: count the queries of the test whose landmark is in training."
            expect(answer(fold), wanted, hint)


@exercise
def sign_flips(answer: Answer) -> None:
    expect(answer([0.1, 0.2, 0.3]), 0.25, "Of 8 ways, all + and all − are as far from 0: 2 / 8.")
    drawn = (_drawn(7) - 0.3).tolist()
    hint = "Count sums as far from 0 as the true one in either direction, among all 2ᴺ."
    expect(answer(drawn), sign_flip_test(drawn), hint)


# Hypersphere attention


@exercise
def har_numbers(answer: Answer) -> None:
    network = build_network(CONFIGS["base"].replace(attention="har"))
    wanted = parameter_count(network) - parameter_count(build_network("base"))
    expect(answer, wanted, "Six for one mask: the centre has four coordinates. How many masks?")


@exercise
def attended(answer: Answer) -> None:
    features, theta = _drawn(2, 3, 4, 4, 5, 5), _drawn(2, 4, 4, 5, 5)
    hint = "Where the mask is 0 the features stay as they are; one mask serves all channels."
    expect(answer(features, theta), attend(features, theta), hint)


@exercise
def brightest(answer: Answer) -> None:
    expect(answer(0.0), 0.0, "With μ = 0 it is a ball, largest in its middle.")
    expect(answer(0.25), 0.5, "Θ is largest where d = μ, and d is the squared distance.")


@exercise
def plane_mask(answer: Answer) -> None:
    places = coordinates((4, 5, 3, 6))
    A, t = torch.tensor([[0.8, 0.1], [-0.2, 0.6]]), torch.tensor([0.1, -0.3])
    off = places[..., :2] - (torch.einsum("pq,...q->...p", A, places[..., 2:]) + t)
    wanted = torch.exp(-off.square().sum(-1) / (2 * 0.3**2))
    hint = "Send (k, l) = places[..., 2:] through A and t, and measure from there to (i, j)."
    expect(answer(places, A, t, 0.3), wanted, hint)


# Indicative feedback


@exercise
def even_votes(answer: Answer) -> None:
    maps = _drawn(3, 4, 5) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    wanted = refine_query([Evidence(0.0, one[None, None]) for one in maps], normalise=True)
    expect(answer(maps), wanted, "Divide each map by its own sum before you take the mean.")


@exercise
def weighed(answer: Answer) -> None:
    tensor, w = _drawn(1, 2, 3, 3, 4, 5), _drawn(4, 5)
    expect(answer(tensor, w, 0.0), tensor, "λ = 0 leaves the tensor as it is.")
    wanted = weight_tensor(tensor, w, 0.7)
    expect(answer(tensor, w, 0.7), wanted, "λ = 1 multiplies by w; in between, mix the two.")


@exercise
def evidence_cells(answer: Answer) -> None:
    P = torch.zeros(6, 8)
    P[1, 2], P[4, 5], P[5, 7] = 10, 4, 1
    hint = "The level is a share of the maximum; bottom and right are one past the last cell."
    expect(answer(P, 0.3), (1, 2, 5, 6), hint)
    expect(answer(P / 100, 0.3), (1, 2, 5, 6), "The same map, a hundred times fainter: same box.")


# Your own photos


@exercise
def box_overlap(answer: Answer) -> None:
    hint = "Both hold 1 of the 7 pixels that at least one of (0, 0, 2, 2) and (1, 1, 3, 3) holds."
    expect(answer((0, 0, 2, 2), (1, 1, 3, 3)), 1 / 7, hint)
    hint = "Boxes that lie apart have nothing in common: no width or height may fall below 0."
    expect(answer((0, 0, 2, 2), (5, 6, 9, 9)), 0.0, hint)


@exercise
def outline_area(answer: Answer) -> None:
    hint = "The triangle (0, 0), (4, 0), (0, 3) has area 6, either way round."
    expect(answer([(0, 0), (4, 0), (0, 3)]), 6.0, hint)
    expect(answer([(0, 3), (4, 0), (0, 0)]), 6.0, hint)
    hint = "The square (1, 1), (3, 1), (3, 3), (1, 3) has area 4: it has four edges, not three."
    expect(answer([(1, 1), (3, 1), (3, 3), (1, 3)]), 4.0, hint)


@exercise
def carry_over(answer: Answer) -> None:
    shift = torch.tensor([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]]).numpy()
    hint = "A shift by (5, 7) takes the box (0, 0, 2, 1) to (5, 7), (7, 7), (7, 8), (5, 8)."
    expect(answer(shift, (0, 0, 2, 1)), [[5, 7], [7, 7], [7, 8], [5, 8]], hint)
    tilt = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]).numpy()
    hint = "The camera tilts: divide by the third number, which is 2 for the corner (2, 1)."
    expect(answer(tilt, (0, 0, 2, 1)), [[0, 0], [1, 0], [1, 0.5], [0, 1]], hint)


# Baselines


@exercise
def generalised_mean(answer: Answer) -> None:
    maps = _drawn(3, 4, 5)
    expect(answer(maps, 1), maps.mean((1, 2)), "For p = 1 GeM is the mean over places.")
    expect(answer(maps, 3), gem(maps[None], 3)[0], "Power, mean over places, root; per channel.")


@exercise
def clear_matches(answer: Answer) -> None:
    near_twice = [0.8, 0.3, 0.31], [0.1, 0.11, 0.5]
    distances = torch.tensor([[0.2, 0.9, 0.7], *near_twice, [5.0, 1.0, 3.0]])
    hint = "Of four rows the first and last have one near partner, the others two: compare both."
    expect(answer(distances, 0.8), 2, hint)
    expect(answer(distances, 0.3), 1, "A smaller ratio is stricter: only row 0 is left at 0.3.")


@exercise
def expanded_query(answer: Answer) -> None:
    database, q = F.normalize(_drawn(9, 4), dim=1), F.normalize(_drawn(4), dim=0)
    nearest = database[(database @ q).argsort(descending=True)[:3]]
    wanted = F.normalize(q + nearest.sum(0), dim=0)
    expect(
        answer(q, database, 3), wanted, "Add the query and its n nearest, then divide by length."
    )


@exercise
def largest_places(answer: Answer) -> None:
    maps, q = _drawn(6, 3, 4), F.normalize(_drawn(6), dim=0)
    found = answer(maps, q)
    if isinstance(found, Tensor):
        cosine = F.normalize(mac(maps[None])[0], dim=0) @ q
        expect(found.sum(), cosine, "The places should add up to the cosine: mind the length.")
    wanted = torch.zeros(3, 4)
    for channel, value in zip(maps, q / mac(maps[None])[0].norm(), strict=True):
        wanted[tuple((channel == channel.max()).nonzero()[0])] += channel.max() * value
    expect(found, wanted, "A channel counts at the place of its maximum, and nowhere else.")
