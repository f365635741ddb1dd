"""From photos to ranked lists: every picture encoded once, every pair scored in batches.

A *retriever* encodes pictures and scores an encoded query against encoded pictures: a network, a
vote, a descriptor. `Retriever` is the one seam between those who rank and those who measure, search
or explain; `build_retriever` makes one of a name, and whoever adds a retriever registers it beside
its class.

Chapter: *Ranking and honest evaluation*.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from indiret import Registry
from indiret.checkpoints import hash_tensors, holds, load_network
from indiret.datasets import Query, RetrievalDataset, read_all
from indiret.evidence import KINDS, Evidence, explain
from indiret.images import Picture
from indiret.network import Features, IndicativeNetwork

Scores = NDArray[np.float64]
Points = NDArray[np.float64]
LEAST = 20  # pictures that a share of the database has, however few that is of it
UNJUDGED = -1e6  # those whom a later stage never judged score this or less
NOT_KEPT = "what {} encodes cannot be kept on disk; choose a method that can be, such as plane-net."
LITTLE_STRUCTURE = 0.2  # `Retriever.structure` below which a picture can hardly be judged
FOUND = 0.5  # probability of a hit that is called a match
NOT_NEGLIGIBLE, STANDS_OUT = 0.05, 7.5  # or at least these, and z-score; see record 22
LEAST_COMPANY = 20  # judged pictures that tell whether one stands out


class Retriever(Protocol):
    """Whatever ranks photos; inherit it. `encode` and `score` have to be written, not the rest."""

    #: What `explain` takes as ``kind``, the default first; empty if it cannot explain.
    evidence_kinds: tuple[str, ...] = ()
    #: Whether `transfer_points` works.
    transfers_points: bool = False
    #: Features by name, ``precomputed(name, query=False)``, if it is not shown pictures.
    precomputed: Callable[..., Any] | None = None
    #: The network over the correlation tensor, of a `NetworkRetriever`.
    tensor_network: IndicativeNetwork | None = None

    def encode(self, picture: Picture) -> Any:
        """Whatever of a (H, W, 3) uint8 picture of the database is worth keeping."""

    def encode_query(self, picture: Picture) -> Any:
        """The same of a query's picture, cut to its box."""
        return self.encode(picture)

    def encode_to_pack(self, picture: Picture) -> Any:
        """What `pack` needs of a picture, for those to whom that is less than `encode`."""
        return self.encode(picture)

    def score(self, query: Any, database: Sequence[Any]) -> Scores:
        """(len(database),) scores of an encoded query, larger for more alike."""

    def score_roughly(self, query: Any, database: Sequence[Any]) -> Scores:
        """`score`, or what costs less and tells well enough which of many pictures deserve it."""
        return self.score(query, database)

    def probability(self, scores: Scores) -> Scores | None:
        """Calibrated probabilities that pairs of these scores are relevant; None if unknown."""
        return None

    def structure(self, features: Any) -> float | None:
        """Share of an encoded picture's patches that can be judged, 0 to 1; None if unknown."""
        return None

    def fingerprint(self) -> str:
        """Hash of all that `encode` and `pack` depend on: settings, fitted data, weights."""
        raise ValueError(NOT_KEPT.format(type(self).__name__))

    def pack(self, features: Any) -> bytes:
        """An encoded picture as few bytes for a disk; ValueError if it cannot be kept there."""
        raise ValueError(NOT_KEPT.format(type(self).__name__))

    def unpack(self, packed: bytes | memoryview) -> Any:
        """What `score`, `explain` and the others take of a picture, of its bytes."""
        raise ValueError(NOT_KEPT.format(type(self).__name__))

    def to(self, device: str) -> Self:
        """This retriever on a device; ValueError if it runs on the processor alone."""
        if device != "cpu":
            raise ValueError(f"{type(self).__name__} runs on the processor alone, not on {device}.")
        return self

    def explain(self, query: Any, target: Any, kind: str | None = None) -> Evidence:
        """Which patches of an encoded query and an encoded picture matched.

        Raises ValueError if the retriever cannot explain, or not in this kind.
        """
        raise ValueError(
            f"{type(self).__name__} ranks without evidence; choose a method that explains, such as "
            "base, planes or sift-ransac."
        )

    def transfer_points(self, query: Any, target: Any, points: Points) -> Points:
        """Where points (N, 2) of the query lie in the target: y and x from 0 to 1, NaN if unknown.

        Raises ValueError if the retriever does not know.
        """
        raise ValueError(f"{type(self).__name__} does not say where points of the query lie.")


