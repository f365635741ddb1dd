"""A small network that reads T along the best planes of a pair.

Votes are a mean over the template's patches. This network sees the responses in their places: T
sampled along the best plane of either direction is a picture of the template, one channel for each
thing that is known of a response. 2-D convolutions give each patch the probability that the plane
is right there, and the pair z_relevant − z_irrelevant, to which the votes' scores are added.

Chapter: *Sphere or plane?*
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from indiret.checkpoints import find_weights, holds, load_tensors, restore, save_tensors
from indiret.evidence import Evidence
from indiret.planes.codes import code_query
from indiret.planes.correspondence import PlaneCorrespondence, smooth_support, splat
from indiret.planes.features import PLANE_CONFIG, PlaneConfig, PlaneFeatures
from indiret.planes.matches import PairMatch
from indiret.planes.matching import BY_FINER_PATCHES, PlaneRetriever
from indiret.planes.samples import CHANNELS, NORM, NUMBERS, READS, collate, sample_pair
from indiret.planes.voting import float32_on_cpu
from indiret.retrieval import (
    Scores,
    check_kind,
    register_family,
    register_retriever,
    splice_scores,
    top_share,
)

NAME = "plane-net"


class PlaneOutput(NamedTuple):
    """What the network says of B pairs; with the votes in its loss, it learns less that is new."""

    logits: Tensor  # (B, 2), relevant second
    support: Tensor  # (B, 2, K, L), logits of right patches
    margin: Tensor  # (B,), z_relevant − z_irrelevant with the scores of both directions' votes


class PlaneNetwork(nn.Module):
    """Three 2-D convolutions over the samples of either direction, and a small head over both.

    Examples
    --------
    >>> output = PlaneNetwork()(torch.rand(3, 2, 8, 13, 9), torch.rand(3, 2, 8))
    >>> output.logits.shape, output.support.shape
    (torch.Size([3, 2]), torch.Size([3, 2, 13, 9]))
    """

    calibration: Tensor  # a and b of probability = sigmoid(a · margin + b)

    def __init__(self, width: int = 16):
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for channels in (len(CHANNELS), width, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.support = nn.Conv2d(width, 1, 1)
        pooled = 2 * width + 1 + len(NUMBERS)
        layers = [nn.Linear(2 * pooled, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2)]
        self.head = nn.Sequential(*layers)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, maps: Tensor, numbers: Tensor) -> PlaneOutput:
        """Judge B pairs, with ``maps`` (B, 2, C, K, L) and ``numbers`` (B, 2, G) of `collate`."""
        here = (maps[:, :, NORM] > 0).flatten(0, 1)[:, None]
        features = self.convolutions(maps.flatten(0, 1)) * here
        support = self.support(features)
        counted = here.sum((2, 3)).clamp_min(1)
        share = support.sigmoid() * here
        means = [one.sum((2, 3)) / counted for one in (features * share, features, share)]
        pooled = torch.cat(means, 1).unflatten(0, maps.shape[:2])
        logits = self.head(torch.cat([pooled, numbers], 2).flatten(1))
        scores = numbers[:, :, NUMBERS.index("score")].sum(1)
        margin = logits[:, 1] - logits[:, 0] + scores
        return PlaneOutput(logits, support[:, 0].unflatten(0, maps.shape[:2]), margin)


class PlaneNetRetriever(PlaneRetriever):
    """Votes for planes, the better part of them judged by the network; see record 16.

    It judges a share ``judged`` of the database, `indiret.retrieval.LEAST` photos at least. The
    others keep their order below. Raises ValueError if the share is not between 0 and 1.

    Examples
    --------
    >>> retriever = PlaneNetRetriever(PlaneNetwork())
    >>> features = retriever.encode(np.zeros((120, 160, 3), dtype=np.uint8))
    >>> retriever.explain(features, features).pairs.shape
    torch.Size([10, 14, 10, 14])
    """

    evidence_kinds = (BY_FINER_PATCHES, "support")

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANE_CONFIG,
        judged: float = 0.5,
    ):
        if not 0 <= judged <= 1:
            raise ValueError(f"judged={judged} is no share of the database; give 0 to 1.")
        slope, offset = network.calibration.double().tolist()
        super().__init__(config, (slope, offset))
        self.network, self.judged = network.eval(), judged

    @float32_on_cpu()
    @torch.inference_mode()
    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Margins of what the network judges, less for what it does not, (len(database),)."""
        if not database:
            return np.empty(0)
        query = code_query(query, database[0])
        scores, matches = self.score_all(query, database)
        kept = top_share(scores, self.judged)
        pairs = [(database[place], matches.get(place)) for place in kept.tolist()]
        return splice_scores(scores, kept, self.margins(query, pairs))

    @torch.inference_mode()
    def margins(
        self, query: PlaneFeatures, pairs: Sequence[tuple[PlaneFeatures, PairMatch | None]]
    ) -> Scores:
        """The network's margins of targets and their matches, one by one: batches round."""
        samples = (sample_pair(self, query, *pair) for pair in pairs)
        return np.array([float(self.network(*collate([one])).margin) for one in samples])

    @float32_on_cpu()
    def explain(
        self, query: PlaneFeatures, target: PlaneFeatures, kind: str | None = None
    ) -> Evidence:
        """Which patches lie where: ``verified`` by finer ones, or with the network's support."""
        kind = check_kind(self, kind)
        samples = sample_pair(self, code_query(query, target), target)
        with torch.inference_mode():
            output = self.network(*collate([samples]))
            if kind == BY_FINER_PATCHES:
                return self.verified_evidence(float(output.margin), query, target)
        found = []
        for one, support in zip(samples, output.support[0], strict=True):
            K, L = one.maps.shape[1:]
            right = smooth_support(support[:K, :L].sigmoid() * (one.maps[NORM] > 0))
            found.append(PlaneCorrespondence(one.template_points, one.matched_points, right))
        return Evidence(float(output.margin), splat(found, target.shape, query.shape))


def save_plane_network(
    network: PlaneNetwork, path: Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights, width and calibration as one safetensors file, whole or not at all."""
    metadata = {**(extra or {}), NAME: json.dumps({"width": network.width, "reads": READS})}
    save_tensors(path, network.state_dict(), metadata)


@float32_on_cpu()
def load_plane_network(path: str | Path = NAME) -> PlaneNetwork:
    """A trained network in eval mode: the shipped one, or a file of `save_plane_network`.

    Raises FileNotFoundError or ValueError if it is not there, not whole, or reads other channels.
    """
    path = find_weights(path)
    metadata, tensors = load_tensors(path)
    try:
        settings = json.loads(metadata[NAME])
        if settings["reads"] != list(READS):
            raise ValueError(f"it reads {', '.join(settings['reads'])}")
        network = PlaneNetwork(settings["width"]).float()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of {NAME} ({error!r}); train it again.") from error
    restore(network, tensors, path)
    return network


register_retriever(
    NAME,
    "votes for planes, judged by a small network over its samples",
    lambda: PlaneNetRetriever(load_plane_network()),
)
register_family(
    "PLANE-NET.safetensors",
    "a network over planes that indiret train made",
    lambda name: name.endswith(".safetensors") and holds(name, NAME),
    lambda name: PlaneNetRetriever(load_plane_network(name)),
)
