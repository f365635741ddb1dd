"""Slices of the correlation tensor: choose (k, l) and see R over the target, and back.

Chapter: *The correlation tensor*.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indiret.evaluation import NO_MATCH
from indiret.figures import plain_array
from indiret.images import Picture
from indiret.widgets.base import PageWidget, module_source, pair_trait, traitlets
from indiret.widgets.payload import grid_of, pack, pack_both, quantise

_LONG_SIDE = 200  # pixels of a picture
_LEVELS = 24  # above 0, of a value


class TensorSlices(PageWidget):
    """Two pictures with one patch of each: (k, l) of the query, (i, j) of the target.

    Over the target lies R[:, :, k, l], over the query R[i, j, :, :]. ``views`` are by name,
    (m, n, m', n'), standardised; what is below 0 is shown as 0. ``partners`` (m', n', 2) are true
    target patches, as of `ground_truth_matches`. ValueError unless the views are finite and of one
    shape.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> R = np.random.default_rng(0).normal(size=(4, 5, 3, 3))
    >>> slices = TensorSlices("q.jpg", grey, "a.jpg", grey, {"zncc": R})
    >>> slices.query = (0, 2)
    >>> "<script" in slices.to_html()
    True
    """

    _esm = module_source("slices")
    kind = "slices"
    page_state = ("view", "target", "query", "truth")
    view = traitlets.Int(0, min=0).tag(sync=True)  # the number of the view
    target = pair_trait(traitlets.CInt, 0)  # (i, j)
    query = pair_trait(traitlets.CInt, 0)  # (k, l)
    truth = traitlets.Bool(False).tag(sync=True)  # whether the true partner is shown

    def __init__(
        self,
        query_name: str,
        query: Picture,
        target_name: str,
        target: Picture,
        views: dict[str, ArrayLike],
        partners: NDArray[np.int_] | None = None,
    ) -> None:
        self._grid = grid = grid_of({"views": views})
        self._views = len(views)
        pictures, packed = pack_both(query_name, query, target_name, target, _LONG_SIDE)
        entries = []
        for name, values in views.items():
            high, steps = quantise(plain_array(values), _LEVELS, name)
            entries.append({"name": name, "high": high})
            packed.append(steps.tobytes())
        truth: list[Any] | None = None if partners is None else partners.reshape(-1, 2).tolist()
        truth = truth and [None if NO_MATCH in place else place for place in truth]
        header: dict[str, Any] = {"grid": grid, "levels": _LEVELS, "views": entries}
        super().__init__(payload=pack(header | {"pictures": pictures, "truth": truth}, packed))

    @traitlets.validate("target", "query")
    def _inside(self, proposal: dict[str, Any]) -> tuple[int, int]:
        sides = self._grid[:2] if proposal["trait"].name == "target" else self._grid[2:]
        if not all(0 <= at < side for at, side in zip(proposal["value"], sides, strict=True)):
            raise traitlets.TraitError(f"{proposal['value']} is not a patch of the grid {sides}.")
        return proposal["value"]

    @traitlets.validate("view")
    def _known(self, proposal: dict[str, Any]) -> int:
        if proposal["value"] >= self._views:
            raise traitlets.TraitError(f"there are {self._views} views; give 0 or more, and less.")
        return proposal["value"]
