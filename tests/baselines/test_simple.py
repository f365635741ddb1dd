"""`indiret.baselines.simple` against loops, and every retriever on what all must do."""

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.baselines.simple import ColourHistogram, MutualNearest, Thumbnail
from indiret.datasets import load_dataset
from indiret.evaluation import mean_average_precision
from indiret.patches import extract_patches
from indiret.retrieval import build_retriever, list_retrievers, rank
from tests.baselines.toys import build, scene
from tests.shared_data import OXFORD, needs_oxford

# CAM+CroW needs Toytown train for its classes: test_descriptors.py has it on a toy.
QUICK = [name for name in list_retrievers() if not name.endswith(":cam-crow")]


@pytest.mark.parametrize("name", QUICK)
def test_every_method_puts_the_picture_itself_first_and_bears_plain_and_smallest_ones(name):
    method = build(name)
    pictures = [*map(scene, range(4)), np.full((16, 16, 3), 128, np.uint8)]
    pictures += [scene(0, 16, 320), scene(1, 4, 4)]
    features = [*map(method.encode, pictures)]
    for place, picture in enumerate(pictures):
        scores = method.score(method.encode_query(picture), features)
        assert scores.shape == (7,) and scores.dtype == np.float64 and np.isfinite(scores).all()
        if place < 4:
            assert scores.argmax() == place and (scores == scores[place]).sum() == 1


@needs_oxford
@pytest.mark.parametrize(("name", "known"), [("colour-histogram", 0.27), ("thumbnail", 0.21)])
def test_known_figures_on_real_photos(name, known):
    data = load_dataset("oxford5k", OXFORD)
    hits = rank(build_retriever(name), data.queries, data)
    lists = {query: [hit.name for hit in ranked] for query, ranked in hits.items()}
    assert mean_average_precision(lists, data.queries) == pytest.approx(known, abs=0.015)


def test_histogram_by_a_loop():
    one, two = scene(0, 20, 30), scene(1, 20, 30)
    counts = np.zeros((2, 8, 8, 8))
    for which, picture in enumerate((one, two)):
        for red, green, blue in picture.reshape(-1, 3):
            counts[which, red // 32, green // 32, blue // 32] += 1 / 600
    method = ColourHistogram()
    score = method.score(method.encode(one), [method.encode(two)])
    assert score[0] == pytest.approx(np.minimum(*counts).sum(), abs=1e-6)


def test_thumbnail_is_the_correlation_of_grey_pixels():
    method = Thumbnail()
    pixels = []
    for seed in (0, 1):
        grey = Image.fromarray(scene(seed)).convert("L")
        pixels.append(np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR)).ravel())
    score = method.score(method.encode(scene(0)), [method.encode(scene(1))])
    assert score[0] == pytest.approx(np.corrcoef(pixels)[0, 1], abs=1e-5)


def test_mutual_nearest_by_a_loop():
    method = MutualNearest(grid=(5, 6), size=4)
    pictures = [scene(seed) for seed in range(70)]  # more than one batch
    features = [method.encode(picture) for picture in pictures]
    scores = method.score(features[0], features)
    units = []
    for picture in pictures:
        rows = extract_patches(picture, (5, 6), 4).reshape(30, -1).mul(255).round().numpy()
        units.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    for place in (0, 1, 65, 69):
        table = units[place] @ units[0].T
        count = sum(table[:, q].argmax() == t for t, q in enumerate(table.argmax(axis=1)))
        assert scores[place] == count


def test_evidence_of_mutual_neighbours_is_their_pairs():
    method = MutualNearest(grid=(5, 6), size=4)
    query, target = method.encode(scene(0)), method.encode(scene(1))
    pairs = method.explain(query, target).pairs
    assert pairs.shape == (5, 6, 5, 6) and pairs.min() >= 0
    same = method.explain(query, query).pairs.reshape(30, 30)
    assert (same.argmax(dim=1) == torch.arange(30)).float().mean() > 0.5
    assert method._mutual(query, target).sum() == method.score(query, [target])[0]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gist", ValueError, "'gist' is not known; choose from base"),
        ("efficientnet-lite0:gm", ValueError, "pooling='gm' is not known"),
        ("efficientnet-lite0:", ValueError, "pooling='' is not known"),
        (":gem", ValueError, "backbone ''"),
        ("efficientnet-lite1:gem", ValueError, "backbone 'efficientnet-lite1' is not known"),
        ("gist,thumbnail", ValueError, "'gist' is not known"),
        ("timm/resnet101:siam-fv", FileNotFoundError, "indiret train --network"),
        ("timm/resnet101:verifier", FileNotFoundError, "indiret train --network"),
        ("features=nowhere:gem", FileNotFoundError, "no folder nowhere/images"),
        ("run_12:30/x.safetensors", FileNotFoundError, "no network file"),
    ],
)
def test_names_of_nothing_get_the_right_sentence(name, error, words):
    with pytest.raises(error, match=words):
        build_retriever(name)
