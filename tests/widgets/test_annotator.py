"""The annotator: what it keeps, its page in a browser, and its work in a live notebook."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from indiret.datasets import PhotoRegions, Region, load_dataset, read_regions, write_regions
from indiret.widgets import Annotator
from tests.widgets.pages import Opened, Tags, page_of

BOX = Region.from_box((10, 20, 110, 90))
PROPOSAL = Region(((40, 50), (200, 40), (190, 160), (50, 150)), "", "sift", "open", 34)


@pytest.fixture
def album(tmp_path):
    """Four photos of 320 x 200, the third of which is broken."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(90, 160, (200, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"photo_{number}.jpg")
    broken = folder / "photo_2.jpg"
    broken.write_bytes(broken.read_bytes()[:3000])
    return load_dataset("folder", folder)


def tell(annotator: Annotator, **message) -> None:
    annotator._handle_custom_msg(message, [])


def plain(region: Region) -> dict:
    return json.loads(json.dumps(vars(region)))


def test_it_saves_as_it_goes_and_resumes(album, tmp_path):
    path = tmp_path / "regions.json"
    annotator = Annotator(album, path)
    assert annotator.view["number"] == 0 and annotator.progress == {"done": 0, "total": 4}
    tell(annotator, action="save", number=0, regions=[plain(BOX)], nothing=False)
    assert read_regions(path) == {"photo_0.jpg": PhotoRegions((200, 320), [BOX])}
    tell(annotator, action="open", number=1)
    assert annotator.view["name"] == "photo_1.jpg" and annotator.view["regions"] == []
    tell(annotator, action="save", number=1, regions=[], nothing=True)
    assert annotator.progress == {"done": 2, "total": 4} and annotator.message == ""
    again = Annotator(album, path)
    assert again.view["number"] == 2 and again.progress == {"done": 2, "total": 4}
    assert again.view["size"] is None and "truncated" in again.view["problem"]
    again.show_photo(0)
    assert [plain(Region(**region)) for region in again.view["regions"]] == [plain(BOX)]


def test_next_not_done_goes_round(album, tmp_path):
    annotator = Annotator(album, tmp_path / "regions.json")
    annotator.show_photo(3)
    tell(annotator, action="next")
    assert annotator.view["number"] == 0
    for number in range(4):
        if number != 2:
            tell(annotator, action="save", number=number, regions=[], nothing=True)
    tell(annotator, action="next")
    assert annotator.view["number"] == 2


def test_what_reaches_outside_is_clipped_and_what_is_nothing_is_refused(album, tmp_path):
    path = tmp_path / "regions.json"
    annotator = Annotator(album, path)
    annotator.save_regions([Region.from_box((-50, -10, 400, 90))])
    (region,) = read_regions(path)["photo_0.jpg"].regions
    assert region.box == (0, 0, 320, 90)
    before = path.read_bytes()
    shown = annotator.view["shown"]
    for points in ([[400, 0], [500, 0], [500, 50], [400, 50]], [[0, 0], [1, 1]], [[0, "a"]] * 3):
        sent = plain(BOX) | {"points": points}
        tell(annotator, action="save", number=0, regions=[sent], nothing=False)
        assert annotator.message.startswith("Not saved: ") and path.read_bytes() == before
        assert annotator.view["shown"] > shown and len(annotator.view["regions"]) == 1
    for message in ({"action": "open", "number": 99}, {"action": "open", "number": "1"}, {}):
        tell(annotator, **message)
        assert annotator.message.startswith("That cannot be done: "), message
    tell(annotator, action="save", number=2, regions=[], nothing=True)
    assert "truncated" in annotator.message and path.read_bytes() == before
    with pytest.raises(ValueError, match="501 regions"):
        annotator.save_regions([BOX] * 501)


def test_a_file_that_somebody_else_changed_is_left_alone(album, tmp_path):
    path = tmp_path / "regions.json"
    one, other = Annotator(album, path), Annotator(album, path)
    one.save_regions([BOX])
    before = path.read_bytes()
    tell(other, action="save", number=0, regions=[], nothing=True)
    assert "changed by somebody else" in other.message and path.read_bytes() == before
    assert other.progress["done"] == 0


