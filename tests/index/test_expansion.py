"""The second round: what only an answer finds is judged."""

import numpy as np
import pytest
from PIL import Image

from indiret.images import read_image
from indiret.index import Collection, collection, expansion
from indiret.index.shards import CodeStore
from tests.index.toys import Nearest, Vector, save_photos

LISTED, JUDGED, NEW = 6, 3, 4


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """What makes a collection of a folder, whose shortlist names six, of which three are judged."""
    sizes = {"SHORTLISTED": LISTED, "MOST_VERIFIED": JUDGED, "MOST_NEW": NEW, "FEW": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(collection, name, value)
    (tmp_path / "photos").mkdir()
    (tmp_path / "index").mkdir()
    with Collection(tmp_path / "photos", tmp_path / "index", Vector(), Nearest()) as made:
        yield made


def save_changed(path, *places):
    """A grey photo with some numbers of its fields changed."""
    fields = np.full(27, 90, np.uint8)
    for place, value in places:
        fields[place] += value
    Image.fromarray(fields.reshape(3, 3, 3).repeat(8, 0).repeat(8, 1)).save(path)


def test_an_answer_finds_what_the_query_cannot(opened):
    """Seven photos are nearer to the query than one which is much nearer to its first answer."""
    folder = opened.folder
    save_changed(query := folder.parent / "query.png")
    save_changed(folder / "answer.png", (0, 150))
    save_changed(folder / "wanted.png", (0, 150), (1, 30))
    for place in range(10, 17):
        save_changed(folder / f"{place}.png", (place, 160))
    opened.update()
    hits = {hit.name: hit for hit in opened.search(query, 99)}
    assert hits["wanted.png"].judged and hits["wanted.png"].score == pytest.approx(-180 / 255)
    (folder / "wanted.png").unlink()
    opened.update()
    assert "wanted.png" not in {hit.name for hit in opened.search(query, 99)}
    save_changed(folder / "wanted.png", (0, 150), (1, 30))
    opened.update()
    (folder / "answer.png").rename(folder.parent / "gone.png")
    assert len(opened.search(query, 99)) == LISTED


@pytest.mark.parametrize("turned", [False, True])
def test_it_judges_what_a_naive_second_round_judges(opened, monkeypatch, turned):
    monkeypatch.setattr(collection, "TURNED_VERIFIED", JUDGED)
    monkeypatch.setattr(collection, "ASKED_TURNS", 1)
    monkeypatch.setattr(CodeStore, "size", lambda self, number: number * 7 % 5)  # shapes mixed
    opened.turned = turned
    photos = save_photos(opened.folder, 40)
    opened.update()
    vectors = {path.name: Vector().encode(read_image(path)) for path in photos}

    def nearest(vector):
        return sorted(vectors, key=lambda name: np.abs(vectors[name] - vector).sum())

    for path in photos[:10]:
        listed = nearest(query := vectors[path.name])[:LISTED]
        lists = [nearest(vectors[name])[:LISTED] for name in listed[: expansion.MOST_ASKING]]
        turns = [name for both in zip(*lists, strict=True) for name in sorted(both)]
        new = [name for name in dict.fromkeys(turns) if name not in listed][:NEW]
        judged = {name: -np.abs(vectors[name] - query).sum() for name in listed[:JUDGED] + new}
        hits = opened.search(path, 99)
        assert [hit.name for hit in hits] == sorted(judged, key=judged.get)[::-1] + listed[JUDGED:]
        assert {hit.name for hit in hits if hit.judged} == judged.keys()
