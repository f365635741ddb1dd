"""An album to search."""

import pytest

from indiret.datasets import load_dataset


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A place for indexes, shared by the tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INDIRET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Photos of three landmarks, a_0 to a_2, one of them broken, and a query outside the folder."""
    folder = tmp_path_factory.mktemp("album")
    town = load_dataset("toytown", split="validation")
    photos = folder / "photos"
    photos.mkdir()
    for number, query in enumerate(town.queries[::5][:3]):
        names = [query.image, *sorted(query.positives - {query.image})[:3]]
        for view, name in enumerate(names):
            (photos / f"a_{number}_{view:06d}.jpg").write_bytes(town.images[name].read_bytes())
    whole = (photos / "a_1_000001.jpg").read_bytes()
    (photos / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "<b>.jpg").write_bytes(whole)
    query = folder / "query.jpg"
    query.write_bytes((photos / "a_0_000000.jpg").read_bytes())
    return photos, query