def test_foreign_files_and_photos_are_refused(album, tmp_path):
    foreign = tmp_path / "results.json"
    foreign.write_text('{"mAP": 0.5}')
    with pytest.raises(ValueError, match="not a region file"):
        Annotator(album, foreign)
    assert foreign.read_text() == '{"mAP": 0.5}'
    with pytest.raises(ValueError, match="no photo to annotate"):
        Annotator(album, tmp_path / "new.json", [])
    with pytest.raises(ValueError, match="no image named 'x'"):
        Annotator(album, tmp_path / "new.json", ["x"])
    path = tmp_path / "sizes.json"
    write_regions(path, {"photo_0.jpg": PhotoRegions((60, 80), [BOX])})
    annotator = Annotator(album, path)
    annotator.show_photo(0)
    assert "belongs to other photos" in annotator.view["problem"]
    Annotator(album, path, ["photo_3.jpg"]).save_regions([PROPOSAL])
    assert list(read_regions(path)) == ["photo_0.jpg", "photo_3.jpg"]


def test_landmarks_are_those_that_a_photo_may_show(tmp_path):
    town = load_dataset("toytown", split="validation")
    annotator = Annotator(town, tmp_path / "regions.json", [town.queries[0].image])
    assert annotator.view["landmarks"] == [town.queries[0].landmark]


def test_photos_that_cannot_be_read_are_left_out_of_a_page(album, tmp_path):
    annotator = Annotator(album, tmp_path / "regions.json")
    annotator.show_photo(1)
    state = json.loads(Tags(annotator.to_html(3)).tags[0][1]["data-state"])
    assert [photo["name"] for photo in state["photos"]] == ["photo_1.jpg", "photo_3.jpg"]
    annotator.show_photo(2)
    assert "None of these photos" in annotator.to_html(1)


