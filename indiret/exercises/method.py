"""Checks of the chapters on the method, from patches to indicative feedback.

Chapters: *Patches and metrics* to *Indicative feedback*.
"""

import torch
from torch.nn import functional as F

from indiret.attention import attend, coordinates
from indiret.conv4d import Conv4d
from indiret.evidence import Evidence
from indiret.exercises.checks import Answer, exercise, expect, random_tensor
from indiret.feedback import refine_query, weight_tensor
from indiret.metrics import PatchProducts
from indiret.network import CONFIGS, build_network, parameter_count
from indiret.patches import patch_length


# Chapter: Patches and metrics
@exercise
def check_patch_values(answer: Answer) -> None:
    hint = "Count pixels, colours and windows: a pyramid has more than one."
    expect(answer, patch_length(16, "pyramid"), hint)


@exercise
def check_patch_at(answer: Answer) -> None:
    expect(answer(0, 0, (2, 4), (100, 200)), (0, 0), "The first pixel is in patch (0, 0).")
    hint = "Pixel (x, y) = (199, 10) of a picture 100 high and 200 wide is in row 0, column 3."
    expect(answer(199, 10, (2, 4), (100, 200)), (0, 3), hint)
    expect(answer(30, 70, (14, 10), (100, 50)), (9, 6), "Multiply before you divide by the side.")


@exercise
def check_zncc(answer: Answer) -> None:
    p, q = random_tensor(2, 192)
    expect(answer(p, p), 1.0, "A patch is like itself: zncc(p, p) is 1.")
    expect(answer(p, q + 0.5), answer(p, q), "A brighter q should change nothing: mind the means.")
    expect(answer(p, 3 * q), answer(p, q), "A q of more contrast should change nothing.")
    wanted = torch.corrcoef(torch.stack([p, q]))[0, 1]
    expect(answer(p, q), wanted, "It differs from the correlation of two drawn patches.")


@exercise
def check_chi_square(answer: Answer) -> None:
    p, q = random_tensor(2, 5, 12), random_tensor(1, 3, 12)
    far = (p[:, :, None] - q[:, None]).square() / (p[:, :, None] + q[:, None])
    hint = "Take −½ Σ (p − q)² / (p + q) for all pairs; larger has to mean more alike."
    expect(answer(PatchProducts(p, q)), -far.sum(-1) / 2, hint)


# Chapter: The 4-D correlation tensor
@exercise
def check_tensor_entries(answer: Answer) -> None:
    hint = "One view has 14 · 14 · 10 · 10 entries; how many views are there?"
    expect(answer, 6 * 14 * 14 * 10 * 10, hint)


@exercise
def check_best_target(answer: Answer) -> None:
    R = random_tensor(6, 5, 3, 4)
    R[4, 1, 2, 3], R[2, 3, 0, 1] = 2, 3
    expect(answer(R, 2, 3), (4, 1), "The target comes first: the query patch fixes R[:, :, k, l].")
    expect(answer(R, 0, 1), (2, 3), "Row and column: divide the flat place by the columns.")


@exercise
def check_mutual_pairs(answer: Answer) -> None:
    R = torch.zeros(1, 3, 1, 3)
    R[0, 0, 0, 0], R[0, 1, 0, 1], R[0, 2, 0, 1], R[0, 2, 0, 2] = 0.9, 0.5, 0.8, 0.3
    expect(answer(R), 2, "Both have to choose each other: a best in one direction is no pair.")
    R = random_tensor(4, 5, 3, 6)
    flat = R.flatten(2).flatten(0, 1)
    both = (flat == flat.amax(0, keepdim=True)) & (flat == flat.amax(1, keepdim=True))
    expect(answer(R), both.sum(), "Compare with the maximum over (i, j) and with that over (k, l).")


@exercise
def check_plane_mean(answer: Answer) -> None:
    R = random_tensor(6, 6, 4, 4)
    inside = [R[k + 1, l + 2, k, l] for k in range(4) for l in range(4)]
    expect(answer(R, 1, 2), torch.stack(inside).mean(), "Take the mean of R[k + t, l + u, k, l].")
    cut = [R[k - 2, l + 3, k, l] for k in range(2, 4) for l in range(3)]
    hint = "Skip what falls outside the target. A negative index is no error in Python: it wraps."
    expect(answer(R, -2, 3), torch.stack(cut).mean(), hint)


# Chapter: Convolution in four dimensions
@exercise
def check_kernel_weights(answer: Answer) -> None:
    hint = "A kernel has 3⁴ taps for every pair of an input and an output channel."
    expect(answer, Conv4d(6, 8, 3, bias=False).weight.numel(), hint)


@exercise
def check_output_length(answer: Answer) -> None:
    expect(answer(14, 3, 1, 1), 14, "Stride 1 and padding 1 keep a line of 14 as long as it is.")
    for setting, wanted in (((14, 3, 2, 1), 7), ((7, 3, 2, 1), 4), ((10, 5, 3, 0), 2)):
        expect(answer(*setting), wanted, f"Count the places of the kernel for {setting}.")


@exercise
def check_mirror_kernel(answer: Answer) -> None:
    wanted = torch.einsum("tv,uw->tuvw", torch.eye(3), torch.eye(3).flip(0))
    hint = "In a mirror image a step right (w) in the query is a step left (u) in the target."
    expect(answer(), wanted, hint)


