"""What learns to compare two pictures by a backbone's frozen maps, each made one vector.

- ``siam-fv``: both pictures' cells go through one Fisher-vector layer (Ong et al., 2017);
- ``non-metric``: a network reads two R-MAC vectors and gives a similarity that is no metric (Garcia
  & Vogiatzis, 2019);
- ``deep-retrieval``: R-MAC whose projection of regions learns from triplets (Gordo et al., 2017).

`indiret.baselines.verifier_training` trains them. Another, which compares every cell with every
cell, is `indiret.network` with a backbone's name as its ``scheme``.

Chapter: *Baselines*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indiret import checkpoints, retrieval
from indiret.baselines import pooling
from indiret.baselines.backbones import FINER, LITE0, PretrainedBackbone, exact, load_backbone
from indiret.baselines.descriptors import DescriptorRetriever, ImageVector
from indiret.baselines.maps import extract, load_maps
from indiret.baselines.pooling import EPSILON, Whitening, regional_maxima, unit
from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.network import VERIFIER
from indiret.retrieval import NetworkRetriever, Retriever, Scores, check_kind

HARDEST = 5  # of a query's irrelevant targets, which its triplets are made of
TRIPLET_MARGIN = 0.1


def fisher_vectors(
    vectors: Tensor, mask: Tensor, weights: Tensor, means: Tensor, deviations: Tensor
) -> Tensor:
    """Fisher vectors of sets under a mixture of K Gaussians (Sánchez et al., 2013, Eq. 17 and 18).

    With γ_nk the probability that x_n came from Gaussian k, of weight w, mean μ and deviation σ,
    and z = (x − μ_k) / σ_k: the mean over a set of γ z / √w_k, Gaussian by Gaussian, and then of
    γ (z² − 1) / √(2 w_k), (B, 2 K D). Sets (B, N, D) and mask (B, N) are those of `stack`.
    """
    inverse = deviations.reciprocal()
    distance = (
        vectors.square() @ inverse.square().T
        - 2 * vectors @ (means * inverse.square()).T
        + (means * inverse).square().sum(1)
    )
    gamma = (weights.log() - deviations.log().sum(1) - distance / 2).softmax(-1) * mask[..., None]
    count = mask.sum(1)[:, None, None].clamp_min(1)
    zeroth = gamma.sum(1)[..., None] / count
    first = gamma.mT @ vectors / count
    second = gamma.mT @ vectors.square() / count
    of_means = (first - means * zeroth) * inverse / weights.sqrt()[:, None]
    squares = (second - 2 * means * first + means.square() * zeroth) * inverse.square()
    of_deviations = (squares - zeroth) / (2 * weights).sqrt()[:, None]
    return torch.cat([of_means.flatten(1), of_deviations.flatten(1)], 1)


class Verifier(nn.Module):
    """What the three have in common: sets of vectors in, one vector a picture, a similarity."""

    def __init__(self, channels: int, dimensions: int = 128):
        super().__init__()
        self.channels, self.dimensions = channels, dimensions
        self.mean = nn.Parameter(torch.zeros(channels))
        self.projection = nn.Parameter(torch.randn(dimensions, channels) / channels**0.5)

    @property
    def settings(self) -> dict[str, int]:
        """What its constructor takes, for its file."""
        return {"channels": self.channels, "dimensions": self.dimensions}

    def read(self, maps: Tensor) -> Tensor:
        """The set (N, C) of maps (C, h, w): R-MAC's regions, of length 1."""
        return unit(regional_maxima(maps[None])[0])

    def start(self, vectors: Tensor) -> None:
        """Begin with the PCA-whitening of vectors (N, C) of training pictures."""
        self.mean.data, self.projection.data = pooling.fit_whitening(vectors, self.dimensions)

    @property
    def whitening(self) -> Whitening:
        """Its projection, from (..., C) to (..., dimensions)."""
        return Whitening(self.mean, self.projection)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """A unit vector of each set: (B, N, C) and (B, N) to (B, D); here R-MAC's aggregation."""
        return unit((unit(self.whitening(vectors)) * mask[..., None]).sum(1))

    def similarity(self, queries: Tensor, targets: Tensor) -> Tensor:
        """(A, D) and (B, D) to (A, B): the cosine."""
        return queries @ targets.T

    def loss(self, queries: Tensor, targets: Tensor, relevant: Tensor) -> Tensor:
        """Of A queries and B targets, ``relevant`` (A, B) bool; each query has a relevant one."""
        return triplet_loss(self.similarity(queries, targets), relevant)

    def shares(self, maps: Tensor, direction: Tensor) -> Tensor:
        """What each place of maps (C, h, w) adds to their vector's product with another (D,)."""
        maps = maps[None].requires_grad_()
        return pooling.contributions(maps, regional_maxima(maps), direction, self.whitening)[0]


