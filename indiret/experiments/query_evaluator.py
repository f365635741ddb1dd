"""One query before a database: its lists, its second rounds (Eq. 10) and its evidence, measured.

Chapters: *Indicative feedback*, *Ranking and honest evaluation*.
"""

from collections.abc import Callable, Container, Sequence
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import average_precision
from indiret.evidence import Evidence, explain
from indiret.experiments.evidence_protocol import (
    EVIDENCE,
    EvidencePair,
    known_partners,
    pairs_by_query,
)
from indiret.feedback import query_weights, refine_query, weight_tensor
from indiret.networks import Described, IndicativeNetwork
from indiret.ranking import FeedbackConfig, NetworkMethod, answer_votes

HONEST = "mAP_without_query"
JUDGED_AGAIN = 100  # first targets of a second round; the others keep their order
EXPLAINED = 4  # positives of a query, evenly spread, whose evidence is measured
BATCH = 8  # more would not stay in a processor's cache


class AskedQuery(NamedTuple):
    """A query as a config of an experiment, and its number among them."""

    query: Query
    number: int = 0

    @property
    def key(self) -> str:
        return self.query.name


def precisions(ranked: Sequence[str], query: Query) -> dict[str, float]:
    """Average precision of one list, whole and to 5, 10, 20, and without the query's own photo."""
    own = {query.image}
    values = {"mAP": average_precision(ranked, query.positives, query.junk)}
    for k in (5, 10, 20):
        values[f"mAP@{k}"] = average_precision(ranked, query.positives, query.junk, k)
    if query.positives - own:
        values[HONEST] = average_precision(ranked, query.positives - own, query.junk | own)
    return values


def best_first(names: Sequence[str], scores: np.ndarray) -> list[str]:
    """Names by falling score, ties by name."""
    return [name for _, name in sorted(zip(-scores, names, strict=True))]


def spread_pairs(
    dataset: RetrievalDataset, ranked: Container[str], explained: int = EXPLAINED
) -> dict[str, list[EvidencePair]]:
    """By the query's name its evidence pairs whose target is ranked: so many, evenly spread."""
    pairs = pairs_by_query(dataset, ranked) if explained else {}
    for name, own in pairs.items():
        spread = np.linspace(0, len(own) - 1, min(explained, len(own))).round().astype(int)
        pairs[name] = [own[at] for at in spread]
    return pairs


class QueryEvaluator:
    """A query, asked of any network that describes pictures alike.

    Parameters
    ----------
    method
        Describes the query.
    dataset
        Its data set.
    query
        Cropped to its box.
    features
        Gives what is kept of a picture of the database by its name.
    pairs
        The query's evidence pairs, to be explained.
    kept
        Names of the pictures whose tensors are made once, for all networks.
    """

    def __init__(
        self,
        method: NetworkMethod,
        dataset: RetrievalDataset,
        query: Query,
        features: Callable[[str], Described],
        pairs: Sequence[EvidencePair] = (),
        kept: Sequence[str] = (),
    ):
        self.method, self.dataset, self.query = method, dataset, query
        self.features, self.pairs = features, pairs
        self.asked = method.prepare_query(dataset.read_query(query))
        parts = [self._tensor(kept[at : at + BATCH]) for at in range(0, len(kept), BATCH)]
        self._kept = torch.cat(parts) if parts else None
        self._places = {name: at for at, name in enumerate(kept)}

    def _tensor(self, names: Sequence[str]) -> Tensor:
        return self.method.tensor(self.asked, [self.features(name) for name in names])

    def tensor(self, names: Sequence[str]) -> Tensor:
        """T (B, V, m, n, m', n') of the query and pictures of the database."""
        if self._kept is None:
            return self._tensor(names)
        return self._kept[[self._places[name] for name in names]]

    def of(self, query: Query) -> "QueryEvaluator":
        """The same for a query of this photo and box that has other answers."""
        other = copy(self)
        other.query = query
        return other

    @cached_property
    def partners(self) -> list[np.ndarray | None]:
        """The exact correspondence of each pair's patches, where it is known."""
        if not self.pairs:
            return []
        grid = self.tensor([self.pairs[0].name]).shape[2:]
        return [known_partners(self.dataset, self.query, pair.name, grid) for pair in self.pairs]

    @torch.no_grad()
    def scores(
        self,
        network: IndicativeNetwork,
        names: Sequence[str],
        weights: Tensor | None = None,
        strength: float = 0.0,
    ) -> np.ndarray:
        """Margins of pictures, their tensors weighted by those of the query's patches, if any."""
        margins = []
        for at in range(0, len(names), BATCH):
            tensor = self.tensor(names[at : at + BATCH])
            if weights is not None:
                tensor = weight_tensor(tensor, weights.to(tensor), strength)
            margins.append(network.margin(tensor))
        return torch.cat(margins).double().cpu().numpy()

    def second_round(
        self,
        network: IndicativeNetwork,
        names: Sequence[str],
        feedback: FeedbackConfig,
        region: Tensor | None = None,
    ) -> tuple[list[str], Tensor | None]:
        """The list with its first targets judged again, and the weights of the query's patches.

        ``region`` (m', n') takes the place of what the first answers say: an oracle's Q*. There
        are no weights if the answers ask themselves.
        """
        answers = [name for name in names if name != self.query.image][: feedback.n]
        again, rest = list(names[:JUDGED_AGAIN]), list(names[JUDGED_AGAIN:])
        evidence = []
        if region is None:
            evidence = explain(network, self.tensor(answers), feedback.evidence)
        if feedback.weigh == "answers":
            found = [(again.index(name), self.dataset.read(name)) for name in answers]
            features = [self.features(name) for name in again]
            votes = answer_votes(NetworkMethod(network), evidence, found, features, feedback.level)
            return best_first(again, self.scores(network, again) + votes) + rest, None
        if region is None:
            region = refine_query(evidence, feedback.pool, feedback.normalise)
        weights = query_weights(region, feedback.hard)
        return best_first(
            again, self.scores(network, again, weights, feedback.strength)
        ) + rest, weights

    def explained(
        self,
        network: IndicativeNetwork,
        kind: str,
        weights: Tensor | None = None,
        strength: float = 0.0,
    ) -> list[tuple[EvidencePair, Evidence, np.ndarray | None]]:
        """Every pair with its evidence of a kind of `EVIDENCE`, and its known correspondence."""
        if not self.pairs:
            return []
        tensor = self.tensor([pair.name for pair in self.pairs])
        if weights is not None:
            tensor = weight_tensor(tensor, weights.to(tensor), strength)
        settings: dict[str, Any] = EVIDENCE[kind]
        found = explain(network, tensor, **settings)
        return list(zip(self.pairs, found, self.partners, strict=True))