def check_kind(retriever: Retriever, kind: str | None) -> str:
    """The kind of evidence asked for, or the default one; ValueError if there is no such."""
    kinds = retriever.evidence_kinds
    if kind is not None and kind not in kinds:
        raise ValueError(f"evidence {kind!r} is not known; choose from {', '.join(kinds)}.")
    return kind or kinds[0]


class NetworkRetriever(Retriever):
    """A network as a retriever: pictures become patches, pairs become margins.

    Examples
    --------
    >>> from indiret.network import build_network
    >>> retriever = NetworkRetriever(build_network("base"))
    >>> target = retriever.encode(np.zeros((48, 64, 3), dtype=np.uint8))
    >>> query = retriever.encode_query(np.zeros((32, 32, 3), dtype=np.uint8))
    >>> retriever.score(query, [target, target]).shape
    (2,)
    """

    evidence_kinds = tuple(KINDS)

    def __init__(self, network: IndicativeNetwork, batch: int = 8):
        self.network = self.tensor_network = network.eval()
        self.batch = batch  # more would not stay in a processor's cache

    def encode(self, picture: Picture) -> Features:
        """What the network keeps of a target, 0.8 MB for ``base``."""
        return self.network.encode(picture)

    def encode_query(self, picture: Picture) -> Features:
        """The same of a query."""
        return self.network.encode(picture, query=True)

    def tensor(self, query: Features, database: Sequence[Features]) -> Tensor:
        """T of one encoded query against encoded pictures of one grid: (B, V, m, n, m', n')."""
        return self.network.correlate(query, database)

    def score(
        self,
        query: Features,
        database: Sequence[Features],
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Scores:
        """Margins; ``change`` is made to every tensor first: `indiret.feedback.weight_tensor`."""
        scores = np.empty(len(database), dtype=np.float64)
        grids: dict[tuple[int, ...], list[int]] = {}
        first = next(iter(query))  # by name: what was on a disk has its tensors in any order
        for index, features in enumerate(database):
            grids.setdefault(features[first].shape, []).append(index)
        kind = self.network.calibration.device.type
        with torch.inference_mode(), torch.autocast(kind, enabled=False):
            for indices in grids.values():
                for at in range(0, len(indices), self.batch):
                    part = indices[at : at + self.batch]
                    tensor = self.tensor(query, [database[index] for index in part])
                    if change is not None:
                        tensor = change(tensor)
                    scores[part] = self.network.margin(tensor).cpu().numpy()
        return scores

    def probability(self, scores: Scores) -> Scores:
        """Calibrated probability that a pair is relevant."""
        slope, offset = self.network.calibration.tolist()
        return torch.sigmoid(slope * torch.from_numpy(scores) + offset).numpy()

    def fingerprint(self) -> str:
        """Hash of the network's settings and weights."""
        return hash_tensors(self.network.config, self.network.state_dict())

    def pack(self, features: Features) -> bytes:
        """The tensors as they are."""
        return save({name: tensor.cpu().contiguous() for name, tensor in features.items()})

    def unpack(self, packed: bytes | memoryview) -> Features:
        """The same tensors."""
        return load(bytes(packed))

    def to(self, device: str) -> Self:
        """Move the network; what was encoded stays where it is and follows when it is scored."""
        self.network.to(device)
        return self

    def explain(self, query: Features, target: Features, kind: str | None = None) -> Evidence:
        """Evidence of one of `indiret.evidence.KINDS`, ``combined`` by default."""
        settings = KINDS[check_kind(self, kind)]
        return explain(self.network, self.tensor(query, [target]), **settings)[0]


class Hit(NamedTuple):
    """One entry of a ranked list; ``probability`` is None if not calibrated or not judged."""

    name: str
    score: float
    probability: float | None

    @property
    def judged(self) -> bool:
        """Whether the last of several stages scored it."""
        return self.score > UNJUDGED


@dataclass
class IndexedDatabase:
    """A database encoded by one retriever, and the pictures that could not be read."""

    features: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def index_database(retriever: Retriever, dataset: RetrievalDataset) -> IndexedDatabase:
    """Encode every picture of a database once, with a progress bar on a terminal.

    A picture that cannot be read is passed over and named, with the reason, in ``skipped``.
    """
    encoded = retriever.precomputed or (lambda name: retriever.encode(dataset.read(name)))
    names = tqdm(dataset.images, desc="encoding", unit="photo", disable=None)
    return IndexedDatabase(*read_all(names, encoded))


def encode_query(retriever: Retriever, dataset: RetrievalDataset, query: Query) -> Any:
    """What a retriever keeps of a data set's query, cut to its box."""
    if retriever.precomputed is not None:
        return retriever.precomputed(query.name, query=True)
    return retriever.encode_query(dataset.read_query(query))


def rank(
    retriever: Retriever,
    queries: Sequence[Query],
    dataset: RetrievalDataset,
    database: IndexedDatabase | None = None,
) -> dict[str, list[Hit]]:
    """Rank a database for every query: best first, ties by name.

    Lists of `Hit` over all encoded pictures come back, by query name. The score is the margin
    z_relevant − z_irrelevant for networks, since probabilities tie at 1.0 in float32. A
    ``database`` from `index_database` is used again; it is made here otherwise. Raises ValueError
    if no picture of the database could be read, and ImageError if a query's photo cannot.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> [len(hits) for hits in rank(build_retriever("thumbnail"), town.queries[:1], town).values()]
    [142]
    """
    database = database or index_database(retriever, dataset)
    if not database.features:
        raise ValueError(f"no picture of {dataset.name!r} could be read, so none can be ranked.")
    names, features = list(database.features), list(database.features.values())
    ranked = {}
    for query in tqdm(queries, desc="ranking", unit="query", disable=None):
        scores = retriever.score(encode_query(retriever, dataset, query), features)
        ranked[query.name] = sort_hits(retriever, names, scores)
    return ranked


def rank_in_blocks(
    retriever: Retriever, queries: Sequence[Query], dataset: RetrievalDataset, block: int = 256
) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    """As `rank`, but of a network, which judges pairs one by one, with a block in memory at a time.

    Returns the ranked lists, and the pictures that could not be read with the reason.
    """
    asking = [encode_query(retriever, dataset, query) for query in queries]
    names, skipped = list(dataset.images), dict[str, str]()
    block = block if retriever.tensor_network else len(names) or 1
    ranked, scores = list[str](), list[Scores]()
    with tqdm(total=len(names), desc="ranking", unit="photo", disable=None) as progress:
        for at in range(0, len(names), block):
            part = {name: dataset.images[name] for name in names[at : at + block]}
            database = index_database(retriever, replace(dataset, images=part))
            skipped |= database.skipped
            features = list(database.features.values())
            if features:
                ranked += database.features
                scores.append(np.stack([retriever.score(query, features) for query in asking]))
            del database, features  # before the next block is made
            progress.update(len(part))
    if not ranked:
        raise ValueError(f"no picture of {dataset.name!r} could be read, so none can be ranked.")
    rows = zip(queries, np.concatenate(scores, axis=1), strict=True)
    return {query.name: sort_hits(retriever, ranked, row) for query, row in rows}, skipped


def sort_hits(retriever: Retriever, names: Sequence[str], scores: Scores) -> list[Hit]:
    """A ranked list of scored pictures, best first, ties by name."""
    probabilities = np.full(len(scores), None, dtype=object)
    judged = scores > UNJUDGED
    probabilities[judged] = retriever.probability(scores[judged])
    hits = [Hit(*hit) for hit in zip(names, scores.tolist(), probabilities, strict=True)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.name))


