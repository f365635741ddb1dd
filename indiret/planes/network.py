"""A small network that reads T along the best planes of a pair.

The votes of a plane are a mean over the template's patches. This network sees the responses in
their places instead: T sampled along the best plane of either direction is a picture of the
template, one channel for each thing that is known of a response. 2-D convolutions give each patch
the probability that the plane is right there, and the pair z_relevant − z_irrelevant, to which the
scores of the votes are added. It can only judge planes that votes have found, so it costs little
more than they do.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from indiret.evidence import Evidence
from indiret.networks import WEIGHTS, file_name
from indiret.planes.correspondence import smooth_support, splat
from indiret.planes.matching import (
    PLANE_CONFIGS,
    PairMatch,
    PlaneConfig,
    PlaneFeatures,
    PlaneRetriever,
    to_float32,
)
from indiret.planes.samples import CHANNELS, DIRECTIONS, NUMBERS, READS, collate, sample_pair
from indiret.reranking import best, lift

NAME = "plane-net"
JUDGED = 0.5  # share of the database; see book/decisions/0016_plane_network


class PlaneOutput(NamedTuple):
    """``logits`` (B, 2), relevant second; ``support`` (B, 2, K, L), logits of right patches.

    ``margin`` (B,) is z_relevant − z_irrelevant with the scores of both directions' votes. The
    network is trained by its logits alone: with the votes, it learns less that is new.
    """

    logits: Tensor
    support: Tensor
    margin: Tensor


class PlaneNetwork(nn.Module):
    """Three 2-D convolutions over the samples of either direction, and a small head over both.

    Parameters
    ----------
    width
        Channels of a convolution.

    Attributes
    ----------
    calibration
        (2,): a and b of probability = sigmoid(a · margin + b).

    Examples
    --------
    >>> network = PlaneNetwork()
    >>> output = network(torch.rand(3, 2, 8, 13, 9), torch.rand(3, 2, 8))
    >>> output.logits.shape, output.support.shape
    (torch.Size([3, 2]), torch.Size([3, 2, 13, 9]))
    """

    calibration: Tensor

    def __init__(self, width: int = 16):
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for channels in (len(CHANNELS), width, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.support = nn.Conv2d(width, 1, 1)
        pooled = 2 * width + 1 + len(NUMBERS)
        self.head = nn.Sequential(
            nn.Linear(DIRECTIONS * pooled, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2)
        )
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, maps: Tensor, numbers: Tensor) -> PlaneOutput:
        """Judge B pairs, with ``maps`` (B, 2, C, K, L) and ``numbers`` (B, 2, G) of `collate`."""
        here = (maps[:, :, CHANNELS.index("norm")] > 0).flatten(0, 1)[:, None]
        features = self.convolutions(maps.flatten(0, 1)) * here
        support = self.support(features)
        counted = here.sum((2, 3)).clamp_min(1)
        share = support.sigmoid() * here
        pooled = torch.cat(
            [
                (features * share).sum((2, 3)) / counted,
                features.sum((2, 3)) / counted,
                share.sum((2, 3)) / counted,
            ],
            1,
        )
        both = torch.cat([pooled.unflatten(0, maps.shape[:2]), numbers], 2)
        logits = self.head(both.flatten(1))
        scores = numbers[:, :, NUMBERS.index("score")].sum(1)
        margin = logits[:, 1] - logits[:, 0] + scores
        return PlaneOutput(logits, support[:, 0].unflatten(0, maps.shape[:2]), margin)


class PlaneNetRetriever(PlaneRetriever):
    """Votes for planes, the better part of them judged by the network.

    Parameters
    ----------
    network
        From `load_plane_network`, or an untrained one.
    config
        Of the votes.
    judged
        Share of the database that the network judges, `indiret.reranking.LEAST` photos at least;
        the others keep the order of their votes below.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> retriever = PlaneNetRetriever(PlaneNetwork())
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> features = retriever.encode(picture.repeat(10, axis=0).repeat(10, axis=1))
    >>> retriever.score(features, [features]).shape
    (1,)
    >>> retriever.explain(features, features).pairs.shape
    torch.Size([10, 14, 10, 14])
    """

    BATCH = 64  # pairs that are judged at once
    evidence_kinds = ("support",)

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANE_CONFIGS["planes"],
        judged: float = JUDGED,
    ):
        if not 0 <= judged <= 1:
            raise ValueError(f"judged={judged} is no share of the database; give 0 to 1.")
        super().__init__(config)
        self.network, self.judged = network.eval(), judged

    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> NDArray[np.float64]:
        """Margins of what the network judges, less for what it does not, (len(database),)."""
        if not database:
            return np.empty(0)
        query = to_float32(query)
        scores, matches = self.score_all(query, database)
        kept = best(scores, self.judged)
        pairs = [(database[place], matches.get(int(place))) for place in kept]
        return lift(scores, kept, self.margins(query, pairs))

    def margins(
        self, query: PlaneFeatures, pairs: Sequence[tuple[PlaneFeatures, PairMatch | None]]
    ) -> NDArray[np.float64]:
        """The network's margins of targets and their matches, one batch at a time."""
        samples = (sample_pair(self, query, target, match) for target, match in pairs)
        margins = [torch.empty(0)]
        with torch.inference_mode():
            while few := list(islice(samples, self.BATCH)):
                margins.append(self.network(*collate(few)).margin)
        return torch.cat(margins).double().numpy()

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probability that a pair is relevant."""
        slope, offset = self.network.calibration.double().tolist()
        return np.asarray(1 / (1 + np.exp(-(slope * scores + offset))))

    def explain(
        self, query: PlaneFeatures, target: PlaneFeatures, kind: str | None = None
    ) -> Evidence:
        """Which patches support the match, and where the planes put them; see `Evidence`.

        Support is the network's probability that a patch is right, averaged by `smooth_support`.
        The grids have 14 patches along the longer sides.
        """
        self._check_kind(kind)
        samples = sample_pair(self, query, target)
        with torch.inference_mode():
            output = self.network(*collate([samples]))
        parts = []
        for number, one in enumerate(samples):
            K, L = one.maps.shape[1:]
            right = output.support[0, number, :K, :L].sigmoid() * (one.maps[6] > 0)
            points = one.matched_points, one.template_points
            parts.append((smooth_support(right), *(points[::-1] if number else points)))
        return Evidence(float(output.margin), splat(parts, target.shape, query.shape))


def save_plane_network(
    network: PlaneNetwork, path: Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights, width and calibration as one safetensors file, whole or not at all.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.safetensors"
    >>> save_plane_network(PlaneNetwork(width=4), path)
    >>> load_plane_network(path).width
    4
    """
    metadata = {**(extra or {}), NAME: json.dumps({"width": network.width, "reads": READS})}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file(network.state_dict(), unfinished, metadata)
    os.replace(unfinished, path)


def load_plane_network(path: str | Path = NAME) -> PlaneNetwork:
    """A trained network in eval mode: the shipped one, or a file of `save_plane_network`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not one of `save_plane_network`, whole and finite, or was made for other
        channels.
    """
    path = WEIGHTS / file_name(NAME) if path == NAME else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give one that indiret train made.")
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})[NAME])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if settings["reads"] != list(READS):
            raise ValueError(f"it reads {', '.join(settings['reads'])}")
        network = PlaneNetwork(settings["width"])
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no file of {NAME} ({reason}); train it again.") from error
    if not all(values.isfinite().all() for values in tensors.values()):
        raise ValueError(f"the weights in {path} hold NaN or infinity; train it again.")
    return network.eval()


def is_plane_network(name: str) -> bool:
    """Whether a name is `NAME`, or a file of such a network.

    Examples
    --------
    >>> is_plane_network("plane-net"), is_plane_network("base")
    (True, False)
    """
    if name == NAME or not name.endswith(".safetensors") or not Path(name).is_file():
        return name == NAME
    try:
        with safe_open(name, framework="pt") as file:
            return NAME in (file.metadata() or {})
    except SafetensorError:
        return False  # whoever loads it says what is wrong
