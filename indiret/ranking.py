"""From photos to ranked lists: every picture prepared once, every pair scored in batches.

A *method* is anything that can ``prepare`` a picture and ``score`` a prepared query against
prepared database pictures: a network (`NetworkMethod`) or a baseline.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset
from indiret.images import ImageError
from indiret.networks import Described, IndicativeNetwork


class Method(Protocol):
    """What `rank` needs of a method.

    One that prepares queries in another way has ``prepare_query`` too, and one whose scores are
    calibrated has ``probability``.
    """

    def prepare(self, picture: np.ndarray) -> Any:
        """Whatever of a (H, W, 3) uint8 picture is worth keeping."""

    def score(self, query: Any, database: Sequence[Any]) -> np.ndarray:
        """(len(database),) scores, larger for more alike."""


class NetworkMethod:
    """A network as a method: pictures become patches, pairs become margins.

    Examples
    --------
    >>> from indiret.networks import build_network
    >>> method = NetworkMethod(build_network("base"))
    >>> target = method.prepare(np.zeros((48, 64, 3), dtype=np.uint8))
    >>> {name: tuple(values.shape) for name, values in target.items()}
    {'gradients': (2, 4, 14, 14, 256), 'colour': (2, 4, 14, 14, 3)}
    >>> query = method.prepare_query(np.zeros((32, 32, 3), dtype=np.uint8))
    >>> method.score(query, [target, target]).shape
    (2,)
    """

    def __init__(self, network: IndicativeNetwork, batch: int = 8):
        self.network = network.eval()
        self.batch = batch  # more would not stay in a processor's cache

    def prepare(self, picture: np.ndarray) -> Described:
        """What the network keeps of a target, 0.8 MB for ``base``."""
        return self.network.describe(picture)

    def prepare_query(self, picture: np.ndarray) -> Described:
        """The same of a query."""
        return self.network.describe(picture, query=True)

    def tensor(self, query: Described, database: Sequence[Described]) -> Tensor:
        """T of one prepared query against prepared pictures of one grid: (B, V, m, n, m', n')."""
        return self.network.correlate(query, database)

    def score(self, query: Described, database: Sequence[Described]) -> np.ndarray:
        """Margins; pictures of equal grids are batched together."""
        scores = np.empty(len(database), dtype=np.float64)
        grids: dict[tuple[int, ...], list[int]] = {}
        for index, described in enumerate(database):
            shape = next(iter(described.values())).shape
            grids.setdefault(shape, []).append(index)
        with torch.inference_mode():
            for indices in grids.values():
                for at in range(0, len(indices), self.batch):
                    part = indices[at : at + self.batch]
                    tensor = self.tensor(query, [database[index] for index in part])
                    scores[part] = self.network.margin(tensor).double().cpu().numpy()
        return scores

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probability that a pair is relevant."""
        with torch.no_grad():
            return self.network.probability(torch.from_numpy(scores)).numpy()


class Hit(NamedTuple):
    """One entry of a ranked list; ``probability`` is None for methods that are not calibrated."""

    name: str
    score: float
    probability: float | None


@dataclass
class Prepared:
    """A database made ready by one method, and the pictures that could not be read."""

    features: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def prepare(method: Method, database: RetrievalDataset) -> Prepared:
    """Prepare every picture of a database once, with a progress bar on a terminal.

    A picture that cannot be read is passed over and named, with the reason, in ``skipped``.
    """
    prepared = Prepared()
    for name in tqdm(database.images, desc="preparing", unit="photo", disable=None):
        try:
            prepared.features[name] = method.prepare(database.read(name))
        except (ImageError, OSError) as error:  # OSError: removed since it was listed
            prepared.skipped[name] = str(error)
    return prepared


def rank(
    method: Method | IndicativeNetwork,
    queries: Sequence[Query],
    database: RetrievalDataset,
    prepared: Prepared | None = None,
) -> dict[str, list[Hit]]:
    """Rank a database for every query: best first, ties by name.

    Parameters
    ----------
    method
        A network, or any method.
    queries
        Queries of this database; they are cropped to their boxes.
    database
        Where the pictures are read.
    prepared
        From `prepare`, to use it again; made here otherwise.

    Returns
    -------
    dict
        A list of `Hit` over all prepared pictures by query name. The score is the margin
        z_relevant − z_irrelevant for networks, since probabilities tie at 1.0 in float32.

    Raises
    ------
    ValueError
        If no picture of the database could be read.
    ImageError
        If a query's photo cannot be read.

    Examples
    --------
    >>> from indiret.baselines import build_method
    >>> from indiret.datasets import load_dataset
    >>> toytown = load_dataset("toytown", split="validation")
    >>> query = toytown.queries[0]
    >>> hits = rank(build_method("thumbnail"), [query], toytown)[query.name]
    >>> len(hits) == len(toytown.images)
    True
    """
    if isinstance(method, IndicativeNetwork):
        method = NetworkMethod(method)
    prepared = prepared or prepare(method, database)
    if not prepared.features:
        raise ValueError(f"no picture of {database.name!r} could be read, so none can be ranked.")
    names = list(prepared.features)
    features = list(prepared.features.values())
    prepare_query = getattr(method, "prepare_query", method.prepare)
    ranked = {}
    for query in tqdm(queries, desc="ranking", unit="query", disable=None):
        scores = method.score(prepare_query(database.read_query(query)), features)
        to_probability = getattr(method, "probability", None)
        probabilities = to_probability(scores) if to_probability else [None] * len(scores)
        hits = [Hit(*hit) for hit in zip(names, scores.tolist(), probabilities, strict=True)]
        ranked[query.name] = sorted(hits, key=lambda hit: (-hit.score, hit.name))
    return ranked
