"""Global descriptors as methods of ranking: a backbone, a pooling and options, by one name.

A name is ``BACKBONE:POOLING`` and any options, such as ``efficientnet-lite0:gem+whiten+ms``.
`indiret.backbones` tells the backbones, `POOLINGS` the poolings and `OPTIONS` the options.

Chapter: *Baselines*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from indiret.backbones import Backbone, ExportedFeatures, extract, load_backbone, load_maps
from indiret.datasets import load_dataset
from indiret.descriptors import (
    EPSILON,
    Whitening,
    aggregate,
    cam_crow,
    contributions,
    crow,
    fit_whitening,
    gem,
    mac,
    mean_pool,
    regional_maxima,
    saliency,
    spoc,
)
from indiret.images import Picture
from indiret.reranking import Diffusion, KReciprocal, expand_query

EXPORTED = "features="  # starts the name of a folder of exported features
SCALES = (1.0, 2**-0.5, 0.5)  # of "ms" (Radenović et al., 2018)
CLASSES = 64  # of CAM+CroW (Jimenez et al., 2017)
DIMENSIONS = 512  # kept by "whiten"
POWER = 0.5  # of the deviation from zero, by which "whiten" divides: half-way (decisions/0010)
AT_ONCE = 32  # pictures read before their maps are made

Parts = Callable[[Tensor], Tensor]


class Pooling(NamedTuple):
    """One entry of `POOLINGS`: a line for the reader, and the function from maps to parts."""

    description: str
    parts: Parts | None  # None: needs the backbone's classifier, too


POOLINGS = {
    "mean": Pooling("mean of the maps", mean_pool),
    "mac": Pooling("MAC, maximum of the maps", mac),
    "spoc": Pooling("SPoC, sum around the middle", spoc),
    "crow": Pooling("CroW, sum weighted by place and channel", crow),
    "rmac": Pooling("R-MAC, maxima of regions", regional_maxima),
    "gem": Pooling("GeM, generalised mean (p = 3)", gem),
    "cam-crow": Pooling("CAM+CroW, sums weighted by class maps", None),
}
OPTIONS = {
    "whiten": f"half-way PCA-whitening to {DIMENSIONS} values, learnt on Toytown train",
    "ms": "the mean over three scales of the picture",
    "aqe": "average query expansion with the first 5",
    "alphaqe": "query expansion with the first 10, weighted by cosine³",
    "diffusion": "diffusion over the database's 20 nearest neighbours",
    "kreciprocal": "neighbours in common, among the first 20",
}
AGAIN = {"aqe": 5, "alphaqe": 10, "diffusion": 20, "kreciprocal": 20}  # neighbours: the papers' own


class Described(NamedTuple):
    """A picture as a `DescriptorMethod` keeps it: a unit vector, and where its maps are."""

    vector: NDArray[np.float32]
    sources: tuple[Path, ...]


class DescriptorMethod:
    """Ranking by the cosine of global descriptors.

    Parameters
    ----------
    backbone
        A network, or a folder of exported features.
    pooling
        A key of `POOLINGS`.
    options
        Keys of `OPTIONS`; those of `AGAIN` with or without another number of neighbours, ``aqe3``.

    Raises
    ------
    ValueError
        If a name is not known, options exclude each other, or the backbone cannot do what is asked.

    Examples
    --------
    >>> from torch import nn
    >>> toy = Backbone("toy", nn.Sequential(nn.Conv2d(3, 5, 3, 16, 1), nn.ReLU()))
    >>> method = DescriptorMethod(toy, "gem")
    >>> pictures = list(np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))
    >>> described = method.prepare_many(pictures)
    >>> int(method.score(described[1], described).argmax())
    1
    """

    def __init__(
        self,
        backbone: Backbone | ExportedFeatures,
        pooling: str = "gem",
        options: Collection[str] = (),
    ):
        _check_known("pooling", pooling, POOLINGS)
        again = [found for option in options if (found := _second_look(option))]
        for option in options:
            if not _second_look(option):
                _check_known("option", option, OPTIONS)
        if len(again) > 1:
            raise ValueError(f"{', '.join(AGAIN)} exclude each other; choose one.")
        self.again = again[0] if again else None
        if isinstance(backbone, ExportedFeatures):
            if pooling == "cam-crow" or {"whiten", "ms"}.intersection(options):
                raise ValueError(
                    "Exported features have no classifier, no scales, and no training pictures; "
                    "leave out cam-crow, ms and whiten."
                )
            self.look_up = self._look_up  # features by name, so that no picture is read
        self.backbone = backbone
        self.scales = SCALES if "ms" in options else (1.0,)
        self.parts = POOLINGS[pooling].parts or self._cam_crow()
        self.whitening: Whitening | None = None
        if "whiten" in options:
            parts = [self.parts(load_maps(path)[None]) for path in self._training_maps()]
            units = [torch.nn.functional.normalize(part.flatten(0, -2), dim=-1) for part in parts]
            vectors = torch.cat(units)
            vectors = vectors[vectors.norm(dim=1) > EPSILON]
            kept = min(DIMENSIONS, vectors.shape[1])
            self.whitening = fit_whitening(vectors, kept, POWER, centred=False)
        self._database: Sequence[Described] = ()
        self._matrix = np.empty((0, 0), np.float32)
        self._graph: Diffusion | KReciprocal | None = None

    def prepare(self, picture: Picture) -> Described:
        """One picture's vector."""
        return self.prepare_many([picture])[0]

    def prepare_many(self, pictures: Sequence[Picture]) -> list[Described]:
        """Pictures' vectors, their maps made in batches."""
        assert isinstance(self.backbone, Backbone)
        paths = [extract(self.backbone, pictures, scale) for scale in self.scales]
        return [self._describe(sources) for sources in zip(*paths, strict=True)]

    def _look_up(self, name: str, query: bool = False) -> Described:
        """The vector of a photo, or of a query, whose features were exported."""
        assert isinstance(self.backbone, ExportedFeatures)
        return self._describe((self.backbone.path(name, query),))

    def _describe(self, sources: tuple[Path, ...]) -> Described:
        vectors = []
        for source in sources:
            maps = load_maps(source)
            parts = maps[None] if maps.ndim == 1 else self.parts(maps[None])
            vectors.append(aggregate(parts, self.whitening))
        return Described(aggregate(torch.stack(vectors).mean(0))[0].numpy(), sources)

    def score(self, query: Described, database: Sequence[Described]) -> NDArray[np.float64]:
        """Cosines, shape (len(database),), or what the options make of them."""
        if database is not self._database:
            self._database = database
            self._matrix = np.stack([described.vector for described in database])
            self._graph = self._neighbours()
        if self._graph is not None:
            return self._graph.score(query.vector)
        vector = query.vector
        if self.again is not None:
            name, n = self.again
            vector = expand_query(vector, self._matrix, n, alpha=3 if name == "alphaqe" else None)
        return (self._matrix @ vector).astype(np.float64)

    def _neighbours(self) -> Diffusion | KReciprocal | None:
        """What the options ask to be made of the whole database."""
        name, n = self.again or ("", 0)
        if name == "diffusion":
            return Diffusion(self._matrix, n)
        if name == "kreciprocal":
            return KReciprocal(self._matrix, n, k2=-(-3 * n // 10))  # 6 of 20, as in the paper
        return None

    def evidence(self, query: Described, target: Described) -> dict[str, Tensor]:
        """Two maps (h, w) of the target, at the first scale.

        None of a finished descriptor, nor of a second look, which ranks by more than the pair.
        ``saliency`` is what the descriptor takes from each place, ``similarity`` what each place
        adds to the cosine with the query, where that is positive.
        """
        maps = load_maps(target.sources[0])
        if maps.ndim == 1 or self.again:
            return {}
        maps = maps[None].requires_grad_()
        parts = self.parts(maps)
        taken = saliency(maps, parts)
        added = contributions(maps, parts, torch.from_numpy(query.vector), self.whitening)
        return {"saliency": taken[0], "similarity": added[0].relu()}

    def _training_maps(self) -> list[Path]:
        """Maps of Toytown's training photos."""
        assert isinstance(self.backbone, Backbone)
        town = load_dataset("toytown", split="train")
        names, paths = list(town.images), []
        for at in tqdm(range(0, len(names), AT_ONCE), desc="learning from Toytown", disable=None):
            pictures = [town.read(name) for name in names[at : at + AT_ONCE]]
            paths += extract(self.backbone, pictures)
        return paths

    def _cam_crow(self) -> Parts:
        """CAM+CroW of the classes that the training photos show most (offline aggregation)."""
        assert isinstance(self.backbone, Backbone)
        classifier = self.backbone.classifier
        if classifier is None:
            raise ValueError(
                f"The backbone {self.backbone.name} has no linear classifier on its pooled maps, "
                "which cam-crow needs; choose another pooling."
            )
        means = torch.cat([mean_pool(load_maps(path)[None]) for path in self._training_maps()])
        with torch.no_grad():
            seen = classifier(means).softmax(1).mean(0).topk(min(CLASSES, classifier.out_features))
        return partial(cam_crow, weights=classifier.weight.detach()[seen.indices])


def is_descriptor_name(name: str) -> bool:
    """Whether a name has the form that `build_descriptor_method` takes.

    Examples
    --------
    >>> is_descriptor_name("timm/resnet101:gem"), is_descriptor_name("thumbnail")
    (True, False)
    """
    return ":" in name or name.startswith(EXPORTED)


def build_descriptor_method(name: str) -> DescriptorMethod:
    """A method by its name, ``BACKBONE:POOLING[+OPTION...]`` or ``features=FOLDER[:POOLING...]``.

    Raises
    ------
    ValueError
        If the name is not of that form, or a part of it is not known.
    ImportError, OSError
        As `indiret.backbones.load_backbone`.

    Examples
    --------
    >>> build_descriptor_method("efficientnet-lite0:sum")
    Traceback (most recent call last):
    ValueError: pooling 'sum' is not known; choose from mean, mac, spoc, crow, rmac, gem, cam-crow.
    """
    backbone, _, pooled = name.rpartition(":")
    pooling, *options = pooled.split("+")
    if name.startswith(EXPORTED):
        if pooling not in POOLINGS:  # a colon of the folder's own, or none
            backbone, pooling, options = name, "mean", []
        return DescriptorMethod(
            ExportedFeatures(Path(backbone.removeprefix(EXPORTED))), pooling, options
        )
    _check_known("pooling", pooling, POOLINGS)
    return DescriptorMethod(load_backbone(backbone), pooling, options)


def _second_look(option: str) -> tuple[str, int] | None:
    """The key of `AGAIN` in an option and its number of neighbours, or None."""
    name = option.rstrip("0123456789")
    number = option.removeprefix(name)
    if name not in AGAIN or number.startswith("0"):
        return None
    return name, int(number) if number else AGAIN[name]


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{kind} {name!r} is not known; choose from {', '.join(known)}.")
