"""One query before a database: its lists, its second rounds (Eq. 10) and its evidence, measured.

Chapters: *Indicative feedback*, *Ranking and honest evaluation*.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from indiret.datasets import GONE, Query, RetrievalDataset
from indiret.evaluation import average_precision
from indiret.evidence import KINDS, explain
from indiret.experiments.evidence_protocol import EvidencePair, pair_matches, pair_measures
from indiret.experiments.records import Row, long_rows
from indiret.experiments.runner import Keyed
from indiret.feedback import FeedbackConfig, feedback_weights, query_expansion_scores, weight_tensor
from indiret.network import Features, IndicativeNetwork
from indiret.retrieval import NetworkRetriever

HONEST = "mAP_without_query"
JUDGED_AGAIN = 100  # first targets of a second round; the others keep their order
Change = Callable[[Tensor], Tensor]  # of tensors, before they are judged
_BATCH = 8  # more would not stay in a processor's cache


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


def rows_or_reason(rows: Callable[[Keyed], list[Row]], one: Keyed) -> list[Row]:
    """The rows of a query, or one that says why not if its photo is gone."""
    try:
        return rows(one)
    except GONE as error:
        place = {"landmark": one.value.landmark, "query": one.value.name, "seed": 0}
        return long_rows({"skipped": 1.0}, reason=str(error), **place)


def skipped_queries(table: DataFrame) -> dict[str, str]:
    """The queries of a table that could not be asked, and why."""
    rows = table[table["measure"] == "skipped"]
    return dict(zip(rows["query"], rows["reason"], strict=True)) if len(rows) else {}


class QueryEvaluator:
    """A query, cropped to its box, before any network that encodes pictures as ``method`` does.

    ``features`` are those of a picture of the database by its name; ``pairs`` are explained.
    Tensors of the pictures ``kept`` are made once for all networks, which then see no others.
    """

    def __init__(
        self,
        method: NetworkRetriever,
        dataset: RetrievalDataset,
        query: Query,
        features: Callable[[str], Features],
        pairs: Sequence[EvidencePair] = (),
        kept: Sequence[str] = (),
    ):
        self.method, self.dataset, self.query = method, dataset, query
        self.features, self.pairs = features, pairs
        self.encoded = method.encode_query(dataset.read_query(query))
        self._kept: dict[str, Tensor] = {}
        parts = (kept[at : at + _BATCH] for at in range(0, len(kept), _BATCH))
        self._kept = {
            name: tensor
            for part in parts
            for name, tensor in zip(part, self.tensor(part), strict=True)
        }

    def tensor(self, names: Sequence[str]) -> Tensor:
        """T (B, V, m, n, m', n') of the query and pictures of the database."""
        if self._kept:
            return torch.stack([self._kept[name] for name in names])
        return self.method.tensor(self.encoded, [self.features(name) for name in names])

    @cached_property
    def partners(self) -> list[np.ndarray | None]:
        """The exact correspondence of each pair's patches, where it is known."""
        grid = self.tensor([self.pairs[0].name]).shape[2:]
        return [pair_matches(self.dataset, self.query, pair.name, grid) for pair in self.pairs]

    @torch.no_grad()
    def scores(
        self, network: IndicativeNetwork, names: Sequence[str], change: Change | None = None
    ) -> np.ndarray:
        """Margins of pictures, their tensors changed first if ``change`` is given."""
        margins = []
        for at in range(0, len(names), _BATCH):
            tensor = self.tensor(names[at : at + _BATCH])
            margins.append(network.margin(change(tensor) if change else tensor))
        return torch.cat(margins).double().cpu().numpy()

    def ranked(self, network: IndicativeNetwork, names: Sequence[str]) -> list[str]:
        """The names, best first, ties by name."""
        return best_first(names, self.scores(network, names))

    def second_round(
        self,
        network: IndicativeNetwork,
        names: Sequence[str],
        feedback: FeedbackConfig,
        region: Tensor | None = None,
    ) -> tuple[list[str], Change | None]:
        """The list with its first targets judged again, and how their tensors were changed.

        ``region`` (m', n'), an oracle's Q*, takes the place of what the first answers say. Nothing
        is changed if the answers ask themselves. It takes the steps that
        `indiret.feedback.rerank_with_feedback` takes, but from tensors made once for all networks,
        and gives back the change, under which evidence is measured.
        """
        answers = [name for name in names if name != self.query.image][: feedback.n]
        again, rest = list(names[:JUDGED_AGAIN]), list(names[JUDGED_AGAIN:])
        evidence = []
        if region is None:
            evidence = explain(network, self.tensor(answers), feedback.evidence)
        if feedback.weight == "answers":
            found = [(again.index(name), self.dataset.read(name)) for name in answers]
            features = [self.features(name) for name in again]
            scores = self.scores(network, again) + query_expansion_scores(
                NetworkRetriever(network), evidence, found, features, feedback.level
            )
            return best_first(again, scores) + rest, None
        weights = feedback_weights(evidence, feedback, region)
        change = partial(weight_tensor, weights=weights, strength=feedback.strength)
        return best_first(again, self.scores(network, again, change)) + rest, change

    def evidence(
        self, network: IndicativeNetwork, kind: str, change: Change | None = None
    ) -> dict[str, list[Any]]:
        """`pair_measures` of the evidence of a kind, lists over the pairs."""
        found: dict[str, list[Any]] = {}
        if self.pairs:
            tensor = self.tensor([pair.name for pair in self.pairs])
            explained = explain(network, change(tensor) if change else tensor, **KINDS[kind])
            for pair, one, partners in zip(self.pairs, explained, self.partners, strict=True):
                for name, value in pair_measures(pair, one, partners).items():
                    found.setdefault(name, []).append(value)
        return found
