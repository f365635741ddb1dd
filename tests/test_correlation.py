import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.correlation import (
    METRICS,
    correlate,
    correlation_tensor,
    describe_patches,
    fit_metrics,
    fit_whitening,
    initial_metric_state,
    mutual,
    register_metric,
)

EPS = (1 / 255) ** 2


def patches(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_zncc(p, q):
    a, b = p - p.mean(), q - q.mean()
    d = len(p)
    return (a @ b / d) / np.sqrt((a @ a / d + EPS) * (b @ b / d + EPS))


NAIVE = {
    "cosine": lambda p, q: p @ q / np.sqrt((p @ p + EPS) * (q @ q + EPS)),
    "euclidean": lambda p, q: -np.sqrt(np.mean((p - q) ** 2)),
    "manhattan": lambda p, q: -np.mean(np.abs(p - q)),
    "zncc": naive_zncc,
    "colour": lambda p, q: (
        -np.sqrt(np.mean((p.reshape(-1, 3).mean(0) - q.reshape(-1, 3).mean(0)) ** 2))
    ),
}


def naive_view(phi, target, query):
    m, n, _ = target.shape
    mq, nq, _ = query.shape
    view = np.empty((m, n, mq, nq))
    for i, j, k, l in np.ndindex(m, n, mq, nq):
        view[i, j, k, l] = phi(target[i, j], query[k, l])
    return view


@pytest.mark.parametrize("name", sorted(NAIVE))
def test_metric_equals_a_naive_loop_on_unequal_grids(name):
    target, query = patches(2, 3, 4, 12), patches(2, 2, 5, 12, seed=1)
    fast = correlation_tensor(target, query, [name], standardise=False)
    assert fast.shape == (2, 1, 3, 4, 2, 5)
    for b in range(2):
        slow = naive_view(NAIVE[name], target[b].numpy(), query[b].numpy())
        np.testing.assert_allclose(fast[b, 0].numpy(), slow, atol=1e-9)


def test_mutual_matching_equals_a_naive_loop():
    target, query = patches(1, 3, 4, 12), patches(1, 2, 5, 12, seed=1)
    z = naive_view(naive_zncc, target[0].numpy(), query[0].numpy()).clip(0)
    slow = np.empty_like(z)
    for i, j, k, l in np.ndindex(z.shape):
        slow[i, j, k, l] = z[i, j, k, l] ** 3 / (z[:, :, k, l].max() * z[i, j].max() + 1e-6)
    fast = correlation_tensor(target, query, ["mutual"], standardise=False)
    np.testing.assert_allclose(fast[0, 0].numpy(), slow, atol=1e-9)


def naive_gradients(patch, side, levels):
    """Slopes of the grey window in eight directions, summed over 4 × 4 parts, pixel by pixel."""
    roots = []
    for window in patch.reshape(levels, side, side, 3).mean(-1):
        down, right = np.gradient(window)
        sums = np.zeros((4, 4, 8))
        for y, x in np.ndindex(side, side):
            eighths = np.arctan2(down[y, x], right[y, x]) / (2 * np.pi / 8) % 8
            near, share = int(eighths), eighths % 1
            part = sums[y * 4 // side, x * 4 // side]
            part[near % 8] += np.hypot(right[y, x], down[y, x]) * (1 - share)
            part[(near + 1) % 8] += np.hypot(right[y, x], down[y, x]) * share
        roots.append(np.sqrt(sums.ravel() / (sums.sum() + 1.6 / 255 * side**2)))
    return np.concatenate(roots)


@pytest.mark.parametrize(("side", "levels"), [(4, 1), (8, 2)])
def test_gradients_equal_a_naive_loop(side, levels):
    d = levels * side * side * 3
    target, query = patches(1, 2, 3, d), patches(1, 3, 2, d, seed=1)

    def phi(p, q):
        return NAIVE["cosine"](naive_gradients(p, side, levels), naive_gradients(q, side, levels))

    fast = correlation_tensor(target, query, ["gradients"], standardise=False)
    slow = naive_view(phi, target[0].numpy(), query[0].numpy())
    np.testing.assert_allclose(fast[0, 0].numpy(), slow, atol=1e-5)


def test_gradients_do_not_mind_brighter_light():
    target = patches(1, 3, 3, 192) * 0.5
    bright = correlation_tensor(target + 0.3, target, ["gradients"], standardise=False)
    same = correlation_tensor(target, target, ["gradients"], standardise=False)
    torch.testing.assert_close(bright, same, atol=1e-6, rtol=0)


def test_gradients_need_windows():
    with pytest.raises(ValueError, match="no square windows"):
        correlation_tensor(torch.rand(1, 2, 2, 15), torch.rand(1, 2, 2, 15), ["gradients"])


@pytest.mark.parametrize("name", ["zncc", "colour", "mutual"])
def test_scales_are_views_and_the_best_window_counts(name):
    windows, query = patches(2, 2, 5, 3, 4, 12), patches(1, 2, 5, 12, seed=1)
    phi = "zncc" if name == "mutual" else name
    expected = []
    for scale in range(2):
        each = [
            correlation_tensor(windows[:, scale, w], query, [phi], standardise=False)
            for w in range(5)
        ]
        best = torch.stack(each).amax(0)
        if name == "mutual":
            best = mutual(best.flatten(4).flatten(2, 3)).view(best.shape)
        expected.append(best)
    together = correlation_tensor(windows, query, ["cosine", name], standardise=False)
    assert together.shape == (2, 4, 3, 4, 2, 5)
    torch.testing.assert_close(together[:, 2:], torch.cat(expected, dim=1))


@pytest.mark.parametrize("name", ["zncc_gradients", "colour", "mutual_gradients"])
def test_a_query_may_have_scales_and_windows_too(name):
    target, query = patches(2, 2, 3, 3, 4, 48), patches(1, 3, 2, 2, 5, 48, seed=1)
    phi = "gradients" if name == "mutual_gradients" else name
    expected = []
    for s, t in np.ndindex(2, 3):
        each = [
            correlation_tensor(target[:, s, v], query[:, t, w], [phi], standardise=False)
            for v, w in np.ndindex(3, 2)
        ]
        best = torch.stack(each).amax(0)
        if phi != name:
            best = mutual(best.flatten(4).flatten(2, 3)).view(best.shape)
        expected.append(best)
    together = correlation_tensor(target, query, [name], standardise=False)
    assert together.shape == (2, 6, 3, 4, 2, 5)
    torch.testing.assert_close(together, torch.cat(expected, dim=1))


def test_zncc_of_gradients_takes_their_mean_away():
    target, query = patches(1, 2, 3, 48), patches(1, 3, 2, 48, seed=1)

    def phi(p, q):
        return naive_zncc(naive_gradients(p, 4, 1), naive_gradients(q, 4, 1))

    fast = correlation_tensor(target, query, ["zncc_gradients"], standardise=False)
    slow = naive_view(phi, target[0].numpy(), query[0].numpy())
    np.testing.assert_allclose(fast[0, 0].numpy(), slow, atol=1e-5)


def test_described_patches_correlate_as_the_patches_do():
    target, query = patches(2, 2, 3, 2, 4, 48).float(), patches(1, 2, 2, 48, seed=1).float()
    names = ["colour", "gradients", "mutual_gradients", "zncc"]
    described = [describe_patches(side, names) for side in (target, query)]
    assert list(described[0]) == ["colour", "gradients", "zncc"]
    whole = correlation_tensor(target, query, names)
    assert torch.equal(correlate(*described, names), whole)
    halves = [{name: part.half() for name, part in side.items()} for side in described]
    torch.testing.assert_close(correlate(*halves, names), whole, atol=0.05, rtol=0)


def test_mahalanobis_equals_the_inverse_covariance():
    sample = patches(200, 12) @ patches(12, 12, seed=5)
    state = fit_metrics(["mahalanobis"], sample)
    covariance = np.cov(sample.numpy().T)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / 12 * np.eye(12)
    inverse = np.linalg.inv(covariance)

    def phi(p, q):
        return -np.sqrt((p - q) @ inverse @ (p - q) / 12)

    target, query = patches(1, 2, 3, 12), patches(1, 3, 2, 12, seed=1)
    fast = correlation_tensor(target, query, ["mahalanobis"], state, standardise=False)
    np.testing.assert_allclose(
        fast[0, 0].numpy(), naive_view(phi, target[0].numpy(), query[0].numpy()), rtol=1e-5
    )


def test_whitened_training_patches_have_unit_covariance_without_shrinkage():
    sample = patches(500, 6)
    w = fit_whitening(sample, shrinkage=0)["whitening"].double()
    torch.testing.assert_close(
        torch.cov((sample @ w.T).T), torch.eye(6).double(), atol=1e-5, rtol=0
    )


@settings(max_examples=25, deadline=None)
@given(
    grids=st.tuples(*[st.integers(1, 4)] * 4),
    pairs=st.integers(1, 3),
    shared=st.booleans(),
    metrics=st.lists(st.sampled_from(sorted(METRICS)), min_size=1, unique=True),
)
def test_ranges_shapes_and_standardisation(grids, pairs, shared, metrics):
    m, n, mq, nq = grids
    target, query = patches(pairs, m, n, 48), patches(1 if shared else pairs, mq, nq, 48, seed=1)
    state = initial_metric_state(metrics, 48)
    raw = correlation_tensor(target, query, metrics, state, standardise=False)
    assert raw.shape == (pairs, len(metrics), m, n, mq, nq)
    for view, name in enumerate(metrics):
        low, high = METRICS[name].range
        assert low - 1e-9 <= raw[:, view].min() and raw[:, view].max() <= high + 1e-9
    standard = correlation_tensor(target, query, metrics, state)
    flat, raw_flat = standard.flatten(2), raw.flatten(2)
    torch.testing.assert_close(flat.mean(2), torch.zeros(pairs, len(metrics)).double())
    spread = raw_flat.std(2, correction=0)
    full = spread > 1e-2
    torch.testing.assert_close(
        flat.std(2, correction=0)[full], torch.ones(int(full.sum())).double(), rtol=1e-3, atol=0
    )


def test_one_query_against_many_equals_each_alone():
    target, query = patches(3, 4, 4, 12).float(), patches(1, 4, 4, 12, seed=1).float()
    together = correlation_tensor(target, query)
    for b in range(3):
        torch.testing.assert_close(
            together[b : b + 1], correlation_tensor(target[b : b + 1], query)
        )


def test_swapping_the_sides_transposes_the_tensor():
    target, query = patches(1, 3, 4, 12), patches(1, 2, 5, 12, seed=1)
    there = correlation_tensor(target, query)
    back = correlation_tensor(query, target)
    torch.testing.assert_close(there, back.permute(0, 1, 4, 5, 2, 3))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_pictures_are_finite(level):
    flat = torch.full((1, 3, 3, 48), level)
    metrics = sorted(METRICS)
    tensor = correlation_tensor(flat, flat, metrics, initial_metric_state(metrics, 48))
    assert tensor.isfinite().all()


def test_products_and_similarities_are_shared():
    seen = []

    def spy(products):
        seen.append(products)
        return products.inner

    def other(products):
        seen.append(products)
        return products.inner

    try:
        register_metric("spy", spy, (0, 1))
        register_metric("halved", spy, (0, 1), view=lambda similarity: similarity / 2)
        register_metric("other", other, (0, 1))
        names = ["spy", "cosine", "halved", "other"]
        tensor = correlation_tensor(
            patches(1, 2, 2, 12), patches(1, 2, 2, 12), names, standardise=False
        )
    finally:
        for name in ("spy", "halved", "other"):
            METRICS.pop(name)
    assert len(seen) == 2 and seen[0] is seen[1]
    torch.testing.assert_close(tensor[:, 2], tensor[:, 0] / 2)


def test_gradient_reaches_the_pixels_where_patches_are_equal():
    target = patches(1, 2, 2, 48).requires_grad_()
    metrics = sorted(METRICS)
    correlation_tensor(
        target, target.detach(), metrics, initial_metric_state(metrics, 48)
    ).square().sum().backward()
    assert target.grad is not None and target.grad.isfinite().all()


def test_bad_input_gets_a_sentence():
    ok = torch.rand(2, 3, 3, 12)
    with pytest.raises(ValueError, match="choose from cosine, euclidean"):
        correlation_tensor(ok, ok, ["sift"])
    with pytest.raises(ValueError, match="list of names"):
        correlation_tensor(ok, ok, "cosine")
    with pytest.raises(ValueError, match="same number of values"):
        correlation_tensor(ok, torch.rand(2, 3, 3, 9))
    with pytest.raises(ValueError, match="as many as targets"):
        correlation_tensor(ok, torch.rand(3, 3, 3, 12))
    with pytest.raises(ValueError, match="pairs, rows, columns, values"):
        correlation_tensor(ok[0], ok)
    with pytest.raises(ValueError, match="no fitted state"):
        correlation_tensor(ok, ok, ["mahalanobis"])
    with pytest.raises(ValueError, match="registered already"):
        register_metric("cosine", METRICS["cosine"].phi, (0, 1))
    with pytest.raises(ValueError, match="too few"):
        fit_whitening(torch.rand(1, 12))
