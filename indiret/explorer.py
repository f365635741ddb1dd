"""The evidence explorer: point at a patch of one picture, see which patches of the other answer.

In a live notebook it is a widget that tells Python what is pointed at, pinned and chosen. In a
page, the same ES module (``explorer.js``) is inlined with its data, packed into a few hundred
kilobytes: no server, no other file, and it works from a disk.

Chapter: *From Grad-CAM to evidence*.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from indiret.correspondence import NO_PARTNER
from indiret.datasets import Query, RetrievalDataset
from indiret.evidence import ON_TENSOR, explain
from indiret.networks import IndicativeNetwork
from indiret.protocol import known_partners
from indiret.ranking import Hit, NetworkMethod
from indiret.report import Picture, jpeg, shrink

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        "The explorer needs anywidget, which is not installed; install the extra book: "
        "pip install 'indiret[book]'."
    ) from error

MODULE = (Path(__file__).parent / "explorer.js").read_text(encoding="utf-8")
LONG_SIDE = 400  # pixels of a packed picture, as large as the explorer draws it
STEPS = 255  # a channel is packed in bytes
METHODS = ("combined", "hirescam", "gradcam", "input_gradient")

Channels = Mapping[str, Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class Answer:
    """A picture beside the query, and what is known of all their patch pairs.

    Attributes
    ----------
    name
        Shown as text, never as markup.
    picture
        (H, W, 3) uint8 RGB.
    channels
        Group → name → (m, n, m', n') finite numbers, target first: evidence (≥ 0), or a view of the
        tensor (with negative values, of which only the positive ones are shown). The explorer
        switches between groups, and between the names of a group.
    caption
        Under the picture in the strip of answers, such as its probability.
    right
        Whether it shows what the query shows; None if unknown.
    partners
        (m', n', 2) int, the true target patch of each query patch, −1 where there is none, as
        `indiret.protocol.known_partners` gives it; None if unknown.
    """

    name: str
    picture: Picture
    channels: Channels
    caption: str = ""
    right: bool | None = None
    partners: NDArray[np.int_] | None = None


def _place() -> Any:  # the stubs of traitlets know no tuple that may be None
    return traitlets.Tuple(
        traitlets.Enum(("query", "target")),
        *(traitlets.CInt(min=0), traitlets.CInt(min=0)),
        default_value=None,
        allow_none=True,
    )


class Explorer(anywidget.AnyWidget):
    """Two pictures with their grids, and a strip of answers above them if there are several.

    Pointing at a patch by mouse, finger or arrow keys shows where the other picture answers and
    joins the strongest pairs; a click or Enter pins it. With nothing pointed at, both maps of
    Eq. 4 and the strongest pairs of all are shown (of a view: each patch's best answer).

    Parameters
    ----------
    query_name, query
        The query's name and (H, W, 3) uint8 picture, as it was compared (cropped to its box).
    answers
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
        Number of the answer shown, from 0; can be set.
    pairs, truth
        How many pairs are joined, and whether the true correspondence is shown; can be set.

    Raises
    ------
    ValueError
        If there is no answer, or a channel has not one grid or is not finite.
    traitlets.TraitError
        If a patch, channel, answer or number of pairs that is set does not exist.

    Examples
    --------
    >>> grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    >>> evidence = {"combined": {"tensor": np.random.default_rng(0).random((4, 5, 3, 3))}}
    >>> explorer = Explorer("q.jpg", grey, [Answer("a.jpg", grey, evidence)])
    >>> explorer.pinned = ("query", 0, 2)
    >>> "<script" in explorer.to_html(), explorer.channel
    (True, ('combined', 'tensor'))
    """

    _esm = MODULE
    payload = traitlets.Bytes().tag(sync=True)
    opened = traitlets.Int(0).tag(sync=True)
    channel = traitlets.Tuple(traitlets.Unicode(), traitlets.Unicode(), default_value=("", "")).tag(
        sync=True
    )
    pairs = traitlets.Int(10, min=0, max=30).tag(sync=True)
    truth = traitlets.Bool(False).tag(sync=True)
    hovered = _place().tag(sync=True)
    pinned = _place().tag(sync=True)

    def __init__(
        self, query_name: str, query: Picture, answers: Sequence[Answer], pairs: int = 10
    ) -> None:
        payload = pack(query_name, query, answers)  # looks at the answers first
        self._channels = _channel_names(answers[0].channels)
        self._grids = [_grid(answer.channels) for answer in answers]
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
    def _valid_answer(self, proposal: dict[str, Any]) -> int:
        if proposal["value"] not in range(len(self._grids)):
            raise traitlets.TraitError(
                f"answer {proposal['value']} does not exist; there are {len(self._grids)}, from 0."
            )
        return proposal["value"]

    @traitlets.observe("opened")
    def _let_go(self, change: dict[str, Any]) -> None:
        """A patch of another answer means nothing here; one of the query may be asked again."""
        if self.pinned and self.pinned[0] == "target":
            self.set_trait("pinned", None)

    def to_html(self) -> str:
        """The explorer in its present state as a piece of HTML, whole and working by itself."""
        names = ("opened", "channel", "pairs", "truth", "pinned")
        state = escape(json.dumps({name: getattr(self, name) for name in names}))
        payload = base64.b64encode(self.payload).decode()
        return (
            f'<div class="indiret-explorer" data-state="{state}" data-payload="{payload}">'
            "<noscript>The evidence explorer needs JavaScript.</noscript></div>\n"
            f'<script type="module">\n{MODULE}\nrenderPage();\n</script>\n'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The live widget, and the HTML for pages and for notebooks without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | {"text/html": self.to_html()}, metadata


def explore(
    network: IndicativeNetwork,
    query: Picture,
    target: Picture,
    query_name: str = "the query",
    target_name: str = "the target",
    methods: Sequence[str] = METHODS,
    partners: NDArray[np.int_] | None = None,
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
        Of `indiret.evidence.explain`; the first is shown first.
    partners
        The true correspondence, as for `Answer`.
    more
        Other groups of channels, such as evidence of the same pair without attention, with it, and
        after feedback.
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
    answer = Answer(target_name, target, {**channels, **(more or {})}, partners=partners)
    return Explorer(query_name, query, [answer], pairs)


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
    asked = method.prepare_query(picture)
    answers = []
    for hit in hits:
        found = database.read(hit.name)
        with torch.no_grad():
            tensor = method.tensor(asked, [method.prepare(found)])
        answers.append(
            Answer(
                hit.name,
                found,
                evidence_channels(method.network, tensor, methods, ["all"]),
                f"{hit.score:.1f}" if hit.probability is None else f"{hit.probability:.0%}",
                hit.name in query.positives if query.positives else None,
                known_partners(database, query, hit.name, tensor.shape[2:]),
            )
        )
    return Explorer(query.name, picture, answers, pairs)


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


def pack(query_name: str, query: Picture, answers: Sequence[Answer]) -> bytes:
    """Pictures and channels as ``explorer.js`` unpacks them.

    Deflated as a whole: the length of the header (uint32, little-endian), the header (JSON), the
    query's JPEG, and of each answer the JPEG and its channels in C order, a byte for each pair:
    ``low + (high − low) · byte / 255``. A channel's ``low`` is its minimum, but 0 if that is
    larger, so no evidence stays none.

    Raises
    ------
    ValueError
        If there is no answer, or a channel has not one grid or is not finite.
    """
    if not answers:
        raise ValueError("there is no answer to explore; give one or more.")
    names, query_grid = _channel_names(answers[0].channels), _grid(answers[0].channels)[2:]
    header: dict[str, Any] = {"query": _picture(query_name, query, query_grid), "answers": []}
    blobs = [header["query"].pop("bytes")]
    for answer in answers:
        grid = _grid(answer.channels)
        if _channel_names(answer.channels) != names or grid[2:] != query_grid:
            raise ValueError(
                f"answer {answer.name!r} has the channels {_channel_names(answer.channels)} on the "
                f"query's grid {grid[2:]}; the first has {names} on {query_grid}. Give all the "
                "same."
            )
        entry = _picture(answer.name, answer.picture, grid[:2])
        blobs.append(entry.pop("bytes"))
        entry |= {"caption": answer.caption, "right": answer.right, "channels": []}
        entry["partners"] = _flat_partners(answer.partners, grid)
        for group, channels in answer.channels.items():
            for name, values in channels.items():
                low, high, steps = _quantised(_array(values), f"{group} / {name}")
                entry["channels"].append({"group": group, "name": name, "low": low, "high": high})
                blobs.append(steps.tobytes())
        header["answers"].append(entry)
    text = json.dumps(header).encode()
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *blobs]), level=9)


def _picture(name: str, picture: Picture, grid: tuple[int, ...]) -> dict[str, Any]:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture {name!r} is {picture.dtype} of shape {picture.shape}; give uint8, (H, W, 3)."
        )
    encoded = jpeg(shrink(picture, LONG_SIDE))
    size = list(picture.shape[:2])
    return {"name": name, "grid": grid, "size": size, "jpeg": len(encoded), "bytes": encoded}


def _array(values: Any) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _channel_names(channels: Channels) -> list[tuple[str, str]]:
    return [(group, name) for group, ofgroup in channels.items() for name in ofgroup]


def _grid(channels: Channels) -> tuple[int, ...]:
    """(m, n, m', n') of all channels."""
    shapes = {_array(values).shape for ofgroup in channels.values() for values in ofgroup.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4 or 0 in next(iter(shapes)):
        raise ValueError(
            f"the channels have the shapes {sorted(shapes)}; give one channel or more, all of one "
            "shape (m, n, m', n')."
        )
    return next(iter(shapes))


def _quantised(values: NDArray[np.float64], label: str) -> tuple[float, float, NDArray[np.uint8]]:
    if not np.isfinite(values).all():
        raise ValueError(f"channel {label} holds NaN or infinity; give finite numbers.")
    low, high = min(float(values.min()), 0.0), float(values.max())
    if high <= low:
        return low, high, np.zeros(values.shape, np.uint8)
    return low, high, np.rint((values - low) / (high - low) * STEPS).astype(np.uint8)


def _flat_partners(partners: NDArray[np.int_] | None, grid: tuple[int, ...]) -> list[int] | None:
    """The number of each query patch's true target patch, row by row; −1 where there is none."""
    if partners is None:
        return None
    m, n, rows, columns = grid
    known = partners[..., 0] != NO_PARTNER
    if (
        partners.shape != (rows, columns, 2)
        or not ((partners[known] >= 0) & (partners[known] < (m, n))).all()
    ):
        raise ValueError(
            f"partners has shape {partners.shape}; give {(rows, columns, 2)}, places on the "
            f"target's grid {(m, n)}, −1 for none."
        )
    return np.where(known, partners[..., 0] * n + partners[..., 1], NO_PARTNER).ravel().tolist()
