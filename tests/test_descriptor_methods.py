"""`indiret.descriptor_methods`: names, batches, exported features, evidence, on a small network."""

import numpy as np
import pytest
import torch
from torch import nn

from indiret import descriptor_methods
from indiret.backbones import Backbone, ExportedFeatures, load_maps
from indiret.descriptor_methods import (
    AGAIN,
    OPTIONS,
    POOLINGS,
    DescriptorMethod,
    build_descriptor_method,
)
from indiret.protocol import measure_maps
from indiret.ranking import prepare, prepare_query, rank
from indiret.reproduction import evaluate
from indiret.reranking import Diffusion, KReciprocal, expand_query
from tests.tiny_town import make_tiny_town


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def town(tmp_path, monkeypatch):
    """A small data set, which stands in for Toytown train as well."""
    made = make_tiny_town(tmp_path / "town", "a", landmarks=4)
    monkeypatch.setattr(descriptor_methods, "load_dataset", lambda name, split: made)
    return made


def toy(classifier=True):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 12, 8, 8), nn.ReLU()).requires_grad_(False)
    head = nn.Linear(12, 20).requires_grad_(False) if classifier else None
    return Backbone("toy", network, head)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("option", [None, *OPTIONS])
def test_every_pooling_with_every_option_finds_the_picture_itself(town, pooling, option):
    method = DescriptorMethod(toy(), pooling, [option] if option else [])
    prepared = prepare(method, town)
    assert list(prepared.features) == list(town.images)
    for described in prepared.features.values():
        assert np.linalg.norm(described.vector) == pytest.approx(1, abs=1e-5)
    features = list(prepared.features.values())
    scores = method.score(features[3], features)
    assert scores.shape == (16,) and scores.dtype == np.float64
    assert option in AGAIN or scores.argmax() == 3


def test_expansion_of_the_query_does_not_outlive_its_database(town):
    method = DescriptorMethod(toy(), "gem", ["alphaqe"])
    features = [method.prepare(town.read(name)) for name in town.images]
    few = method.score(features[0], features[:3])
    method.score(features[0], features)
    np.testing.assert_array_equal(method.score(features[0], features[:3]), few)


def test_scales_are_averaged_and_stay_unit_vectors(town):
    backbone, name = toy(), next(iter(town.images))
    several = DescriptorMethod(backbone, "mac", ["ms"])
    picture = np.asarray(town.read(name)).repeat(4, axis=0).repeat(4, axis=1)
    vectors = []
    for scale in several.scales:
        maps = backbone.maps([backbone.fit(picture, scale)])
        vectors.append(nn.functional.normalize(maps.half().float().amax((2, 3)))[0])
    expected = nn.functional.normalize(torch.stack(vectors).mean(0), dim=0)
    np.testing.assert_allclose(several.prepare(picture).vector, expected, atol=1e-3)


def test_a_constant_picture_has_finite_scores(town):
    for pooling in POOLINGS:
        method = DescriptorMethod(toy(), pooling)
        black = method.prepare(np.zeros((64, 64, 3), np.uint8))
        other = method.prepare(town.read(next(iter(town.images))))
        assert np.isfinite(method.score(black, [black, other])).all()
        assert all(values.isfinite().all() for values in method.evidence(black, black).values())


def test_cam_crow_needs_a_classifier(town):
    with pytest.raises(ValueError, match="no linear classifier on its pooled maps"):
        DescriptorMethod(toy(classifier=False), "cam-crow")


def export(town, folder, describe):
    """Write features of every photo and query as another program would."""
    for part, names in (("images", town.images), ("queries", [q.name for q in town.queries])):
        (folder / part).mkdir(parents=True)
        for name in names:
            np.save(folder / part / f"{name}.npy", describe(part, name))


def test_exported_maps_rank_like_the_network_that_made_them(town, tmp_path):
    backbone = toy()
    method = DescriptorMethod(backbone, "gem")
    prepared = prepare(method, town)
    asked = {q.name: prepare_query(method, town, q) for q in town.queries}

    def maps(part, name):
        described = prepared.features[name] if part == "images" else asked[name]
        return load_maps(described.sources[0]).numpy()

    export(town, tmp_path / "out", maps)
    exported = build_descriptor_method(f"features={tmp_path / 'out'}:gem")
    assert rank(exported, town.queries, town) == rank(method, town.queries, town)
    (tmp_path / "out" / "images" / "a_0_000001.npy").unlink()
    assert "no features at" in prepare(exported, town).skipped["a_0_000001"]


