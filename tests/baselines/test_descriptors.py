"""`indiret.baselines.descriptors`: names, batches, exported features, evidence."""

import numpy as np
import pytest
import torch
from torch import nn

from indiret.baselines import descriptors
from indiret.baselines.descriptors import OPTIONS, POOLINGS, DescriptorRetriever
from indiret.baselines.maps import load_maps
from indiret.baselines.neighbours import Diffusion, KReciprocal
from indiret.baselines.reranking import AGAIN, expand_query
from indiret.experiments.evaluator import evaluate
from indiret.retrieval import build_retriever, encode_query, index_database, rank
from tests.baselines.toys import pictures, toy
from tests.tiny_town import make_tiny_town


@pytest.fixture
def town(tmp_path, monkeypatch):
    """A small data set, which stands in for Toytown train as well."""
    made = make_tiny_town(tmp_path / "town", "a", landmarks=4)
    monkeypatch.setattr(descriptors, "load_dataset", lambda name, split: made)
    return made


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("option", [None, *OPTIONS])
def test_every_pooling_with_every_option_finds_the_picture_itself(town, pooling, option):
    method = DescriptorRetriever(toy(), pooling, [option] if option else [])
    indexed = index_database(method, town)
    assert list(indexed.features) == list(town.images)
    for encoded in indexed.features.values():
        assert np.linalg.norm(encoded.vector) == pytest.approx(1, abs=1e-5)
    features = list(indexed.features.values())
    scores = method.score(features[3], features)
    assert scores.shape == (16,) and scores.dtype == np.float64
    assert option in AGAIN or scores.argmax() == 3


def test_scales_are_averaged_and_stay_unit_vectors(town):
    backbone, name = toy(), next(iter(town.images))
    several = DescriptorRetriever(backbone, "mac", ["ms"])
    picture = np.asarray(town.read(name)).repeat(4, axis=0).repeat(4, axis=1)
    vectors = []
    for scale in several.scales:
        maps = backbone.maps([backbone.fit(picture, scale)])
        vectors.append(nn.functional.normalize(maps.half().float().amax((2, 3)))[0])
    expected = nn.functional.normalize(torch.stack(vectors).mean(0), dim=0)
    np.testing.assert_allclose(several.encode(picture).vector, expected, atol=1e-3)


def test_a_constant_picture_has_finite_scores(town):
    for pooling in POOLINGS:
        method = DescriptorRetriever(toy(), pooling)
        black = method.encode(np.zeros((64, 64, 3), np.uint8))
        other = method.encode(town.read(next(iter(town.images))))
        assert np.isfinite(method.score(black, [black, other])).all()
        for kind in method.evidence_kinds:
            assert method.explain(black, black, kind).pairs.isfinite().all()


def export(town, folder, describe):
    """Write features of every photo and query as another program would."""
    for part, names in (("images", town.images), ("queries", [q.name for q in town.queries])):
        (folder / part).mkdir(parents=True)
        for name in names:
            np.save(folder / part / f"{name}.npy", describe(part, name))


def test_exported_maps_rank_like_the_network_that_made_them(town, tmp_path):
    backbone = toy()
    method = DescriptorRetriever(backbone, "gem")
    indexed = index_database(method, town)
    asked = {q.name: encode_query(method, town, q) for q in town.queries}

    def maps(part, name):
        encoded = indexed.features[name] if part == "images" else asked[name]
        return load_maps(encoded.maps).numpy()

    export(town, tmp_path / "out", maps)
    exported = build_retriever(f"features={tmp_path / 'out'}:gem")
    assert rank(exported, town.queries, town) == rank(method, town.queries, town)
    (tmp_path / "out" / "images" / "a_0_000001.npy").unlink()
    assert "no file" in index_database(exported, town).skipped["a_0_000001"]


def test_exported_vectors_are_used_as_they_are(town, tmp_path):
    export(town, tmp_path / "out", lambda part, name: np.eye(20)[hash(name) % 20] + 0.1)
    method = build_retriever(f"features={tmp_path / 'out'}")
    features = index_database(method, town).features
    expected = np.load(tmp_path / "out" / "images" / "a_3_000000.npy")
    found = features["a_3_000000"].vector
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-6)
    assert len(features) == 16 and found.dtype == np.float32 and not method.evidence_kinds
    np.save(tmp_path / "out" / "images" / "a_3_000001.npy", np.ones(7))
    with pytest.raises(ValueError, match=r"a_3_000001.npy .* 7 values, others by 20"):
        index_database(method, town)
    for pooling, options in (("cam-crow", []), ("gem", ["whiten"]), ("gem", ["ms"])):
        with pytest.raises(ValueError, match="leave out cam-crow, ms and whiten"):
            DescriptorRetriever(method.backbone, pooling, options)


