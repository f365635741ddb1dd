"""Pseudo relevance feedback by evidence (Eq. 10): the first answers say what of a query matters.

The query maps of the first few targets are pooled into Q*, and every target is judged again with
the tensor weighted by it along k and l. Or, past the paper, the first few targets are cut to where
their own evidence lies, and ask too.

Chapter: *Indicative feedback*.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from indiret.datasets import Query, RetrievalDataset
from indiret.evidence import METHODS, Evidence, explain
from indiret.images import Picture
from indiret.network import Features
from indiret.patches import check_choice
from indiret.retrieval import Hit, IndexedDatabase, NetworkRetriever, encode_query, sort_hits

POOLS = ("mean", "max")
WEIGHTED = ("tensor", "pixels", "answers")


@dataclass(frozen=True)
class FeedbackConfig:
    """How the second round is made; the defaults are close to the paper's words.

    What did best on Toytown's validation landmarks is ``FeedbackConfig(n=1, weight="answers")``; on
    its test landmarks no other kind raised mAP.
    """

    n: int = 5  # targets whose query maps are pooled
    pool: str = "max"  # or "mean"
    normalise: bool = True  # each map sums to one first; the paper's are raw
    strength: float = 0.5  # λ: 0 changes nothing, 1 silences what Q* leaves out
    weight: str = "tensor"  # or "pixels", or "answers": see `query_expansion_scores`
    evidence: str = "combined"  # a method of `indiret.evidence.explain`
    level: float = 0.25  # of an answer's evidence at which it is cut, for "answers"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n={self.n} is not at least 1.")
        check_choice("weight", self.weight, WEIGHTED)
        check_choice("pool", self.pool, POOLS)
        check_choice("evidence", self.evidence, METHODS)


def rerank_with_feedback(
    retriever: NetworkRetriever, queries: Sequence[Query], dataset: RetrievalDataset,
    database: IndexedDatabase, first: Mapping[str, Sequence[Hit]],
    config: FeedbackConfig | None = None, refined: Mapping[str, Tensor] | None = None,
) -> dict[str, list[Hit]]:  # fmt: skip
    """A second round with the query refined by its first answers (Eq. 10).

    ``first`` is what `indiret.retrieval.rank` returned for the same retriever, queries, data set
    and database, and new lists of the kind come back; a query's own photo never feeds back. Q* of
    each query by its name, in ``refined``, takes the place of feedback: an oracle's, for instance.
    """
    config = config or FeedbackConfig()
    ranked = {}
    for query in tqdm(queries, desc="second round", unit="query", disable=None):
        listed = [hit.name for hit in first[query.name]]
        features = [database.features[name] for name in listed]
        encoded = encode_query(retriever, dataset, query)
        answers = [name for name in listed if name != query.image][: config.n]
        evidences = []
        if refined is None or config.weight == "answers":
            kept = [database.features[name] for name in answers]
            tensors = [retriever.tensor(encoded, [one]) for one in kept]
            evidences = [explain(retriever.network, one, config.evidence)[0] for one in tensors]
        if config.weight == "answers":
            found = [(listed.index(name), dataset.read(name)) for name in answers]
            scores = retriever.score(encoded, features)
            scores += query_expansion_scores(retriever, evidences, found, features, config.level)
        else:
            given = None if refined is None else refined[query.name]
            weights = feedback_weights(evidences, config, given)
            if config.weight == "pixels":
                faded = weight_pixels(dataset.read_query(query), weights, config.strength)
                scores = retriever.score(retriever.encode_query(faded), features)
            else:
                change = partial(weight_tensor, weights=weights, strength=config.strength)
                scores = retriever.score(encoded, features, change)
        ranked[query.name] = sort_hits(retriever, listed, scores)
    return ranked


def feedback_weights(
    evidences: Sequence[Evidence], config: FeedbackConfig, refined: Tensor | None = None
) -> Tensor:
    """w, (m', n') in 0 … 1, of the query's patches by the evidence of its first answers, or by Q*.

    ``refined`` is a Q*, (m', n'), that takes the place of the evidence.
    """
    if refined is None:
        refined = refine_query(evidences, config.pool, config.normalise)
    return query_weights(refined)


def query_expansion_scores(
    retriever: NetworkRetriever, evidences: Sequence[Evidence],
    answers: Sequence[tuple[int, Picture]], features: Sequence[Features], level: float = 0.25,
) -> NDArray[np.float64]:  # fmt: skip
    """What the first answers score every picture when they ask, cut to where their evidence lies.

    Each counts as far as it is probably right itself: its margins are multiplied by its own
    calibrated probability. Of itself it says no more than of the picture it finds most like it.

    ``evidences`` are of the query against each answer, ``answers`` the place among ``features`` and
    the picture of each, ``level`` is that of `evidence_box`. (len(features),) float64 come back, to
    be added to the query's own margins.
    """
    total = np.zeros(len(features))
    for evidence, (place, picture) in zip(evidences, answers, strict=True):
        x1, y1, x2, y2 = evidence_box(evidence.target_map, picture.shape, level)
        scores = retriever.score(retriever.encode_query(picture[y1:y2, x1:x2]), features)
        if len(scores) > 1:
            scores[place] = np.delete(scores, place).max()
        total += retriever.probability(np.array([evidence.score])) * scores
    return total


def refine_query(
    evidences: Sequence[Evidence], pool: str = "mean", normalise: bool = False
) -> Tensor:
    """Q*, (m', n') float ≥ 0: what of the query its first answers agree on (Eq. 10).

    The evidence of the n targets that were ranked first is pooled by the ``"mean"`` or ``"max"``
    over their query maps; leave the query's own photo out: it agrees with everything. ``normalise``
    lets each map sum to one first; raw, as printed, the target with the largest gradient rules.
    Raises ValueError if there is no evidence, the maps are not of one grid, or the pool is unknown.

    Examples
    --------
    >>> pairs = torch.zeros(2, 3, 3, 2, 2)
    >>> pairs[0, 1, 1, 0, 0], pairs[1, 1, 1, 1, 1] = 1.0, 3.0
    >>> evidences = [Evidence(0.0, one) for one in pairs]
    >>> refine_query(evidences).tolist()
    [[0.5, 0.0], [0.0, 1.5]]
    >>> refine_query(evidences, "max", normalise=True).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_choice("pool", pool, POOLS)
    if not evidences:
        raise ValueError("there is no evidence to pool; give that of one target or more.")
    grids = {tuple(evidence.query_map.shape) for evidence in evidences}
    if len(grids) > 1:
        raise ValueError(f"the query maps have {len(grids)} grids, {grids}; give one query's.")
    maps = torch.stack([evidence.query_map for evidence in evidences])
    if normalise:
        maps = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
    return maps.mean(0) if pool == "mean" else maps.amax(0)


