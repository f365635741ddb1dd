"""Slices of the tensor: what is packed, what a page shows of it, and its bytes."""

import json

import numpy as np
import pytest
import traitlets

from indiret.widgets import TensorSlices
from tests.widgets.pages import Opened, Tags, page_of
from tests.widgets.test_payload import noise, unpack_header

GRID = (4, 5, 3, 6)
SHOWN = """() => [...document.querySelector('.indiret-slices > div').shadowRoot
  .querySelectorAll('canvas')].map((c) =>
    [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]
      .filter((_, n) => n % 4 === 3))"""


def views(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=GRID) for name in ("zncc", "gradients")}


def slices(**state) -> TensorSlices:
    partners = np.ones((*GRID[2:], 2), dtype=int)
    partners[0, 0] = -1
    made = TensorSlices("a query", noise(), "a target", noise(seed=1), views(), partners)
    for name, value in state.items():
        setattr(made, name, value)
    return made


def numbers(payload: bytes) -> tuple[dict, np.ndarray]:
    """The header, and the views as they were stored: a second reader, in numpy."""
    header, rest = unpack_header(payload)
    at = sum(picture["bytes"] for picture in header["pictures"])
    steps = np.frombuffer(rest, np.uint8, offset=at).reshape(len(header["views"]), *header["grid"])
    return header, steps


class OpenedSlices(Opened):
    kind = "slices"
    SHOWN = SHOWN


@pytest.fixture
def opened(open_page, tmp_path):
    return lambda made, **more: open_page(OpenedSlices, page_of(made.to_html(), tmp_path), **more)


def test_what_is_packed_is_what_is_above_zero():
    header, steps = numbers(slices().payload)
    for entry, stored, given in zip(header["views"], steps, views().values(), strict=True):
        step = entry["high"] / header["levels"]
        assert np.abs(stored * step - given.clip(0)).max() <= 0.501 * step
    assert header["truth"][0] is None and header["truth"][1] == [1, 1]


def test_what_cannot_be_shown_is_refused():
    made = slices()
    for name, value in (("query", (3, 0)), ("target", (0, -1)), ("view", 2), ("view", -1)):
        with pytest.raises(traitlets.TraitError):
            setattr(made, name, value)
    with pytest.raises(ValueError, match="infinity"):
        TensorSlices("q", noise(), "t", noise(), {"zncc": np.full(GRID, np.nan)})
    state = json.loads(Tags(slices(query=(2, 5)).to_html()).tags[0][1]["data-state"])
    assert state == {"view": 0, "target": [0, 0], "query": [2, 5], "truth": False}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_the_slices_that_numpy_cuts(opened, scheme):
    """By keys, by the mouse and by the buttons, which lead to a mutual match and stay there."""
    made = slices(query=(1, 2), target=(2, 2))
    header, steps = numbers(made.payload)
    one = opened(made, width=375, scheme=scheme)
    one.assert_fits_and_is_named()

    def assert_shown(view, target, query):
        wanted = steps[view][target].ravel(), steps[view][:, :, *query].ravel()
        for alpha, values in zip(one.shown(), wanted, strict=True):
            share = values / header["levels"]
            np.testing.assert_allclose(alpha, 255 * share**0.75, atol=1)
        place = ", ".join(map(str, (*target, *query)))
        assert one.readout.startswith(f"R[{place}] = ")

    assert_shown(0, (2, 2), (1, 2))
    one.page.locator("[data-side=query]").focus()
    one.press("ArrowUp", "ArrowUp", "ArrowRight")
    assert_shown(0, (2, 2), (0, 3))
    box = one.page.locator("[data-side=target]").bounding_box()
    one.page.locator("[data-side=target]").click(
        position={"x": 0.9 * box["width"], "y": 0.1 * box["height"]}
    )
    assert_shown(0, (0, 4), (0, 3))
    one.page.get_by_label("view").select_option("1")
    assert_shown(1, (0, 4), (0, 3))
    one.page.get_by_label("true partner").check()
    assert "The true partner of query patch (0, 3) is (1, 1)." in one.readout
    for _ in range(12):
        one.page.get_by_role("button", name="go to the best").click()
        one.page.get_by_role("button", name="and back").click()
    assert "a mutual match" in one.readout