def test_a_query_without_features_from_elsewhere_is_left_out_and_named(town, tmp_path):
    export(town, tmp_path / "out", lambda part, name: np.random.default_rng(len(name)).random(20))
    name, whole = f"features={tmp_path / 'out'}", town.queries
    (tmp_path / "out" / "queries" / f"{whole[0].name}.npy").unlink()
    (tmp_path / "out" / "images" / f"{whole[1].image}.npy").unlink()
    found = evaluate(name, town)
    assert found["AP"].keys() == {query.name for query in whole[2:]}
    assert found["left_out"] == {"photos": [1, len(town.images)], "queries": [2, len(whole)]}
    assert found["skipped"].keys() == {whole[0].name, whole[1].name, whole[1].image}
    assert found["database"] == len(town.images) - 1  # the photo of the first query stays in it


def test_what_a_backbone_cannot_do_is_refused():
    with pytest.raises(ValueError, match="no linear classifier on its pooled maps"):
        DescriptorRetriever(toy(classifier=False), "cam-crow")
    with pytest.raises(ValueError, match="exclude each other"):
        DescriptorRetriever(toy(), "gem", ["aqe", "diffusion3"])
    for option in ("white", "aqe0", "aqe-2", "ms3", "3"):
        with pytest.raises(ValueError, match=f"option='{option}' is not known"):
            DescriptorRetriever(toy(), "gem", [option])


@pytest.mark.parametrize(("name", "usual"), AGAIN.items())
def test_a_reranking_has_its_usual_number_of_neighbours_or_its_own(town, name, usual):
    assert DescriptorRetriever(toy(), "gem", [name]).again == (name, usual)
    method = DescriptorRetriever(toy(), "gem", [f"{name}3"])
    features = [method.encode(town.read(photo)) for photo in town.images]
    matrix, query = np.stack([feature.vector for feature in features]), features[2].vector
    expected = {
        "aqe": matrix @ expand_query(query, matrix, 3),
        "alphaqe": matrix @ expand_query(query, matrix, 3, alpha=3),
        "diffusion": Diffusion(matrix @ matrix.T, 3).score(matrix @ query),
        "kreciprocal": KReciprocal(matrix @ matrix.T, 3, 1).score(matrix @ query),
    }[name]
    few = method.score(features[2], features[:3])
    np.testing.assert_allclose(method.score(features[2], features), expected, atol=1e-6)
    np.testing.assert_array_equal(method.score(features[2], features[:3]), few)
    with pytest.raises(ValueError, match="ranks without evidence"):
        method.explain(features[2], features[0])


def test_evidence_finds_the_part_that_both_pictures_share(town):
    """The query is cut out of a grey picture's left half: similarity lies there."""
    (blocks,) = pictures(1, 8, 8)
    poster = blocks.repeat(8, axis=0).repeat(8, axis=1)
    target = np.full((64, 128, 3), 128, np.uint8)
    target[:, :64] = poster
    for pooling in ("mac", "gem", "crow", "rmac"):
        method = DescriptorRetriever(toy(), pooling)
        seen = method.encode(poster), method.encode(target)
        saliency, similarity = (method.explain(*seen, k).target_map for k in method.evidence_kinds)
        assert saliency.shape == similarity.shape == (8, 16)
        assert similarity[:, :8].mean() > 1.5 * similarity[:, 8:].mean(), pooling


def test_a_vector_is_kept_in_half_precision_and_what_ranks_as_a_whole_is_not(town):
    method = DescriptorRetriever(toy(), "gem", ["whiten"])
    encoded = [*map(method.encode, pictures(9))]
    kept = [method.unpack(method.pack(one)) for one in encoded]
    np.testing.assert_allclose(
        method.score(kept[0], kept), method.score(encoded[0], encoded), atol=2e-3
    )
    assert len(method.pack(encoded[0])) == 2 * 12
    others = [DescriptorRetriever(toy(), "gem"), DescriptorRetriever(toy(), "gem", ["ms"])]
    others += [DescriptorRetriever(toy(), "mac"), DescriptorRetriever(toy(1), "gem")]
    assert len({one.fingerprint() for one in (method, *others)}) == 5
    assert DescriptorRetriever(toy(), "mac").fingerprint() == others[2].fingerprint()
    with pytest.raises(ValueError, match="cannot be kept on disk"):
        DescriptorRetriever(toy(), "gem", ["aqe"]).fingerprint()
