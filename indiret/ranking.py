"""From photos to ranked lists: every picture prepared once, every pair scored in batches.

A *method* is anything that can ``prepare`` a picture and ``score`` a prepared query against
prepared database pictures: a network (`NetworkMethod`) or a baseline.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset
from indiret.evidence import Evidence, explain
from indiret.feedback import (
    evidence_box,
    query_weights,
    refine_query,
    weight_pixels,
    weight_tensor,
)
from indiret.images import ImageError
from indiret.networks import Described, IndicativeNetwork

AT_ONCE = 32  # pictures that are handed to ``prepare_many``


class Method(Protocol):
    """What `rank` needs of a method.

    One that prepares queries in another way has ``prepare_query`` too, and one whose scores are
    calibrated has ``probability``. One that is faster with many pictures has ``prepare_many``, and
    one that knows pictures and queries by name alone has ``look_up``.
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

    def score(
        self,
        query: Described,
        database: Sequence[Described],
        weights: Tensor | None = None,
        strength: float = 1.0,
    ) -> np.ndarray:
        """Margins; pictures of equal grids are batched together.

        With ``weights`` of the query's patches the tensor is weighted by them, for feedback; see
        `indiret.feedback.weight_tensor`.
        """
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
                    if weights is not None:
                        tensor = weight_tensor(tensor, weights.to(tensor), strength)
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
    names, many = list(database.images), getattr(method, "prepare_many", None)
    read = getattr(method, "look_up", database.read)
    at_once = AT_ONCE if many else 1
    with tqdm(total=len(names), desc="preparing", unit="photo", disable=None) as progress:
        for at in range(0, len(names), at_once):
            found = {}
            for name in names[at : at + at_once]:
                try:
                    found[name] = read(name)
                except (ImageError, OSError) as error:  # OSError: removed since it was listed
                    prepared.skipped[name] = str(error)
            if not hasattr(method, "look_up"):
                pictures = list(found.values())
                features = many(pictures) if many else map(method.prepare, pictures)
                found = dict(zip(found, features, strict=True))
            prepared.features |= found
            progress.update(at_once)
    return prepared


def prepare_query(method: Method, database: RetrievalDataset, query: Query) -> Any:
    """What a method keeps of a query, cut to its box."""
    if look_up := getattr(method, "look_up", None):
        return look_up(query.name, query=True)
    return getattr(method, "prepare_query", method.prepare)(database.read_query(query))


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
    ranked = {}
    for query in tqdm(queries, desc="ranking", unit="query", disable=None):
        scores = method.score(prepare_query(method, database, query), features)
        ranked[query.name] = _hits(method, names, scores)
    return ranked


def rank_in_blocks(
    method: Method, queries: Sequence[Query], database: RetrievalDataset, block: int = 256
) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    """As `rank`, but only a block of the database is in memory at a time.

    Parameters
    ----------
    method, queries, database
        As for `rank`; all queries are prepared at once.
    block
        Pictures of the database.

    Returns
    -------
    ranked
        Lists of `Hit` by query name.
    skipped
        Pictures that could not be read, with the reason.

    Raises
    ------
    ValueError
        If no picture of the database could be read.
    """
    asked = [prepare_query(method, database, query) for query in queries]
    names, skipped = list(database.images), dict[str, str]()
    ranked: list[str] = []
    scores: list[np.ndarray] = []
    with tqdm(total=len(names), desc="ranking", unit="photo", disable=None) as progress:
        for at in range(0, len(names), block):
            part = {name: database.images[name] for name in names[at : at + block]}
            prepared = prepare(method, replace(database, images=part))
            skipped |= prepared.skipped
            features = list(prepared.features.values())
            if features:
                ranked += prepared.features
                scores.append(np.stack([method.score(query, features) for query in asked]))
            del prepared, features  # before the next block is made
            progress.update(len(part))
    if not ranked:
        raise ValueError(f"no picture of {database.name!r} could be read, so none can be ranked.")
    rows = np.concatenate(scores, axis=1)
    lists = {q.name: _hits(method, ranked, row) for q, row in zip(queries, rows, strict=True)}
    return lists, skipped


def _hits(method: Method, names: list[str], scores: np.ndarray) -> list[Hit]:
    """Best first, ties by name."""
    to_probability = getattr(method, "probability", None)
    probabilities = to_probability(scores) if to_probability else [None] * len(scores)
    hits = [Hit(*hit) for hit in zip(names, scores.tolist(), probabilities, strict=True)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.name))


WEIGHED = ("tensor", "pixels", "answers")