def query_weights(refined: Tensor) -> Tensor:
    """w = Q* / max Q*, (m', n') in 0 … 1; where Q* is zero everywhere, ones, with a warning.

    Examples
    --------
    >>> query_weights(torch.tensor([[1.0, 4.0]])).tolist()
    [[0.25, 1.0]]
    """
    peak = refined.max()
    if not peak > 0:
        none = "the first answers give no evidence; the query is left as it is"
        warnings.warn(none, stacklevel=2)
        return torch.ones_like(refined)
    return refined / peak


def weight_tensor(tensor: Tensor, weights: Tensor, strength: float = 1.0) -> Tensor:
    """The standardised T times (1 − λ) + λ · w along k, l: what does not matter is set to the mean.

    w, (m', n') in 0 … 1, is from `query_weights`; ``strength`` is λ in 0 … 1, and 0 leaves T as it
    is. Raises ValueError if the grids differ or λ is out of range.

    Examples
    --------
    >>> tensor = torch.ones(1, 1, 2, 2, 1, 2)
    >>> weight_tensor(tensor, torch.tensor([[0.0, 1.0]]), strength=0.5)[0, 0, 0, 0].tolist()
    [[0.5, 1.0]]
    """
    if tensor.shape[-2:] != weights.shape:
        given, grid = tuple(weights.shape), tuple(tensor.shape[-2:])
        raise ValueError(f"the weights have shape {given}; the tensor's query grid is {grid}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} is not between 0 and 1.")
    return tensor * ((1 - strength) + strength * weights.to(tensor))


def evidence_box(
    target_map: Tensor, shape: Sequence[int], level: float = 0.25
) -> tuple[int, int, int, int]:
    """The box around the cells with much evidence, (x1, y1, x2, y2) in pixels of the target.

    A cell counts from a share ``level`` of the maximum of ``target_map``, P (m, n) ≥ 0. Without any
    evidence the box is the whole picture, of whose ``shape`` height and width come first.

    Examples
    --------
    >>> evidence_box(torch.tensor([[0.0, 0.1], [0.0, 1.0]]), (40, 60))
    (30, 20, 60, 40)
    """
    m, n = target_map.shape
    height, width = shape[:2]
    cells = (target_map >= level * target_map.max()).nonzero()
    (top, left), (bottom, right) = cells.amin(0).tolist(), (cells.amax(0) + 1).tolist()
    return left * width // n, top * height // m, -(-right * width // n), -(-bottom * height // m)


def weight_pixels(picture: np.ndarray, weights: Tensor, strength: float = 1.0) -> np.ndarray:
    """The query picture faded to its mean colour where w is small: the same idea before the tensor.

    ``picture`` is (H, W, 3) uint8, w and λ are those of `weight_tensor`; w is laid over the
    picture, bilinear between cell centres.

    Examples
    --------
    >>> picture = np.zeros((4, 4, 3), dtype=np.uint8)
    >>> picture[:, 2:] = 200
    >>> weight_pixels(picture, torch.zeros(2, 2))[0, :, 0].tolist()
    [100, 100, 100, 100]
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} is not between 0 and 1.")
    height, width = picture.shape[:2]
    small = Image.fromarray(weights.detach().cpu().numpy().astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    keep = (1 - strength) + strength * large
    mean = picture.mean((0, 1))
    return (mean + keep * (picture - mean)).round().clip(0, 255).astype(np.uint8)
