"""`indiret.datasets`: each layout read whole, and each broken one named in a sentence."""

import hashlib
import json
import os
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from indiret.datasets import (
    SPLITS,
    TOYTOWN,
    PhotoRegions,
    Query,
    Region,
    load_clicked_pairs,
    load_dataset,
    use_regions,
    write_regions,
)
from indiret.datasets.toytown import read_geometry
from indiret.images import image_size
from tests.shared_data import OXFORD, SHARED, needs_oxford

needs_toytown = pytest.mark.skipif(
    not (TOYTOWN / "MANIFEST.sha256").is_file(), reason=f"Toytown is not rendered at {TOYTOWN}"
)


def photo(path, size=(80, 60), colour=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour,) * 3).save(path)


def truth(root, name, query, *answers):
    (root / "groundtruth").mkdir(exist_ok=True)
    lists = [text.replace(" ", "\n") for text in (*answers, "", "", "")]
    for kind, text in zip(("query", "good", "ok", "junk"), (query, *lists), strict=False):
        (root / "groundtruth" / f"{name}_{kind}.txt").write_text(text)


@pytest.fixture
def oxford(tmp_path):
    """Six photos and two queries in the benchmark's layout."""
    for name in ("mill_000001", "mill_000002", "mill_000003", "st_osyth_000001", "town_000001"):
        photo(tmp_path / "images" / f"{name}.jpg")
    photo(tmp_path / "images" / "st_osyth_000002.png", size=(60, 80))
    answers = "mill_000001 mill_000002", "mill_000003", "town_000001"
    truth(tmp_path, "mill_1", "oxc1_mill_000001 10.2 5 60 45.5", *answers)
    truth(tmp_path, "st_osyth_2", "st_osyth_000002 0 0 60 80", "st_osyth_000001")
    return tmp_path


def test_official_layout(oxford):
    data = load_dataset("oxford5k", str(oxford))
    assert list(data.images) == sorted(data.images) and len(data.images) == 6
    mill, osyth = data.queries
    good, ok, junk = {"mill_000001", "mill_000002"}, {"mill_000003"}, {"town_000001"}
    answers = map(frozenset, (good, ok, junk))
    assert mill == Query("mill_1", "mill_000001", (10.2, 5.0, 60.0, 45.5), "mill", *answers)
    assert mill.positives == good | ok
    assert osyth.landmark == "st_osyth" and osyth.junk == frozenset()
    assert data.landmarks == ("mill", "st_osyth") and data.skipped == ()
    assert data.query_images["mill_000001"] == data.images["mill_000001"]
    assert data.read_query(mill).shape == (41, 50, 3)
    roi = data.roi("mill_000001")
    assert roi[5:46, 10:60].all() and roi.sum() == 41 * 50
    assert data.roi("mill_000002") is None and data.geometry("mill_000001") is None
    with pytest.raises(ValueError, match="no image named"):
        data.roi("tower")


def test_hash_follows_photos_and_queries(oxford):
    before = load_dataset("oxford5k", oxford).manifest_hash()
    assert before == load_dataset("oxford5k", oxford).manifest_hash()
    truth(oxford, "mill_1", "mill_000001 10 5 60 45.5", "mill_000001 mill_000002")
    changed = load_dataset("oxford5k", oxford).manifest_hash()
    (oxford / "images" / "town_000001.jpg").unlink()
    assert len({before, changed, load_dataset("oxford5k", oxford).manifest_hash()}) == 3


WRITTEN = {
    "byte order mark": lambda name: "\ufeff" + name,
    "prefix": lambda name: "oxc1_" + name,
    "extension": lambda name: name + ".jpg",
    "capitals": lambda name: name + ".JPG",
    "two extensions": lambda name: name + ".jpg.png",
    "folder": lambda name: f"./images/{name}.jpeg",
    "Windows": lambda name: f"images\\{name}.jpg\r",
    "composed": lambda name: unicodedata.normalize("NFC", name),
    "taken apart": lambda name: unicodedata.normalize("NFD", name),
}


