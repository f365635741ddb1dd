"""Regions of interest: the file, the mask, and what is refused."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import PhotoRegions, Region, RegionFile, load_dataset, use_regions
from indiret.datasets.regions import read_regions, region_mask, write_regions
from indiret.images import image_size, pixel_box

BOX = Region.from_box((10, 20, 50, 60))
coordinates = st.floats(-30, 90, allow_nan=False)
outlines = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7)


@settings(deadline=None)
@given(outlines)
def test_a_mask_by_counting_crossings_of_a_ray_pixel_by_pixel(outline):
    region = Region(tuple(outline))
    mask = region_mask([region], (12, 17))
    edges = list(zip(outline, outline[1:] + outline[:1], strict=True))
    for y, x in itertools.product(range(12), range(17)):
        crossings = 0
        for (x1, y1), (x2, y2) in edges:
            if (y1 <= y + 0.5) != (y2 <= y + 0.5):
                crossings += x + 0.5 >= x1 + (y + 0.5 - y1) / (y2 - y1) * (x2 - x1)
        assert mask[y, x] == crossings % 2


@given(st.tuples(*[st.integers(0, 20)] * 2), st.tuples(*[st.integers(4, 20)] * 2))
def test_a_box_covers_the_pixels_that_it_cuts_out(corner, sides):
    box = (corner[0] + 0.3, corner[1] - 0.2, corner[0] + sides[0] + 0.2, corner[1] + sides[1] - 0.3)
    x1, y1, x2, y2 = pixel_box(box, (50, 50))
    expected = np.zeros((50, 50), bool)
    expected[y1:y2, x1:x2] = True
    assert (region_mask([Region.from_box(box)], (50, 50)) == expected).all()


@settings(deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3))
def test_area_is_what_the_mask_counts(outline):
    fine = Region(tuple((8 * x + 300, 8 * y + 300) for x, y in outline))
    assert region_mask([fine], (1100, 1100)).sum() == pytest.approx(fine.area, abs=3000)


def test_regions_are_joined_and_clipped():
    mask = region_mask([Region.from_box((0, 0, 2, 2)), Region.from_box((1, 1, 3, 3))], (4, 4))
    assert mask.sum() == 7
    assert Region.from_box((-10, 5, 90, 70)).within((60, 80)).box == (0, 5, 80, 60)
    for outside in ((-50, 0, -10, 60), (78, 0, 120, 60), (10, 10, 12, 40)):
        with pytest.raises(ValueError, match="pixels of a region lie in the picture"):
            Region.from_box(outside).within((60, 80))


@pytest.mark.parametrize(
    ("points", "others", "words"),
    [
        (((0, 0), (1, 1)), {}, "2 corners"),
        (tuple((n, n * n) for n in range(501)), {}, "501 corners"),
        (((0, 0), (1, float("nan")), (2, 2)), {}, "finite"),
        (((0, 0, 0), (1, 1, 1), (2, 2, 2)), {}, "pairs"),
        (BOX.points, {"state": "maybe"}, "accepted, open, rejected"),
        (BOX.points, {"origin": "oracle"}, "drawn, query, sift"),
    ],
)
def test_what_is_no_region(points, others, words):
    with pytest.raises(ValueError, match=words):
        Region(points, **others)


def some_photos() -> dict[str, PhotoRegions]:
    polygon = Region(((1.5, 2), (30, 4), (9, 40)), "mill", "sift", "open", 34)
    return {
        "a/1.jpg": PhotoRegions((60, 80), [BOX, polygon]),
        "ü <b>.jpg": PhotoRegions((80, 60), nothing=True, tried=True),
    }


def test_a_file_comes_back_as_it_was_and_is_coco(tmp_path):
    path = tmp_path / "deep" / "regions.json"
    write_regions(path, some_photos())
    assert read_regions(path) == some_photos()
    assert [file.name for file in path.parent.iterdir()] == ["regions.json"]
    data = json.loads(path.read_text())
    first, second = data["annotations"]
    assert first["bbox"] == [10, 20, 40, 40] and first["area"] == 1600 and first["iscrowd"] == 0
    assert second["segmentation"] == [[1.5, 2, 30, 4, 9, 40]]
    categories = {entry["id"]: entry["name"] for entry in data["categories"]}
    assert categories[second["category_id"]] == "mill" and 0 not in categories
    assert {first["image_id"], second["image_id"]} == {data["images"][0]["id"]}


def coco(**changes) -> dict:
    """What another program may write: no segmentation, other ids, fields of its own."""
    return {
        "images": [{"id": 7, "file_name": "x/a.jpg", "width": 80, "height": 60}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 1}],
        "categories": [{"id": 3, "name": "mill", "supercategory": "building"}],
    } | changes


def test_a_file_of_another_program_is_read_but_not_written_over(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(coco()))
    (region,) = read_regions(path)["x/a.jpg"].regions
    assert region == Region.from_box((1, 2, 31, 42), landmark="mill")
    with pytest.raises(ValueError, match="made by another program"):
        RegionFile(path)


def annotation(**changes) -> dict:
    return coco(annotations=[coco()["annotations"][0] | changes])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "images, annotations and categories"),
        (coco(images=5), "images, annotations and categories"),
        (coco(images=coco()["images"] * 2), "stands there twice"),
        (coco(images=[{"id": 7}]), "'file_name' is missing"),
        (coco(images=[{"id": 7, "file_name": "a", "width": -8, "height": 9}]), "-8 x 9 pixels"),
        (coco(images=["a.jpg"]), "not a region file that can be read"),
        (annotation(image_id=8), "8 is missing or unknown"),
        (annotation(bbox=[1, 2, -30, 40]), "its box is -30 x 40 pixels"),
        (annotation(bbox=[1, 2, "wide", 40]), "could not convert"),
        (annotation(segmentation={"counts": "abc", "size": [60, 80]}), "run-length"),
        (annotation(segmentation=[[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]), "several polygons"),
        (annotation(segmentation=[[1, 2, 3, 4, 5]]), "not a region file that can be read"),
        (annotation(state="perhaps"), "accepted, open, rejected"),
    ],
)
def test_a_file_that_is_something_else_gets_a_sentence(tmp_path, data, words):
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(data))
    for read in (read_regions, RegionFile):
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            read(path)
        assert str(path) in str(error.value) and str(error.value).endswith(".")


def test_files_that_are_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_regions(tmp_path / "absent.json")
    for content in (b"", b"\xff\xfe\x00", b"not json", b"[" * 100_000):
        path = tmp_path / "broken.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a json file"):
            read_regions(path)


def test_a_file_goes_on_and_is_not_mixed_up(tmp_path):
    path = tmp_path / "regions.json"
    one, other = RegionFile(path), RegionFile(path)
    one.photo("a.jpg", (60, 80, 3)).regions.append(BOX)
    one.save()
    other.photo("b.jpg", (60, 80)).nothing = True
    with pytest.raises(ValueError, match="changed by somebody else"):
        other.save()
    again = RegionFile(path)
    assert again.photos == {"a.jpg": PhotoRegions((60, 80), [BOX])}
    with pytest.raises(ValueError, match="80 x 60 pixels, but the photo is 60 x 80"):
        again.photo("a.jpg", (80, 60))


def test_done_is_decided_by_somebody():
    proposal, rejected = (Region(BOX.points, "", "sift", state) for state in ("open", "rejected"))
    for regions in ([], [BOX, proposal], [rejected]):
        assert not PhotoRegions((9, 9), regions).done
    for regions, nothing in (([], True), ([BOX], False), ([rejected], True)):
        assert PhotoRegions((9, 9), regions, nothing).done


def town_file(path: Path, **photos: list[Region]) -> Path:
    town = load_dataset("toytown", split="validation")
    known = {n: PhotoRegions(image_size(town.path(n)), list(r)) for n, r in photos.items()}
    write_regions(path, known)
    return path


def test_a_data_set_takes_regions_from_the_file_and_nowhere_else(tmp_path):
    town = load_dataset("toytown", split="validation")
    first, second, third, *_ = sorted(town.queries[0].good)
    landmark = town.queries[0].landmark
    proposal = Region(BOX.points, landmark, "sift", "open", 12)
    elsewhere = Region.from_box((100, 100, 140, 140), landmark="elsewhere")
    path = town_file(
        tmp_path / "regions.json",
        **{first: [Region(BOX.points, landmark), elsewhere], second: [proposal], third: [BOX]},
    )
    used = use_regions(town, path)
    assert used.roi(first).sum() == 3200 and used.roi(first, landmark).sum() == 1600
    assert used.roi(third, landmark).sum() == 1600  # names no landmark
    assert used.roi(second) is None and town.roi(second) is not None
    assert "2 photos; regions: 3 drawn" in used.regions_used and "SHA-256" in used.regions_used
    assert used.regions_used != town.regions_used
    with_open = use_regions(town, path, unreviewed=True)
    assert with_open.roi(second).sum() == 1600
    assert "1 sift, unreviewed" in with_open.regions_used


def test_a_file_that_does_not_fit_the_data_set_is_refused(tmp_path):
    town = load_dataset("toytown", split="validation")
    name = min(town.images)
    path = town_file(tmp_path / "open.json", **{name: [Region(BOX.points, "", "sift", "open")]})
    with pytest.raises(ValueError, match="1 proposals in it wait to be accepted"):
        use_regions(town, path)
    write_regions(path, {"stranger": PhotoRegions((60, 80), [BOX])})
    with pytest.raises(ValueError, match="no region for a photo of toytown/validation"):
        use_regions(town, path)
    write_regions(path, {f"{name}.jpg": PhotoRegions((60, 80), [BOX])})  # by its file's name
    with pytest.raises(ValueError, match="belongs to other photos"):
        use_regions(town, path)
    outside = Region.from_box((5000, 0, 6000, 50))
    town_file(path, **{name: [outside]})
    with pytest.raises(ValueError, match=f"photo {name}: only 0 x"):
        use_regions(town, path)