def triplet_loss(cosine: Tensor, relevant: Tensor) -> Tensor:
    """½ max(0, m + ‖q − d⁺‖² − ‖q − d⁻‖²) with m = 0.1 (Gordo et al., 2017, Eq. 1).

    The mean over each query's relevant targets d⁺ and the five others d⁻ that are most like it, by
    the cosines (A, B) of A queries and B targets.
    """
    count = min(HARDEST, int((~relevant).sum(1).min()))
    hardest = cosine.masked_fill(relevant, -2).topk(count, dim=1).values
    violated = TRIPLET_MARGIN + 2 * hardest[:, None, :] - 2 * cosine[:, :, None]
    return violated.clamp_min(0)[relevant].mean() / 2


class DeepRetrieval(Verifier):
    """R-MAC with a projection learned from triplets (Gordo et al., 2017; convolutions, too)."""


class SiameseFisher(Verifier):
    """Fisher vectors of a picture's cells, compared by cosine (Ong et al., 2017).

    The projection of cells and the mixture learn. The paper learns the convolutions as well, and
    from pairs; here they are frozen, and triplets teach: pairs of so few landmarks made it worse
    (book/decisions/0010).
    """

    ROUNDS = 10  # of k-means

    def __init__(self, channels: int, dimensions: int = 64, words: int = 16):
        super().__init__(channels, dimensions)
        self.words = words
        self.logits = nn.Parameter(torch.zeros(words))
        self.means = nn.Parameter(torch.randn(words, dimensions))
        self.log_deviations = nn.Parameter(torch.zeros(words, dimensions))

    @property
    def settings(self) -> dict[str, int]:
        return super().settings | {"words": self.words}

    def read(self, maps: Tensor) -> Tensor:
        """The set (N, C) of maps (C, h, w): their cells, of length 1."""
        return unit(maps.flatten(1).T)

    def start(self, vectors: Tensor) -> None:
        """Begin with PCA, and with k-means' clusters as Gaussians."""
        super().start(vectors)
        with torch.no_grad():
            points = self.whitening(vectors)
            centres = points[torch.linspace(0, len(points) - 1, self.words).long()]
            for _ in range(self.ROUNDS):
                member = F.one_hot(torch.cdist(points, centres).argmin(1), self.words).float()
                count = member.sum(0)[:, None].clamp_min(1)
                centres = torch.where(member.any(0)[:, None], member.T @ points / count, centres)
            variance = (member.T @ points.square() / count - centres.square()).clamp_min(0.01)
            self.logits.copy_((member.mean(0) + 1e-3).log())
            self.means.copy_(centres)
            self.log_deviations.copy_(variance.log() / 2)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Normalised Fisher vectors, (B, 2 · words · dimensions)."""
        found = fisher_vectors(self.whitening(vectors), mask, *self.mixture())
        return F.normalize(found.sign() * (found.abs() + EPSILON).sqrt(), dim=1)

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and deviations of the Gaussians, as `fisher_vectors` takes them."""
        return self.logits.softmax(0), self.means, self.log_deviations.exp()

    @torch.no_grad()
    def shares(self, maps: Tensor, direction: Tensor) -> Tensor:
        """A Fisher vector is a mean over cells: each cell's own, under the whole one's roots."""
        cells = self.read(maps)[:, None]
        mask = cells.new_ones(len(cells), 1)
        each = fisher_vectors(self.whitening(cells), mask, *self.mixture())
        roots = (each.mean(0).abs() + EPSILON).sqrt()
        weights = direction / (roots * roots.norm() * len(cells))
        return (each @ weights).view(maps.shape[1:])


