"""What learns to compare two pictures by a backbone's frozen maps, each made one vector.

- ``siam-fv``: both pictures' cells go through one Fisher-vector layer (Ong et al., 2017);
- ``non-metric``: a network reads two R-MAC vectors and gives a similarity that is no metric (Garcia
  & Vogiatzis, 2019);
- ``deep-retrieval``: R-MAC whose projection of regions learns from triplets (Gordo et al., 2017);
- ``gem-learnt``: GeM whose p learns from the same triplets (Radenović et al., 2018).

`indiret.verifier_training` trains them. Another, which compares every cell with every cell, is
`indiret.networks` with a backbone's name as its ``scheme``.

Chapter: *Baselines*.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.backbones import Backbone, extract, load_backbone, load_maps
from indiret.descriptor_methods import Described, DescriptorMethod
from indiret.descriptors import (
    EPSILON,
    Whitening,
    contributions,
    fit_whitening,
    gem,
    regional_maxima,
)
from indiret.images import Picture
from indiret.networks import WEIGHTS, file_name

HARDEST = 5  # of a query's irrelevant targets, which its triplets are made of
TRIPLET_MARGIN = 0.1


def fisher_vectors(
    vectors: Tensor, mask: Tensor, weights: Tensor, means: Tensor, deviations: Tensor
) -> Tensor:
    """Fisher vectors of sets under a mixture of K Gaussians (Sánchez et al., 2013, Eq. 17 and 18).

    With γ_nk the chance that x_n came from Gaussian k, and z = (x − μ_k) / σ_k, the mean over the
    set of γ z / √w_k and of γ (z² − 1) / √(2 w_k).

    Parameters
    ----------
    vectors
        (B, N, D) sets, filled up to one length.
    mask
        (B, N), 1 for what belongs to the set.
    weights
        w, (K,), above 0, sum 1.
    means, deviations
        μ and σ, (K, D).

    Returns
    -------
    Tensor
        (B, 2 K D): of the means, Gaussian by Gaussian, then of the deviations.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> fisher_vectors(torch.full((1, 1, 1), 3.0), one, one[0], one, one)
    tensor([[2.0000, 2.1213]])
    """
    inverse = deviations.reciprocal()
    distance = (
        vectors.square() @ inverse.square().T
        - 2 * vectors @ (means * inverse.square()).T
        + (means * inverse).square().sum(1)
    )
    chance = (weights.log() - deviations.log().sum(1) - distance / 2).softmax(-1) * mask[..., None]
    count = mask.sum(1)[:, None, None].clamp_min(1)
    zeroth = chance.sum(1)[..., None] / count
    first = chance.mT @ vectors / count
    second = chance.mT @ vectors.square() / count
    of_means = (first - means * zeroth) * inverse / weights.sqrt()[:, None]
    squares = (second - 2 * means * first + means.square() * zeroth) * inverse.square()
    of_deviations = (squares - zeroth) / (2 * weights).sqrt()[:, None]
    return torch.cat([of_means.flatten(1), of_deviations.flatten(1)], 1)


class Verifier(nn.Module):
    """What the three have in common: sets of vectors in, one vector a picture, a similarity.

    Each class says what of a picture's maps is its set (``read``), how it starts from training
    pictures (``start``), what it learns from (``loss``), and what a place of the maps adds to a
    similarity (``shares``).
    """

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
        return F.normalize(regional_maxima(maps[None])[0], dim=1, eps=EPSILON)

    def start(self, vectors: Tensor) -> None:
        """Begin with the PCA-whitening of vectors (N, C) of training pictures."""
        fitted = fit_whitening(vectors, self.dimensions)
        with torch.no_grad():
            self.mean.copy_(fitted.mean)
            self.projection.copy_(fitted.projection)

    def project(self, vectors: Tensor) -> Tensor:
        """(..., C) to (..., dimensions)."""
        return Whitening(self.mean, self.projection)(vectors)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """A unit vector of each set: (B, N, C) and (B, N) to (B, D); here R-MAC's aggregation."""
        projected = F.normalize(self.project(vectors), dim=-1, eps=EPSILON) * mask[..., None]
        return F.normalize(projected.sum(1), dim=-1, eps=EPSILON)

    def similarity(self, queries: Tensor, targets: Tensor) -> Tensor:
        """(A, D) and (B, D) to (A, B): the cosine."""
        return queries @ targets.T

    def loss(self, queries: Tensor, targets: Tensor, relevant: Tensor) -> Tensor:
        """Of A queries and B targets, ``relevant`` (A, B) bool; each query has a relevant one."""
        return triplet_loss(self.similarity(queries, targets), relevant)

    def shares(self, maps: Tensor, direction: Tensor) -> Tensor:
        """What each place of maps (C, h, w) adds to the product of their vector and another (D,).

        As `indiret.descriptors.contributions`.
        """
        maps = maps[None].requires_grad_()
        whitening = Whitening(self.mean.detach(), self.projection.detach())
        return contributions(maps, regional_maxima(maps), direction, whitening)[0]


