"""Global descriptors as retrievers: a backbone, a pooling and options, by one name.

A name is ``BACKBONE:POOLING`` and any options, such as ``efficientnet-lite0:gem+whiten+ms``:
`load_backbone` knows the backbones, `POOLINGS` are the poolings and `OPTIONS` the options.

Chapter: *Baselines*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from indiret.baselines import pooling as pools
from indiret.baselines.backbones import LITE0, PretrainedBackbone, exact, load_backbone
from indiret.baselines.maps import EXPORTED, ExportedFeatures, extract, extract_by_name, load_maps
from indiret.baselines.neighbours import GRAPHS
from indiret.baselines.reranking import AGAIN, expand_query, rerank_option, row_products
from indiret.checkpoints import hash_tensors
from indiret.datasets import load_dataset
from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.patches import check_choice
from indiret.retrieval import Retriever, Scores, check_kind, register_family, register_retriever

SCALES = (1.0, 2**-0.5, 0.5)  # of "ms" (Radenović et al., 2018)
CLASSES = 64  # of CAM+CroW (Jimenez et al., 2017)
DIMENSIONS = 512  # kept by "whiten"
POWER = 0.5  # of the deviation from zero, by which "whiten" divides: half-way (decisions/0010)

Parts = Callable[[Tensor], Tensor]


class Pooling(NamedTuple):
    description: str
    parts: Parts | None  # of maps; None: needs the backbone's classifier, too


POOLINGS = {
    "mean": Pooling("mean of the maps", pools.mean_pool),
    "mac": Pooling("MAC, maximum of the maps", pools.mac),
    "spoc": Pooling("SPoC, sum around the middle", pools.spoc),
    "crow": Pooling("CroW, sum weighted by place and channel", pools.crow),
    "rmac": Pooling("R-MAC, maxima of regions", pools.regional_maxima),
    "gem": Pooling("GeM, generalised mean (p = 3)", pools.gem),
    "cam-crow": Pooling("CAM+CroW, sums weighted by class maps", None),
}
OPTIONS = {
    "whiten": f"half-way PCA-whitening to {DIMENSIONS} values, learned on Toytown train",
    "ms": "the mean over three scales of the picture",
    "aqe": "average query expansion with the first 2 (aqe5: with 5)",
    "alphaqe": "query expansion with the first 3, weighted by cosine³",
    "diffusion": "diffusion over the database's 3 nearest neighbours",
    "kreciprocal": "neighbours in common, among the first 10",
}


class ImageVector(NamedTuple):
    """A picture as a unit vector, and the maps that it is made of, for evidence."""

    vector: NDArray[np.float32]
    maps: bytes | Path  # at the first scale, as `load_maps` takes them


class DescriptorRetriever(Retriever):
    """Ranking by the cosine of global descriptors.

    ``pooling`` is one of `POOLINGS`, ``options`` are of `OPTIONS`, those of `AGAIN` with or without
    a number of neighbours, ``aqe5``. Raises ValueError if one is not known, options exclude each
    other, or the backbone, or folder of features, cannot do what is asked.

    Examples
    --------
    >>> from torch import nn
    >>> toy = PretrainedBackbone("toy", nn.Sequential(nn.Conv2d(3, 5, 3, 16, 1), nn.ReLU()))
    >>> retriever = DescriptorRetriever(toy, "gem")
    >>> pictures = list(np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))
    >>> encoded = [*map(retriever.encode, pictures)]
    >>> int(retriever.score(encoded[1], encoded).argmax())
    1
    """

    @exact
    def __init__(
        self,
        backbone: PretrainedBackbone | ExportedFeatures,
        pooling: str = "gem",
        options: Collection[str] = (),
    ):
        check_choice("pooling", pooling, POOLINGS)
        self.again: tuple[str, int] | None = None
        for option in options:
            again = rerank_option(option)
            if again and self.again:
                raise ValueError(f"{', '.join(AGAIN)} exclude each other; choose one.")
            check_choice("option", option if not again else again[0], OPTIONS)
            self.again = again or self.again
        self.backbone: Any = backbone
        explains = not self.again
        if isinstance(backbone, ExportedFeatures):
            if pooling == "cam-crow" or {"whiten", "ms"}.intersection(options):
                raise ValueError(
                    "Exported features have no classifier, no scales, and no training pictures; "
                    "leave out cam-crow, ms and whiten."
                )
            self.precomputed = self._precomputed  # features by name, so that no picture is read
            self.length = 0  # of the first vector; all have it
            explains = explains and backbone.has_maps
        if explains:
            self.evidence_kinds = ("saliency", "similarity")
        self.pooling = pooling
        self.scales = SCALES if "ms" in options else (1.0,)
        self.parts = POOLINGS[pooling].parts or self._cam_crow()
        self.whitening = self._learn_whitening() if "whiten" in options else None
        self._kept: tuple[bytes, Any] = (b"", None)

    def encode(self, picture: Picture, keep: bool = True) -> ImageVector:
        """The vector; maps for evidence go to the cache, or nowhere if ``keep`` is false."""
        maps = [extract(self.backbone, picture, scale, keep) for scale in self.scales]
        return self._encode(maps)

    def encode_to_pack(self, picture: Picture) -> ImageVector:
        """The same vector; of a large collection, maps would fill the cache."""
        return self.encode(picture, keep=False)

    def _precomputed(self, name: str, query: bool = False) -> ImageVector:
        path = self.backbone.path(name, query)
        encoded = self._encode([path])
        self.length = self.length or len(encoded.vector)
        if len(encoded.vector) != self.length:
            raise ValueError(
                f"{path} describes a photo by {len(encoded.vector)} values, others by "
                f"{self.length}; export them all in one way."
            )
        return encoded

    @exact
    def _encode(self, sources: Sequence[bytes | Path]) -> ImageVector:
        vectors = []
        for maps in map(load_maps, sources):
            parts = maps[None] if maps.ndim == 1 else self.parts(maps[None])
            vectors.append(pools.aggregate(parts, self.whitening))
        vector = pools.aggregate(torch.stack(vectors).mean(0))[0].numpy()
        return ImageVector(vector, sources[0] if self.evidence_kinds else b"")

    def fingerprint(self) -> str:
        """Hash of the backbone, the pooling, the scales and what was learned.

        Raises ValueError for a re-ranking, which looks at a whole database, and exported features.
        """
        if self.again or self.precomputed:
            return super().fingerprint()
        learned = self.whitening._asdict() if self.whitening else {}
        return hash_tensors((self.backbone.fingerprint, self.pooling, self.scales), learned)

    def pack(self, features: ImageVector) -> bytes:
        """The vector in half precision; its maps are made again for evidence."""
        return features.vector.astype(np.float16).tobytes()

    def unpack(self, packed: bytes | memoryview) -> ImageVector:
        """A unit vector, without maps."""
        vector = np.frombuffer(packed, np.float16).astype(np.float32)
        return ImageVector(vector / np.maximum(np.linalg.norm(vector), pools.EPSILON), b"")

    def score(self, query: ImageVector, database: Sequence[ImageVector]) -> Scores:
        """Cosines, or what the options make of them."""
        matrix = np.stack([encoded.vector for encoded in database])
        name, n = self.again or ("", 0)
        if name in GRAPHS:  # made once for a database with these vectors
            key, kept = hashlib.sha256(matrix.tobytes()).digest(), self._kept
            if kept[0] != key:
                self._kept = kept = key, GRAPHS[name](matrix @ matrix.T, n)
            return np.asarray(kept[1].score(matrix @ query.vector))
        vector = query.vector
        if name:
            vector = expand_query(vector, matrix, n, alpha=3 if name == "alphaqe" else None)
        return row_products(matrix, vector)

    @exact
    def explain(self, query: ImageVector, target: ImageVector, kind: str | None = None) -> Evidence:
        """Evidence on the target's maps, at the first scale: the whole query is one cell.

        ``saliency`` is what the descriptor takes from each place, ``similarity`` what each place
        adds to the cosine, where that is positive. A re-ranking looks at more than the pair, and a
        finished descriptor has no maps: they cannot explain.
        """
        if not self.evidence_kinds:
            return super().explain(query, target, kind)
        maps = load_maps(target.maps)[None].requires_grad_()
        parts = self.parts(maps)
        if check_kind(self, kind) == "saliency":
            values = pools.saliency(maps, parts)[0]
        else:
            vector = torch.from_numpy(query.vector)
            values = pools.contributions(maps, parts, vector, self.whitening)[0].relu()
        return Evidence(float(self.score(query, [target])[0]), values[:, :, None, None])

    def _training_maps(self) -> Iterator[Tensor]:
        """Maps (1, C, h, w) of Toytown's training photos."""
        town = load_dataset("toytown", split="train")
        for maps in extract_by_name(self.backbone, list(town.images), town.read, "learning"):
            yield maps[None]

    def _learn_whitening(self) -> pools.Whitening:
        parts = [self.parts(maps) for maps in self._training_maps()]
        vectors = torch.cat([F.normalize(part.flatten(0, -2), dim=-1) for part in parts])
        vectors = vectors[vectors.norm(dim=1) > pools.EPSILON]
        return pools.fit_whitening(vectors, min(DIMENSIONS, vectors.shape[1]), POWER, centred=False)

    def _cam_crow(self) -> Parts:
        """CAM+CroW of the classes that the training photos show most (offline aggregation)."""
        classifier = self.backbone.classifier
        if classifier is None:
            raise ValueError(
                f"The backbone {self.backbone.name} has no linear classifier on its pooled maps, "
                "which cam-crow needs; choose another pooling."
            )
        means = torch.cat([pools.mean_pool(maps) for maps in self._training_maps()])
        with torch.no_grad():
            seen = classifier(means).softmax(1).mean(0).topk(min(CLASSES, classifier.out_features))
        return partial(pools.cam_crow, weights=classifier.weight.detach()[seen.indices])


