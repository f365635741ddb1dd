"""Trained or random: rounds, the score, and what it is worth beside guessing."""

import math

import numpy as np
import pytest
import torch

from indiret.widgets import GuessNetwork, MapRound
from tests.widgets.pages import Opened, page_of
from tests.widgets.test_payload import noise

ROUNDS = 10


def rounds(count: int = ROUNDS) -> list[MapRound]:
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(count, 2, 4, 5, generator=random)
    return [MapRound(noise(seed=n), noise(120, 90, n), *maps[n]) for n in range(count)]


class OpenedGame(Opened):
    kind = "guess"

    def answer(self, which: str) -> None:
        """The left map, or the right one, by keys alone."""
        self.page.locator(".map").nth("AB".index(which)).press("Enter")

    def play(self, right: int) -> str:
        """A whole game in which the trained map was always left."""
        for number in range(ROUNDS):
            self.answer("A" if number < right else "B")
            if number < ROUNDS - 1:
                self.page.get_by_role("button", name="next round").press("Enter")
        return self.readout


@pytest.fixture
def opened(browser, open_page, tmp_path):
    def open_game(made, sides: str = "", **more):
        html = f"<script>{sides}</script>{made.to_html()}"
        return open_page(OpenedGame, page_of(html, tmp_path), **more)

    return open_game


@pytest.mark.parametrize("right", [0, 5, 8, 9, 10])
def test_the_score_is_compared_with_guessing_exactly(opened, right):
    one = opened(GuessNetwork(rounds()), "Math.random = () => 0")  # the trained map is A
    told = one.play(right)
    outcomes = sum(math.comb(ROUNDS, k) for k in range(right, ROUNDS + 1))
    assert f"You found {right} of 10." in told
    assert f"{right} or more in {outcomes:,} of 1,024" in told
    assert f"{100 * outcomes / 1024:.1f} %" in told
    assert ("you saw a difference." in told) == (right >= 9)
    assert ("chose the other map" in told) == (right == 0)
    one.page.get_by_role("button", name="start again").click()
    assert one.readout == "Choose A or B."


def test_an_answer_shows_both_maps_owners_and_how_alike_they_are(opened):
    given = rounds(1)
    one = opened(GuessNetwork(given), "Math.random = () => 0.9")  # the trained map is B
    one.answer("A")
    assert one.page.locator(".map").all_inner_texts() == ["A: random", "B: trained"]
    expected = np.corrcoef(given[0].trained.ravel(), given[0].random.ravel())[0, 1]
    assert f"Wrong. The two maps correlate by {expected:.2f}." in one.readout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(opened, scheme):
    one = opened(GuessNetwork(rounds(2)), width=375, scheme=scheme)
    one.assert_fits_and_is_named()


def test_maps_of_several_shapes_or_none_are_refused():
    (one,) = rounds(1)
    for given in ([], [one._replace(random=torch.rand(3, 3))]):
        with pytest.raises(ValueError, match="all maps of one shape"):
            GuessNetwork(given)
    with pytest.raises(ValueError, match="infinity"):
        GuessNetwork([one._replace(trained=one.trained * torch.nan)])