def top_share(scores: Scores, share: float) -> NDArray[np.intp]:
    """The places of the largest scores, a share of all and `LEAST` at least.

    Examples
    --------
    >>> top_share(np.arange(100.0), 0.25).size, top_share(np.array([1.0, 3.0, 2.0]), 0.1).tolist()
    (25, [1, 2, 0])
    """
    return np.argsort(-scores, kind="stable")[: max(round(share * scores.size), LEAST)]


def splice_scores(
    scores: Scores, places: NDArray[np.intp], new: Sequence[float] | Scores
) -> Scores:
    """New scores of some places; all others come after them, unjudged, in their old order.

    Examples
    --------
    >>> splice_scores(np.array([5.0, 4.0, 3.0, 4.0]), np.array([1, 2]), [0.5, 0.75]).tolist()
    [-1000000.0, 0.5, 0.75, -1000001.0]
    """
    order = np.unique(-scores, return_inverse=True)[1].astype(np.float64)
    spliced = min(UNJUDGED, float(min(new)) - 1) - order  # `new` may hold unjudged ones, too
    spliced[places] = new
    return spliced


class Family(NamedTuple):
    """Retrievers whose names share a form: a line for the reader, and what makes one of a name."""

    description: str
    accepts: Callable[[str], bool]
    build: Callable[[str], Retriever]


