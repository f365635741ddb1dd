"""The explorer in a page and in a live notebook, driven in a browser and compared with numpy."""

import json

import numpy as np
import pytest
import torch
import traitlets

from indiret.datasets import load_dataset
from indiret.evaluation import line_pattern
from indiret.evidence import Evidence, explain
from indiret.experiments.evidence_protocol import pair_matches
from indiret.network import build_network
from indiret.retrieval import UNJUDGED, Hit, NetworkRetriever
from indiret.widgets import Candidate, Explorer, explore, explore_ranked
from tests.widgets.pages import Opened, Tags, page_of
from tests.widgets.test_payload import TARGET_GRIDS, candidate, noise, unpack


def test_a_large_explorer_stays_below_a_megabyte():
    """4 views, 3 methods at 3 layers, and none, HAR and PRF, on 14 x 14 patches that are noise."""
    town = load_dataset("toytown", split="validation")
    picture, random = town.read(town.queries[0].image), np.random.default_rng(0)
    maps = {f"map {n}": random.random((14, 14, 14, 14), np.float32) for n in range(16)}
    explorer = Explorer("q", picture, [Candidate("a", picture, {"all": maps})])
    assert len(explorer.to_html().encode()) <= 1_000_000


def test_what_is_shown_of_a_pair_is_what_explain_and_the_tensor_say():
    network, query, target = build_network("base"), noise(), noise(seed=1)
    tensor = network.correlate(network.encode(query, query=True), [network.encode(target)])
    more = {"attention and feedback": {"PRF": torch.ones(14, 14, 10, 10)}}
    explorer = explore(network, query, target, methods=["combined", "hirescam"], more=more)
    header, (numbers,) = unpack(explorer.payload)
    expected = {("views", name): tensor[0, v] for v, name in enumerate(network.config.views)}
    expected["combined", "tensor"] = explain(network, tensor, "combined")[0].pairs
    expected["hirescam", "all"] = explain(network, tensor, "hirescam")[0].pairs
    for layer in network.layers:
        expected["hirescam", layer] = explain(network, tensor, "hirescam", layer)[0].pairs
    expected["attention and feedback", "PRF"] = torch.ones(14, 14, 10, 10)
    assert set(numbers) == set(expected)
    for channel in header["candidates"][0]["channels"]:
        key, step = (channel["group"], channel["name"]), (channel["high"] - channel["low"]) / 255
        assert np.abs(numbers[key] - expected[key].numpy()).max() <= 0.501 * step


def test_a_ranked_list_knows_what_is_right_and_only_then_the_truth():
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    good = min(query.good - {query.image})
    other = next(n for n in town.images if n not in query.positives | query.junk)
    hits = [Hit(good, 3.0, 0.95), Hit(other, -1.0, None), Hit(other, 2 * UNJUDGED, None)]
    method = NetworkRetriever(build_network("base"))
    explorer = explore_ranked(method, town, query, hits, methods=["combined"])
    header, _ = unpack(explorer.payload)
    entries = header["candidates"]
    assert [entry["name"] for entry in entries] == [good, other, other]
    assert [entry["relevant"] for entry in entries] == [True, False, False]
    assert [entry["caption"] for entry in entries] == ["95%", "-1.0", "not judged"]
    partners = pair_matches(town, query, good, (14, 14, 10, 10))
    flat = np.where(partners[..., 0] < 0, -1, partners[..., 0] * 14 + partners[..., 1])
    assert entries[0]["true_matches"] == flat.ravel().tolist() and (flat >= 0).any()
    assert town.geometry(other) is not None  # of another landmark, in its own coordinates
    assert entries[1]["true_matches"] is None


def test_the_same_input_gives_the_same_page_and_the_state_goes_into_it():
    first, second = (Explorer("q", noise(), [candidate(), candidate(1)]) for _ in range(2))
    assert first.to_html() == second.to_html()
    second.pinned, second.opened, second.channel = ("target", 4, 3), 0, ("views", "colour")
    state = json.loads(Tags(second.to_html()).tags[0][1]["data-state"])
    assert state["pinned"] == ["target", 4, 3] and state["channel"] == ["views", "colour"]
    assert first.to_html() != second.to_html()


