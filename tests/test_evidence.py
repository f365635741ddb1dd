"""`indiret.evidence`: maps equal their equations, follow the weights, and leave no trace."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.architectures import LAYOUTS, to_flat
from indiret.checkpoints import load_network
from indiret.datasets import load_dataset
from indiret.evidence import (
    AT_ONCE,
    METHODS,
    SPREAD,
    Evidence,
    cam_to_grid,
    deletion,
    explain,
    smooth,
)
from indiret.network import CONFIGS, build_network


def network_of(conv="full", seed=0):
    torch.manual_seed(seed)
    return build_network(replace(CONFIGS["base"], conv=conv, width=4)).eval()


def noise(*grid, batch=2, seed=0):
    return torch.randn(batch, 6, *grid, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("conv", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_maps_have_the_tensors_shape_and_one_sum_in_any_batch(conv, method):
    """A batch is explained in parts, and each pair as if it were alone."""
    network, tensor = network_of(conv), noise(4, 5, 6, 3, batch=AT_ONCE + 1)
    together = explain(network, tensor, method)
    assert len(together) == AT_ONCE + 1
    for b in (0, AT_ONCE - 1, AT_ONCE):
        evidence, (alone,) = together[b], explain(network, tensor[b : b + 1], method)
        torch.testing.assert_close(evidence.pairs, alone.pairs, rtol=1e-3, atol=1e-7)
        assert evidence.score == pytest.approx(alone.score, abs=1e-4)
        assert evidence.pairs.shape == (4, 5, 6, 3)
        assert evidence.target_map.shape == (4, 5) and evidence.query_map.shape == (6, 3)
        assert (evidence.pairs >= 0).all() and evidence.pairs.isfinite().all()
        for one in (evidence.target_map, evidence.query_map):
            torch.testing.assert_close(one.sum(), evidence.pairs.sum())


def test_gradcam_of_one_layer_equals_equation_3_in_a_loop():
    """Backward through the rest of the network by hand: the gradient kept on the feature."""
    network, tensor = network_of(), noise(6, 6, 6, 6, batch=1)
    kept = []

    def keep(module, inputs, output):
        output.retain_grad()
        kept.append(output)

    name = list(network.layers)[1]
    handle = network.layers[name].register_forward_hook(keep)
    network.margin(tensor).sum().backward()
    handle.remove()
    feature, gradient = kept[0][0].detach(), kept[0].grad[0]
    literal = sum(gradient[c].mean() * feature[c] for c in range(len(feature))).relu()
    located = sum(gradient[c] * feature[c] for c in range(len(feature))).relu()
    network.zero_grad(set_to_none=True)
    for method, cam in (("gradcam", literal), ("hirescam", located)):
        expected = cam_to_grid(cam[None], (6, 6, 6, 6))[0]
        torch.testing.assert_close(explain(network, tensor, method, name)[0].pairs, expected)


def test_a_flat_cam_goes_back_to_where_its_pixels_came_from():
    pairs = noise(2, 3, 4, 5)[:, :1]
    assert torch.equal(cam_to_grid(to_flat(pairs)[:, 0], (2, 3, 4, 5)), pairs[:, 0])
    ramp = torch.linspace(0, 1, 4)[None, :, None].expand(1, 4, 2)
    doubled = to_flat(cam_to_grid(ramp, (2, 2, 4, 2))[:, None])[0, 0, :, 0]
    torch.testing.assert_close(doubled[1:-1].diff(), torch.full((5,), 1 / 6))


def test_layers_are_averaged():
    network, tensor = network_of(), noise(6, 6, 6, 6, batch=1)

    def pairs(layers):
        return explain(network, tensor, "hirescam", layers)[0].pairs

    names = list(network.layers)
    each = torch.stack([pairs(name) for name in names])
    torch.testing.assert_close(pairs("all"), each.mean(0))
    torch.testing.assert_close(pairs("blocks"), each[1:].mean(0))


@pytest.mark.parametrize("conv", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("broken", [True, False])
def test_the_network_is_left_as_it_was(conv, training, broken):
    network = network_of(conv).train(training)
    network.layers["stem"].eval()
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensor = noise(6, 6, 6, 6)
    if broken:
        last = network.layers[list(network.layers)[-1]]
        handle = last.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explain(network, tensor)
        handle.remove()
    else:
        explain(network, tensor)
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not tensor.requires_grad and tensor.grad is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_neither_mode_nor_frozen_weights_change_the_evidence():
    network, tensor = network_of(), noise(6, 6, 6, 6)
    expected = explain(network.eval(), tensor)[0].pairs
    torch.testing.assert_close(explain(network.train(), tensor)[0].pairs, expected)
    with torch.no_grad():
        frozen = explain(network.requires_grad_(False), tensor)[0].pairs
    torch.testing.assert_close(frozen, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_pictures_are_finite(method, level):
    network = network_of()
    picture = np.full((40, 50, 3), level, dtype=np.uint8)
    tensor = network.correlate(network.encode(picture, query=True), [network.encode(picture)])
    evidence = explain(network, tensor, method)[0]
    assert evidence.pairs.isfinite().all() and np.isfinite(evidence.score)


@pytest.mark.parametrize("method", METHODS)
def test_randomised_weights_change_the_maps(method):
    tensor = noise(6, 6, 6, 6, batch=1)
    one, other = (explain(network_of(seed=seed), tensor, method)[0].pairs for seed in (0, 1))
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] < 0.9


def test_deleting_evidence_lowers_the_score_most():
    """Cells deleted at random break the pattern too; the least evident ones cost least."""
    network, town = load_network("base"), load_dataset("toytown", split="validation")
    query = town.queries[0]
    answers = [network.encode(town.read(name)) for name in sorted(query.positives - {query.image})]
    tensor = network.correlate(network.encode(town.read_query(query), query=True), answers)
    maps = torch.stack([e.target_map for e in explain(network, tensor, "combined")])
    random = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    strongest, scattered, weakest = (
        deletion(network, tensor, ranked).mean() for ranked in (maps, random, -maps)
    )
    assert strongest > 1.3 * scattered
    assert 0 < 2 * weakest < strongest


@settings(max_examples=25, deadline=None)
@given(grid=st.tuples(*[st.integers(1, 4)] * 4), k=st.integers(0, 20), seed=st.integers(0, 99))
def test_matches_equal_a_sorted_loop(grid, k, seed):
    pairs = torch.rand(grid, generator=torch.Generator().manual_seed(seed)) - 0.2
    pairs = pairs.relu()
    expected, targets, queries = [], set(), set()
    for index in np.argsort(-pairs.flatten().numpy(), kind="stable"):
        i, j, a, b = map(int, np.unravel_index(index, grid))
        if pairs[i, j, a, b] > 0 and (i, j) not in targets and (a, b) not in queries:
            expected.append((i, j, a, b))
            targets.add((i, j)), queries.add((a, b))
    found = Evidence(0.0, pairs).matches(k)
    assert [match[:4] for match in found] == expected[:k]


def test_smoothing_is_the_mean_of_neighbours():
    pairs = torch.rand(1, 4, 4, 4, 4)
    expected = pairs[0, 0:3, 1:4, 2:4, 0:2].mean()
    torch.testing.assert_close(smooth(pairs)[0, 1, 2, 3, 0], expected)
    torch.testing.assert_close(smooth(pairs, 3), smooth(smooth(smooth(pairs))))
    torch.testing.assert_close(smooth(pairs, 0), pairs)


def test_deletion_equals_a_loop():
    network, tensor = network_of(), noise(5, 4, 5, 4)
    ranked = torch.rand(2, 5, 4)
    falls = deletion(network, tensor, ranked, fraction=0.2)
    for b in range(2):
        without = tensor[b].clone()
        for cell in ranked[b].flatten().argsort(descending=True)[:4].tolist():
            for v in range(6):
                without[v, cell // 4, cell % 4] = tensor[b, v].mean()
        with torch.no_grad():
            expected = network.margin(tensor[b][None]) - network.margin(without[None])
        torch.testing.assert_close(falls[b], expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "scorecam"}, "gradcam, hirescam"),
        ({"layers": "stage9.9"}, "choose 'all', 'blocks' or from stem"),
        ({"layers": []}, "no layer is named"),
        ({"tensor": torch.rand(6, 6, 6, 6, 6)}, "pairs, 6 views"),
        ({"tensor": torch.rand(1, 3, 6, 6, 6, 6)}, "pairs, 6 views"),
    ],
)
def test_bad_input_gets_a_sentence(settings, words):
    with pytest.raises(ValueError, match=words):
        explain(**{"network": network_of(), "tensor": noise(6, 6, 6, 6), **settings})
    with pytest.raises(ValueError, match="asks for"):
        deletion(network_of(), noise(6, 6, 6, 6), torch.rand(2, 5, 6))


def test_signed_evidence_keeps_what_spoke_against_and_combined_what_is_alike():
    network, tensor = network_of(), noise(6, 6, 6, 6, batch=1)
    assert (explain(network, tensor, "hirescam", "stem", signed=True)[0].pairs < 0).any()
    signed = explain(network, tensor, "input_gradient", signed=True)[0].pairs
    kept = explain(network, tensor, "input_gradient")[0].pairs
    assert (signed < 0).any() and torch.equal(signed.relu(), kept)
    combined = explain(network, tensor, "combined")[0].pairs
    torch.testing.assert_close(combined, smooth(kept * tensor.mean(1).relu(), SPREAD)[0])
