"""Checks of the exercises whose answer is a picture or an experiment, one in each chapter.

Chapter: all.
"""

import math
from statistics import pstdev, stdev

import torch
from torch.nn import functional as F

from indiret.attention import coordinates
from indiret.baselines.pooling import gem
from indiret.evaluation import average_precision
from indiret.exercises.checks import Answer, exercise, expect, random_tensor


# Chapter: Quick tour
@exercise
def spotlight(answer: Answer) -> None:
    picture, warm = random_tensor(6, 8, 3), random_tensor(3, 2)
    warm[1, 1] = 1.5
    dim, large = picture / 3, warm.repeat_interleave(2, 0).repeat_interleave(4, 1)[..., None]
    bright, fixed = large >= 0.75, torch.where(large >= 0.5, picture, dim)
    inverse = torch.where(bright, dim, picture)
    mistakes = {
        "That dims the evidence. Dim what lies below half of the maximum.": inverse,
        "What lies below half of the maximum is dimmed to a third, not to black.": picture * bright,
        "The level is half of the map's maximum, not 0.5.": fixed,
    }
    hint = "Enlarge the map to the picture: each cell covers 2 × 4 pixels of this one."
    expect(answer(picture, warm), torch.where(bright, picture, dim), hint, mistakes)


# Chapter: Patches and metrics
@exercise
def haze_curve(answer: Answer) -> None:
    p, amounts = random_tensor(48), [0.0, 0.25, 0.5, 0.75]

    def cosine(a, b):
        return F.cosine_similarity(a, b, dim=0)

    wanted = [cosine(p, (1 - a) * p + a) for a in amounts]
    exchanged = [cosine(p, a * p + 1 - a) for a in amounts]
    mistakes = {
        "Haze also darkens the patch: multiply it by 1 − a.": [cosine(p, p + a) for a in amounts],
        "a and 1 − a are exchanged: with a = 0 there is no haze.": exchanged,
        "Compare with the clear patch; only one of the two is in the haze.": [1.0] * 4,
    }
    hint = "For each amount a compare p with (1 − a) p + a, and collect the similarities."
    expect(answer(cosine, p, amounts), wanted, hint, mistakes)


# Chapter: The 4-D correlation tensor
@exercise
def hubs(answer: Answer) -> None:
    R = random_tensor(4, 3, 5, 6)
    flat = R.reshape(12, 30)
    wanted = torch.bincount(flat.argmax(0), minlength=12).view(4, 3)
    of_query = torch.bincount(flat.argmax(1), minlength=30).view(5, 6)
    mistakes = {
        "That counts how often a query patch is chosen. Count the target's.": of_query,
        "Rows and columns are exchanged: the picture is (m, n).": wanted.T,
        "Count every choice: a target patch may be chosen more than once.": (wanted > 0),
        "That is the picture in one row. Give it the target's shape.": wanted.flatten(),
    }
    hint = "Each query patch adds 1 at the target patch that it is most similar to."
    expect(answer(R), wanted, hint, mistakes)


# Chapter: Convolution in four dimensions
@exercise
def reached(answer: Answer) -> None:
    full, step = torch.ones(3, 3, 3, 3), torch.eye(3)
    diagonal = torch.einsum("tv,uw->tuvw", step, step)
    product = "Two ways may lead to one entry: count entries, not ways."
    hint = "Put one 1 into zeros, convolve again and again, and count what is not 0."
    expect(answer(full, 1), 81, "After one step the kernel itself is seen: all its taps.")
    expect(answer(full, 2), 625, hint, {product: 81**2, "Convolve what came out again.": 81})
    expect(answer(diagonal, 3), 49, hint, {product: 9**3, "Convolve what came out again.": 9})
    pivot = torch.zeros(3, 3, 3, 3)
    pivot[1, 1], pivot[:, :, 1, 1] = 1, 1
    expect(answer(pivot, 2), 9 * 9 + 2 * 16, hint, {product: 17**2})


