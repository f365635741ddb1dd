"""`indiret.baselines.verifiers`: each network against a loop, and its file."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from indiret.baselines import verifiers
from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.descriptors import DescriptorRetriever
from indiret.baselines.maps import extract, load_maps
from indiret.baselines.verifiers import (
    VERIFIERS,
    DeepRetrieval,
    NonMetric,
    VerifierRetriever,
    build_verifier,
    fisher_vectors,
    load_verifier,
    save_verifier,
    stack,
    triplet_loss,
)
from indiret.checkpoints import WEIGHTS, file_name
from tests.baselines.toys import pictures, toy


def make(kind, channels=12):
    torch.manual_seed(1)
    verifier = VERIFIERS[kind](channels, 5)
    verifier.start(torch.rand(400, channels))
    return verifier


def fisher_by_loops(points, weights, means, deviations):
    """The definitions, a point and a Gaussian at a time."""
    of_means, of_deviations = np.zeros((2, *means.shape))
    for point in points:
        z = (point - means) / deviations
        density = [
            w * math.prod(math.exp(-(x**2) / 2) / (s * math.sqrt(2 * math.pi)) for x, s in pairs)
            for w, pairs in zip(weights, map(zip, z, deviations), strict=True)
        ]
        for k, gamma in enumerate(np.divide(density, sum(density))):
            of_means[k] += gamma * z[k] / math.sqrt(weights[k]) / len(points)
            of_deviations[k] += gamma * (z[k] ** 2 - 1) / math.sqrt(2 * weights[k]) / len(points)
    return np.concatenate([of_means.ravel(), of_deviations.ravel()])


def test_fisher_vectors_by_loops():
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(3))
    means, deviations = random.normal(size=(3, 4)), random.uniform(0.5, 2, (3, 4))
    sets = [random.normal(size=(count, 4)) for count in (1, 5, 8)]
    vectors = nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in sets], True, 7.0)
    mask = torch.tensor([[place < len(one) for place in range(8)] for one in sets]).double()
    mixture = [torch.from_numpy(values) for values in (weights, means, deviations)]
    found = fisher_vectors(vectors, mask, *mixture)
    expected = [fisher_by_loops(one, weights, means, deviations) for one in sets]
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("kind", VERIFIERS)
def test_a_set_has_one_vector_whatever_stands_beside_it(kind):
    verifier = make(kind)
    short, long = torch.rand(3, 12), torch.rand(9, 12)
    with torch.no_grad():
        alone = verifier(*stack([short]))
        beside = verifier(*stack([short, long]))
        turned = verifier(*stack([short.flip(0)]))
    torch.testing.assert_close(alone[0], beside[0])
    torch.testing.assert_close(alone, turned)
    torch.testing.assert_close(beside.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("kind", VERIFIERS)
def test_gradients_are_finite_also_of_a_plain_picture(kind):
    verifier = make(kind)
    sets = [torch.rand(4, 12), torch.zeros(4, 12), torch.rand(6, 12), torch.zeros(5, 12)]
    encoded = verifier(*stack(sets))
    relevant = torch.tensor([[False, True], [True, False]])
    verifier.loss(encoded[:2], encoded[2:], relevant).backward()
    learning = [p for p in verifier.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)
    assert verifier.projection.grad.any()
    assert kind != "non-metric" or verifier.layers[-1].weight.grad.any()


def test_deep_retrieval_by_a_loop():
    verifier, regions = make("deep-retrieval"), torch.rand(4, 12)
    total = torch.zeros(5)
    for region in regions:
        projected = verifier.projection @ (region - verifier.mean)
        total += projected / projected.norm()
    found = verifier(*stack([regions]))[0]
    torch.testing.assert_close(found, total / total.norm())


def test_triplets_by_a_loop():
    torch.manual_seed(0)
    queries, targets = F.normalize(torch.randn(3, 4), dim=1), F.normalize(torch.randn(12, 4), dim=1)
    relevant = torch.arange(3)[:, None] == torch.arange(12) // 2
    apart = (queries[:, None] - targets).square().sum(-1).tolist()
    losses = []
    for q in range(3):
        others = sorted(apart[q][t] for t in range(12) if t // 2 != q)
        for p in (2 * q, 2 * q + 1):
            losses += [max(0.0, 0.1 + apart[q][p] - other) / 2 for other in others[:5]]
    found = DeepRetrieval(12, 4).loss(queries, targets, relevant)
    assert found.item() == pytest.approx(np.mean(losses), abs=1e-6)


def test_an_untrained_similarity_is_the_cosine_and_a_trained_one_is_not_symmetric():
    verifier = make("non-metric")
    x, y = F.normalize(torch.randn(3, 5), dim=1), F.normalize(torch.randn(4, 5), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(verifier.similarity(x, y), x @ y.T)
        nn.init.normal_(verifier.layers[-1].weight)
        forward, backward = verifier.similarity(x, y), verifier.similarity(y, x)
    assert forward.shape == (3, 4) and not torch.allclose(forward, backward.T, atol=1e-3)


def test_it_is_asked_for_the_cosine_and_a_margin():
    verifier = make("non-metric")
    x = F.normalize(torch.randn(3, 5), dim=1)
    relevant = torch.eye(3).bool()
    triplets = triplet_loss(x @ x.T, relevant).item()
    wanted = pytest.approx(NonMetric.MARGIN + triplets, abs=1e-6)
    assert verifier.loss(x, x, relevant).item() == wanted


@pytest.mark.parametrize("kind", VERIFIERS)
def test_methods_rank_the_picture_itself_first_and_bear_a_plain_one(kind):
    method = VerifierRetriever(toy(), make(kind))
    found = [*map(method.encode, [*pictures(4), np.zeros((64, 64, 3), np.uint8)])]
    for place, encoded in enumerate(found):
        scores = method.score(encoded, found)
        assert scores.dtype == np.float64 and np.isfinite(scores).all()
        assert scores.argmax() == place or place == 4
        assert method.explain(encoded, found[4]).target_map.isfinite().all()


@pytest.mark.parametrize("kind", VERIFIERS)
def test_shares_of_the_places_add_up_to_the_cosine(kind):
    """An untrained similarity is the cosine; a whitening's mean belongs to no place."""
    verifier, maps, asked = make(kind), torch.rand(12, 5, 4), torch.rand(6, 12)
    if kind in ("non-metric", "deep-retrieval"):
        verifier.mean.data.zero_()
    with torch.no_grad():
        query, vector = verifier(*stack([asked, verifier.read(maps)]))
    shares = verifier.shares(maps, query)
    assert shares.shape == (5, 4) and not shares.requires_grad
    torch.testing.assert_close(shares.sum(), query @ vector, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["siam-fv", "non-metric"])
