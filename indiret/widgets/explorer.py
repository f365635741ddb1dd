"""The evidence explorer: point at a patch of one picture, see which patches of the other match.

A live widget tells Python what is pointed at, pinned and chosen.

Chapter: *From Grad-CAM to evidence*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indiret.datasets import Query, RetrievalDataset
from indiret.evidence import ON_TENSOR, explain
from indiret.figures import Picture
from indiret.networks import IndicativeNetwork
from indiret.protocol import known_partners
from indiret.ranking import Hit, NetworkMethod
from indiret.widgets.base import PageWidget, module_source, traitlets
from indiret.widgets.payload import Candidate, Channels, channel_names, grid_of, pack_channels

METHODS = ("combined", "hirescam", "gradcam", "input_gradient")


def _patch_trait() -> Any:  # the stubs of traitlets know no tuple that may be None
    return traitlets.Tuple(
        traitlets.Enum(("query", "target")),
        *(traitlets.CInt(min=0), traitlets.CInt(min=0)),
        default_value=None,
        allow_none=True,
    )


class Explorer(PageWidget):
    """Two pictures with their grids, and a strip of candidates above them if there are several.

    Pointing at a patch by mouse, finger or arrow keys shows where the other picture matches it and
    joins the strongest pairs; a click or Enter pins it. With nothing pointed at, both maps of
    Eq. 4 and the strongest pairs of all are shown (of a view: each patch's best value).

    Parameters
    ----------
    query_name, query
        The query's name and (H, W, 3) uint8 picture, as it was compared (cropped to its box).
    candidates
        One, or a ranked list, best first; all with channels of the same names.
    pairs
        How many pairs are joined at first, 0 … 30.

    Attributes
    ----------
    hovered, pinned
        ``("query" or "target", row, column)`` or None. ``pinned`` can be set.
    channel
        ``(group, name)`` shown; can be set.
    opened
        Number of the candidate shown, from 0; can be set.
    pairs, truth
        How many pairs are joined, and whether the true correspondence is shown; can be set.

    Raises
    ------
    ValueError
        If there is no candidate, or a channel has not one grid or is not finite.
    traitlets.TraitError
        If a patch, channel, candidate or number of pairs that is set does not exist.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> evidence = {"combined": {"tensor": np.random.default_rng(0).random((4, 5, 3, 3))}}
    >>> explorer = Explorer("q.jpg", grey, [Candidate("a.jpg", grey, evidence)])
    >>> explorer.pinned = ("query", 0, 2)
    >>> "<script" in explorer.to_html(), explorer.channel
    (True, ('combined', 'tensor'))
    """

    _esm = module_source("explorer_channels", "explorer")
    kind = "explorer"
    page_state = ("opened", "channel", "pairs", "truth", "pinned")
    opened = traitlets.Int(0).tag(sync=True)
    channel = traitlets.Tuple(traitlets.Unicode(), traitlets.Unicode(), default_value=("", "")).tag(
        sync=True
    )
    pairs = traitlets.Int(10, min=0, max=30).tag(sync=True)
    truth = traitlets.Bool(False).tag(sync=True)
    hovered = _patch_trait().tag(sync=True)
    pinned = _patch_trait().tag(sync=True)

    def __init__(
        self, query_name: str, query: Picture, candidates: Sequence[Candidate], pairs: int = 10
    ) -> None:
        payload = pack_channels(query_name, query, candidates)  # checks the candidates first
        self._channels = channel_names(candidates[0].channels)
        self._grids = [grid_of(candidate.channels) for candidate in candidates]
        super().__init__(payload=payload, channel=self._channels[0], pairs=pairs)

    @traitlets.validate("hovered", "pinned")
    def _valid_patch(self, proposal: dict[str, Any]) -> tuple[str, int, int]:
        side, row, column = proposal["value"]
        grid = self._grids[self.opened]
        rows, columns = grid[:2] if side == "target" else grid[2:]
        if row >= rows or column >= columns:
            raise traitlets.TraitError(
                f"the {side} has no patch ({row}, {column}); it has {rows} rows and {columns} "
                "columns, from 0."
            )
        return side, row, column

    @traitlets.validate("channel")
    def _valid_channel(self, proposal: dict[str, Any]) -> tuple[str, str]:
        if proposal["value"] not in self._channels:
            raise traitlets.TraitError(
                f"channel {proposal['value']} is not known; choose from {self._channels}."
            )
        return proposal["value"]

    @traitlets.validate("opened")
    def _valid_candidate(self, proposal: dict[str, Any]) -> int:
        if proposal["value"] not in range(len(self._grids)):
            raise traitlets.TraitError(
                f"candidate {proposal['value']} does not exist; there are {len(self._grids)}, "
                "from 0."
            )
        return proposal["value"]

    @traitlets.observe("opened")
    def _unpin(self, change: dict[str, Any]) -> None:
        """A patch of another candidate means nothing here; one of the query keeps its meaning."""
        if self.pinned and self.pinned[0] == "target":
            self.set_trait("pinned", None)


def explore(
    network: IndicativeNetwork,
    query: Picture,
    target: Picture,
    query_name: str = "the query",
    target_name: str = "the target",
    methods: Sequence[str] = METHODS,
    true_matches: NDArray[np.int_] | None = None,
    more: Channels | None = None,
    pairs: int = 10,
) -> Explorer:
    """Explore what a network sees in one pair: evidence by method and layer, and the views.

    Parameters
    ----------
    network
        Judges and explains the pair.
    query, target
        (H, W, 3) uint8 RGB; the query cropped to its box.
    query_name, target_name
        Above the pictures.
    methods
        Of `indiret.evidence.explain`, on every layer.
    true_matches
        The true correspondence, as for `Candidate`.
    more
        Other groups of channels, which are offered before these: evidence of the same pair
        without attention, with it, and after feedback, for instance.
    pairs
        How many pairs are joined at first.

    Examples
    --------
    >>> from indiret.networks import build_network
    >>> noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    >>> explorer = explore(build_network("base"), noise, noise, methods=["combined"])
    >>> explorer.channel
    ('combined', 'tensor')
    """
    with torch.no_grad():
        tensor = network.correlate(network.describe(query, query=True), [network.describe(target)])
    channels = {**evidence_channels(network, tensor, methods), **view_channels(network, tensor)}
    shown: Channels = {**(more or {}), **channels}
    candidate = Candidate(target_name, target, shown, true_matches=true_matches)
    return Explorer(query_name, query, [candidate], pairs)


def explore_ranked(
    method: NetworkMethod,
    database: RetrievalDataset,
    query: Query,
    hits: Sequence[Hit],
    methods: Sequence[str] = ("combined", "gradcam"),
    pairs: int = 10,
) -> Explorer:
    """Explore a ranked list: a strip of its pictures, each of which opens its evidence.

    Parameters
    ----------
    method, database, query
        As they were given to `indiret.ranking.rank`.
    hits
        The part of the list to show; a picture takes about 50 KB.
    methods
        Of `indiret.evidence.explain`, over all layers; the first is shown first.
    pairs
        How many pairs are joined at first.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> from indiret.networks import build_network
    >>> town = load_dataset("toytown", split="validation")
    >>> query = town.queries[0]
    >>> hits = [Hit(name, 0.0, 0.5) for name in sorted(query.good)[:2]]
    >>> explore_ranked(NetworkMethod(build_network("base")), town, query, hits).opened
    0
    """
    picture = database.read_query(query)
    encoded = method.prepare_query(picture)
    candidates = []
    for hit in hits:
        found = database.read(hit.name)
        with torch.no_grad():
            tensor = method.tensor(encoded, [method.prepare(found)])
        candidates.append(
            Candidate(
                hit.name,
                found,
                evidence_channels(method.network, tensor, methods, ["all"]),
                f"{hit.score:.1f}" if hit.probability is None else f"{hit.probability:.0%}",
                hit.name in query.positives if query.positives else None,
                known_partners(database, query, hit.name, tensor.shape[2:]),
            )
        )
    return Explorer(query.name, picture, candidates, pairs)


def evidence_channels(
    network: IndicativeNetwork,
    tensor: Tensor,
    methods: Sequence[str] = METHODS,
    layers: Sequence[str] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """Evidence of one pair by method, and by layer for those that look at layers.

    Parameters
    ----------
    tensor
        (1, V, m, n, m', n').
    methods
        Of `indiret.evidence.explain`.
    layers
        Of the network, or ``"all"``; all of them and each by itself if left out.

    Returns
    -------
    dict
        Method → layer, or ``"tensor"`` → (m, n, m', n').
    """
    layers = layers or ["all", *network.layers]
    return {
        method: {"tensor": explain(network, tensor, method)[0].pairs}
        if method in ON_TENSOR
        else {layer: explain(network, tensor, method, layer)[0].pairs for layer in layers}
        for method in methods
    }


def view_channels(network: IndicativeNetwork, tensor: Tensor) -> dict[str, dict[str, Tensor]]:
    """The views of one pair's tensor, (1, V, m, n, m', n'), as a group of channels."""
    return {"views": dict(zip(network.config.views, tensor[0], strict=True))}