# Chapter: A 4-D ResNet learns to match
@exercise
def loss_curve(answer: Answer) -> None:
    x, labels = random_tensor(20, 3) - 0.5, (random_tensor(20) > 0.5).long()

    def run(rate, keep=0.0):
        w, total, losses = torch.zeros(3), torch.zeros(3), []
        for _ in range(6):
            margins = x @ w
            losses.append(F.softplus(-margins * (2 * labels - 1)).mean())
            total = keep * total + (margins.sigmoid() - labels) @ x / len(x)
            w = w - rate * total
        return losses

    mistakes = {
        "The loss rises: go against the gradient.": run(-0.5),
        "The gradients of earlier steps are added up. Set them to zero.": run(0.5, keep=1.0),
        "The weights never change: use the result of each step in the next.": run(0.0),
        "Note the loss before each step; yours begins after the first.": [*run(0.5)[1:]],
    }
    hint = "Start at zero weights; note the loss, then take one step against its gradient."
    expect(answer(x, labels, 6, 0.5), run(0.5), hint, mistakes)


# Chapter: From Grad-CAM to evidence
@exercise
def deletion_curve(answer: Answer) -> None:
    x, warm, weight = random_tensor(3, 7).unbind()

    def judge(values):
        return values.square() @ weight

    def run(order):
        kept = [torch.ones(7).index_fill(0, order[:n], 0) for n in range(8)]
        return [judge(x * one) for one in kept]

    down = warm.argsort(descending=True)
    alone = [judge(x), *(judge(x.index_fill(0, one, 0)) for one in down)]
    mistakes = {
        "The warmest entry goes first; yours begins with the coldest.": run(down.flip(0)),
        "What was deleted stays deleted; yours deletes one entry at a time.": alone,
        "The curve begins with the judge of x itself, before any entry goes.": run(down)[1:],
        "Delete by the map, not by the entries of x.": run(x.argsort(descending=True)),
    }
    hint = "Set one entry after the other to 0, the warmest first, and ask the judge each time."
    expect(answer(judge, x, warm), run(down), hint, mistakes)


# Chapter: Hypersphere attention
@exercise
def mask_picture(answer: Answer) -> None:
    places, c = coordinates((6, 5, 3, 4)), torch.tensor([0.2, -0.1, 0.0, 0.1])
    d = (places - c).square().sum(-1)[:, :, 1, 2]

    def theta(square):
        return torch.exp(-square / (2 * 0.2**2))

    mistakes = {
        "d is the squared distance; yours is the distance.": theta((d.sqrt() - 0.3) ** 2),
        "That is a ball: take μ away from d.": theta(d**2),
        "The difference d − μ is squared.": theta(d - 0.3),
    }
    hint = "Take the slice at (k, l), and Θ = exp(−(d − μ)² / 2σ²) at each of its places."
    expect(answer(places, c, 0.3, 0.2, 1, 2), theta((d - 0.3) ** 2), hint, mistakes)


# Chapter: Indicative feedback
@exercise
def after_rounds(answer: Answer) -> None:
    Q = random_tensor(4, 5)
    one, exchanged = 0.4 + 0.6 * Q, (0.6 + 0.4 * Q) ** 3
    w = one**3
    mistakes = {
        "Divide by the maximum, so that the largest weight is 1.": w,
        "That is one round. Each round weights what the last one left.": one / one.max(),
        "λ and 1 − λ are exchanged.": exchanged / exchanged.max(),
        "Divide by the maximum, not by the sum.": w / w.sum(),
    }
    hint = "Start with ones; multiply by (1 − λ) + λQ in each round; end with the maximum 1."
    expect(answer(Q, 0.6, 3), w / w.max(), hint, mistakes)


# Chapter: Ranking and honest evaluation
@exercise
def ap_by_rank(answer: Answer) -> None:
    names = [f"photo{number}" for number in range(8)]
    wanted = [average_precision(names, {right}) for right in names]
    after = [1 / rank for rank in range(1, 9)]
    mistakes = {
        "That is the reciprocal rank. AP takes the mean of precision before and after.": after,
        "Before the first rank precision is 1, so that rank 1 gives AP 1.": [p / 2 for p in after],
    }
    hint = "One right answer, at rank 1, then at rank 2 and so on: return the AP of each list."
    expect(answer(8), wanted, hint, mistakes)


