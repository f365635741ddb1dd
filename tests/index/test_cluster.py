"""Two workers of a Dask cluster make and search an index as one process does, one killed or not."""

import os
import signal
from functools import partial

import pytest

from indiret.cli import main
from indiret.index import Collection, collection
from indiret.index.cluster import cluster_map, dask_client
from tests.index.toys import Nearest, Vector, save_photos

PHOTOS = 24


@pytest.fixture(scope="module")
def client():
    """Of two workers."""
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with dask_client("local", 2) as found:
        yield found


def test_parts_keep_their_order_and_errors_are_raised(client):
    assert list(cluster_map(client, partial(divmod, 100), [7, 3])) == [(14, 2), (33, 1)]
    assert list(cluster_map(client, partial(divmod, 100), [])) == []
    with pytest.raises(ZeroDivisionError):
        list(cluster_map(client, partial(divmod, 100), [7, 0]))


def test_a_worker_that_is_killed_changes_nothing(client, tmp_path, monkeypatch):
    """Photos are verified two by two, and the best of them ask, too."""
    for name, value in {
        "SHORTLISTED": PHOTOS // 2,
        "MOST_VERIFIED": PHOTOS // 2 - 1,
        "FEW": 2,
        "LEAST": 2,
    }.items():
        monkeypatch.setattr(collection, name, value)
    photos = save_photos(tmp_path / "photos", PHOTOS)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no photo")
    workers = list(client.run(os.getpid).values())
    killed, parts_of = [], []

    def kill_one(function, parts):
        """A cluster's map, a worker killed when its first result is there."""
        for result in cluster_map(client, function, parts := list(parts)):
            yield result
            if function.func is collection.score_photos and not killed:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
            parts_of.append(function.func.__name__)

    def make(index, apply):
        index.mkdir()
        with Collection(tmp_path / "photos", index, Vector(), Nearest()) as made:
            made.map = apply
            made.update()
            hits = [made.search(photo) for photo in photos[:2]]
            codes = (index / "codes" / "000000.codes").read_bytes()
            return hits, codes, made.problems(), made.store.catalogue.photos()

    assert make(tmp_path / "together", kill_one) == make(tmp_path / "alone", map)
    assert killed and {*parts_of} == {"encode_photos", "search_segment", "score_photos"}


def test_the_commands_take_a_cluster(client, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("INDIRET_CACHE", str(tmp_path / "cache"))
    photos = save_photos(tmp_path / "photos", 4)
    folder, cluster = str(tmp_path / "photos"), ["--scheduler", client.scheduler.address]
    assert main(["index", folder, "--method", "base", *cluster]) == 0
    assert "4 files read" in capsys.readouterr().out
    query = [str(photos[0]), folder]
    assert main(["search", *query, "--method", "base", "--keep-query", *cluster]) == 0
    assert "00000.png" in capsys.readouterr().out
    assert main(["search", *query, "--method", "sift-ransac", *cluster]) == 2
    assert "cannot be kept on disk" in capsys.readouterr().err