@dataclass(frozen=True)
class FeedbackConfig:
    """How the second round of `rank_again` is made.

    The defaults are close to the paper's words. What did best on Toytown's validation landmarks is
    ``FeedbackConfig(n=1, weigh="answers")``; on its test landmarks no other kind raised mAP.
    """

    n: int = 5  # targets whose query maps are pooled
    pool: str = "max"  # or "mean"
    normalise: bool = True  # each map sums to one first; the paper's are raw
    strength: float = 0.5  # λ: 0 changes nothing, 1 silences what Q* leaves out
    hard: float | None = None  # a share of Q*'s maximum below which a patch counts nothing
    weigh: str = "tensor"  # or "pixels", or "answers": see `answer_votes`
    evidence: str = "combined"  # a method of `indiret.evidence.explain`
    level: float = 0.25  # of an answer's evidence at which it is cut, for "answers"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n={self.n} is not at least 1.")
        if self.weigh not in WEIGHED:
            known = ", ".join(WEIGHED)
            raise ValueError(f"weigh={self.weigh!r} is not known; choose from {known}.")


def rank_again(
    method: NetworkMethod,
    queries: Sequence[Query],
    database: RetrievalDataset,
    prepared: Prepared,
    first: Mapping[str, Sequence[Hit]],
    config: FeedbackConfig | None = None,
    refined: Mapping[str, Tensor] | None = None,
) -> dict[str, list[Hit]]:
    """A second round with the query refined by its first answers (Eq. 10).

    Parameters
    ----------
    method, queries, database, prepared
        As for `rank`.
    first
        What `rank` returned. The query's own photo never feeds back.
    config
        How evidence is pooled and used.
    refined
        Q* of each query by its name, to use instead of feedback: an oracle's, for instance.

    Returns
    -------
    dict
        Ranked lists by query name, as `rank` returns them.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> from indiret.networks import build_network
    >>> town = load_dataset("toytown", split="validation")
    >>> method, query = NetworkMethod(build_network("base")), town.queries[0]
    >>> prepared = Prepared({name: method.prepare(town.read(name)) for name in query.good})
    >>> first = rank(method, [query], town, prepared)
    >>> again = rank_again(method, [query], town, prepared, first)
    >>> len(again[query.name]) == len(first[query.name])
    True
    """
    config = config or FeedbackConfig()
    names, features = list(prepared.features), list(prepared.features.values())
    ranked = {}
    for query in tqdm(queries, desc="ranking again", unit="query", disable=None):
        picture = database.read_query(query)
        asked = method.prepare_query(picture)
        answers = [hit.name for hit in first[query.name] if hit.name != query.image][: config.n]
        evidences = []
        if refined is None or config.weigh == "answers":
            tensors = [method.tensor(asked, [prepared.features[name]]) for name in answers]
            evidences = [explain(method.network, one, config.evidence)[0] for one in tensors]
        if config.weigh == "answers":
            found = [(names.index(name), database.read(name)) for name in answers]
            votes = answer_votes(method, evidences, found, features, config.level)
            ranked[query.name] = _hits(method, names, method.score(asked, features) + votes)
            continue
        if refined is None:
            q_star = refine_query(evidences, config.pool, config.normalise)
        else:
            q_star = refined[query.name]
        weights = query_weights(q_star, config.hard)
        if config.weigh == "pixels":
            faded = method.prepare_query(weight_pixels(picture, weights, config.strength))
            scores = method.score(faded, features)
        else:
            scores = method.score(asked, features, weights, config.strength)
        ranked[query.name] = _hits(method, names, scores)
    return ranked


def answer_votes(
    method: NetworkMethod,
    evidences: Sequence[Evidence],
    answers: Sequence[tuple[int, np.ndarray]],
    features: Sequence[Described],
    level: float = 0.25,
) -> np.ndarray:
    """What the first answers say of every picture when they ask, cut to where their evidence lies.

    Each is heard as far as it is probably right itself: its margins are multiplied by its own
    calibrated probability. Of itself it says no more than of the picture it finds most like it.

    Parameters
    ----------
    method
        Calibrated.
    evidences
        Of the query against each answer.
    answers
        Place among ``features`` and picture of each.
    features
        The prepared database.
    level
        See `indiret.feedback.evidence_box`.

    Returns
    -------
    ndarray
        (len(features),) float64, to be added to the query's own margins.
    """
    votes = np.zeros(len(features))
    for evidence, (place, picture) in zip(evidences, answers, strict=True):
        x1, y1, x2, y2 = evidence_box(evidence.target_map, picture.shape, level)
        said = method.score(method.prepare_query(picture[y1:y2, x1:x2]), features)
        if len(said) > 1:
            said[place] = np.delete(said, place).max()
        votes += method.probability(np.array([evidence.score])) * said
    return votes