def build_descriptor(name: str) -> DescriptorRetriever:
    """A retriever by name: ``BACKBONE:POOLING[+OPTION...]`` or ``features=FOLDER[:POOLING...]``.

    Raises ValueError if a part of the name is not known, and what `load_backbone` raises.

    Examples
    --------
    >>> build_descriptor("efficientnet-lite0:sum")
    Traceback (most recent call last):
    ValueError: pooling='sum' is not known; choose from mean, mac, spoc, crow, rmac, gem, cam-crow.
    """
    backbone, _, pooled = name.rpartition(":")
    pooling, *options = pooled.split("+")
    if name.startswith(EXPORTED):
        if pooling not in POOLINGS:  # a colon of the folder's own, or none
            backbone, pooling, options = name, "mean", []
        features = ExportedFeatures(Path(backbone.removeprefix(EXPORTED)))
        return DescriptorRetriever(features, pooling, options)
    check_choice("pooling", pooling, POOLINGS)
    return DescriptorRetriever(load_backbone(backbone), pooling, options)


for _name, _pooling in POOLINGS.items():
    register_retriever(
        f"{LITE0}:{_name}",
        f"{_pooling.description} (extra: baselines)",
        partial(build_descriptor, f"{LITE0}:{_name}"),
    )
register_family(
    "BACKBONE:POOLING[+OPTION...]",
    "a global descriptor; or features=FOLDER[:POOLING...] of exported features",
    lambda name: (
        name.startswith(EXPORTED)
        or (":" in name and "," not in name and not name.endswith(".safetensors"))
    ),
    build_descriptor,
)