def triplet_loss(cosine: Tensor, relevant: Tensor) -> Tensor:
    """½ max(0, m + ‖q − d⁺‖² − ‖q − d⁻‖²) with m = 0.1 (Gordo et al., 2017, Eq. 1).

    The mean over each query's relevant targets d⁺ and the five others d⁻ that are most like it.

    Parameters
    ----------
    cosine, relevant
        (A, B) of unit vectors, float and bool.

    Examples
    --------
    >>> triplet_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[True, False]]))
    tensor(0.0500)
    """
    count = min(HARDEST, int((~relevant).sum(1).min()))
    hardest = cosine.masked_fill(relevant, -2).topk(count, dim=1).values
    violated = TRIPLET_MARGIN + 2 * hardest[:, None, :] - 2 * cosine[:, :, None]
    return violated.clamp_min(0)[relevant].mean() / 2


class DeepRetrieval(Verifier):
    """R-MAC with a projection learnt from triplets (Gordo et al., 2017).

    The paper fine-tunes the convolutions as well; here they are frozen.
    """


class SiameseFisher(Verifier):
    """Fisher vectors of a picture's cells, compared by cosine (Ong et al., 2017).

    The projection of cells, and weights, means and deviations of the mixture all learn. Fisher
    vectors have the signed root of each value taken and length 1. The paper learns the convolutions
    as well, and from pairs; here they are frozen, and triplets teach, since pairs of so few
    landmarks made it worse (book/decisions/0010).
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
        return F.normalize(maps.flatten(1).T, dim=1, eps=EPSILON)

    def start(self, vectors: Tensor) -> None:
        """Begin with PCA, and with k-means' clusters as Gaussians."""
        super().start(vectors)
        with torch.no_grad():
            points = self.project(vectors)
            spread = torch.linspace(0, len(points) - 1, self.words).long()
            centres = points[spread]
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
        found = fisher_vectors(self.project(vectors), mask, *self.mixture())
        return F.normalize(found.sign() * (found.abs() + EPSILON).sqrt(), dim=1)

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and deviations of the Gaussians, as `fisher_vectors` takes them."""
        return self.logits.softmax(0), self.means, self.log_deviations.exp()

    @torch.no_grad()
    def shares(self, maps: Tensor, direction: Tensor) -> Tensor:
        """A Fisher vector is a mean over cells: each cell's own, under the whole one's roots."""
        cells = self.read(maps)[:, None]
        each = fisher_vectors(self.project(cells), torch.ones(len(cells), 1), *self.mixture())
        roots = (each.mean(0).abs() + EPSILON).sqrt()
        weights = direction / (roots * roots.norm() * len(cells))
        return (each @ weights).view(maps.shape[1:])


class NonMetric(Verifier):
    """A network's similarity of two R-MAC vectors (Garcia & Vogiatzis, 2019).

    It is asked to give the cosine and 0.2 more for a relevant pair, 0.2 less for another, and pays
    the absolute difference. It reads x, y and x ⊙ y, and adds to the cosine; the paper's reads x
    and y alone and gives the whole similarity. The vectors begin as PCA-whitening makes them, and
    learn from triplets beside it, as those of `DeepRetrieval` do: on vectors that stay, the network
    learns little (book/decisions/0010).
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
        asked = (missed[relevant].mean() + missed[~relevant].mean()) / 2
        return asked + triplet_loss(cosine, relevant)


