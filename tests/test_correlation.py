"""`indiret.correlation`: the tensor's shape, range and standardisation, whatever the metrics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.correlation import correlate, correlation_tensor, encode_patches
from indiret.metrics import METRICS, initial_metric_state
from tests.test_metrics import patches

ALL = sorted(METRICS)


def test_encoded_patches_correlate_as_the_patches_do():
    target, query = patches(2, 2, 3, 2, 4, 48).float(), patches(1, 2, 2, 48, seed=1).float()
    names = ["colour", "gradients", "mutual_gradients", "zncc"]
    encoded = [encode_patches(side, names) for side in (target, query)]
    assert list(encoded[0]) == ["colour", "gradients", "zncc"]
    whole = correlation_tensor(target, query, names)
    assert torch.equal(correlate(*encoded, names), whole)
    halves = [{name: part.half() for name, part in side.items()} for side in encoded]
    torch.testing.assert_close(correlate(*halves, names), whole, atol=0.05, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    grids=st.tuples(*[st.integers(1, 4)] * 4),
    pairs=st.integers(1, 3),
    shared=st.booleans(),
    metrics=st.lists(st.sampled_from(ALL), min_size=1, unique=True),
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
    flat = correlation_tensor(target, query, metrics, state).flatten(2)
    torch.testing.assert_close(flat.mean(2), torch.zeros(pairs, len(metrics)).double())
    deviations = flat.std(2, correction=0)[raw.flatten(2).std(2, correction=0) > 1e-2]
    torch.testing.assert_close(deviations, torch.ones_like(deviations), rtol=1e-3, atol=0)


def test_one_query_against_many_equals_each_alone():
    target, query = patches(3, 4, 4, 12).float(), patches(1, 4, 4, 12, seed=1).float()
    alone = torch.cat([correlation_tensor(one[None], query) for one in target])
    torch.testing.assert_close(correlation_tensor(target, query), alone)


def test_swapping_the_sides_transposes_the_tensor():
    target, query = patches(1, 3, 4, 12), patches(1, 2, 5, 12, seed=1)
    forward, backward = correlation_tensor(target, query), correlation_tensor(query, target)
    torch.testing.assert_close(forward, backward.permute(0, 1, 4, 5, 2, 3))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_pictures_are_finite(level):
    flat = torch.full((1, 3, 3, 48), level)
    assert correlation_tensor(flat, flat, ALL, initial_metric_state(ALL, 48)).isfinite().all()


def test_gradient_reaches_the_pixels_where_patches_are_equal():
    target = patches(1, 2, 2, 48).requires_grad_()
    tensor = correlation_tensor(target, target.detach(), ALL, initial_metric_state(ALL, 48))
    tensor.square().sum().backward()
    assert target.grad is not None and target.grad.isfinite().all()


OK = torch.rand(2, 3, 3, 12)


@pytest.mark.parametrize(
    ("target", "query", "metrics", "words"),
    [
        (OK, OK, ["sift"], "choose from cosine, euclidean"),
        (OK, OK, "cosine", "list of names"),
        (OK, OK[..., :9], ["cosine"], "same number of values"),
        (OK, torch.rand(3, 3, 3, 12), ["cosine"], "as many as targets"),
        (OK[0], OK, ["cosine"], "pairs, rows, columns, values"),
        (OK, OK, ["mahalanobis"], "no fitted state"),
    ],
)
def test_bad_input_gets_a_sentence(target, query, metrics, words):
    with pytest.raises(ValueError, match=words):
        correlation_tensor(target, query, metrics)
