"""Regions of interest: the file, the mask, and what is refused."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from indiret.datasets import (
    PhotoRegions,
    Region,
    RegionFile,
    RetrievalDataset,
    load_dataset,
    use_regions,
)
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
@given(outlines)
@example([(0.0, -12.0), (1.0, 0.25), (0.0, 0.0), (0.0, 74.0), (1.0, 0.25)])  # a rounded height
def test_area_is_what_the_mask_counts_and_the_photo_cuts_without_changing_it(outline):
    region = Region(tuple((8 * x + 300.123, 7.89 * y + 300.456) for x, y in outline))
    assert region_mask([region], (1100, 1100)).sum() == pytest.approx(region.area, abs=9000)
    mask = region_mask([region], (500, 400))
    try:
        inside = region.within((500, 400))
    except ValueError:
        assert mask.sum() < 4 * 500
        return
    assert (region_mask([inside], (500, 400)) != mask).sum() <= 5  # centres on the line
    assert inside.within((500, 400)) == inside


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        ([20, 20, 120, 20, 120, 100, 20, 100], 8000),
        ([-100, 75, 100, -75, 300, 75, 100, 225], 30000),
        ([-150, 20, 150, 75, -150, 130], 4125),
        ([20, 20, 120, 100, 120, 20, 20, 100], 4000),  # a bow tie
        ([0, 0, 100, 0, 100, 100, 0, 100, 0, 0, 100, 0, 100, 100, 0, 100], 0),  # twice around
    ],
)
def test_polygons_are_intersected_with_the_photo_and_measured_as_drawn(tmp_path, corners, area):
    Image.new("RGB", (200, 150), "grey").save(tmp_path / "mill.jpg")
    data = coco(images=[{"id": 7, "file_name": "mill.jpg", "width": 200, "height": 150}])
    data["annotations"][0] |= {"segmentation": [corners]}
    (tmp_path / "c.json").write_text(json.dumps(data))
    used = use_regions(load_dataset("folder", tmp_path), tmp_path / "c.json")
    assert used.roi("mill.jpg").sum() == pytest.approx(area, abs=10)
    (region,) = used.regions["mill.jpg"]
    assert region.area == pytest.approx(area)


def test_regions_are_joined_and_cut():
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
        "ü <b> \udce9.jpg": PhotoRegions((80, 60), nothing=True, tried=True),
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


def test_other_programs_get_the_names_of_files(tmp_path):
    town, file = load_dataset("toytown", split="validation"), RegionFile(tmp_path / "a.json")
    name = min(town.images)
    for again in range(2):
        file = RegionFile(file.path)
        written = [town.file_name(name)] * (not again)  # and kept
        file.photo(name, image_size(town.path(name)), *written).regions.append(BOX)
        file.save()
        (image,) = json.loads(file.path.read_text())["images"]
        assert image["file_name"] == f"{name}.jpg" and image["name"] == name
    assert use_regions(town, file.path).regions[name] == (BOX, BOX)


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
        ([1, 2], "at its top input should be a dictionary"),
        (coco(images=5), "at images input should be a valid list"),
        (coco(images=coco()["images"] * 2), "stands there twice"),
        (coco(images=[{"id": 7, "width": 8, "height": 9}]), "images.0.file_name field required"),
        (coco(images=[{"id": 7, "file_name": "a", "width": -8, "height": 9}]), "-8 x 9 pixels"),
        (coco(images=["a.jpg"]), "at images.0"),
        (annotation(image_id=8), "image_id or category_id of annotation 0 is unknown"),
        (annotation(bbox=[1, 2, "wide", 40]), "annotations.0.bbox.2 input should be a valid"),
        (coco(images=[{"id": 7, "file_name": "a", "width": 1e400, "height": 9}]), "finite"),
    ],
)
def test_a_file_that_is_something_else_gets_a_sentence(tmp_path, data, words):
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(data))
    for read in (read_regions, RegionFile):
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            read(path)
        assert str(path) in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"segmentation": {"counts": "abc", "size": [60, 80]}, "iscrowd": 1}, "run-length mask"),
        ({"bbox": [1, 2, 0, 40]}, "its box is 0 x 40 pixels"),
        ({"bbox": [1, 2, 3, 40]}, "only 3 x 40 pixels of a region"),
        ({"bbox": [500, 2, 30, 40]}, "only 0 x"),
        ({"bbox": [1, 2, 1e400, 40]}, "finite"),
        ({"bbox": [1, 2, 30]}, "neither a polygon nor a box"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "odd number"),
        ({"segmentation": [[1, 2, 3, 4]]}, "2 corners"),
        ({"state": "perhaps"}, "accepted, open, rejected"),
    ],
)
def test_one_annotation_that_is_no_region_is_skipped_with_a_word(tmp_path, changes, words):
    path, photo = tmp_path / "regions.json", tmp_path / "x" / "a.jpg"
    photo.parent.mkdir()
    Image.new("RGB", (80, 60)).save(photo)
    good = coco()["annotations"][0] | {"segmentation": [[1, 2, 9, 2, 9, 9], [20, 2, 30, 2, 30, 9]]}
    bad = coco()["annotations"][0] | changes
    path.write_text(json.dumps(coco(annotations=[bad, good])))
    used = use_regions(load_dataset("folder", tmp_path), path)
    assert [region.box for region in used.regions["x/a.jpg"]] == [(1, 2, 9, 9), (20, 2, 30, 9)]
    ((name, why),) = used.skipped
    assert name == "x/a.jpg" and words in why
    path.write_text(json.dumps(coco(annotations=[bad])))
    with pytest.raises(ValueError, match=rf"no region for a photo of folder; x/a\.jpg: .*{words}"):
        use_regions(load_dataset("folder", tmp_path), path)


@pytest.mark.parametrize(
    ("names", "sums"),
    [
        (["mill.jpg"], [1200]),
        (["images\\mill.jpg", "tower.jpg"], [1200, 1200]),
        (["./oxford/mill.JPG"], [1200]),
        (
            ["oxford/mill.jpg", "paris/mill.jpg"],
            r"'oxford/mill.jpg' and 'paris/mill.jpg', but both",
        ),
        (["mill.jpg", "./mill.jpg"], "both would be the photo 'mill'"),
    ],
)
def test_folders_in_the_names_of_photos(tmp_path, names, sums):
    photos = {name: tmp_path / f"{name}.jpg" for name in ("mill", "tower")}
    for photo in photos.values():
        Image.new("RGB", (80, 60)).save(photo)
    town = RetrievalDataset("town", tmp_path, photos, (), {})
    images = [{"id": i, "file_name": n, "width": 80, "height": 60} for i, n in enumerate(names)]
    boxes = [{"image_id": i, "category_id": 3, "bbox": [0, 0, 40, 30]} for i in range(len(names))]
    path = tmp_path / "c.json"
    path.write_text(json.dumps(coco(images=images, annotations=boxes)))
    if isinstance(sums, str):
        with pytest.raises(ValueError, match=sums):
            use_regions(town, path)
        return
    used = use_regions(town, path)
    assert [used.roi(name).sum() for name, _ in zip(photos, sums, strict=False)] == sums


def test_names_that_may_be_two_photos_or_none_are_said(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (80, 60)).save(tmp_path / folder / "1.jpg")
    photos = {name: PhotoRegions((60, 80), [BOX]) for name in ("root/a/1.jpg", "1.jpg", "c/1.jpg")}
    write_regions(tmp_path / "c.json", photos)
    used = use_regions(load_dataset("folder", tmp_path), tmp_path / "c.json")
    assert list(used.regions) == ["a/1.jpg"]
    words = " ".join(words for name, words in used.skipped if name == "c.json")
    assert re.search("'c/1.jpg' for one, are no photo.*'1.jpg' for one, are more than one", words)


EDGE = np.zeros((60, 80), int)
EDGE[9], EDGE[30] = 120, 60
ENCODINGS = {
    "0 and 1": lambda mask: Image.fromarray(mask.astype("u1")),
    "0 and 255": lambda mask: Image.fromarray(mask.astype("u1") * 255),
    "boolean": Image.fromarray,
    "16 bits": lambda mask: Image.fromarray(mask.astype("u2") * 65535),
    "labels": lambda mask: Image.fromarray(mask * np.arange(1, 81, dtype="u1")),
    "labels below and above 127": lambda mask: Image.fromarray(
        mask * np.arange(99, 179, dtype="u1")
    ),
    "labels and a void": lambda mask: Image.fromarray(mask * np.arange(176, 256, dtype="u1")),
    "labels of 16 bits": lambda mask: Image.fromarray(mask * np.arange(1, 16000, 200, dtype="u2")),
    "colours of labels": lambda mask: Image.fromarray(
        mask[..., None] * np.array([[64, 0, 0], [192, 128, 0]] * 40, "u1")
    ),
    "soft edges": lambda mask: Image.fromarray(np.maximum(mask * 255, EDGE).astype("u1")),
    "colours": lambda mask: Image.fromarray(mask[..., None] * np.array([200, 0, 9], "u1")),
    "alpha": lambda mask: Image.fromarray(mask[..., None] * np.array([255, 255, 255, 255], "u1")),
    "opaque": lambda mask: Image.fromarray(mask.astype("u1") * 255).convert("RGBA"),
    "palette": lambda mask: Image.fromarray(mask.astype("u1") * 255).convert("P"),
    "black, cut out": lambda mask: Image.fromarray(
        np.multiply.outer(mask, [0, 0, 0, 255]).astype("u1")
    ),
    "dark palette": lambda mask: palette(mask, [0, 0, 0, 1, 0, 0]),
    "turned palette": lambda mask: palette(~mask, [255, 255, 255, 0, 0, 0]),
    "viridis": lambda mask: palette(mask, [68, 1, 84, 253, 231, 37]),
}


def palette(mask, colours):
    image = Image.fromarray(mask.astype("u1"))
    image.putpalette(colours)
    return image


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_masks_in_any_usual_encoding(tmp_path, encoding):
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:60] = True
    (tmp_path / "masks").mkdir()
    ENCODINGS[encoding](mask).save(tmp_path / "masks" / "mill.png")
    Image.new("RGB", (80, 60)).save(tmp_path / "mill.jpg")
    town = RetrievalDataset("town", tmp_path, {"mill": tmp_path / "mill.jpg"}, (), {})
    assert (town.roi("mill") == mask).all()
    (tmp_path / "masks" / "mill.png").rename(tmp_path / "masks" / "cafe\u0301.PNG")
    accent = RetrievalDataset("town", tmp_path, {"café": tmp_path / "mill.jpg"}, (), {})
    assert (accent.roi("café") == mask).all()
    Image.new("L", (60, 80)).save(tmp_path / "masks" / "mill.png")
    with pytest.raises(
        ValueError, match=r"mill\.png is no mask of 80 x 60 pixels \(it has 60 x 80"
    ):
        town.roi("mill")
    (tmp_path / "masks" / "mill.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="is no mask"):
        town.roi("mill")


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
    with pytest.raises(ValueError, match=f"{name}: only 0 x"):
        use_regions(town, path)