@pytest.mark.parametrize("kind", ("good", "ok", "junk", "query"))
@pytest.mark.parametrize("stored", ("NFC", "NFD"))
@pytest.mark.parametrize("way", WRITTEN)
def test_names_are_compared_as_people_write_them(tmp_path, way, stored, kind):
    names = [unicodedata.normalize(stored, f"café_{number}") for number in range(5)]
    for name in names:
        photo(tmp_path / "images" / f"{name}.JPG")
    lists = {"good": names[:2], "ok": names[2:3], "junk": names[3:4], "query": names[:1]}
    lists[kind] = [WRITTEN[way](lists[kind][0]), *lists[kind][1:]]
    lists["query"][0] += " 5 5 60 40"
    (tmp_path / "groundtruth").mkdir()
    for what, lines in lists.items():
        path = tmp_path / "groundtruth" / f"mill_1_{what}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
    (query,) = load_dataset("oxford5k", tmp_path).queries
    assert query.image == names[0]
    assert (query.good, query.ok, query.junk) == (set(names[:2]), {names[2]}, {names[3]})


@pytest.mark.parametrize("listed", ["café_1".encode(), "cafe\u0301_1".encode(), b"caf\xe9_1"])
@pytest.mark.parametrize("stored", ["café_1".encode(), b"caf\xe9_1"])
def test_names_that_are_not_utf8(oxford, stored, listed):
    photo(oxford / "images" / (os.fsdecode(stored) + ".jpg"))
    (oxford / "groundtruth" / "mill_1_good.txt").write_bytes(listed + b"\n")
    data = load_dataset("oxford5k", oxford)
    assert data.queries[0].good == {os.fsdecode(stored)} and not data.skipped
    assert len(data.manifest_hash()) == 64 and data.fingerprint()


def test_a_name_that_means_two_photos_or_none_is_said(oxford):
    for form in ("NFC", "NFD"):
        photo(oxford / "images" / (unicodedata.normalize(form, "café_1") + ".jpg"))
    good = oxford / "groundtruth" / "mill_1_good.txt"
    good.write_text("café_1\nmill_000001", encoding="utf-8")  # the very name of one of them
    assert load_dataset("oxford5k", oxford).queries[0].good == {"café_1", "mill_000001"}
    good.write_bytes(b"caf\xe9_1\nmill_000001\nmill_9")
    data = load_dataset("oxford5k", oxford)
    assert data.queries[0].good == {"mill_000001"} and len(data.skipped) == 2
    assert re.search("it may be 'caf.*' and 'caf.*but not in", "".join(dict(data.skipped).values()))
    good.write_text("oxc1_mill_000003.jpg")
    with pytest.raises(ValueError, match="lists mill_000003 as more than one of good, ok, junk"):
        load_dataset("oxford5k", oxford)
    for side, form in (("Query", "mill_1.PNG"), ("Reference", "mill_1.jpg")):
        photo(oxford / side / form)
        photo(oxford / side / (unicodedata.normalize("NFC" if side == "Query" else "NFD", "é.png")))
    assert [query.name for query in load_dataset("pairs", oxford).queries] == ["mill_1", "é"]
    photo(oxford / "Reference" / (os.fsdecode(b"\xe9") + ".png"))
    with pytest.raises(ValueError, match=r"may be .* or .*; rename one"):
        load_dataset("pairs", oxford)


@pytest.mark.parametrize("kind", ("query", "good", "ok", "junk"))
def test_lists_of_one_query_in_both_forms_of_accents(oxford, kind):
    truth(oxford, "café_1", "mill_000001 0 0 60 40", "mill_000001")
    file, taken_apart = (
        oxford / "groundtruth" / unicodedata.normalize(form, f"café_1_{kind}.txt")
        for form in ("NFC", "NFD")
    )
    file.rename(taken_apart)
    query = load_dataset("oxford5k", oxford).queries[0]
    assert (query.name, query.landmark, query.good) == ("café_1", "café", {"mill_000001"})
    if kind == "query":
        file.write_text(taken_apart.read_text())
        with pytest.raises(ValueError, match=r"would both be named café_1_query\.txt"):
            load_dataset("oxford5k", oxford)


def test_fingerprint_says_what_changed(oxford):
    def changes(change):
        before = load_dataset("oxford5k", oxford).fingerprint()
        change()
        after = load_dataset("oxford5k", oxford).fingerprint()
        return [what for what in before if before[what] != after[what]]

    assert changes(lambda: (oxford / "images" / "town_000001.jpg").touch()) == []
    assert changes(lambda: photo(oxford / "images" / "town_000001.jpg", colour=91)) == ["photos"]
    assert changes(lambda: truth(oxford, "mill_1", "mill_000001 10 5 60 45", "mill_000002")) == [
        "ground truth"
    ]
    assert changes(lambda: photo(oxford / "masks" / "mill_000001.png")) == ["regions"]
    data = load_dataset("oxford5k", oxford)
    (oxford / "images" / "town_000001.jpg").unlink()
    assert data.fingerprint()["photos"] != load_dataset("oxford5k", oxford).fingerprint()["photos"]