@pytest.mark.parametrize(
    ("trait", "value"),
    [
        ("pinned", ("query", 3, 0)), ("pinned", ("target", 0, 4)), ("pinned", ("middle", 0, 0)),
        ("hovered", ("query", -1, 0)), ("hovered", "query"), ("channel", ("views", "no such")),
        ("channel", None), ("opened", 1), ("pairs", 31),
    ],
)  # fmt: skip
def test_what_does_not_exist_cannot_be_set(trait, value):
    explorer = Explorer("q", noise(), [candidate()])
    before = getattr(explorer, trait)
    with pytest.raises(traitlets.TraitError):
        setattr(explorer, trait, value)
    assert getattr(explorer, trait) == before


def test_a_pin_of_the_query_stays_when_another_candidate_is_opened():
    explorer = Explorer("q", noise(), [candidate(), candidate(1, TARGET_GRIDS[1])])
    for pinned, kept in ((("query", 2, 5), ("query", 2, 5)), (("target", 0, 0), None)):
        explorer.opened, explorer.pinned = 0, pinned
        explorer.opened = 1
        assert explorer.pinned == kept
    with pytest.raises(traitlets.TraitError, match="4 rows and 5 columns"):
        explorer.pinned = ("target", 4, 0)


class OpenedExplorer(Opened):
    """An explorer in a page, and the numbers that it was given."""

    kind = "explorer"
    SHOWN = """() => {
      const root = document.querySelector('.indiret-explorer > div').shadowRoot;
      const alpha = (side) => {
        const c = root.querySelector(`[data-side=${side}].pad canvas`);
        const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return Array.from({length: c.height}, (_, row) =>
          Array.from({length: c.width}, (_, column) => pixels[4 * (row * c.width + column) + 3]));
      };
      return {
        query: alpha('query'), target: alpha('target'),
        lines: [...root.querySelectorAll('line.pair')].reverse().map(
          (line) => [+line.dataset.target, +line.dataset.query, line.getAttribute('class')]),
        boxes: [...root.querySelectorAll('rect.box:not(.under)')].map(
          (box) => [box.getAttribute('class'), box.dataset.side, +box.dataset.patch]),
        readout: root.querySelector('.readout').textContent,
      };
    }"""

    def __init__(self, browser, address: str, payload: bytes, **settings):
        self.header, self.numbers = unpack(payload)
        super().__init__(browser, address, **settings)

    def choose(self, group: str, name: str) -> np.ndarray:
        """Click on a group and on a name of it; the numbers that should be seen then."""
        self.page.locator(".show").get_by_text(group, exact=True).click()
        self.page.locator(".of").get_by_text(name, exact=True).click()
        return self.numbers[0][group, name]

    def point(self, how: str, side: str, row: int, column: int) -> None:
        """To hover over, click or tap the middle of a patch, once its picture lies still.

        A page that still scrolled or was set anew by a busy machine moved under a bare mouse.
        """
        pad = self.page.locator(f".pad[data-side={side}]")
        pad.evaluate("pad => pad.scrollIntoView({block: 'center', behavior: 'instant'})")
        picture = self.header["query"] if side == "query" else self.header["candidates"][0]
        rows, columns = picture["grid"]
        box = pad.bounding_box()
        x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
        getattr(pad, how)(position={"x": x, "y": y})


@pytest.fixture
def opened(open_page, tmp_path):
    """Open an explorer in a page on the disk."""

    def opened(explorer: Explorer, **settings) -> OpenedExplorer:
        address = page_of(explorer.to_html(), tmp_path)
        return open_page(OpenedExplorer, address, payload=explorer.payload, **settings)

    return opened


