"""`indiret.baselines.maps`: what is kept is made once, whole, and never taken for another's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from indiret.baselines import maps
from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.maps import ExportedFeatures, cache_folder, extract, feature_cells, load_maps
from tests.baselines.toys import pictures, toy


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that networks are given."""
    sizes, made = [], PretrainedBackbone.maps

    def counted(self, given):
        sizes.append(len(given))
        return made(self, given)

    monkeypatch.setattr(PretrainedBackbone, "maps", counted)
    return sizes


def test_extraction_is_batched_by_size_and_reused(batches, cache):
    backbone = toy()
    given = pictures(19) + pictures(2, 96, 64) + pictures(1)  # the last is the first again
    paths = extract(backbone, given)
    assert sorted(batches) == [2, 3, 8, 8] and paths[-1] == paths[0]
    for path, picture in zip(paths, given, strict=True):
        expected = backbone.maps([picture])[0]
        torch.testing.assert_close(load_maps(path), expected, atol=2e-3, rtol=2e-3)
    batches.clear()
    assert extract(backbone, given[::-1]) == paths[::-1] and batches == []
    named = dict(zip("abcdefghijklmnopqrstuv", given, strict=True))
    assert maps.extract_by_name(backbone, list(named), named.get, "test") == paths and batches == []
    assert len(list(cache.iterdir())) == 21  # nothing unfinished is left


def test_the_cache_tells_weights_sizes_and_pixels_apart():
    picture = pictures(1)
    other = [picture[0].copy()]
    other[0][5, 5, 0] ^= 1
    plain = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
    found = [
        *extract(toy(), picture + other + plain),
        *extract(toy(), picture, scale=1.5),
        *extract(toy(seed=1), picture),
        *extract(toy(std=(0.5, 0.5, 0.5)), picture),
    ]
    assert len(set(found)) == len(found) == 7
    assert extract(toy(), picture) == found[:1]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    with maps.empty_cache():
        assert not list(cache_folder().iterdir())
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("INDIRET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "indiret"
    with maps.empty_cache():
        assert cache_folder().is_dir()
    assert cache_folder() == tmp_path / "indiret"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "indiret"


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="set INDIRET_CACHE"):
        extract(toy(), pictures(1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 3)), "of shape"),
        (np.zeros((2, 0, 3)), "of shape"),
        (np.array(["a"]), "of shape"),
        (np.full((2, 3, 3), np.nan), "not finite"),
        (np.array([{"a": 1}]), "no file of features"),  # an object: never unpickled
        (b"\x93NUMPY and no more", "no file of features"),
    ],
)
def test_broken_and_absent_features_are_refused(tmp_path, values, words):
    path = tmp_path / "a.npy"
    with pytest.raises(FileNotFoundError, match="no features at"):
        load_maps(path)
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        np.save(path, values, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        load_maps(path)


def test_exported_features_lie_in_two_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images/NAME\.npy and queries/QUERY\.npy"):
        ExportedFeatures(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "queries").mkdir()
    exported = ExportedFeatures(tmp_path)
    assert exported.path("a/b") == tmp_path / "images" / "a" / "b.npy"
    assert exported.path("a", query=True) == tmp_path / "queries" / "a.npy"
    with pytest.raises(ValueError, match="leads out of the folder"):
        exported.path("../../secret")


def test_cells_are_squashed_to_the_grid_and_cached(batches):
    backbone, picture = toy(), pictures(1, 50, 70)[0]
    cells = feature_cells(backbone, picture, (9, 8))
    assert cells.shape == (9, 8, 12) and batches[-1] == 1
    batches.clear()
    assert torch.equal(feature_cells(backbone, picture, (9, 8)), cells) and not batches
    with pytest.raises(ValueError, match="not 2 x 2; choose another grid"):
        feature_cells(backbone, picture, (2, 2))
