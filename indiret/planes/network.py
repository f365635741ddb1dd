"""A small network that reads what was found along the best planes of a pair.

The plane vote adds up how well the patches along a plane answer. This network sees the answers in
their places instead: the tensor sampled along the best plane of either direction is a picture of
the template, one channel for each thing that is known of an answer, and a few 2-D convolutions say
which answers support the plane, and whether the pair shows the same thing. It can only judge planes
that the vote finds, so it costs little more than the vote.

Chapter: *Sphere or plane?*
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from indiret.evidence import Evidence
from indiret.images import Picture
from indiret.landing import fill, spread
from indiret.networks import WEIGHTS, file_name
from indiret.patches import patch_grid
from indiret.planes import Plane, grid_places, read_at, refine_plane
from indiret.planevote import (
    CLOSE,
    EVIDENCE_CELLS,
    PHOTO,
    PLANES,
    PRODUCT,
    UNRELATED,
    Agreement,
    Found,
    PlaneConfig,
    PlanesMethod,
    PlaneViews,
    Template,
    floats,
    weigh,
)
from indiret.reranking import best, lift

NAME = "plane-net"
JUDGED = 0.5  # share of the database; see book/decisions/0016_plane_network
CHANNELS = (
    "answer",  # the best of 3 × 3 patches around the place that the plane gives
    "cosine",  # at the place itself
    "unfitted",  # the answer along the plane as it was voted for
    "lost",  # by how much another target patch answers better
    "rank",  # of the place among all target patches, 1 for the best
    "asked",  # rank of the template's patch among all that the place could answer
    "structure",  # length of the template's patch
    "inside",  # whether the place lies in the target
)
NUMBERS = (  # of a plane as a whole
    "votes",
    "standing",
    "fitted",
    "size",
    "stretch",
    "shear",
    "worth",  # of this direction, over the root of chance
    "chance",
)
READS = CHANNELS + NUMBERS
DIRECTIONS = 2  # the query's template in the target, and the target's in the query


class Sample(NamedTuple):
    """What is known along one plane: `CHANNELS` (C, K, L), `NUMBERS` (G,), and the places.

    ``voters`` and ``places`` are (K, L, 2), y and x from 0 to 1 in their photos.
    """

    maps: Tensor
    numbers: Tensor
    voters: Tensor
    places: Tensor


class Judgement(NamedTuple):
    """``logits`` (B, 2) of irrelevant and relevant; ``support`` (B, 2, K, L) logits of answers."""

    logits: Tensor
    support: Tensor


def total(judged: Judgement, numbers: Tensor) -> Tensor:
    """(B,): the margin, with what both directions are worth to the vote.

    The network learns without it: taught together, it learns less that is new.

    Examples
    --------
    >>> judged = Judgement(torch.tensor([[1.0, 2.5]]), torch.empty(0))
    >>> numbers = torch.zeros(1, 2, len(NUMBERS))
    >>> numbers[0, :, NUMBERS.index("worth")] = torch.tensor([1.0, 0.25])
    >>> total(judged, numbers)
    tensor([2.7500])
    """
    worth = numbers[:, :, NUMBERS.index("worth")].sum(1)
    return judged.logits[:, 1] - judged.logits[:, 0] + worth


def sample(
    method: PlanesMethod,
    template: Template,
    searched: PlaneViews,
    found: Found,
    chance: float = 1.0,
) -> Sample:
    """The tensor of a template and the size in which a plane was found, sampled along that plane.

    Parameters
    ----------
    method
        That found the plane.
    template, searched, found
        As for `indiret.planevote.PlanesMethod.land`; the pyramid in float32.
    chance
        What a stranger finds in the target, whichever of the two that is.
    """
    patches = searched.pyramid[found.size]
    K, L = template.patches.shape[:2]
    rows, columns = patches.shape[:2]
    products = torch.mm(
        template.patches.flatten(0, 1),
        patches.flatten(0, 1).mT,
        out=PRODUCT.of(K * L, rows * columns),
    )
    cosines = products.view(K, L, rows, columns)
    start = method.start(cosines.shape, found)
    plane = refine_plane(cosines, start, floor=UNRELATED)
    places = plane.places(K, L)
    inside = ((places >= 0) & (places <= torch.tensor([rows - 1, columns - 1]))).all(-1)
    answer, at = sample_near(cosines, plane)
    maps = torch.stack(
        [
            answer,
            at,
            sample_near(cosines, start)[0],
            cosines.amax((2, 3)) - at,
            _rank(_count_above(cosines, at[..., None, None]).sum((2, 3)), rows * columns),
            _rank(_better_asked(cosines, at, places), K * L),
            template.patches.norm(dim=-1),
            inside.float(),
        ]
    )
    maps[:6] *= inside
    (down, across), (along, right) = (plane.matrix / method.config.step).tolist()
    numbers = torch.tensor(
        [
            10 * found.votes,
            found.standing / 10,
            10 * plane.votes * (CLOSE if found.close else 1),
            found.size / len(searched.pyramid),
            math.log(max(down * right - across * along, 1e-2)),
            abs(across) + abs(along) + abs(down - right),
            found.worth / math.sqrt(chance),
            math.log(chance),
        ]
    )
    landed = method.places(plane, (K, L), searched, found)
    return Sample(maps, numbers, template.where, landed)


def sample_near(cosines: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
    """The best of 3 × 3 answers around the places of a plane, and the cosines there: (K, L) each.

    Both bilinear between patches, as `indiret.planes.sample_plane` of the tensor's answers after
    max-pooling and of the tensor itself, of which only these places are read.

    Examples
    --------
    >>> cosines = torch.zeros(1, 1, 5, 5)
    >>> cosines[0, 0, 1, 1] = 1.0
    >>> sample_near(cosines, Plane(torch.eye(2), torch.tensor([2.0, 2.5]), 0.0))
    (tensor([[0.3500]]), tensor([[0.]]))
    """
    K, L, rows, columns = cosines.shape
    places = plane.places(K, L)
    low = places.floor()
    first = low.long()[:, :, None]
    around = grid_places(4, 4).long().flatten(0, 1) - 1
    window = read_at(cosines, first + around).view(K * L, 1, 4, 4)
    at = window[:, 0, 1:3, 1:3]  # the four patches around each place
    best = F.max_pool2d(weigh(window.clone()), 3, 1)[:, 0]
    past = (places - low).view(K * L, 2, 1)
    corners = first.view(K * L, 2, 1) + torch.arange(2)
    inside = (corners >= 0) & (corners < torch.tensor([rows, columns])[:, None])
    shares = torch.cat([1 - past, past], 2) * inside
    weights = shares[:, 0, :, None] * shares[:, 1, None, :]
    return (best * weights).sum((1, 2)).view(K, L), (at * weights).sum((1, 2)).view(K, L)


def _rank(better: Tensor, among: int) -> Tensor:
    """1 for the best of so many, 0 for the last, even steps in the logarithm.

    Examples
    --------
    >>> _rank(torch.tensor([0, 9, 99]), 100)
    tensor([1.0000, 0.5011, 0.0022])
    """
    return 1 - (better + 1.0).log() / float(np.log(among + 1))


def _count_above(values: Tensor, least: Tensor) -> Tensor:
    """1.0 where values are larger; sums of floats are five times as fast as those of bools."""
    return torch.gt(values, least, out=torch.empty_like(values))


def _better_asked(cosines: Tensor, at: Tensor, places: Tensor) -> Tensor:
    """How many of the template's patches answer better what lies at each patch's place: (K, L)."""
    K, L, rows, columns = cosines.shape
    nearest = places.round().long()
    flat = nearest[..., 0].clamp(0, rows - 1) * columns + nearest[..., 1].clamp(0, columns - 1)
    there = cosines.view(K * L, -1).index_select(1, flat.flatten())  # voters × places
    return _count_above(there, at.flatten()).sum(0).view(K, L)


def stack(pairs: Sequence[Sequence[Sample]]) -> tuple[Tensor, Tensor]:
    """Maps and numbers of B pairs in both directions: (B, 2, C, K, L) and (B, 2, G).

    Templates of different shapes are padded with zeros.
    """
    directed = len(pairs), DIRECTIONS
    maps = pad([one.maps for pair in pairs for one in pair])
    numbers = torch.stack([one.numbers for pair in pairs for one in pair])
    return maps.unflatten(0, directed), numbers.float().unflatten(0, directed)


def pad(maps: Sequence[Tensor]) -> Tensor:
    """Maps (..., K, L) of several shapes as one float tensor, with zeros where one ends.

    Examples
    --------
    >>> pad([torch.ones(1, 2), torch.ones(2, 1)]).tolist()
    [[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]
    """
    K, L = (max(one.shape[axis] for one in maps) for axis in (-2, -1))
    return torch.stack(
        [F.pad(one.float(), (0, L - one.shape[-1], 0, K - one.shape[-2])) for one in maps]
    )


class PlaneNetwork(nn.Module):
    """Three 2-D convolutions over the samples of either direction, and a small head over both.

    Parameters
    ----------
    width
        Channels of a convolution.

    Attributes
    ----------
    calibration
        (2,): a and b of probability = sigmoid(a · margin + b).

    Examples
    --------
    >>> network = PlaneNetwork()
    >>> judged = network(torch.rand(3, 2, 8, 13, 9), torch.rand(3, 2, 8))
    >>> judged.logits.shape, judged.support.shape
    (torch.Size([3, 2]), torch.Size([3, 2, 13, 9]))
    """

    calibration: Tensor

    def __init__(self, width: int = 16):
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for channels in (len(CHANNELS), width, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.support = nn.Conv2d(width, 1, 1)
        pooled = 2 * width + 1 + len(NUMBERS)
        self.head = nn.Sequential(
            nn.Linear(DIRECTIONS * pooled, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2)
        )
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, maps: Tensor, numbers: Tensor) -> Judgement:
        """Judge B pairs.

        Parameters
        ----------
        maps
            (B, 2, C, K, L), as `stack` makes them.
        numbers
            (B, 2, G).
        """
        here = (maps[:, :, CHANNELS.index("structure")] > 0).flatten(0, 1)[:, None]
        features = self.convolutions(maps.flatten(0, 1)) * here
        support = self.support(features)
        counted = here.sum((2, 3)).clamp_min(1)
        share = support.sigmoid() * here
        pooled = torch.cat(
            [
                (features * share).sum((2, 3)) / counted,
                features.sum((2, 3)) / counted,
                share.sum((2, 3)) / counted,
            ],
            1,
        )
        both = torch.cat([pooled.unflatten(0, maps.shape[:2]), numbers], 2)
        return Judgement(self.head(both.flatten(1)), support[:, 0].unflatten(0, maps.shape[:2]))

    def margin(self, maps: Tensor, numbers: Tensor) -> Tensor:
        """z_relevant − z_irrelevant and what the vote says by itself, (B,)."""
        return total(self(maps, numbers), numbers)


def sample_pair(
    method: PlanesMethod, query: PlaneViews, target: PlaneViews, agreed: Agreement | None = None
) -> tuple[Sample, Sample]:
    """The samples along the best planes of query in target and of target in query.

    ``agreed`` are the planes of `indiret.planevote.PlanesMethod.agree`, where they are known.
    """
    query, target = floats(query), floats(target, PHOTO)
    agreed = agreed or method.agree(query, target)
    return (
        sample(
            method, agreed.there.template(query, agreed.turn), target, agreed.there, agreed.chance
        ),
        sample(
            method, agreed.back.template(target, -agreed.turn), query, agreed.back, agreed.chance
        ),
    )


class PlaneNetMethod:
    """The plane vote, the better part of it judged by the network; see `indiret.ranking.Method`.

    Parameters
    ----------
    network
        From `load_plane_network`, or an untrained one.
    config
        Of the vote.
    judged
        Share of the database that the network looks at, `indiret.reranking.LEAST` photos at least;
        what the vote puts below keeps its order there.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> method = PlaneNetMethod(PlaneNetwork())
    >>> picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    >>> views = method.prepare(picture.repeat(10, axis=0).repeat(10, axis=1))
    >>> method.score(views, [views]).shape, method.explain(views, views).pairs.shape
    ((1,), torch.Size([10, 14, 10, 14]))
    """

    BATCH = 64  # pairs that are judged at once

    def __init__(
        self,
        network: PlaneNetwork,
        config: PlaneConfig = PLANES["planes"],
        judged: float = JUDGED,
    ):
        if not 0 <= judged <= 1:
            raise ValueError(f"judged={judged} is no share of the database; give 0 to 1.")
        self.network, self.planes, self.judged = network.eval(), PlanesMethod(config), judged

    def prepare(self, picture: Picture) -> PlaneViews:
        """What the vote keeps of a picture."""
        return self.planes.prepare(picture)

    def prepare_query(self, picture: Picture) -> PlaneViews:
        """What the vote keeps of a query."""
        return self.planes.prepare_query(picture)

    @torch.inference_mode()
    def score(self, query: PlaneViews, database: Sequence[PlaneViews]) -> NDArray[np.float64]:
        """Margins of what the network judges, less for what it does not, (len(database),)."""
        if not database:
            return np.empty(0)
        query = floats(query)
        worths, agreed = self.planes.survey(query, database)
        kept = best(worths, self.judged)
        pairs = [(database[place], agreed.get(int(place))) for place in kept]
        return lift(worths, kept, self.judge(query, pairs))

    def judge(
        self, query: PlaneViews, pairs: Sequence[tuple[PlaneViews, Agreement | None]]
    ) -> NDArray[np.float64]:
        """The network's margins of targets and what the vote found in them, one batch at a time."""
        samples = (sample_pair(self.planes, query, target, agreed) for target, agreed in pairs)
        margins = [torch.empty(0)]
        with torch.inference_mode():
            while few := list(islice(samples, self.BATCH)):
                margins.append(self.network.margin(*stack(few)))
        return torch.cat(margins).double().numpy()

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probability that a pair is relevant."""
        slope, offset = self.network.calibration.double().tolist()
        return np.asarray(1 / (1 + np.exp(-(slope * scores + offset))))

    def explain(self, query: PlaneViews, target: PlaneViews) -> Evidence:
        """Which patches support the match, and where the planes put them; see `Evidence`.

        Each answer counts by the network's probability that it and those around it are right; see
        `indiret.landing.fill`. The grids have 14 patches along the longer sides, and an answer is
        shared between the four patches nearest to it on either side.
        """
        samples = sample_pair(self.planes, query, target)
        with torch.inference_mode():
            maps, numbers = stack([samples])
            judged = self.network(maps, numbers)
        grids = [
            patch_grid(*views.shape, (EVIDENCE_CELLS, EVIDENCE_CELLS), "keep")
            for views in (target, query)
        ]
        pairs = torch.zeros(*grids[0], *grids[1])
        for number, one in enumerate(samples):
            K, L = one.maps.shape[1:]
            right = judged.support[0, number, :K, :L].sigmoid() * (one.maps[6] > 0)
            at, asked = (one.voters, one.places) if number else (one.places, one.voters)
            pairs += spread(fill(right), at, grids[0], asked, grids[1])
        return Evidence(float(total(judged, numbers)), pairs)

    def carry(
        self, query: PlaneViews, target: PlaneViews, points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Where the vote puts points of the query; see `indiret.planevote.PlanesMethod.carry`."""
        return self.planes.carry(query, target, points)

    def evidence(self, query: PlaneViews, target: PlaneViews) -> dict[str, Tensor]:
        """The pairs of `explain`, by the name under which `measure_maps` lists them."""
        return {"support": self.explain(query, target).pairs}


def save_plane_network(
    network: PlaneNetwork, path: Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights, width and calibration as one safetensors file, whole or not at all.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.safetensors"
    >>> save_plane_network(PlaneNetwork(width=4), path)
    >>> load_plane_network(path).width
    4
    """
    metadata = {**(extra or {}), NAME: json.dumps({"width": network.width, "reads": READS})}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, part, metadata)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_plane_network(path: str | Path = NAME) -> PlaneNetwork:
    """A trained network in eval mode: the shipped one, or a file of `save_plane_network`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not one of `save_plane_network`, whole and finite, or was made for other
        channels.
    """
    path = WEIGHTS / file_name(NAME) if path == NAME else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give one that indiret train made.")
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})[NAME])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if settings["reads"] != list(READS):
            raise ValueError(f"it reads {', '.join(settings['reads'])}")
        network = PlaneNetwork(settings["width"])
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no file of {NAME} ({reason}); train it again.") from error
    if not all(values.isfinite().all() for values in tensors.values()):
        raise ValueError(f"the weights in {path} hold NaN or infinity; train it again.")
    return network.eval()


def is_plane_network(name: str) -> bool:
    """Whether a name is `NAME`, or a file of such a network.

    Examples
    --------
    >>> is_plane_network("plane-net"), is_plane_network("base")
    (True, False)
    """
    if name == NAME or not name.endswith(".safetensors") or not Path(name).is_file():
        return name == NAME
    try:
        with safe_open(name, framework="pt") as file:
            return NAME in (file.metadata() or {})
    except SafetensorError:
        return False  # whoever loads it says what is wrong
