"""Train one 4-D kernel in the page, from 81 weights alike, and watch its diagonal appear.

Chapter: *Convolution in four dimensions*.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indiret.correlation import correlation_tensor
from indiret.datasets import RetrievalDataset
from indiret.evaluation import NO_MATCH
from indiret.experiments.evidence_protocol import pair_matches
from indiret.patches import extract_patches
from indiret.widgets.base import PageWidget, module_source
from indiret.widgets.payload import flat_matches, pack, quantise

_LEVELS = 15  # above 0, of an entry
_TARGET, _QUERY = (8, 8), (6, 6)  # grids: small, so that a page holds dozens of tensors
Sample = tuple[Tensor, NDArray[np.int_]]  # (m, n, m', n'), and (m', n', 2) of true target patches


def small_tensors(dataset: RetrievalDataset, count: int) -> list[Sample]:
    """One `zncc` view of each of ``count`` pairs of the same landmark, and its true partners.

    The queries are spread over the dataset, which has to know their geometry.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> ((view, partners),) = small_tensors(load_dataset("toytown", split="validation"), 1)
    >>> tuple(view.shape), partners.shape
    ((8, 8, 6, 6), (6, 6, 2))
    """
    if not 1 <= count <= len(dataset.queries):
        raise ValueError(f"count is {count}; give 1 to {len(dataset.queries)}, the queries.")
    samples = []
    for query in dataset.queries[:: len(dataset.queries) // count][:count]:
        name = min(query.good - {query.image})
        asked, shown = dataset.read_query(query), dataset.read(name)
        partners = pair_matches(dataset, query, name, (*_TARGET, *_QUERY))
        if partners is None:
            raise ValueError(f"the dataset does not know the true partners of patches of {name}.")
        cuts = (shown, _TARGET), (asked, _QUERY)
        P, Q = (extract_patches(*cut, 16, "dense")[None] for cut in cuts)
        samples.append((correlation_tensor(P, Q, ["zncc"])[0, 0], partners))
    return samples


class KernelTrainer(PageWidget):
    """A kernel of 81 weights that learns, in the page, to find true partners in small tensors.

    It starts with all weights alike. Each step goes down the gradient of the cross entropy of the
    true partner among all target patches, and then takes ``penalty`` from the size of each weight.
    Only what is positive in a tensor is used. ValueError unless all have one shape, are finite, and
    both lists have a query patch with a partner.

    Examples
    --------
    >>> R = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> sample = R, torch.ones(2, 2, 2, dtype=int).numpy()
    >>> "<script" in KernelTrainer([sample], [sample]).to_html()
    True
    """

    _esm = module_source("kernel_trainer")
    kind = "kernel"

    def __init__(self, training: Sequence[Sample], held_out: Sequence[Sample]) -> None:
        samples = [*training, *held_out]
        shapes = {tuple(tensor.shape) for tensor, _ in samples}
        known = [
            any((p[..., 0] != NO_MATCH).any() for _, p in part) for part in (training, held_out)
        ]
        if len(shapes) != 1 or not all(known):
            raise ValueError(
                f"the tensors have the shapes {sorted(shapes)}, and true partners are known of "
                f"training and held-out pairs: {known}; give one shape, and partners of both."
            )
        (grid,) = shapes
        values = torch.stack([tensor for tensor, _ in samples]).double().numpy()
        high, steps = quantise(values, _LEVELS, "a tensor")
        header: dict[str, Any] = {"grid": grid, "high": high, "levels": _LEVELS}
        for name, part in (("training", training), ("held_out", held_out)):
            header[name] = [flat_matches(partners, grid) for _, partners in part]
        super().__init__(payload=pack(header, [steps.tobytes()]))
