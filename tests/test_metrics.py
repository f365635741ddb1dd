"""`indiret.metrics`: every metric against a naive loop, and what is fitted."""

import numpy as np
import pytest
import torch

from indiret.correlation import correlation_tensor
from indiret.metrics import METRICS, fit_mahalanobis, fit_metrics, mutual, register_metric

EPS = (1 / 255) ** 2


def patches(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def raw(target, query, *metrics, state=None):
    return correlation_tensor(target, query, metrics, state, standardise=False)


def cosine(p, q):
    return p @ q / np.sqrt((p @ p + EPS) * (q @ q + EPS))


def zncc(p, q):
    a, b = p - p.mean(), q - q.mean()
    d = len(p)
    return (a @ b / d) / np.sqrt((a @ a / d + EPS) * (b @ b / d + EPS))


def gradients(patch):
    """Gradients of grey windows in eight directions, summed over 4 × 4 parts, pixel by pixel."""
    side = 4 if len(patch) == 48 else 8
    roots = []
    for window in patch.reshape(-1, side, side, 3).mean(-1):
        down, right = np.gradient(window)
        sums = np.zeros((4, 4, 8))
        for y, x in np.ndindex(side, side):
            eighths = np.arctan2(down[y, x], right[y, x]) / (2 * np.pi / 8) % 8
            near, share = int(eighths), eighths % 1
            part = sums[y * 4 // side, x * 4 // side]
            part[near % 8] += np.hypot(right[y, x], down[y, x]) * (1 - share)
            part[(near + 1) % 8] += np.hypot(right[y, x], down[y, x]) * share
        sums /= sums.sum() + 1.6 / 255 * side**2
        roots.append(np.sqrt(np.maximum(sums.ravel(), 1e-12)))
    return np.concatenate(roots)


def mean_colour(patch):
    return patch.reshape(-1, 3).mean(0)


NAIVE = {
    "cosine": cosine,
    "euclidean": lambda p, q: -np.sqrt(np.mean((p - q) ** 2)),
    "manhattan": lambda p, q: -np.mean(np.abs(p - q)),
    "zncc": zncc,
    "colour": lambda p, q: -np.sqrt(np.mean((mean_colour(p) - mean_colour(q)) ** 2)),
    "gradients": lambda p, q: cosine(gradients(p), gradients(q)),
    "zncc_gradients": lambda p, q: zncc(gradients(p), gradients(q)),
}


def naive_view(phi, target, query):
    m, n, _ = target.shape
    mq, nq, _ = query.shape
    view = np.empty((m, n, mq, nq))
    for i, j, k, l in np.ndindex(m, n, mq, nq):
        view[i, j, k, l] = phi(target[i, j].numpy(), query[k, l].numpy())
    return view


@pytest.mark.parametrize(("name", "d"), [*((name, 48) for name in NAIVE), ("gradients", 384)])
def test_metric_equals_a_naive_loop_on_unequal_grids(name, d):
    target, query = patches(2, 3, 4, d), patches(2, 2, 5, d, seed=1)
    fast = raw(target, query, name)
    assert fast.shape == (2, 1, 3, 4, 2, 5)
    close = 1e-6 if "gradients" in name else 1e-9
    for b in range(2):
        slow = naive_view(NAIVE[name], target[b], query[b])
        np.testing.assert_allclose(fast[b, 0].numpy(), slow, atol=close)


def test_mutual_matching_equals_a_naive_loop():
    target, query = patches(1, 3, 4, 12), patches(1, 2, 5, 12, seed=1)
    z = naive_view(zncc, target[0], query[0]).clip(0)
    slow = np.empty_like(z)
    for i, j, k, l in np.ndindex(z.shape):
        slow[i, j, k, l] = z[i, j, k, l] ** 3 / (z[:, :, k, l].max() * z[i, j].max() + 1e-6)
    np.testing.assert_allclose(raw(target, query, "mutual")[0, 0].numpy(), slow, atol=1e-9)


@pytest.mark.parametrize("name", ["zncc", "colour", "mutual", "mutual_gradients"])
@pytest.mark.parametrize("scales", [(), (3, 2)])  # of the query: none, or three of two windows
def test_scales_are_views_and_the_best_window_counts(name, scales):
    target, query = patches(2, 2, 3, 3, 4, 48), patches(1, *scales, 2, 5, 48, seed=1)
    windows = query if scales else query[:, None, None]
    phi = {"mutual": "zncc", "mutual_gradients": "gradients"}.get(name, name)
    expected = []
    for s, t in np.ndindex(2, windows.shape[1]):
        each = [
            raw(target[:, s, v], windows[:, t, w], phi) for v, w in np.ndindex(3, windows.shape[2])
        ]
        best = torch.stack(each).amax(0)
        if phi != name:
            best = mutual(best.flatten(4).flatten(2, 3)).view(best.shape)
        expected.append(best)
    together = raw(target, query, "cosine", name)
    assert together.shape == (2, 2 * len(expected), 3, 4, 2, 5)
    torch.testing.assert_close(together[:, len(expected) :], torch.cat(expected, dim=1))


def test_mahalanobis_equals_the_inverse_covariance():
    sample = patches(200, 12) @ patches(12, 12, seed=5)
    covariance = np.cov(sample.numpy().T)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / 12 * np.eye(12)
    inverse = np.linalg.inv(covariance)
    target, query = patches(1, 2, 3, 12), patches(1, 3, 2, 12, seed=1)
    fast = raw(target, query, "mahalanobis", state=fit_metrics(["mahalanobis"], sample))
    slow = naive_view(lambda p, q: -np.sqrt((p - q) @ inverse @ (p - q) / 12), target[0], query[0])
    np.testing.assert_allclose(fast[0, 0].numpy(), slow, rtol=1e-5)


def test_products_and_similarities_are_shared():
    seen = []

    def spy(products):
        seen.append(products)
        return products.inner

    def other(products):
        return spy(products)

    try:
        register_metric("spy", spy, (0, 1))
        register_metric("halved", spy, (0, 1), view=lambda similarity: similarity / 2)
        register_metric("other", other, (0, 1))
        patch = patches(1, 2, 2, 12)
        tensor = raw(patch, patch, "spy", "cosine", "halved", "other")
    finally:
        for name in ("spy", "halved", "other"):
            METRICS.pop(name)
    assert len(seen) == 2 and seen[0] is seen[1]
    torch.testing.assert_close(tensor[:, 2], tensor[:, 0] / 2)


def test_bad_input_gets_a_sentence():
    with pytest.raises(ValueError, match="no square windows"):
        raw(torch.rand(1, 2, 2, 15), torch.rand(1, 2, 2, 15), "gradients")
    with pytest.raises(ValueError, match="registered already"):
        register_metric("cosine", METRICS["cosine"].phi, (0, 1))
    with pytest.raises(ValueError, match="too few"):
        fit_mahalanobis(torch.rand(1, 12))