class NonMetric(Verifier):
    """A network's similarity of two R-MAC vectors (Garcia & Vogiatzis, 2019).

    It is asked to give the cosine and 0.2 more for a relevant pair, 0.2 less for another, and pays
    the absolute difference. It reads x, y and x ⊙ y and adds to the cosine; the paper's reads x and
    y alone and gives the whole similarity. The vectors learn from triplets beside it: on vectors
    that stay, the network learns little (book/decisions/0010).
    """

    MARGIN = 0.2
    HIDDEN = 128

    def __init__(self, channels: int, dimensions: int = 96):
        super().__init__(channels, dimensions)
        first = nn.Linear(3 * dimensions, self.HIDDEN)
        second, last = nn.Linear(self.HIDDEN, self.HIDDEN), nn.Linear(self.HIDDEN, 1)
        nn.init.zeros_(last.weight)  # an untrained one gives the cosine
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    def similarity(self, queries: Tensor, targets: Tensor) -> Tensor:
        x, y = torch.broadcast_tensors(queries[:, None], targets[None])
        scale = self.dimensions**0.5  # values near 1, as layers are made for
        inputs = torch.cat([x * scale, y * scale, x * y * scale**2], dim=-1)
        return super().similarity(queries, targets) + self.layers(inputs)[..., 0]

    def loss(self, queries: Tensor, targets: Tensor, relevant: Tensor) -> Tensor:
        cosine = super().similarity(queries, targets)
        wanted = cosine + self.MARGIN * (2.0 * relevant - 1)
        missed = (self.similarity(queries, targets) - wanted).abs()
        regression = (missed[relevant].mean() + missed[~relevant].mean()) / 2
        return regression + triplet_loss(cosine, relevant)


VERIFIERS: dict[str, type[Verifier]] = {
    "siam-fv": SiameseFisher,
    "non-metric": NonMetric,
    "deep-retrieval": DeepRetrieval,
}


