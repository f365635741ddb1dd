"""The plane explorer: its data, its vote beside numpy's, and its page in a browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import load_dataset
from indiret.planes import Plane
from indiret.widgets import PlaneExplorer, PlaneResponses, known_plane_responses, plane_responses
from indiret.widgets.plane_explorer import compose, decompose
from tests.widgets.pages import BOOK, Opened, absent, page_of
from tests.widgets.test_payload import noise, unpack_header

STEP = np.array([[0.1, 0.1], [0.2, 0.2]])
CHAPTER = BOOK / "notebooks" / "13_sphere_or_plane.html"


def given_responses(seed: int = 0) -> PlaneResponses:
    """A true plane with step 2 among weak responses; half of the true places are known."""
    random = torch.Generator().manual_seed(seed)
    values = 0.2 * torch.rand(12, 14, 4, 5, generator=random)
    truth = np.full((4, 5, 2), np.nan)
    for k, l in np.ndindex(4, 5):
        values[2 * k + 1, 2 * l + 3, k, l] = 1.0
        truth[k, l] = (2 * k + 1, 2 * l + 3) if k % 2 else np.nan
    best = Plane(2 * torch.eye(2), torch.tensor([1.0, 3.0]), 1.0)
    return PlaneResponses(values, STEP, STEP / [[2], [4]], best, truth)


def query_first(responses: PlaneResponses) -> np.ndarray:
    return responses.values.permute(2, 3, 0, 1).numpy()


def explorer(given: PlaneResponses | None = None, **others) -> PlaneExplorer:
    given = given or given_responses()
    made = PlaneExplorer("a query", noise(), "a target", noise(seed=1), given)
    for name, value in others.items():
        setattr(made, name, value)
    return made


def numpy_vote(answers: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> float:
    """The mean answer along a plane, patch by patch and corner by corner."""
    K, L, rows, columns = answers.shape
    total = 0.0
    for k, l in np.ndindex(K, L):
        i, j = matrix @ [k, l] + offset
        for da, db in np.ndindex(2, 2):
            a, b = int(np.floor(i)) + da, int(np.floor(j)) + db
            if 0 <= a < rows and 0 <= b < columns:
                total += (1 - abs(i - a)) * (1 - abs(j - b)) * answers[k, l, a, b]
    return total / (K * L)


def unpack(payload: bytes) -> tuple[dict, np.ndarray]:
    """The header, and the answers as they were stored: a second reader, in numpy."""
    header, rest = unpack_header(payload)
    at = sum(picture["jpeg"] for picture in header["pictures"])
    steps = np.frombuffer(rest, np.uint8, offset=at).reshape(header["grid"])
    return header, steps * header["high"] / 255


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 6), st.floats(-170, 170), st.floats(0.4, 2.5), st.floats(-0.8, 0.8))
def test_settings_come_back_from_the_matrix_they_make(size, turn, stretch, shear):
    found = decompose(compose(size, turn, stretch, shear))
    wanted = {"size": size, "turn": turn, "stretch": stretch, "shear": shear}
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_mirror_is_no_view():
    with pytest.raises(ValueError, match="mirrors"):
        decompose(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_what_is_packed_is_what_was_given():
    given = given_responses()
    header, answers = unpack(explorer(given).payload)
    assert np.abs(answers - query_first(given)).max() <= header["high"] / 255 * 0.501
    assert header["truth"][0] is None and header["truth"][5] == [3.0, 3.0]
    assert header["best"]["middle"] == [1 + 2 * 1.5, 3 + 2 * 2.0]
    assert header["best"]["size"] == pytest.approx(2)


@pytest.mark.parametrize("values", [-torch.ones(2, 2, 3, 3), torch.full((2, 2, 3, 3), torch.nan)])
def test_responses_that_cannot_be_shown_are_refused(values):
    with pytest.raises(ValueError, match="cannot be shown"):
        explorer(given_responses()._replace(values=values))


def test_the_vote_is_the_one_by_loops_and_the_best_plane_has_more():
    made = explorer(size=1.4, turn=20, shear=0.2, middle=(5.3, 6.1))
    plane = made.plane
    expected = numpy_vote(query_first(made.responses), plane.matrix.numpy(), plane.offset.numpy())
    assert made.vote == pytest.approx(expected, abs=1e-5)
    made.set_plane(made.responses.best)
    assert made.vote == pytest.approx(1.0)
    assert made.middle == (4.0, 7.0)


def test_what_does_not_exist_cannot_be_set():
    made = explorer()
    for name, value in (("size", 0.0), ("turn", 200), ("stretch", "wide"), ("middle", (1,))):
        with pytest.raises(traitlets.TraitError):
            setattr(made, name, value)


def test_responses_know_the_true_places_of_a_landmark_only():
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    good = min(query.good - {query.image})
    made = known_plane_responses(town, query, good)
    known = np.isfinite(made.truth).all(-1)
    off = np.linalg.norm(made.truth - made.best.places(*known.shape).numpy(), axis=-1)
    assert known.sum() > 50 and np.median(off[known]) < 1.5
    other = next(n for n in town.images if n not in query.positives | query.junk)
    assert np.isnan(known_plane_responses(town, query, other).truth).all()


def test_the_best_plane_is_that_of_the_vote():
    picture = noise(12, 16).repeat(10, axis=0).repeat(10, axis=1)
    made = plane_responses(picture, picture)
    places = made.best.places(*made.values.shape[2:]) * torch.from_numpy(made.target_grid[1])
    wanted = torch.from_numpy(made.query_grid[0]) + torch.stack(
        torch.meshgrid(torch.arange(9), torch.arange(13), indexing="ij"), -1
    ) * torch.from_numpy(made.query_grid[1])
    found = places + torch.from_numpy(made.target_grid[0])
    assert (found - wanted).abs().max() < 0.02  # a picture lies on itself


class OpenedPlanes(Opened):
    """A plane explorer in a page."""

    kind = "planes"

    @property
    def vote(self) -> float:
        """As shown, before it is rounded to be read."""
        return float(self.host.get_attribute("data-vote"))

    def set(self, label: str, value: float) -> None:
        self.page.get_by_label(label).fill(str(value))

    def middle(self) -> np.ndarray:
        """(A | t) as the readout prints them."""
        numbers = re.search(r"A = \[(.*?)\], t = \((.*?)\)", self.readout)
        return np.array([float(x) for x in re.split(r"[ ;,]+", " ".join(numbers.groups()))])


@pytest.fixture
def opened(open_page, tmp_path):
    return lambda made, **more: open_page(OpenedPlanes, page_of(made.to_html(), tmp_path), **more)


def test_the_page_counts_the_votes_that_numpy_counts(opened):
    made = explorer()
    _, answers = unpack(made.payload)
    one = opened(made)
    for sliders, state in (
        ({}, {}),
        ({"size": 0.5, "shear": 0.2}, {"size": 2**0.5, "shear": 0.2}),  # the slider is of log₂
        ({"turn (degrees)": 12, "stretch": 0.5}, {"turn": 12, "stretch": 2**0.5}),
    ):
        for label, value in sliders.items():
            one.set(label, value)
        for name, value in state.items():
            setattr(made, name, value)
        wanted = numpy_vote(answers, made.plane.matrix.numpy(), made.plane.offset.numpy())
        assert one.vote == pytest.approx(wanted, abs=1e-5)
        assert f"Vote {wanted:.3f}" in one.readout


def test_the_best_shift_and_the_best_plane_are_a_press_away(opened):
    one = opened(explorer(size=2.0))
    one.page.get_by_role("button", name="best t for this A").click()
    assert one.vote == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(one.middle(), [2, 0, 0, 2, 1, 3])
    assert "10 of 10 true pairs" in one.readout
    one.page.get_by_role("button", name="start again").click()
    assert one.vote < 0.5
    one.page.get_by_role("button", name="best plane").click()
    assert one.vote == pytest.approx(1.0, abs=0.01)
    assert one.page.locator("circle.true").count() == 0
    one.page.get_by_label("true places").check()
    assert one.page.locator("circle.true").count() == 10


def test_keys_and_the_mouse_move_the_plane(opened):
    one = opened(explorer())
    before, pad = one.middle(), one.page.get_by_role("application")
    pad.focus()
    for key, down, right in (("ArrowDown", 1, 0), ("Shift+ArrowLeft", 1, -0.2)):
        one.page.keyboard.press(key)
        np.testing.assert_allclose(one.middle()[4:] - before[4:], [down, right], atol=0.11)
    one.page.keyboard.press("Tab")
    focused = "document.querySelector('.indiret-planes > div').shadowRoot.activeElement.type"
    assert one.page.evaluate(focused) == "range"
    one.page.keyboard.press("ArrowRight")
    assert one.middle()[0] > before[0]
    box = pad.bounding_box()
    pad.click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.4})
    matrix, t = one.middle()[:4].reshape(2, 2), one.middle()[4:]
    first, step = STEP / [[2], [4]]
    landed = first + step * (matrix @ [1.5, 2] + t)  # where the query's middle now is
    np.testing.assert_allclose(landed, [0.4, 0.4], atol=0.02)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_every_control_has_a_name(opened, scheme):
    one = opened(explorer(), width=375, scheme=scheme)
    one.assert_fits_and_is_named()
    assert one.page.locator(".indiret-planes img").count() == 2


def test_the_chapters_plane_is_alive_in_the_book(open_page):
    if not CHAPTER.is_file():
        absent("the built chapter", "run `make book` first.")
    one = open_page(OpenedPlanes, CHAPTER.as_uri(), width=1440)
    before = one.vote
    one.page.get_by_role("button", name="best plane").click()
    assert one.vote > 2 * before