def alpha(strength: np.ndarray) -> np.ndarray:
    return np.rint(255 * 0.8 * strength**0.75)


def strength(numbers: np.ndarray) -> np.ndarray:
    """0 … 1: the share of the channel's highest; what speaks against is none."""
    return np.maximum(0, numbers / numbers.max())


def assert_matches(shown, numbers: np.ndarray, side: str, row: int, column: int, pairs=10) -> None:
    """The page shows what numpy says of the other picture's matches with this patch."""
    of_patch = numbers[row, column] if side == "target" else numbers[:, :, row, column]
    other = "query" if side == "target" else "target"
    drawn = alpha(np.maximum(0, of_patch / numbers.max()))
    assert np.abs(np.array(shown[other]) - drawn).max() <= 1
    assert not np.any(shown[side])  # the picture that is pointed at is left as it is
    ranked = np.argsort(-of_patch.ravel(), kind="stable")
    ranked = [int(place) for place in ranked if of_patch.ravel()[place] > 1e-12][:pairs]
    patch = row * (numbers.shape[1] if side == "target" else numbers.shape[3]) + column
    ends = [(patch, place) if side == "target" else (place, patch) for place in ranked]
    assert [tuple(line[:2]) for line in shown["lines"]] == ends
    best = divmod(ranked[0], of_patch.shape[1])
    assert f"{side} ({row}, {column})" in shown["readout"]
    assert f"{other} ({best[0]}, {best[1]})" in shown["readout"]


def assert_whole(shown, numbers: np.ndarray, pairs: int = 10) -> None:
    """The page shows the maps of Eq. 4, or of a view each patch's best answer."""
    pooled = np.max if numbers.min() < 0 else np.sum
    for side, axes in (("target", (2, 3)), ("query", (0, 1))):
        drawn = pooled(strength(numbers), axis=axes)
        assert np.abs(np.array(shown[side]) - alpha(drawn / drawn.max())).max() <= 1
    matches = Evidence(0.0, torch.from_numpy(np.maximum(0, numbers))).matches(pairs)
    n, columns = numbers.shape[1], numbers.shape[3]
    ends = [(match.i * n + match.j, match.k * columns + match.l) for match in matches]
    assert [tuple(line[:2]) for line in shown["lines"]] == ends


@pytest.mark.parametrize(("how", "width"), [("hover", 1000), ("tap", 375)])
def test_pointing_shows_the_right_patches(opened, how, width):
    one = opened(Explorer("q", noise(), [candidate()]), width=width, has_touch=True)
    numbers = one.numbers[0]["combined", "tensor"]
    assert_whole(one.shown(), numbers)
    for place in (("query", 0, 0), ("query", 2, 5), ("target", 4, 3), ("target", 1, 2)):
        one.point(how, *place)
        assert_matches(one.shown(), numbers, *place)
    if how == "tap":  # which pins, and lets go
        one.point("tap", "target", 1, 2)
    one.page.mouse.move(2, 2)
    assert_whole(one.shown(), numbers)


def test_a_click_pins_and_reset_lets_go(opened):
    one = opened(Explorer("q", noise(), [candidate()]))
    numbers = one.numbers[0]["combined", "tensor"]
    one.point("click", "query", 1, 4)
    one.point("hover", "target", 3, 1)
    shown = one.shown()
    assert ["box pinned", "query", 10] in shown["boxes"]
    assert ["box hovered", "target", 13] in shown["boxes"]
    share = round(100 * strength(numbers)[3, 1, 1, 4])
    assert f"query (1, 4), pinned × target (3, 1): {share} %" in shown["readout"]
    one.page.mouse.move(2, 2)
    assert_matches(one.shown(), numbers, "query", 1, 4)
    one.page.get_by_label("pairs").fill("3")
    one.page.get_by_label("true correspondence").check()
    one.choose("views", "colour")
    one.page.get_by_role("button", name="reset").click()  # all as it was at first
    one.page.mouse.move(2, 2)
    assert_whole(one.shown(), numbers, pairs=10)
    assert not one.page.get_by_label("true correspondence").is_checked()