def test_what_a_sample_lacks_is_reported(oxford):
    truth(oxford, "mill_2", "gone_000009 0 0 30 30", "mill_000001")
    truth(oxford, "mill_3", "mill_000001 0 0 30 30", "gone_000008")
    truth(oxford, "mill_4", "mill_000001 0 0 30 30", "mill_000001 gone_000008", "", "gone_000007")
    (oxford / "images" / "mill_000003.jpg").write_bytes(b"not an image")
    data = load_dataset("oxford5k", oxford)
    assert [query.name for query in data.queries] == ["mill_1", "mill_4", "st_osyth_2"]
    assert data.queries[1].positives == {"mill_000001"} and not data.queries[1].junk
    assert data.queries[0].ok == frozenset()
    reasons = dict(data.skipped)
    absent = {"gone_000007", "gone_000008", "gone_000009"}
    assert set(reasons) == absent | {"mill_000003", "mill_2", "mill_3"}
    found = reasons["mill_000003"] + reasons["gone_000008"] + reasons["mill_2"]
    assert re.search("is not an image.*not in.*absent or broken", found)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "gif", "jp2"])
@pytest.mark.parametrize("name", ["mill_000001", "mill_000002"])
def test_a_photo_that_breaks_late_leaves_the_set_like_one_that_breaks_early(oxford, name, kind):
    """Of a query and of an answer; PNG files are read to their end for their size alone."""
    photo = oxford / f"images/{name}.{kind}"
    (oxford / f"images/{name}.jpg").unlink()
    Image.effect_noise((80, 60), 90).convert("RGB").save(photo)
    region = Region.from_box((1, 2, 30, 40))
    photos = {one: PhotoRegions((60, 80), [region]) for one in (name, "town_000001")}
    write_regions(oxford / "regions.json", photos)
    whole, found = photo.read_bytes(), []
    for broken in (whole[: len(whole) * 2 // 3], b"\0" * len(whole)):
        photo.write_bytes(broken)
        town = load_dataset("oxford5k", oxford)
        left = use_regions(town, oxford / "regions.json").readable()
        found.append((left.images.keys(), left.queries, set(dict(left.skipped)) - {"regions.json"}))
    assert found[0] == found[1] and name in found[0][2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mill_000001 0 0 300 30", "outside the picture, which is 80 pixels wide"),
        ("mill_000001 0 0 nan 30", "finite"),
        ("mill_000001 0 0 3o 30", "name x1 y1 x2 y2; it holds 'mill_000001 0 0 3o 30'"),
        ("mill_000001 0 0 30 30 5", "one line"),
        ("", "one line"),
    ],
)
def test_bad_query_lines_name_their_file(oxford, line, words):
    truth(oxford, "mill_1", line, "mill_000001")
    with pytest.raises(ValueError, match=rf"mill_1_query\.txt.*{words}"):
        load_dataset("oxford5k", oxford)


def test_other_broken_ground_truth(oxford):
    folder = oxford / "groundtruth"
    for content, words in (
        (b"mill_000002\n", "mill_000002 as more than one of good, ok, junk"),
        (b"mill 000003\n", r"mill_1_ok\.txt must hold one image name a line"),
        (b"mill\0", r"mill_1_ok\.txt is not a text file"),
    ):
        (folder / "mill_1_ok.txt").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load_dataset("oxford5k", oxford)
    (folder / "mill_1_ok.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*mill_1_ok\.txt"):
        load_dataset("oxford5k", oxford)
    (folder / "mill_1_query.txt").rename(folder / "mill_query.txt")
    with pytest.raises(ValueError, match="must be named <landmark>_<number>_query"):
        load_dataset("oxford5k", oxford)
    folder.rename(oxford / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"folder .*groundtruth; expected in .*query,good"):
        load_dataset("oxford5k", oxford)


def test_hidden_files_windows_lines_no_query_with_a_photo_and_two_photos_of_one_name(oxford):
    folder = oxford / "groundtruth"
    (folder / "._mill_1_query.txt").write_bytes(b"\0\xff")
    (folder / "mill_1_good.txt").write_bytes(b"mill_000001\r\nmill_000002\r\n\r\nmill_000001\r\n")
    assert load_dataset("oxford5k", oxford).queries[0].good == {"mill_000001", "mill_000002"}
    for path in folder.glob("[!.]*_query.txt"):
        path.write_text("gone_000001 0 0 30 30")
    with pytest.raises(FileNotFoundError, match="None of the 2 queries"):
        load_dataset("oxford5k", oxford)
    photo(oxford / "images" / "mill_000001.png")
    with pytest.raises(ValueError, match="would both be named mill_000001"):
        load_dataset("oxford5k", oxford)


def test_positions_are_stored_as_steps(tmp_path):
    """The far corner is 65534 steps away; 65535 in all three is no landmark."""
    steps = np.full((3, 4, 3), 65535, np.uint16)
    steps[0, 1] = 0, 32767, 65534
    steps[2, 3] = 65535, 65535, 65534
    arrays = {"positions/mill": steps, "cameras/mill": np.eye(3, 4)}
    np.savez(tmp_path / "a.npz", lo=[-1.0, 0, 0], hi=[1.0, 4, 10], **arrays)
    geometry = read_geometry(tmp_path / "a.npz", "mill")
    np.testing.assert_allclose(geometry.positions[0, 1], (-1, 2, 10), atol=1e-4)
    np.testing.assert_allclose(geometry.positions[2, 3, 2], 10)
    assert np.isnan(geometry.positions[0, 0]).all() and geometry.cell == 10
    np.testing.assert_array_equal(geometry.camera, np.eye(3, 4))
    assert read_geometry(tmp_path / "a.npz", "town") is None


def test_pairs(tmp_path):
    for group in ("covers", "paintings"):
        for side in ("Query", "Reference"):
            for number in ("001", "002"):
                photo(tmp_path / group / side / f"{number}.jpg")
    photo(tmp_path / "covers" / "Query" / "003.jpg")
    photo(tmp_path / "covers" / "Reference" / "004.png")
    (tmp_path / "paintings" / "Reference" / "002.jpg").write_bytes(b"broken")
    data = load_dataset("pairs", tmp_path)
    assert [query.name for query in data.queries] == ["covers/001", "covers/002", "paintings/001"]
    assert data.queries[0].image == "covers/Query/001.jpg"
    assert data.queries[0].positives == {"covers/Reference/001.jpg"}
    assert set(data.query_images) == {query.image for query in data.queries}
    assert not set(data.query_images) & set(data.images) and len(data.images) == 4
    assert data.read_query(data.queries[0]).shape == (60, 80, 3)
    left_out = ["covers/003", "paintings/002", "paintings/Reference/002.jpg"]
    assert sorted(name for name, _ in data.skipped) == left_out
    photo(tmp_path / "one" / "Query" / "1.jpg")
    with pytest.raises(FileNotFoundError, match=r"Reference.* does not exist"):
        load_dataset("pairs", tmp_path / "one")
    photo(tmp_path / "one" / "Reference" / "1.jpg")
    assert load_dataset("pairs", tmp_path / "one").queries[0].name == "1"


def test_folder(tmp_path):
    photo(tmp_path / "a" / "1.jpg")
    photo(tmp_path / "b" / "1.jpg")
    photo(tmp_path / "thin.png", size=(1, 5000))
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    data = load_dataset("folder", tmp_path)
    assert list(data.images) == ["a/1.jpg", "b/1.jpg"] and data.queries == ()
    assert [name for name, _ in data.skipped] == ["gone.jpg", "thin.png"]
    assert data.landmarks == () and data.roi("a/1.jpg") is None


def test_places_that_hold_something_else(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"no")
    for arguments, words in (
        (("folder", tmp_path / "bad"), "None of the 1 images"),
        (("folder", tmp_path / "none"), "There is no folder"),
        (("pairs", tmp_path), "holds no pairs; expected are .*Query"),
        (("oxford",), "no data set 'oxford'; choose one of"),
        (("oxford5k",), "needs root"),
        (("toytown", None, "val"), "no split 'val'; choose one of"),
        (("toytown", tmp_path, "train"), "no folder .*train"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            load_dataset(*arguments)


@needs_oxford
def test_the_real_samples():
    data = load_dataset("oxford5k", OXFORD)
    assert (len(data.images), len(data.queries), len(data.landmarks)) == (160, 25, 5)
    assert data.skipped == ()
    for query in data.queries:
        assert query.image in query.positives and 5 <= len(query.positives) <= 25
        assert data.roi(query.image).mean() > 0.02
        assert data.read_query(query).shape[:2] >= (50, 50)
    data = load_dataset("pairs", SHARED / "smvs")
    assert len(data.queries) == len(data.images) and not data.skipped
    assert len(load_dataset("pairs", SHARED / "smvs" / "landmarks").queries) == 56
    pairs = load_clicked_pairs(SHARED / "wxbs")
    assert len(pairs) == 16
    for pair in pairs:
        for path, points in ((pair.query, pair.query_points), (pair.target, pair.target_points)):
            height, width = image_size(path)
            assert (points >= 0).all() and (points <= (width, height)).all()


@needs_toytown
def test_toytowns_splits_share_no_landmark_and_its_files_are_the_frozen_ones():
    splits = [set(load_dataset("toytown", split=name).landmarks) for name in SPLITS]
    assert len(set().union(*splits)) == sum(map(len, splits))
    lines = (TOYTOWN / "MANIFEST.sha256").read_text().splitlines()
    frozen = {name: code for code, name in (line.split("  ", 1) for line in lines)}
    files = {p.relative_to(TOYTOWN).as_posix(): p for p in TOYTOWN.rglob("*") if p.is_file()}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert hashes.pop("MANIFEST.sha256") == load_dataset("toytown").manifest_hash()
    assert hashes == frozen
    assert sum(path.stat().st_size for path in files.values()) <= 25 * 2**20


@needs_toytown
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_embedded_toytown(split):
    data = load_dataset("toytown", split=split)
    least = {"train": 150, "validation": 16, "test": 11}
    assert len(data.landmarks) >= least[split] and not data.skipped
    if split == "test":
        assert len(data.landmarks) == 11 and len(data.queries) == 55
        distractor = next(name for name in data.images if data.geometry(name) is None)
        assert data.roi(distractor) is None
    for query in data.queries[:: max(1, len(data.queries) // 10)]:
        assert query.image in query.good
        roi, geometry = data.roi(query.image), data.geometry(query.image)
        picture = data.read(query.image)
        assert roi.shape == picture.shape[:2] and 0.02 < roi.mean() < 0.9
        rows, columns = (-(-side // geometry.cell) for side in roi.shape)
        assert geometry.positions.shape == (rows, columns, 3)
        seen = ~np.isnan(geometry.positions[..., 0])
        points = np.concatenate([geometry.positions[seen], np.ones((seen.sum(), 1))], axis=1)
        u, v, w = geometry.camera @ points.T
        row, column = np.nonzero(seen)
        assert np.abs(u / w - (column * 10 + 5)).max() < 0.75
        assert np.abs(v / w - (row * 10 + 5)).max() < 0.75


def test_clicked_points_are_scaled_to_the_photos_as_they_are(tmp_path):
    scene = tmp_path / "hard" / "café"
    photo(scene / "01.jpg", size=(40, 30))
    photo(scene / "02.jpg", size=(50, 20))
    (scene / "corrs.txt").write_text("8 6 10 4 99 99\n80 60 20 8 99 99\n")
    sizes = {"hard\\cafe\u0301": {"images": {"01.jpg": {"orig": [80, 60], "now": [40, 30]}}}}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    (pair,) = load_clicked_pairs(tmp_path)
    assert pair.name == "hard/café"
    assert pair.query_points.tolist() == [[4, 3], [40, 30]]
    assert pair.target_points.tolist() == [[10, 4], [20, 8]]
    for line in ("1 2 three 4", "1 2 3", "1 2 3 1e400"):
        (scene / "corrs.txt").write_text(f"8 6 10 4 99 99\n{line}\n")
        with pytest.raises(ValueError, match="x1 y1 x2 y2"):
            load_clicked_pairs(tmp_path)
    (scene / "corrs.txt").write_text("")
    (tmp_path / "sizes.json").write_text(json.dumps(sizes).replace("80", "0"))
    with pytest.raises(ValueError, match=r"sizes\.json gives .*01\.jpg the size \(0, 60\)"):
        load_clicked_pairs(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no scene"):
        load_clicked_pairs(scene)
