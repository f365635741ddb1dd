"""`tools.make_collection`: distinct photos that depend on their number alone."""

import numpy as np
from PIL import Image

from tools import make_collection
from tools.make_collection import (
    SIDE,
    count_equal,
    make_photo,
    nearest_likeness,
    photo_path,
    warp_photo,
)


def test_a_larger_collection_begins_with_a_smaller_one(tmp_path):
    few = make_collection.make_collection(tmp_path, 3)
    before = [path.read_bytes() for path in few]
    few[1].unlink()
    many = make_collection.make_collection(tmp_path, 6)
    assert [path.read_bytes() for path in many[:3]] == before
    assert many == [photo_path(tmp_path, number) for number in range(6)]
    assert count_equal(many) == 0 and nearest_likeness(many).max() < 0.99


def test_equal_photos_are_counted_and_alike(tmp_path):
    paths = make_collection.make_collection(tmp_path, 3)
    paths[2].write_bytes(paths[0].read_bytes())
    assert count_equal(paths) == 1
    np.testing.assert_allclose(nearest_likeness(paths)[[0, 2]], 1, atol=1e-5)


def test_a_warped_photo_shows_nothing_from_beside_the_photo():
    """What lies outside would be black; light moves white, never to black."""
    white = Image.new("RGB", (320, 214), "white")
    for seed in range(60):
        made = warp_photo(white, np.random.default_rng(seed))
        assert max(made.size) == SIDE and np.asarray(made).min() > 100


def test_photos_of_one_source_differ():
    first, again = make_photo(5), make_photo(5 + len(make_collection.sources()))
    assert first.tobytes() != again.resize(first.size).tobytes()