def test_the_keyboard_does_all_that_a_mouse_does(opened):
    one = opened(Explorer("q", noise(), [candidate(), candidate(1, TARGET_GRIDS[1])]))
    press = one.press
    focused = "() => document.activeElement.shadowRoot.activeElement"
    numbers = one.numbers[0]["combined", "tensor"]
    for expected in ("candidates", "show"):
        press("Tab")
        assert one.page.evaluate(f"({focused})().name") == expected
    press("Tab")
    assert one.page.evaluate(f"({focused})().dataset.side") == "query"
    assert_matches(one.shown(), numbers, "query", 0, 0)
    press("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowDown")
    assert_matches(one.shown(), numbers, "query", 1, 2)
    press("Enter", "Tab")
    boxes = one.shown()["boxes"]
    assert ["box pinned", "query", 8] in boxes and ["box hovered", "target", 0] in boxes
    press("Escape", "ArrowDown")
    assert_matches(one.shown(), numbers, "target", 1, 0)
    for key, value in (("ArrowRight", "11"), ("Home", "0")):
        one.page.locator("[type=range]").press(key)
        assert one.page.locator(".count").inner_text() == value
    press("Tab", "Space")
    assert one.page.get_by_label("true correspondence").is_checked()
    press("Tab", "Enter")  # reset
    assert_whole(one.shown(), numbers)
    one.page.locator(".pad[data-side=target]").focus()
    press("Shift+Tab", "Shift+Tab", "ArrowRight")  # the next group, and focus stays where it was
    assert one.page.evaluate(f"({focused})().name") == "show"
    assert_whole(one.shown(), one.numbers[0]["gradcam", "stem"])
    press("Shift+Tab", "ArrowRight")
    assert_whole(one.shown(), one.numbers[1]["gradcam", "stem"])


def test_channels_pairs_and_candidates_can_be_chosen(opened):
    right = candidate(caption="95%", relevant=True)
    wrong = candidate(1, TARGET_GRIDS[1], relevant=False)
    one = opened(Explorer("q", noise(), [right, wrong]))
    numbers = one.choose("gradcam", "stage1")
    assert_whole(one.shown(), numbers)
    one.page.locator(".show").get_by_text("views").click()  # which has no stage1
    assert_whole(one.shown(), one.numbers[0]["views", "stem"])
    one.point("hover", "query", 1, 1)
    assert_matches(one.shown(), one.numbers[0]["views", "stem"], "query", 1, 1)
    assert "similarity" in one.shown()["readout"]
    one.page.get_by_label("pairs").fill("3")
    one.page.mouse.move(2, 2)
    assert_whole(one.shown(), one.numbers[0]["views", "stem"], pairs=3)
    one.point("click", "query", 2, 2)
    one.page.get_by_role("img", name="candidate 1 wrong").click()  # and the pin of the query stays
    assert_matches(one.shown(), one.numbers[1]["views", "stem"], "query", 2, 2, pairs=3)
    one.page.locator(".show").get_by_text("none / HAR / PRF").click()
    for name in ("none", "HAR", "PRF"):
        one.page.locator(".of").get_by_text(name, exact=True).click()
        numbers = one.numbers[1]["none / HAR / PRF", name]
        assert_matches(one.shown(), numbers, "query", 2, 2, pairs=3)