@exercise
def check_conv4d_from_2d(answer: Answer) -> None:
    conv = Conv4d(1, 1, 3, padding=1, bias=False)
    conv.weight.data.copy_(random_tensor(3, 3, 3, 3))
    x = random_tensor(5, 4, 6, 3)
    wanted = conv(x[None, None]).detach()[0, 0]
    hint = "Tap (t, u) reads the input at row i + t − 1 and column j + u − 1, zeros outside."
    expect(answer(x, conv.weight.detach()[0, 0]), wanted, hint)


# Chapter: A 4-D ResNet learns to match
@exercise
def check_probability(answer: Answer) -> None:
    logits = 4 * random_tensor(5, 2) - 2
    hint = "Divide exp(relevant) by the sum of both; only the difference of the logits counts."
    expect(answer(logits), logits.softmax(1)[:, 1], hint)


@exercise
def check_loss_of_margins(answer: Answer) -> None:
    margins, labels = 6 * random_tensor(8) - 3, torch.tensor([1, 0] * 4)
    expect(answer(torch.zeros(4), labels[:4]), 0.6931472, "Not knowing costs log 2 a pair.")
    logits = torch.stack([torch.zeros(8), margins], dim=1)
    hint = "−log sigmoid(margin) for a match, −log sigmoid(−margin) for none; the mean over pairs."
    expect(answer(margins, labels), F.cross_entropy(logits, labels), hint)


@exercise
def check_swap(answer: Answer) -> None:
    tensor = random_tensor(2, 3, 4, 5, 6, 7)
    hint = "swapped[b, v, k, l, i, j] = T[b, v, i, j, k, l]: permute the axes, do not reshape."
    expect(answer(tensor), tensor.permute(0, 1, 4, 5, 2, 3), hint)


# Chapter: From Grad-CAM to evidence
@exercise
def check_evidence_maps(answer: Answer) -> None:
    M = random_tensor(3, 4, 2, 5)
    target, query = answer(M)
    expect(target, M.sum((2, 3)), "P is a map over the target: sum over the query's k, l.")
    expect(query, M.sum((0, 1)), "Q is a map over the query: sum over the target's i, j.")


@exercise
def check_grad_cam(answer: Answer) -> None:
    feature, gradient = random_tensor(2, 3, 4, 5) - 0.5
    wanted = (gradient.mean((1, 2), keepdim=True) * feature).sum(0).relu()
    expect(answer(feature, gradient), wanted, "First weight and add the channels, then cut at 0.")


@exercise
def check_total_contribution(answer: Answer) -> None:
    weight, bias = random_tensor(20) - 0.5, 0.3
    x = random_tensor(2, 20)[0]
    hint = "Σ gradient · x: for a judge that is linear it is judge(x) − judge(0)."
    expect(answer(lambda x: x @ weight + bias, x), x @ weight, hint)


# Chapter: Hypersphere attention
@exercise
def check_har_numbers(answer: Answer) -> None:
    network = build_network(CONFIGS["base"].replace(attention="har"))
    wanted = parameter_count(network) - parameter_count(build_network("base"))
    expect(answer, wanted, "Six for one mask: the centre has four coordinates. How many masks?")


@exercise
def check_attended(answer: Answer) -> None:
    features, theta = random_tensor(2, 3, 4, 4, 5, 5), random_tensor(2, 4, 4, 5, 5)
    hint = "Where the mask is 0 the features stay as they are; one mask serves all channels."
    expect(answer(features, theta), attend(features, theta), hint)


@exercise
def check_brightest(answer: Answer) -> None:
    expect(answer(0.0), 0.0, "With μ = 0 it is a ball, largest in its middle.")
    expect(answer(0.25), 0.5, "Θ is largest where d = μ, and d is the squared distance.")


@exercise
def check_plane_mask(answer: Answer) -> None:
    places = coordinates((4, 5, 3, 6))
    A, t = torch.tensor([[0.8, 0.1], [-0.2, 0.6]]), torch.tensor([0.1, -0.3])
    off = places[..., :2] - (torch.einsum("pq,...q->...p", A, places[..., 2:]) + t)
    wanted = torch.exp(-off.square().sum(-1) / (2 * 0.3**2))
    hint = "Send (k, l) = places[..., 2:] through A and t, and measure from there to (i, j)."
    expect(answer(places, A, t, 0.3), wanted, hint)


# Chapter: Indicative feedback
@exercise
def check_even_votes(answer: Answer) -> None:
    maps = random_tensor(3, 4, 5) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    wanted = refine_query([Evidence(0.0, one[None, None]) for one in maps], normalise=True)
    expect(answer(maps), wanted, "Divide each map by its own sum before you take the mean.")


@exercise
def check_weighed(answer: Answer) -> None:
    tensor, w = random_tensor(1, 2, 3, 3, 4, 5), random_tensor(4, 5)
    expect(answer(tensor, w, 0.0), tensor, "λ = 0 leaves the tensor as it is.")
    wanted = weight_tensor(tensor, w, 0.7)
    expect(answer(tensor, w, 0.7), wanted, "λ = 1 multiplies by w; in between, mix the two.")


@exercise
def check_evidence_cells(answer: Answer) -> None:
    P = torch.zeros(6, 8)
    P[1, 2], P[4, 5], P[5, 7] = 10, 4, 1
    hint = "The level is a share of the maximum; bottom and right are one past the last cell."
    expect(answer(P, 0.3), (1, 2, 5, 6), hint)
    expect(answer(P / 100, 0.3), (1, 2, 5, 6), "The same map, a hundred times fainter: same box.")