RETRIEVERS = Registry[tuple[str, Callable[[], Retriever]]]("a retriever")
FAMILIES = Registry[Family]("a family of retrievers")


def register_retriever(name: str, description: str, build: Callable[[], Retriever]) -> None:
    """Let `build_retriever`, and so every command, take a name; ValueError if it is taken."""
    RETRIEVERS[name] = description, build


def register_family(
    form: str, description: str, accepts: Callable[[str], bool], build: Callable[[str], Retriever]
) -> None:
    """The same for all names of one form, or files of one kind.

    ``accepts`` says whether a name, or a file, is one of the family, ``build`` makes a retriever of
    it. Of several, the family is asked first whose ``form``, ``fuse:FIRST,SECOND``, has the longest
    beginning before a capital; of equal ones, the latest.
    """
    FAMILIES[form] = Family(description, accepts, build)


def list_retrievers() -> dict[str, str]:
    """The registered names with their descriptions."""
    return {name: description for name, (description, _) in RETRIEVERS.items()}


def build_retriever(name: str, device: str = "cpu") -> Retriever:
    """A retriever by its name: one of `list_retrievers`, one of a family's, or a file of weights.

    Raises ValueError if the name is not known, the valid ones are listed, or cannot use the device.

    Examples
    --------
    >>> build_retriever("sfit")
    Traceback (most recent call last):
    ValueError: method 'sfit' is not known; choose from base, ...
    """
    if name in RETRIEVERS:
        return RETRIEVERS[name][1]().to(device)
    for form in sorted([*FAMILIES][::-1], key=lambda form: -len(re.split("[A-Z]", form)[0])):
        if FAMILIES[form].accepts(name):
            return FAMILIES[form].build(name).to(device)
    if name.endswith(".safetensors"):  # of no kind that is known, or not there: this says why
        return NetworkRetriever(load_network(name)).to(device)
    known = ", ".join((*RETRIEVERS, *FAMILIES))
    raise ValueError(f"method {name!r} is not known; choose from {known}.")


register_retriever("base", "the shipped 4-D ResNet", lambda: NetworkRetriever(load_network("base")))
register_family(
    "NETWORK.safetensors",
    "a network that indiret train made",
    lambda name: Path(name).is_file() and holds(name, "config"),
    lambda name: NetworkRetriever(load_network(name)),
)