class OpenedAnnotator(Opened):
    """An annotator in a page on the disk."""

    kind = "annotator"
    SHOWN = """() => {
      const root = document.querySelector('.indiret-annotator > div').shadowRoot;
      return {
        paths: [...root.querySelectorAll('path.outline')].map(
          (path) => [path.getAttribute('class'), path.getAttribute('d')]),
        list: [...root.querySelectorAll('.regions button')].map((one) => one.textContent),
        status: root.querySelector('.status').textContent,
        place: root.querySelector('.place').textContent,
        name: root.querySelector('.name').textContent,
      };
    }"""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place of the photo, 320 x 200, in the window."""
        box = self.page.locator(".pad").bounding_box()
        return box["x"] + x / 320 * box["width"], box["y"] + y / 200 * box["height"]

    def drag(self, start, end) -> None:
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=3)
        self.page.mouse.up()


@pytest.fixture
def opened(open_page, tmp_path, album):
    """Open an annotator whose first photo has some regions."""

    def opened(*regions: Region, **settings) -> OpenedAnnotator:
        path = tmp_path / "regions.json"
        if regions:
            write_regions(path, {"photo_0.jpg": PhotoRegions((200, 320), list(regions))})
        annotator = Annotator(album, path, ["photo_0.jpg", "photo_1.jpg", "photo_3.jpg"])
        return open_page(OpenedAnnotator, page_of(annotator.to_html(), tmp_path), **settings)

    return opened


def corners(path: str) -> np.ndarray:
    return np.array(re.findall(r"([-\d.]+) ([-\d.]+)", path), dtype=float)


def assert_outline(shown: dict, expected) -> None:
    """Of the last region."""
    kind, path = shown["paths"][-1]
    assert np.abs(corners(path) - expected).max() <= 1 and "drawn" in kind


def test_a_mouse_draws_moves_selects_and_deletes(opened):
    one = opened()
    one.drag((30, 40), (150, 120))
    shown = one.shown()
    assert_outline(shown, [(30, 40), (150, 40), (150, 120), (30, 120)])
    assert shown["list"] == ["1: box, drawn"] and shown["place"] == "photo 1 of 3, 1 done"
    one.drag((150, 120), (200, 160))  # by its corner
    assert_outline(one.shown(), [(30, 40), (200, 40), (200, 160), (30, 160)])
    one.drag((60, 60), (90, 100))
    assert len(one.shown()["list"]) == 2
    one.page.mouse.click(*one.at(180, 150))  # inside the first alone
    assert "selected" in one.shown()["paths"][0][0]
    for name, left in (("delete", 1), ("undo", 2), ("redo", 1)):
        one.page.get_by_role("button", name=name).click()
        assert len(one.shown()["paths"]) == left
    one.drag((10, 10), (12, 100))
    assert "Too small" in one.shown()["status"] and len(one.shown()["paths"]) == 1


def test_a_mouse_draws_polygons_and_what_leaves_the_photo_ends_at_its_edge(opened):
    one = opened()
    one.page.get_by_role("button", name="polygon", exact=True).click()
    outline = [(50, 50), (200, 30), (250, 120), (100, 150)]
    for place in [*outline, outline[0]]:
        one.page.mouse.click(*one.at(*place))
    assert_outline(one.shown(), outline)
    assert one.shown()["list"] == ["1: polygon of 4, drawn"]
    one.page.get_by_role("button", name="box", exact=True).click()
    one.drag((300, 180), (360, 260))
    assert_outline(one.shown(), [(300, 180), (320, 180), (320, 200), (300, 200)])


def test_a_finger_draws(opened):
    one = opened(width=375, has_touch=True)
    one.press("p")
    one.page.locator(".pad").focus()
    one.press("p")
    for place in ((50, 50), (200, 30), (250, 120), (50, 50)):
        one.page.touchscreen.tap(*one.at(*place))
    assert one.shown()["list"] == ["1: polygon of 3, drawn"]


def test_keys_alone_do_everything(opened):
    one = opened(PROPOSAL)
    one.page.locator(".pad").focus()
    assert "1 to accept or reject" in one.shown()["status"]
    assert "open selected" in one.shown()["paths"][0][0]
    one.press("a")
    assert one.shown()["place"] == "photo 1 of 3, 1 done"
    one.press("r")
    assert one.shown()["place"] == "photo 1 of 3, 0 done"
    one.press("z", "z")
    assert "open" in one.shown()["paths"][0][0]
    one.press("y", "e", *["Shift+ArrowRight"] * 3, "Enter")  # accept, move the first corner
    ((_, path),) = one.shown()["paths"]
    assert corners(path)[0].tolist() == [43, 50]
    assert one.shown()["list"] == ["1: polygon of 4, drawn"]
    one.press("e", "ArrowRight", "Escape")  # back where it was
    assert corners(one.shown()["paths"][0][1])[0].tolist() == [43, 50]
    one.press("x")
    assert one.shown()["list"] == []
    one.press("n")
    assert one.shown()["name"] == "photo_1.jpg"
    one.press("ArrowUp", "ArrowLeft", "Enter", *["ArrowRight"] * 4, *["ArrowDown"] * 5, "Enter")
    ((_, path),) = one.shown()["paths"]  # a step is a fiftieth of 320: 6
    assert corners(path).tolist() == [[154, 94], [178, 94], [178, 124], [154, 124]]
    one.press("p", "Enter", *["ArrowLeft"] * 5, "Enter", *["ArrowUp"] * 4, "Enter", "Backspace")
    one.press("Enter", "c")
    assert one.shown()["list"][1] == "2: polygon of 3, drawn"
    one.press("s", "Delete", "s", "Delete", "0")
    assert one.shown()["list"] == [] and "nothing here" in one.shown()["status"]
    assert one.shown()["place"] == "photo 2 of 3, 1 done"
    one.press("j")
    assert one.shown()["name"] == "photo_3.jpg"
    one.press("n")
    assert "last photo" in one.shown()["status"]
    one.press("Shift+N", "Shift+N")
    assert one.shown()["name"] == "photo_0.jpg" and one.shown()["list"] == []
    one.press("z")  # each photo remembers what can be undone
    assert one.shown()["list"] == ["1: polygon of 4, drawn"]


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (375, "dark"), (1440, "dark")])
def test_it_fits_is_named_and_can_be_read(opened, width, scheme):
    one = opened(PROPOSAL, BOX, width=width, scheme=scheme)
    one.assert_fits_and_is_named()
    pad = one.page.get_by_role("application")
    assert pad.get_attribute("aria-label") == "photo_0.jpg, 320 by 200 pixels, 2 regions"
    box = pad.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.6, abs=0.02)
    assert one.page.get_by_role("progressbar").get_attribute("aria-valuetext").startswith("0 of 3")
    assert one.page.get_by_role("img", name="photo photo_0.jpg").count() == 1
    status = one.page.get_by_role("status").inner_text()
    assert status == "Photo 1 of 3: 2 regions, 1 to accept or reject."
    for name in ("previous", "next not done", "box", "polygon", "undo", "accept", "reject"):
        assert one.page.get_by_role("button", name=name).count() >= 1, name
    for button in one.page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 24  # a finger's least target
    assert one.page.get_by_text("A page keeps nothing").is_visible()