def test_evidence_lies_where_the_query_is_seen(kind):
    """The query is one quarter of the target, and the other three are of another kind."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 12, 8, 8), nn.ReLU()).requires_grad_(False)
    verifier = VERIFIERS[kind](12, 8)
    random = np.random.default_rng(0)
    query = random.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    target = np.full((256, 256, 3), 90, np.uint8)
    target[128:, :128] = query
    method = VerifierRetriever(PretrainedBackbone("toy", network), verifier)
    maps = [load_maps(extract(method.backbone, one)) for one in (query, target)]
    verifier.start(torch.cat([*map(verifier.read, maps)]))
    found = method.explain(method.encode(query), method.encode(target)).target_map
    assert found.shape == (32, 32) and (found >= 0).all()
    assert found[16:, :16].mean() > 2 * found[:16, 16:].mean()


def test_maps_too_small_for_regions_get_a_sentence():
    coarse = PretrainedBackbone("coarse", nn.Conv2d(3, 12, 64, 64).requires_grad_(False))
    with pytest.raises(ValueError, match=r"too small for R-MAC.*larger pictures"):
        VerifierRetriever(coarse, make("non-metric")).encode(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", VERIFIERS)
def test_files_come_back_bit_for_bit(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(verifiers, "load_backbone", lambda name: toy())
    path, verifier = tmp_path / "new" / "one.safetensors", make(kind)
    save_verifier(verifier, toy(), path, {"seed": "3"})
    again, metadata = load_verifier(path)
    assert type(again) is type(verifier) and not again.training and metadata["seed"] == "3"
    assert all(torch.equal(again.state_dict()[k], v) for k, v in verifier.state_dict().items())
    plain = [*map(VerifierRetriever(toy(), verifier).encode, pictures(4))]
    method = build_verifier(str(path))
    assert isinstance(method, DescriptorRetriever) == (kind == "deep-retrieval")
    for one, two in zip(plain, [*map(method.encode, pictures(4))], strict=True):
        np.testing.assert_allclose(one.vector, two.vector, atol=1e-5)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_weights_of_the_backbone_are_noticed(tmp_path, monkeypatch):
    other = PretrainedBackbone("toy", nn.Conv2d(3, 12, 8, 8).requires_grad_(False))
    monkeypatch.setattr(verifiers, "load_backbone", lambda name: other)
    save_verifier(make("siam-fv"), toy(), tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="learned on other weights of toy"):
        build_verifier(str(tmp_path / "one.safetensors"))


def test_broken_files_get_a_sentence(tmp_path):
    path = tmp_path / "one.safetensors"
    save_verifier(make("siam-fv"), toy(), path)
    metadata, tensors = load_verifier(path)[1], load_file(path)
    for means, given, words in (
        (tensors["means"][:3], metadata, "do not fit the module"),
        (tensors["means"] * math.nan, metadata, "NaN or infinity"),
        (tensors["means"], {}, "is no file of a verifier"),
    ):
        save_file(tensors | {"means": means}, path, given)
        with pytest.raises(ValueError, match=words):
            load_verifier(path)
    with pytest.raises(FileNotFoundError, match="neither shipped nor"):
        build_verifier(str(tmp_path / "two.safetensors"))


@pytest.mark.parametrize("kind", VERIFIERS)
def test_shipped_weights_are_small_and_load(kind):
    path = Path(WEIGHTS) / file_name(f"efficientnet-lite0:{kind}")
    assert path.stat().st_size < 1_000_000
    verifier, metadata = load_verifier(path)
    assert verifier.channels == 1280 and metadata["backbone"] == "efficientnet-lite0"