def test_exported_vectors_are_used_as_they_are(town, tmp_path):
    export(town, tmp_path / "out", lambda part, name: np.eye(20)[hash(name) % 20] + 0.1)
    results = evaluate(f"features={tmp_path / 'out'}", town)
    assert results["database"] == 16 and results["evidence"] == {}
    assert results["mb_per_image"] == pytest.approx(20 * 4 / 1e6)


def test_exported_features_refuse_what_needs_a_network(town, tmp_path):
    export(town, tmp_path / "out", lambda part, name: np.ones(3))
    exported = ExportedFeatures(tmp_path / "out")
    for pooling, options in (("cam-crow", []), ("gem", ["whiten"]), ("gem", ["ms"])):
        with pytest.raises(ValueError, match="leave out cam-crow, ms and whiten"):
            DescriptorMethod(exported, pooling, options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efficientnet-lite0:gm", "pooling 'gm' is not known"),
        ("efficientnet-lite0:", "pooling '' is not known"),
        (":gem", "pooling 'gem'|backbone ''"),
        ("efficientnet-lite1:gem", "backbone 'efficientnet-lite1' is not known"),
    ],
)
def test_unknown_names_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        build_descriptor_method(name)


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="option 'white' is not known"):
        DescriptorMethod(toy(), "gem", ["white"])
    with pytest.raises(ValueError, match="exclude each other"):
        DescriptorMethod(toy(), "gem", ["aqe", "diffusion3"])
    for option in ("aqe0", "aqe-2", "ms3", "3"):
        with pytest.raises(ValueError, match=f"option '{option}' is not known"):
            DescriptorMethod(toy(), "gem", [option])


def test_a_second_look_has_its_usual_number_of_neighbours_or_its_own(town):
    for name, usual in AGAIN.items():
        assert DescriptorMethod(toy(), "gem", [name]).again == (name, usual)
        method = DescriptorMethod(toy(), "gem", [f"{name}3"])
        assert method.again == (name, 3)
        features = [method.prepare(town.read(photo)) for photo in town.images]
        matrix = np.stack([feature.vector for feature in features])
        query = features[2].vector
        expected = {
            "aqe": matrix @ expand_query(query, matrix, 3),
            "alphaqe": matrix @ expand_query(query, matrix, 3, alpha=3),
            "diffusion": Diffusion(matrix, 3).score(query),
            "kreciprocal": KReciprocal(matrix, 3, 1).score(query),
        }[name]
        np.testing.assert_allclose(method.score(features[2], features), expected, atol=1e-6)
        assert method.evidence(features[2], features[0]) == {}


def test_evidence_finds_the_part_that_both_pictures_share(town):
    """The query is cut out of a grey picture's left half: similarity lies there."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    poster = blocks.repeat(8, axis=0).repeat(8, axis=1)
    target = np.full((64, 128, 3), 128, np.uint8)
    target[:, :64] = poster
    for pooling in ("mac", "gem", "crow", "rmac"):
        method = DescriptorMethod(toy(), pooling)
        found = method.evidence(method.prepare(poster), method.prepare(target))
        for values in found.values():
            assert values.shape == (8, 16)
        similarity = found["similarity"]
        assert similarity[:, :8].mean() > 1.5 * similarity[:, 8:].mean(), pooling


def test_evidence_is_measured_like_a_networks(town):
    root = town.root
    for file in (root / "groundtruth").glob("*_1_query.txt"):
        for kind in ("query", "good", "ok", "junk"):
            text = (root / "groundtruth" / file.name.replace("query", kind)).read_text()
            second = file.name.replace("_1_query", f"_2_{kind}")
            (root / "groundtruth" / second).write_text(text.replace("000000 ", "000001 "))
    from indiret.datasets import load_dataset

    twice = load_dataset("oxford5k", root)
    method = DescriptorMethod(toy(), "gem")
    rows = measure_maps(method, twice, prepare(method, twice))
    assert {"saliency", "similarity", "similarity, other landmark", "all ones"} <= set(rows)
    for row in rows.values():
        assert {"mIoU", "otsu_iou", "pixel_auc"} <= set(row) and row["pairs"] == 8
    assert rows["all ones"]["pixel_auc"] == 0.5
    assert rows["ceiling: RoI"]["otsu_iou"] == 1.0