class LearntGeM(Verifier):
    """GeM whose p is learnt from triplets, and nothing else (Radenović et al., 2018, Eq. 3).

    The paper learns p with the convolutions, from pairs; here it alone learns, for all channels.
    """

    def __init__(self, channels: int, p: float = 3.0):
        nn.Module.__init__(self)  # no projection
        self.channels = channels
        self.p = nn.Parameter(torch.tensor(float(p)))

    @property
    def settings(self) -> dict[str, int]:
        return {"channels": self.channels}

    def read(self, maps: Tensor) -> Tensor:
        """The set (N, C) of maps (C, h, w): their cells, as they are."""
        return maps.flatten(1).T

    def start(self, vectors: Tensor) -> None:
        """Begin with p = 3, whatever the training pictures."""

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """A unit vector of each set: the generalised mean of its cells."""
        powers = vectors.clamp_min(EPSILON).pow(self.p) * mask[..., None]
        means = powers.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return F.normalize(means.pow(1 / self.p), dim=-1, eps=EPSILON)

    def shares(self, maps: Tensor, direction: Tensor) -> Tensor:
        """As `indiret.descriptors.contributions` of GeM."""
        maps = maps[None].requires_grad_()
        return contributions(maps, gem(maps, float(self.p.detach())), direction)[0]


VERIFIERS: dict[str, type[Verifier]] = {
    "siam-fv": SiameseFisher,
    "non-metric": NonMetric,
    "deep-retrieval": DeepRetrieval,
    "gem-learnt": LearntGeM,
}


