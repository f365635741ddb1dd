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
from indiret.experiments.evidence_protocol import pair_matches
from indiret.images import Picture
from indiret.network import IndicativeNetwork
from indiret.retrieval import Hit, NetworkRetriever
from indiret.widgets.base import PageWidget, module_source, pair_trait, traitlets
from indiret.widgets.payload import Candidate, Channels, channel_names, grid_of, pack_channels

_METHODS = ("combined", "hirescam", "gradcam", "input_gradient")


def _patch_trait() -> Any:
    place = traitlets.Enum(("query", "target")), traitlets.CInt(min=0), traitlets.CInt(min=0)
    return traitlets.Tuple(*place, default_value=None, allow_none=True).tag(sync=True)


class Explorer(PageWidget):
    """Two pictures with their grids, and a strip of candidates above them if there are several.

    Pointing at a patch by mouse, finger or arrow keys shows where the other picture matches it and
    joins the strongest pairs; a click or Enter pins it. With nothing pointed at, both maps of
    Eq. 4 and the strongest pairs of all are shown (of a view: each patch's best value), with what
    `indiret.evaluation.line_pattern` counts of their lines.

    The query is shown as it was compared, cropped to its box. ValueError as by `pack_channels`;
    TraitError if a patch, channel, candidate or number of pairs that is set does not exist.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> evidence = {"combined": {"tensor": np.random.default_rng(0).random((4, 5, 3, 3))}}
    >>> explorer = Explorer("q.jpg", grey, [Candidate("a.jpg", grey, evidence)])
    >>> explorer.pinned = ("query", 0, 2)
    >>> "<script" in explorer.to_html(), explorer.channel
    (True, ('combined', 'tensor'))
    """

    _esm = module_source("explorer_channels", "explorer_lines", "explorer", "explorer_widget")
    kind = "explorer"
    page_state = ("opened", "channel", "pairs", "truth", "pinned")
    opened = traitlets.Int(0).tag(sync=True)  # number of the candidate shown
    channel = pair_trait(traitlets.Unicode, "")  # (group, name)
    pairs = traitlets.Int(10, min=0, max=30).tag(sync=True)  # how many are joined
    truth = traitlets.Bool(False).tag(sync=True)  # whether true correspondence is shown
    hovered = _patch_trait()  # ("query" or "target", row, column), or None
    pinned = _patch_trait()

    def __init__(self, query_name: str, query: Picture, candidates: Sequence[Candidate]) -> None:
        payload = pack_channels(query_name, query, candidates)  # checks the candidates first
        self._channels = channel_names(candidates[0].channels)
        self._grids = [grid_of(candidate.channels) for candidate in candidates]
        super().__init__(payload=payload, channel=self._channels[0])

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

    @traitlets.validate("channel", "opened")
    def _valid_choice(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        choices = self._channels if name == "channel" else range(len(self._grids))
        if value not in choices:
            raise traitlets.TraitError(f"{name} {value} is not there; choose from {[*choices]}.")
        return value

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
    methods: Sequence[str] = _METHODS,
    true_matches: NDArray[np.int_] | None = None,
    more: Channels | None = None,
) -> Explorer:
    """Explore what a network sees in one pair: evidence by method and layer, and the views.

    ``methods`` are those of `indiret.evidence.explain`, ``true_matches`` as for `Candidate`, and
    ``more`` are groups of channels that are offered before these.

    Examples
    --------
    >>> from indiret.network import build_network
    >>> noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    >>> explorer = explore(build_network("base"), noise, noise, methods=["combined"])
    >>> explorer.channel
    ('combined', 'tensor')
    """
    with torch.no_grad():
        tensor = network.correlate(network.encode(query, query=True), [network.encode(target)])
    evidence = evidence_channels(network, tensor, methods)
    views = dict(zip(network.config.views, tensor[0], strict=True))
    channels: Channels = {**(more or {}), **evidence, "views": views}
    candidate = Candidate(target_name, target, channels, true_matches=true_matches)
    return Explorer(query_name, query, [candidate])


def explore_ranked(
    retriever: NetworkRetriever,
    database: RetrievalDataset,
    query: Query,
    hits: Sequence[Hit],
    methods: Sequence[str] = ("combined", "gradcam"),
) -> Explorer:
    """Explore a ranked list: a strip of its pictures, each of which opens its evidence.

    ``hits`` are a part of `indiret.retrieval.rank`'s list; a picture takes about 50 KB. Of the
    ``methods`` of `indiret.evidence.explain`, over all layers, the first is shown first.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> from indiret.network import build_network
    >>> town = load_dataset("toytown", split="validation")
    >>> query = town.queries[0]
    >>> hits = [Hit(name, 0.0, 0.5) for name in sorted(query.good)[:2]]
    >>> explore_ranked(NetworkRetriever(build_network("base")), town, query, hits).opened
    0
    """
    picture = database.read_query(query)
    encoded = retriever.encode_query(picture)
    candidates = []
    for hit in hits:
        found = database.read(hit.name)
        with torch.no_grad():
            tensor = retriever.tensor(encoded, [retriever.encode(found)])
        channels = evidence_channels(retriever.network, tensor, methods, ["all"])
        caption = f"{hit.score:.1f}" if hit.probability is None else f"{hit.probability:.0%}"
        caption = caption if hit.judged else "not judged"
        relevant = hit.name in query.positives if query.positives else None
        matches = pair_matches(database, query, hit.name, tensor.shape[2:])
        candidates.append(Candidate(hit.name, found, channels, caption, relevant, matches))
    return Explorer(query.name, picture, candidates)


def evidence_channels(
    network: IndicativeNetwork,
    tensor: Tensor,
    methods: Sequence[str] = _METHODS,
    layers: Sequence[str] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """Evidence of one pair's tensor, (1, V, m, n, m', n'): method → layer, or "tensor" → pairs.

    Methods that look at layers have all together and each by itself, by default.
    """
    layers = layers or ["all", *network.layers]
    return {
        method: {"tensor": explain(network, tensor, method)[0].pairs}
        if method in ON_TENSOR
        else {layer: explain(network, tensor, method, layer)[0].pairs for layer in layers}
        for method in methods
    }
