"""Checks of the chapters on the method, from patches to indicative feedback.

Chapters: *Patches and metrics* to *Indicative feedback*.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.attention import attend, coordinates
from indiret.conv4d import Conv4d
from indiret.evidence import Evidence
from indiret.exercises.checks import Answer, exercise, expect, expect_parts, random_tensor, without
from indiret.feedback import refine_query, weight_tensor
from indiret.metrics import PatchProducts
from indiret.network import CONFIGS, build_network, parameter_count
from indiret.patches import patch_length


# Chapter: Patches and metrics
@exercise
def check_patch_values(answer: Answer) -> None:
    hint = "Count pixels, colours and windows: a pyramid has more than one."
    window, pixels = 16 * 16 * 3, 16 * 16
    mistakes = {
        "That is one window. A pyramid has two, and keeps both.": window,
        "Those are pixels. Each has three colours.": pixels,
        "Two windows, but each pixel has three colours.": 2 * pixels,
    }
    expect(answer, patch_length(16, "pyramid"), hint, mistakes)


@exercise
def check_patch_at(answer: Answer) -> None:
    expect(answer(0, 0, (2, 4), (100, 200)), (0, 0), "The first pixel is in patch (0, 0).")
    hint = "Pixel (x, y) = (199, 10) of a picture 100 high and 200 wide is in row 0, column 3."
    swapped = "Rows belong to y and the height, columns to x and the width; return the row first."
    mistakes = {
        swapped: (3, 0),
        "Each side is divided by its own length: y by the height, x by the width.": (0, 7),
        "Row and column are whole numbers: divide with //.": (0.2, 3.98),
    }
    expect(answer(199, 10, (2, 4), (100, 200)), (0, 3), hint, mistakes)
    expect(answer(30, 70, (14, 10), (100, 50)), (9, 6), "Multiply before you divide by the side.")


@exercise
def check_zncc(answer: Answer) -> None:
    p, q = random_tensor(2, 192)
    mistakes = {
        "Divide by both norms.": (p - p.mean()).square().sum(),
        "Divide by the norms, not by their squares.": 1 / (p - p.mean()).square().sum(),
        "Divide by both norms, not by one.": (p - p.mean()).norm(),
    }
    expect(answer(p, p), 1.0, "A patch is like itself: zncc(p, p) is 1.", mistakes)
    expect(answer(p, q + 0.5), answer(p, q), "A brighter q should change nothing: mind the means.")
    expect(answer(p, 3 * q), answer(p, q), "A q of more contrast should change nothing.")
    wanted = torch.corrcoef(torch.stack([p, q]))[0, 1]
    expect(answer(p, q), wanted, "It differs from the correlation of two random patches.")


@exercise
def check_chi_square(answer: Answer) -> None:
    p, q = random_tensor(2, 5, 12), random_tensor(2, 3, 12)
    far = (p[:, :, None] - q[:, None]).square() / (p[:, :, None] + q[:, None])
    distance = far.sum(-1) / 2
    hint = "Take −½ Σ (p − q)² / (p + q) for all pairs; larger has to mean more alike."
    mistakes = {
        "That is a distance. A metric is a similarity here: larger means more alike.": distance,
        "The factor ½ is missing.": -2 * distance,
        "Add over the D values of a patch; yours is their mean.": -far.mean(-1) / 2,
    }
    expect(answer(PatchProducts(p, q)), -distance, hint, mistakes)


# Chapter: The 4-D correlation tensor
@exercise
def check_tensor_entries(answer: Answer) -> None:
    hint = "One view has 14 · 14 · 10 · 10 entries; how many views are there?"
    mistakes = {
        "Six views, but each compares all 14 · 14 patches with all 10 · 10.": 6 * (14**2 + 10**2),
        "Target and query have grids of their own: 14 × 14 and 10 × 10.": 6 * 14**4,
    }
    expect(answer, 6 * 14 * 14 * 10 * 10, hint, mistakes)


@exercise
def check_best_target(answer: Answer) -> None:
    R = random_tensor(6, 5, 3, 4)
    R[4, 1, 2, 3], R[2, 3, 0, 1] = 2, 3
    mistakes = {
        "That is the place in the flattened slice. Return row and column.": 4 * 5 + 1,
        "Row first, then column; yours come the other way round.": (1, 4),
        "Divide by the number of columns, 5 here, not of rows.": divmod(4 * 5 + 1, 6),
    }
    hint = "The target comes first: the query patch fixes R[:, :, k, l]."
    expect(answer(R, 2, 3), (4, 1), hint, mistakes)
    expect(answer(R, 0, 1), (2, 3), "Row and column: divide the flat place by the columns.")


@exercise
def check_mutual_pairs(answer: Answer) -> None:
    R = torch.zeros(1, 3, 1, 3)
    R[0, 0, 0, 0], R[0, 1, 0, 1], R[0, 2, 0, 1], R[0, 2, 0, 2] = 0.9, 0.5, 0.8, 0.3
    R[0, 0, 0, 1] = 0.1
    hint = "Both have to choose each other: a best in one direction is no pair."
    mistakes = {
        "That counts a choice of either side. Both have to hold: use &.": 4,
        "That counts one side's choices. The other side has to choose, too.": 3,
        "That counts what is above zero. Compare with the maximum of each direction.": 5,
    }
    expect(answer(R), 2, hint, mistakes)
    R = random_tensor(4, 5, 3, 6)
    flat = R.flatten(2).flatten(0, 1)
    both = (flat == flat.amax(0, keepdim=True)) & (flat == flat.amax(1, keepdim=True))
    expect(answer(R), both.sum(), "Compare with the maximum over (i, j) and with that over (k, l).")


@exercise
def check_plane_mean(answer: Answer) -> None:
    R = random_tensor(6, 6, 4, 4)
    inside = [R[k + 1, l + 2, k, l] for k in range(4) for l in range(4)]
    swapped = torch.stack([R[k + 2, l + 1, k, l] for k in range(4) for l in range(4)]).mean()
    diagonal = torch.stack([R[k + 1, k + 2, k, k] for k in range(4)]).mean()
    mistakes = {
        "That is the sum. Divide by how many entries there are.": torch.stack(inside).sum(),
        "t shifts the rows, u the columns; yours are exchanged.": swapped,
        "All k and l are combined: 16 entries, not only those with k = l.": diagonal,
    }
    hint = "Take the mean of R[k + t, l + u, k, l]."
    expect(answer(R, 1, 2), torch.stack(inside).mean(), hint, mistakes)
    cut = [R[k - 2, l + 3, k, l] for k in range(2, 4) for l in range(3)]
    hint = "Skip what falls outside the target. A negative index is no error in Python: it wraps."
    every = "Divide by how many entries lie inside, not by the number of all query patches."
    wanted = torch.stack(cut).mean()
    expect(answer(R, -2, 3), wanted, hint, {every: wanted * len(cut) / 16})


# Chapter: Convolution in four dimensions
@exercise
def check_kernel_weights(answer: Answer) -> None:
    hint = "A kernel has 3⁴ taps for every pair of an input and an output channel."
    mistakes = {
        "That is one kernel of 81 taps for each output. Each input needs its own.": 8 * 81,
        "That is a kernel of two dimensions: 3² taps. Here it has 3⁴.": 8 * 6 * 9,
        "That is a kernel of three dimensions: 3³ taps. Here it has 3⁴.": 8 * 6 * 27,
        "That counts a bias. The exercise asks for none.": 8 * 6 * 81 + 8,
    }
    expect(answer, Conv4d(6, 8, 3, bias=False).weight.numel(), hint, mistakes)


@exercise
def check_output_length(answer: Answer) -> None:
    hint = "A kernel of 5 fits into 10 cells at the places 0 and 3, if it moves by 3."
    mistakes = {
        "The first place counts, too: add 1.": 1,
        "Places are whole numbers: divide with //.": 8 / 3,
        "That is the last cell at which a kernel may start. Divide by the stride.": 6,
    }
    expect(answer(10, 5, 3, 0), 2, hint, mistakes)
    hint = "Stride 1 and padding 1 keep a line of 14 as long as it is."
    mistakes = {"The padding is added at both ends.": 13, "The padding is missing.": 12}
    expect(answer(14, 3, 1, 1), 14, hint, mistakes)
    for setting, wanted in (((14, 3, 2, 1), 7), ((7, 3, 2, 1), 4)):
        expect(answer(*setting), wanted, f"Count the places of the kernel for {setting}.")


@exercise
def check_mirror_kernel(answer: Answer) -> None:
    kernel = partial(torch.einsum, "tv,uw->tuvw")
    step, mirror = torch.eye(3), torch.eye(3).flip(0)
    hint = "In a mirror image a step right (w) in the query is a step left (u) in the target."
    mistakes = {
        "That is turned by 180°. Left to right changes columns alone.": kernel(mirror, mirror),
        "That is mirrored top to bottom.": kernel(mirror, step),
        "That is the kernel of the chapter: nothing is mirrored.": kernel(step, step),
    }
    expect(answer(), kernel(step, mirror), hint, mistakes)


@exercise
def check_conv4d_from_2d(answer: Answer) -> None:
    conv = Conv4d(1, 1, 3, padding=1, bias=False)
    conv.weight.data.copy_(random_tensor(3, 3, 3, 3))
    x = random_tensor(5, 4, 6, 3)
    wanted = conv(x[None, None]).detach()[0, 0]
    hint = "Tap (t, u) reads the input at row i + t − 1 and column j + u − 1, zeros outside."
    w = random_tensor(3, 3, 3, 3)
    conv.weight.data.copy_(w.flip(0, 1, 2, 3))
    reverse = "That is a convolution with a reversed kernel; networks do not reverse it."
    called = "That calls a convolution of more than two dimensions. Use nothing above F.conv2d."
    with without("conv3d", "conv_transpose3d", "convolution", hint=called):
        found = answer(x, w)
    expect(found, wanted, hint, {reverse: conv(x[None, None]).detach()[0, 0]})


# Chapter: A 4-D ResNet learns to match
@exercise
def check_probability(answer: Answer) -> None:
    logits = 4 * random_tensor(5, 2) - 2
    irrelevant, relevant = logits.softmax(1).T
    hint = "Divide exp(relevant) by the sum of both; only the difference of the logits counts."
    mistakes = {
        "That is the probability of irrelevant. Relevant is the second column.": irrelevant,
        "Return one number for each pair, the second column.": logits.softmax(1),
        "Normalise over the two logits of a pair, not over the pairs.": logits.softmax(0)[:, 1],
        "That is the sigmoid of one logit. The other counts, too: use the margin.": (
            logits[:, 1].sigmoid()
        ),
        "That is the logarithm of the probability.": relevant.log(),
        "That is a logit. Take exp of both, and divide.": logits[:, 1],
        "That is the decision. A probability lies between 0 and 1.": logits.argmax(1),
    }
    expect(answer(logits), relevant, hint, mistakes)


@exercise
def check_loss_of_margins(answer: Answer) -> None:
    margins, labels = 6 * random_tensor(8) - 3, torch.tensor([1, 0] * 4)
    hint = "A margin of 0 costs log 2 a pair, whatever its label."
    mistakes: dict[str, object] = {
        "That is the sum. Take the mean over pairs.": 4 * 0.6931472,
        "A match has the label 1; pairs without a match cost, too.": 0.6931472 / 2,
    }
    expect(answer(torch.zeros(4), labels[:4]), 0.6931472, hint, mistakes)
    logits = torch.stack([torch.zeros(8), margins], dim=1)
    hint = "−log sigmoid(margin) for a match, −log sigmoid(−margin) for none; the mean over pairs."
    losses = F.cross_entropy(logits, labels, reduction="none")
    unsigned = F.softplus(-margins * labels).mean()
    mistakes = {
        "That is the sum. Take the mean over pairs.": losses.sum(),
        "Return the mean, not the loss of each pair.": losses,
        "The labels count the other way round: 1 is a match.": F.cross_entropy(logits, 1 - labels),
        "Pairs without a match cost too: −log sigmoid(−margin).": (losses * labels).mean(),
        "That takes every pair for a match. Use the labels.": F.softplus(-margins).mean(),
        "The labels are 0 and 1. Turn them into the signs −1 and 1.": unsigned,
    }
    expect(answer(margins, labels), losses.mean(), hint, mistakes)


@exercise
def check_swap(answer: Answer) -> None:
    tensor = random_tensor(2, 3, 4, 5, 6, 7)
    reshaped, backwards = tensor.reshape(2, 3, 6, 7, 4, 5), tensor.permute(0, 1, 5, 4, 3, 2)
    hint = "swapped[b, v, k, l, i, j] = T[b, v, i, j, k, l]: permute the axes, do not reshape."
    mistakes = {
        "The shape is right, but reshape keeps the old order. Permute the axes.": reshaped,
        "Rows stay before columns: k, l, i, j. Yours has them reversed.": backwards,
    }
    expect(answer(tensor), tensor.permute(0, 1, 4, 5, 2, 3), hint, mistakes)


# Chapter: From Grad-CAM to evidence
@exercise
def check_evidence_maps(answer: Answer) -> None:
    M = random_tensor(3, 4, 2, 5)
    target, query = expect_parts(answer(M), 2, "Return the two maps: `return P, Q`.")
    swapped = "The maps are exchanged: P, over the target, comes first."
    mean = "Eq. 4 sums; yours is the mean."
    hint = "P is a map over the target: sum over the query's k, l."
    expect(target, M.sum((2, 3)), hint, {swapped: M.sum((0, 1)), mean: M.mean((2, 3))})
    expect(query, M.sum((0, 1)), "Q is a map over the query: sum over the target's i, j.")


@exercise
def check_grad_cam(answer: Answer) -> None:
    feature, gradient = random_tensor(2, 3, 4, 5) - 0.5
    alpha = gradient.mean((1, 2), keepdim=True)
    weighted = alpha * feature
    wanted = weighted.sum(0).relu()
    of_features = feature.mean((1, 2), keepdim=True) * gradient
    mistakes = {
        "The ReLU is missing: the map keeps only what speaks for the match.": weighted.sum(0),
        "The ReLU comes after the sum, so that channels can cancel.": weighted.relu().sum(0),
        "The ReLU belongs to the map, not to the weights.": (alpha.relu() * feature).sum(0),
        "That multiplies place by place. Grad-CAM first averages the gradient of each channel.": (
            (gradient * feature).sum(0).relu()
        ),
        "A weight is the mean of a gradient over places; yours is its sum.": 20 * wanted,
        "Each channel has its own weight: average over rows and columns alone.": (
            (gradient.mean() * feature).sum(0).relu()
        ),
        "The gradient is missing. Its mean is each channel's weight.": feature.sum(0).relu(),
        "Add the weighted channels; yours is their mean.": wanted / 3,
        "The weights come from the gradient; yours come from the features.": (
            of_features.sum(0).relu()
        ),
    }
    hint = "Weight each channel by its mean gradient, add the channels, then cut at 0."
    expect(answer(feature, gradient), wanted, hint, mistakes)


@exercise
def check_total_contribution(answer: Answer) -> None:
    weight, bias = random_tensor(20) - 0.5, 0.3
    x = random_tensor(2, 20)[0]
    hint = "Σ gradient · x: for a judge that is linear it is judge(x) − judge(0)."
    mistakes = {
        "That is judge(x) itself. The constant is no contribution of x.": x @ weight + bias,
        "That is the sum of the gradient. Multiply each entry by x first.": weight.sum(),
        "Those are the contributions one by one. Add them.": x * weight,
    }
    expect(answer(lambda x: x @ weight + bias, x), x @ weight, hint, mistakes)


# Chapter: Hypersphere attention
@exercise
def check_har_numbers(answer: Answer) -> None:
    network = build_network(CONFIGS["base"].replace(attention="har"))
    wanted = parameter_count(network) - parameter_count(build_network("base"))
    mistakes = {
        "That is one mask. Every block has its own.": wanted // 3,
        "The centre alone has four coordinates; radius and width are to be added.": 3 * 4,
        "The centre has four coordinates, one for each axis of the tensor.": 3 * 3,
    }
    hint = "Six for one mask: the centre has four coordinates. How many masks?"
    expect(answer, wanted, hint, mistakes)


@exercise
def check_attended(answer: Answer) -> None:
    features, theta = random_tensor(2, 3, 4, 4, 5, 5), random_tensor(2, 4, 4, 5, 5)
    mask = theta[:, None]
    hint = "Where the mask is 0 the features stay as they are; one mask serves all channels."
    mistakes = {
        "That forbids: where the mask is 0 nothing is left. Add the features again.": (
            features * mask
        ),
        "The mask multiplies the features; yours is added to them.": features + mask,
    }
    expect(answer(features, theta), attend(features, theta), hint, mistakes)


@exercise
def check_brightest(answer: Answer) -> None:
    expect(answer(0.0), 0.0, "With μ = 0 it is a ball, largest in its middle.")
    mistakes = {
        "μ is a squared radius: take its root.": 0.25,
        "Take the root, not the square.": 0.0625,
    }
    hint = "Θ is largest where d = μ, and d is the squared distance."
    expect(answer(0.25), 0.5, hint, mistakes)


@exercise
def check_plane_mask(answer: Answer) -> None:
    places = coordinates((4, 5, 3, 6))
    A, t = torch.tensor([[0.8, 0.1], [-0.2, 0.6]]), torch.tensor([0.1, -0.3])
    off = places[..., :2] - (torch.einsum("pq,...q->...p", A, places[..., 2:]) + t)
    back = places[..., :2] @ A.T + t - places[..., 2:]
    turned = places[..., :2] - (places[..., 2:] @ A + t)

    def mask(away: Tensor) -> Tensor:
        return torch.exp(-away.square().sum(-1) / (2 * 0.3**2))

    wanted = mask(off)
    mistakes = {
        "The matrix is transposed: the rows of A belong to i and j.": mask(turned),
        "Target and query are exchanged: A sends (k, l) to (i, j).": mask(back),
        "The exponent has the squared distance.": torch.exp(-off.norm(dim=-1) / (2 * 0.3**2)),
        "The squared distance is divided by 2σ².": mask(off).square(),
    }
    hint = "Send (k, l) = places[..., 2:] through A and t, and measure from there to (i, j)."
    expect(answer(places, A, t, 0.3), wanted, hint, mistakes)


# Chapter: Indicative feedback
@exercise
def check_even_votes(answer: Answer) -> None:
    maps = random_tensor(3, 4, 5) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    wanted = refine_query([Evidence(0.0, one[None, None]) for one in maps], normalise=True)
    by_maximum = (maps / maps.amax((1, 2), keepdim=True)).mean(0)
    mistakes = {
        "That is the mean of the raw maps: the strongest decides.": maps.mean(0),
        "A map that sums to one is divided by its sum, not by its maximum.": by_maximum,
        "Each map is divided by its own sum, not by that of all.": maps.mean(0) / maps.sum(),
        "Take the mean of the maps; yours is their sum.": 3 * wanted,
    }
    hint = "Divide each map by its own sum before you take the mean."
    expect(answer(maps), wanted, hint, mistakes)


@exercise
def check_weighed(answer: Answer) -> None:
    tensor, w = random_tensor(1, 2, 3, 3, 4, 5), random_tensor(4, 5)
    expect(answer(tensor, w, 0.0), tensor, "λ = 0 leaves the tensor as it is.")
    wanted = weight_tensor(tensor, w, 0.7)
    hint = "λ = 1 multiplies by w; in between, mix the two."
    mistakes = {
        "λ and 1 − λ are exchanged.": weight_tensor(tensor, w, 0.3),
        "The part 1 − λ has to stay: (1 − λ) + λw.": tensor * 0.7 * w,
    }
    expect(answer(tensor, w, 0.7), wanted, hint, mistakes)


@exercise
def check_evidence_cells(answer: Answer) -> None:
    P = torch.zeros(6, 8)
    P[1, 2], P[4, 5], P[5, 7] = 10, 4, 1
    hint = "The level is a share of the maximum; bottom and right are one past the last cell."
    mistakes = {
        "Bottom and right are one past the last cell.": (1, 2, 4, 5),
        "Row first: top, left, bottom, right.": (2, 1, 6, 5),
        "A cell below the level is in your box: it has 1, and the level is 3.": (1, 2, 6, 8),
    }
    expect(answer(P, 0.3), (1, 2, 5, 6), hint, mistakes)
    expect(answer(P / 100, 0.3), (1, 2, 5, 6), "The same map, a hundred times fainter: same box.")
