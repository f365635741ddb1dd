"""`indiret.baselines.maps`: what is kept is made once, whole, and never taken for another's."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from indiret.baselines import maps
from indiret.baselines.backbones import PretrainedBackbone
from indiret.baselines.descriptors import DescriptorRetriever
from indiret.baselines.maps import (
    ExportedFeatures,
    extract,
    extract_by_name,
    feature_cells,
    load_maps,
)
from indiret.datasets.folders import cache_folder
from tests.baselines.toys import pictures, toy


@pytest.fixture
def made(monkeypatch):
    """The shapes of the pictures that networks are given."""
    shapes, maps_of = [], PretrainedBackbone.maps

    def counted(self, given):
        shapes.append([picture.shape for picture in given])
        return maps_of(self, given)

    monkeypatch.setattr(PretrainedBackbone, "maps", counted)
    return shapes


def test_maps_are_made_once_and_by_themselves(made, cache):
    backbone = toy()
    given = pictures(3) + pictures(2, 96, 64) + pictures(1)  # the last is the first again
    found = [extract(backbone, one) for one in given]
    assert made == [[picture.shape] for picture in given[:5]] and found[-1] == found[0]
    for source, picture in zip(found, given, strict=True):
        expected = backbone.maps([picture])[0]
        torch.testing.assert_close(load_maps(source), expected, atol=2e-3, rtol=2e-3)
    made.clear()
    assert [extract(backbone, one) for one in given] == found
    named = dict(enumerate(given))
    for one, other in zip(extract_by_name(backbone, named, named.get, "test"), found, strict=True):
        assert one.equal(load_maps(other))
    assert not made and len(list(cache.iterdir())) == 5  # nothing unfinished is left


def test_what_is_to_be_packed_is_the_same_and_fills_no_cache(cache):
    retriever, (picture,) = DescriptorRetriever(toy(), "gem"), pictures(1)
    vector = retriever.encode_to_pack(picture).vector
    assert not cache.exists()
    np.testing.assert_array_equal(vector, retriever.encode(picture).vector)
    assert len(list(cache.iterdir())) == 1


def test_the_cache_tells_weights_sizes_and_pixels_apart(cache):
    (picture,), plain = pictures(1), np.zeros((64, 96, 3), np.uint8)
    other = picture.copy()
    other[5, 5, 0] ^= 1
    for one in (picture, other, plain, plain.transpose(1, 0, 2)):
        extract(toy(), one)
    extract(toy(), picture, scale=1.5)
    extract(toy(seed=1), picture)
    extract(toy(std=(0.5, 0.5, 0.5)), picture)
    assert len(list(cache.iterdir())) == 7


def test_values_beyond_half_precision_are_refused():
    bright = PretrainedBackbone("bright", nn.Conv2d(3, 1, 8, 8), std=(1e-9,) * 3)
    with pytest.raises(ValueError, match="bright gives values beyond half precision"):
        extract(bright, *pictures(1))


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replaced_by_other_maps(path):
    with path.open("wb") as file:
        np.savez_compressed(file, maps=np.full((12, 2, 2), np.nan))


FAULTS = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-50] + b"x" * 50),
    "another's": lambda path: path.write_bytes(max(path.parent.iterdir()).read_bytes()),
    "other maps": replaced_by_other_maps,
    "a folder": replaced_by_a_folder,
    "a pipe": replaced_by_a_pipe,
    "no folder": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cache_that_is_damaged_costs_time_alone(cache, made, fault):
    retriever = DescriptorRetriever(toy(), "gem")
    given = pictures(3)
    encoded = [*map(retriever.encode, given)]
    FAULTS[fault](min(cache.iterdir()))
    pairs = retriever.explain(encoded[0], encoded[1]).pairs  # of what was encoded before
    again = [*map(retriever.encode, given)]
    for one, other in zip(encoded, again, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
    assert len(made) == (6 if fault == "no folder" else 4)
    assert retriever.explain(again[0], again[1]).pairs.equal(pairs)
    assert fault == "a folder" or len(list(cache.iterdir())) == 3


def test_a_cache_that_is_deleted_all_the_while_costs_time_alone(cache):
    given, done = pictures(40, 32, 32), threading.Event()

    def delete():
        while not done.is_set():
            shutil.rmtree(cache, ignore_errors=True)

    threads = [threading.Thread(target=delete) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [extract(toy(), one) for one in given]
    done.set()
    for thread in threads:
        thread.join()
    assert found == [extract(toy(), one) for one in given]


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
        extract(toy(), *pictures(1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 3)), "of shape"),
        (np.zeros((2, 0, 3)), "of shape"),
        (np.array(["a"]), "of shape"),
        (np.full((2, 3, 3), np.nan), "not finite"),
        (np.array([{"a": 1}]), "not an array"),  # an object: never unpickled
        (b"\x93NUMPY and no more", "not an array"),
    ],
)
def test_broken_and_absent_features_are_refused(tmp_path, values, words):
    path = tmp_path / "a.npy"
    with pytest.raises(FileNotFoundError, match="no file"):
        load_maps(path)
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        np.save(path, values, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        load_maps(path)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_exported_features_may_have_any_magnitude(tmp_path, scale):
    values = np.random.default_rng(0).random((3, 4, 5))
    np.save(tmp_path / "a.npy", values * scale)
    found = load_maps(tmp_path / "a.npy")
    np.testing.assert_allclose(found, values / values.max(), rtol=1e-6)


def test_exported_features_lie_in_two_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images/NAME\.npy and queries/QUERY\.npy"):
        ExportedFeatures(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "queries").mkdir()
    exported = ExportedFeatures(tmp_path)
    assert exported.path("a/b") == tmp_path / "images" / "a" / "b.npy"
    assert exported.path("a", query=True) == tmp_path / "queries" / "a.npy"
    apart = tmp_path / "queries" / "cafe\u0301_1.npy"
    apart.touch()
    assert ExportedFeatures(tmp_path).path("café_1", query=True) == apart
    with pytest.raises(ValueError, match="leads out of the folder"):
        exported.path("../../secret")


def test_cells_are_squashed_to_the_grid_and_cached(made):
    backbone, picture = toy(), pictures(1, 50, 70)[0]
    cells = feature_cells(backbone, picture, (9, 8))
    assert cells.shape == (9, 8, 12)
    made.clear()
    assert torch.equal(feature_cells(backbone, picture, (9, 8)), cells) and not made
    with pytest.raises(ValueError, match="not 2 x 2; choose another grid"):
        feature_cells(backbone, picture, (2, 2))