def test_the_true_correspondence_is_laid_over(opened):
    known = candidate()
    one = opened(Explorer("q", noise(), [known]))
    one.page.get_by_label("true correspondence").check()
    flat = known.true_matches[..., 0] * 4 + known.true_matches[..., 1]
    shown = one.shown()

    def right(target: int, query: int) -> bool:
        k, l = divmod(query, 6)
        steps = np.abs(known.true_matches[k, l] - divmod(target, 4)).max()
        return known.true_matches[k, l, 0] >= 0 and steps <= 1

    judged = [right(*line[:2]) for line in shown["lines"]]
    assert [line[2] == "pair good" for line in shown["lines"]] == judged
    assert f"{sum(judged)} right, within one patch" in shown["readout"]
    one.point("hover", "query", 2, 3)
    shown = one.shown()
    assert ["box true", "target", flat[2, 3]] in shown["boxes"]
    assert "True match: target ({}, {})".format(*known.true_matches[2, 3]) in shown["readout"]
    one.point("hover", "query", 0, 1)
    assert "no true match" in one.shown()["readout"]
    i, j = known.true_matches[2, 3]
    one.point("hover", "target", i, j)
    asking = [patch for kind, _, patch in one.shown()["boxes"] if kind == "box true"]
    sought = (known.true_matches == (i, j)).all(axis=-1).ravel()
    assert asking == np.flatnonzero(sought).tolist() and len(asking) >= 1


def test_lines_are_counted_as_python_counts_them(opened):
    """Of noise, whose lines cross and lie on no plane, of a shift, and of a single row of it."""
    shift = np.zeros((5, 4, 3, 6))
    k, l = np.indices((3, 3))
    shift[k + 1, l + 1, k, l] = 9 - np.arange(9).reshape(3, 3)
    row = shift * np.eye(5)[1][:, None, None, None]
    channels = {"noise": candidate().channels["gradcam"]}
    channels |= {
        name: {"stem": one, "stage1": one} for name, one in (("shift", shift), ("row", row))
    }
    one = opened(Explorer("q", noise(), [candidate(channels=channels)]))
    for group, counts in (("noise", (1, 2, 5, 10, 18)), ("row", (9,)), ("shift", (9,))):
        numbers = one.numbers[0][group, "stem"]
        one.page.locator(".show").get_by_text(group).click()
        for count in counts:
            one.page.get_by_label("pairs").fill(str(count))
            one.page.mouse.move(2, 2)
            matches = Evidence(0.0, torch.from_numpy(numbers)).matches(count)
            seen = line_pattern(matches, numbers.shape, (120, 90), (90, 120))
            plane = "no three span a plane" if group == "row" else f"{seen.on_plane} on one plane"
            told = f"The {seen.lines} strongest pairs: {plane}"
            crossings = f", {seen.crossings} crossing{'' if seen.crossings == 1 else 's'}."
            assert told + crossings in one.shown()["readout"]
    assert seen[2:] == (0, 9)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_it_fits_is_named_and_can_be_read(opened, width, scheme):
    candidates = [candidate(n, caption="one 95%\nother 5%" if n else "95%") for n in range(12)]
    one = opened(Explorer("a_long_name_" * 12, noise(), candidates), width=width, scheme=scheme)
    one.assert_fits_and_is_named()
    for frame in one.page.locator(".candidates figure").all()[:2]:  # no space beside the picture
        wide = [frame.locator(of).bounding_box()["width"] for of in ("img", "figcaption")]
        assert wide[0] == pytest.approx(wide[1], abs=1)
    assert one.page.locator("img").count() == 14
    for side, grid in (("query", "3 rows of 6"), ("target", "5 rows of 4")):
        name = one.page.locator(f".pad[data-side={side}]").get_attribute("aria-label")
        assert name.startswith(side) and f"{grid} patches" in name
    for group, name in (("show", "gradcam"), ("of", "tensor")):
        chip = one.page.get_by_role("group", name=group).get_by_role("radio", name=name)
        assert chip.count() == (group == "show"), "a choice of one is no choice"
    for role, count in (("application", 2), ("status", 1), ("slider", 1), ("checkbox", 1)):
        assert one.page.get_by_role(role).count() == count
    boxes = [one.page.locator(f".pad[data-side={s}]").bounding_box() for s in ("query", "target")]
    assert (boxes[0]["y"] + boxes[0]["height"] < boxes[1]["y"]) == (width == 375)
    assert min(box["width"] / 6 for box in boxes) >= 24  # a finger's least target
