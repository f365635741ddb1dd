"""Trained or random? Tell a trained network's map from that of random weights, round by round.

Chapter: *From Grad-CAM to evidence*.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from indiret.figures import plain_array
from indiret.images import Picture
from indiret.widgets.base import PageWidget, module_source
from indiret.widgets.payload import pack, pack_small_picture, quantise

_QUERY_SIDE, _TARGET_SIDE = 72, 132  # pixels of a picture
_LEVELS = 255


class MapRound(NamedTuple):
    """One pair of pictures, and two maps (m, n) over the target, finite and ≥ 0."""

    query: Picture
    target: Picture
    trained: Tensor
    random: Tensor


class GuessNetwork(PageWidget):
    """A game: of two maps over a photo, which is the trained network's? The score beside guessing.

    The page draws anew for each game on which side the trained network's map is. ValueError if
    there is no round, or the maps are not finite or of one shape.

    Examples
    --------
    >>> import numpy as np, torch
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> game = GuessNetwork([MapRound(grey, grey, torch.rand(4, 5), torch.rand(4, 5))])
    >>> "<script" in game.to_html()
    True
    """

    _esm = module_source("guess_network")
    kind = "guess"

    def __init__(self, rounds: Sequence[MapRound]) -> None:
        shapes = {tuple(one.shape) for each in rounds for one in (each.trained, each.random)}
        grid = min(shapes, default=())
        if len(shapes) != 1 or len(grid) != 2:
            raise ValueError(f"the maps have the shapes {sorted(shapes)}; give one or more rounds, "
                             "all maps of one shape (m, n).")  # fmt: skip
        parts: list[bytes] = []
        entries = []
        for number, one in enumerate(rounds):
            query, encoded_query = pack_small_picture("query", one.query, _QUERY_SIDE)
            target, encoded_target = pack_small_picture("target", one.target, _TARGET_SIDE)
            label = f"a map of round {number}"
            maps = [quantise(plain_array(each), _LEVELS, label)[1] for each in one[2:]]
            parts += [encoded_query, encoded_target, *(each.tobytes() for each in maps)]
            entries.append({"pictures": [query, target]})
        super().__init__(payload=pack({"grid": grid, "rounds": entries}, parts))