def stack(sets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sets (N, C) of any lengths as one tensor (B, N, C) float32, and its mask (B, N)."""
    vectors = nn.utils.rnn.pad_sequence([one.float() for one in sets], batch_first=True)
    ones = [one.new_ones(len(one)).float() for one in sets]
    return vectors, nn.utils.rnn.pad_sequence(ones, batch_first=True)


class VerifierRetriever(Retriever):
    """A trained verifier as a retriever; `build_verifier` makes one of a name or a file."""

    evidence_kinds = ("similarity",)

    def __init__(self, backbone: PretrainedBackbone, verifier: Verifier):
        self.backbone, self.verifier = backbone, verifier.eval()
        self.precise = deepcopy(verifier).double()

    @exact
    def encode(self, picture: Picture) -> ImageVector:
        maps = extract(self.backbone, picture)
        with torch.inference_mode():
            vector = self.verifier(*stack([self.verifier.read(load_maps(maps))]))[0]
        return ImageVector(vector.numpy(), maps)

    @exact
    def score(self, query: ImageVector, database: Sequence[ImageVector]) -> Scores:
        """In double and then rounded, so that a pair has its score whatever stands beside it."""
        targets = torch.from_numpy(np.stack([encoded.vector for encoded in database]).astype(float))
        with torch.inference_mode():
            asking = torch.from_numpy(query.vector[None].astype(float))
            similar = self.precise.similarity(asking, targets)
        return similar[0].float().double().numpy()

    @exact
    def explain(self, query: ImageVector, target: ImageVector, kind: str | None = None) -> Evidence:
        """``similarity``: what each place of the target adds to it, where that is positive.

        Of one that is no cosine, its gradient by the target's vector takes the query's place.
        """
        check_kind(self, kind)
        vector = torch.from_numpy(target.vector)[None].requires_grad_()
        similar = self.verifier.similarity(torch.from_numpy(query.vector)[None], vector)
        (direction,) = torch.autograd.grad(similar.sum(), vector)
        shares = self.verifier.shares(load_maps(target.maps), direction[0])
        return Evidence(float(self.score(query, [target])[0]), shares.relu()[:, :, None, None])


def is_verifier_name(name: str) -> bool:
    """Whether a name is ``BACKBONE:VERIFIER`` with one of `VERIFIERS`."""
    backbone, colon, kind = name.rpartition(":")
    return bool(backbone and colon) and kind in VERIFIERS and "," not in name


def build_verifier(name_or_path: str) -> VerifierRetriever | DescriptorRetriever:
    """A trained verifier by its name, ``BACKBONE:VERIFIER``, or by its file.

    ``deep-retrieval`` is R-MAC with a whitening of its own. Raises FileNotFoundError if no weights
    of this name are shipped, or no such file exists, ValueError if it is broken, or was learned on
    another backbone than the one at hand, and what `load_backbone` raises.
    """
    path = checkpoints.find_weights(name_or_path)
    verifier, metadata = load_verifier(path)
    backbone = load_backbone(metadata["backbone"])
    if backbone.fingerprint != metadata["fingerprint"]:
        raise ValueError(
            f"{path} was learned on other weights of {backbone.name} than those installed; install "
            "those, or train it again."
        )
    if not isinstance(verifier, DeepRetrieval):
        return VerifierRetriever(backbone, verifier)
    retriever = DescriptorRetriever(backbone, "rmac")
    retriever.whitening = verifier.requires_grad_(False).whitening
    return retriever


def save_verifier(
    verifier: Verifier, backbone: PretrainedBackbone, path: Path, extra: Mapping[str, str] = {}
) -> None:
    """Write weights and what they belong to as one safetensors file, whole or not at all."""
    (kind,) = (name for name, made in VERIFIERS.items() if type(verifier) is made)
    metadata = {"verifier": kind, "settings": json.dumps(verifier.settings)}
    metadata |= {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    checkpoints.save_tensors(path, verifier.state_dict(), {**extra, **metadata})


def load_verifier(path: Path) -> tuple[Verifier, dict[str, str]]:
    """A verifier in eval mode, and its file's metadata; ValueError unless whole and finite."""
    metadata, tensors = checkpoints.load_tensors(path)
    try:
        with torch.device("cpu"):
            verifier = VERIFIERS[metadata["verifier"]](**json.loads(metadata["settings"])).float()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of a verifier ({error!r}); train it again.") from error
    checkpoints.restore(verifier, tensors, path)
    return verifier, metadata


for _name, _verifier in VERIFIERS.items():
    retrieval.register_retriever(
        f"{LITE0}:{_name}",
        f"{(_verifier.__doc__ or '').partition(' (')[0]} (extra: baselines)",
        partial(build_verifier, f"{LITE0}:{_name}"),
    )
retrieval.register_retriever(
    FINER + VERIFIER,
    "the 4-D ResNet over the correlations of features (extra: baselines)",
    lambda: NetworkRetriever(checkpoints.load_network(FINER + VERIFIER)),
)
retrieval.register_family(
    "BACKBONE:NETWORK",
    "what learns to compare by a backbone's maps, by its name or its file",
    lambda name: is_verifier_name(name) or checkpoints.holds(name, "verifier"),
    build_verifier,
)
retrieval.register_family(
    "BACKBONE" + VERIFIER,
    "the 4-D ResNet over the correlations of a backbone's features",
    lambda name: name.endswith(VERIFIER) and "," not in name,
    lambda name: NetworkRetriever(checkpoints.load_network(name)),
)