# Chapter: Baselines
@exercise
def cosine_by_power(answer: Answer) -> None:
    maps, other = random_tensor(2, 4, 3, 5)
    pairs = [(gem(maps[None], p)[0], gem(other[None], p)[0]) for p in (1, 3, 9)]
    wanted = [F.cosine_similarity(a, b, dim=0) for a, b in pairs]
    powers = [(a**p, b**p) for (a, b), p in zip(pairs, (1, 3, 9), strict=True)]
    mistakes = {
        "That is the product. Divide by both lengths.": [a @ b for a, b in pairs],
        "The root 1 / p is missing.": [F.cosine_similarity(a, b, dim=0) for a, b in powers],
        "The power never changes: use each p.": [wanted[0]] * 3,
    }
    hint = "For each p pool both maps with GeM, and return the cosine of the two descriptors."
    expect(answer(maps, other, [1, 3, 9]), wanted, hint, mistakes)


# Chapter: Reproducing the tables
@exercise
def interval_widths(answer: Answer) -> None:
    values = (random_tensor(9) - 0.4).tolist()
    sizes = range(2, 10)

    def widths(deviation, divide):
        return [2 * 1.96 * deviation(values[:n]) / divide(n) for n in sizes]

    wanted = widths(stdev, math.sqrt)
    mistakes = {
        "That is half the width: from the mean to one end.": [w / 2 for w in wanted],
        "That is the spread of single values. Divide by √n.": widths(stdev, lambda n: 1),
        "The error of a mean falls with √n, not with n.": widths(stdev, lambda n: n),
        "Estimate the deviation from the sample: divide by n − 1 (`statistics.stdev`).": (
            widths(pstdev, math.sqrt)
        ),
    }
    hint = "For n = 2 to N: 2 · 1.96 · s / √n of the first n values, s with n − 1."
    expect(answer(values), wanted, hint, mistakes)


# Chapter: Your own photos
@exercise
def agreement_picture(answer: Answer) -> None:
    boxes = [(1, 0, 4, 3), (2, 1, 6, 3), (2, 2, 3, 4)]
    counts, turned = torch.zeros(2, 4, 6)
    for x1, y1, x2, y2 in boxes:
        counts[y1:y2, x1:x2] += 1
        turned[x1:x2, y1:y2] += 1
    mistakes = {
        "Rows are y and columns x: index the picture [y1:y2, x1:x2].": turned,
        "Count all boxes that hold a pixel; yours only says whether one does.": counts > 0,
        "That is the share. Return the count.": counts / 3,
    }
    hint = "A pixel at row y and column x lies in a box if x1 ≤ x < x2 and y1 ≤ y < y2."
    expect(answer(boxes, 4, 6), counts, hint, mistakes)


# Chapter: Sphere or plane?
@exercise
def vote_picture(answer: Answer) -> None:
    R = random_tensor(6, 7, 3, 4)
    parts = torch.stack([R[k : k + 4, l : l + 4, k, l] for k in range(3) for l in range(4)])
    still = R[:4, :4].mean((2, 3))
    mistakes = {
        "That is the sum. Divide by how many patches the template has.": parts.sum(0),
        "That is the best response. A vote is the mean along the plane.": parts.amax(0),
        "All patches vote for the same shift: the patch (k, l) lands at (k, l) + t.": still,
    }
    hint = "Entry t of the picture is the mean of responses[k + t₁, l + t₂, k, l]."
    expect(answer(R), parts.mean(0), hint, mistakes)


# Chapter: From pairs to collections
@exercise
def found_by_flips(answer: Answer) -> None:
    asked, kept = ((random_tensor(40, n) * 2).long() for n in (12, 13))
    kept = torch.where(random_tensor(40, 12) > 0.3, asked, kept[:, :12])
    places = 2 ** torch.arange(12)
    words = [(bits * places).sum(1).tolist() for bits in (asked, kept)]
    apart = [(a ^ b).bit_count() for a, b in zip(*words, strict=True)]
    wanted = [sum(d <= flips for d in apart) / 40 for flips in range(6)]
    exactly = [apart.count(flips) / 40 for flips in range(6)]
    mistakes = {
        "Exactly so many flips; a query also finds words with fewer.": exactly,
        "Those are counts. Divide by how many pairs there are.": [40 * w for w in wanted],
        "Begin with no flip at all.": wanted[1:],
        "`most` flips count, too: the list has most + 1 entries.": wanted[:-1],
    }
    hint = "Share of pairs whose words differ in at most 0, 1, …, `most` digits."
    expect(answer(*words, 5), wanted, hint, mistakes)