def stack(sets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sets (N, C) of any lengths as one tensor (B, N, C) float32, and its mask (B, N).

    Examples
    --------
    >>> stack([torch.ones(1, 2), torch.ones(2, 2)])[1]
    tensor([[1., 0.],
            [1., 1.]])
    """
    vectors = nn.utils.rnn.pad_sequence([one.float() for one in sets], batch_first=True)
    lengths = torch.tensor([len(one) for one in sets])
    return vectors, (torch.arange(vectors.shape[1]) < lengths[:, None]).float()


class VerifierMethod:
    """A trained verifier as a method of ranking.

    Examples
    --------
    >>> toy = Backbone("toy", nn.Conv2d(3, 5, 8, 8))
    >>> method = VerifierMethod(toy, SiameseFisher(5, dimensions=3, words=2))
    >>> found = method.prepare_many([np.zeros((64, 96, 3), np.uint8)])
    >>> method.score(found[0], found).shape
    (1,)
    """

    def __init__(self, backbone: Backbone, verifier: Verifier):
        self.backbone, self.verifier = backbone, verifier.eval()

    def prepare(self, picture: Picture) -> Described:
        """One picture's vector."""
        return self.prepare_many([picture])[0]

    def prepare_many(self, pictures: Sequence[Picture]) -> list[Described]:
        """Pictures' vectors, their maps made in batches."""
        with torch.inference_mode():
            return [
                Described(
                    self.verifier(*stack([self.verifier.read(load_maps(path))]))[0].numpy(), (path,)
                )
                for path in extract(self.backbone, pictures)
            ]

    def score(self, query: Described, database: Sequence[Described]) -> NDArray[np.float64]:
        """Similarities, shape (len(database),)."""
        targets = torch.from_numpy(np.stack([described.vector for described in database]))
        with torch.inference_mode():
            similar = self.verifier.similarity(torch.from_numpy(query.vector)[None], targets)
        return similar[0].double().numpy()

    def evidence(self, query: Described, target: Described) -> dict[str, Tensor]:
        """``similarity`` (h, w): what each place of the target adds to it, where that is positive.

        A similarity that is no cosine is followed straight on from where it is: its gradient by the
        target's vector takes the query's place.
        """
        vector = torch.from_numpy(target.vector)[None].requires_grad_()
        similar = self.verifier.similarity(torch.from_numpy(query.vector)[None], vector)
        (direction,) = torch.autograd.grad(similar.sum(), vector)
        shares = self.verifier.shares(load_maps(target.sources[0]), direction[0])
        return {"similarity": shares.relu()}


def is_verifier_name(name: str) -> bool:
    """Whether a name is ``BACKBONE:VERIFIER`` with one of `VERIFIERS`.

    Examples
    --------
    >>> is_verifier_name("efficientnet-lite0:siam-fv"), is_verifier_name("efficientnet-lite0:gem")
    (True, False)
    """
    backbone, colon, kind = name.rpartition(":")
    return bool(backbone and colon) and kind in VERIFIERS


def build_verifier_method(name_or_path: str) -> VerifierMethod | DescriptorMethod:
    """A trained verifier by its name, ``BACKBONE:VERIFIER``, or by its file.

    ``deep-retrieval`` is R-MAC with a whitening of its own, ``gem-learnt`` GeM with a p of its own:
    they have the evidence of these.

    Raises
    ------
    FileNotFoundError
        If no weights of this name are shipped, or there is no such file.
    ValueError
        If the file is broken, or was learnt on another backbone than the one at hand.
    ImportError, OSError
        As `indiret.backbones.load_backbone`.

    Examples
    --------
    >>> build_verifier_method("timm/resnet101:siam-fv")
    Traceback (most recent call last):
    FileNotFoundError: no weights of timm/resnet101:siam-fv are shipped; run: indiret train ...
    """
    path = Path(name_or_path)
    if is_verifier_name(name_or_path):
        path = WEIGHTS / file_name(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights of {name_or_path} are shipped; run: indiret train --network "
            f"{name_or_path} --out FOLDER, and give FOLDER/network.safetensors."
            if is_verifier_name(name_or_path)
            else f"there is no file {path}; give one that indiret train made."
        )
    verifier, metadata = load_verifier(path)
    backbone = load_backbone(metadata["backbone"])
    if backbone.fingerprint != metadata["fingerprint"]:
        raise ValueError(
            f"{path} was learnt on other weights of {backbone.name} than those installed; install "
            "those, or train it again."
        )
    if isinstance(verifier, LearntGeM):
        method = DescriptorMethod(backbone, "gem")
        method.parts = partial(gem, p=float(verifier.p.detach()))
        return method
    if not isinstance(verifier, DeepRetrieval):
        return VerifierMethod(backbone, verifier)
    method = DescriptorMethod(backbone, "rmac")
    method.whitening = Whitening(verifier.mean.detach(), verifier.projection.detach())
    return method


def save_verifier(
    verifier: Verifier, backbone: Backbone, path: Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights and what they belong to as one safetensors file, whole or not at all.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.safetensors"
    >>> save_verifier(DeepRetrieval(5, 3), Backbone("toy", nn.Conv2d(3, 5, 8, 8)), path)
    >>> load_verifier(path)[0].settings
    {'channels': 5, 'dimensions': 3}
    """
    (kind,) = (name for name, made in VERIFIERS.items() if type(verifier) is made)
    metadata = {
        **(extra or {}),
        "verifier": kind,
        "settings": json.dumps(verifier.settings),
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({k: v.contiguous() for k, v in verifier.state_dict().items()}, part, metadata)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_verifier(path: Path) -> tuple[Verifier, dict[str, str]]:
    """A verifier in eval mode, and its file's metadata.

    Raises
    ------
    ValueError
        If the file is not one of `save_verifier`, whole and finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        verifier = VERIFIERS[metadata["verifier"]](**json.loads(metadata["settings"]))
        verifier.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no file of a verifier ({reason}); train it again.") from error
    if not all(values.isfinite().all() for values in tensors.values()):
        raise ValueError(f"the weights in {path} hold NaN or infinity; train it again.")
    return verifier.eval(), metadata
