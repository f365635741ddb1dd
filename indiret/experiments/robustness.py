"""What a method bears: the photo that is searched for, changed in one way at a time.

A query asks for its own photo, which stands in a database among photos of other things and is
changed by one factor at several strengths, so that nothing else differs and every patch's true
place is known. Viewpoint is that of a flat picture turned about its upright axis: real buildings
have depth, and Toytown's test queries show what that costs.

A query that is finished is written down at once: a run that was killed goes on with the next one.

Chapter: *Ranking and honest evaluation*.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from PIL import Image
from torch import Tensor

from indiret.correspondence import NO_PARTNER
from indiret.datasets import Query, RetrievalDataset
from indiret.evaluation import nested_bootstrap, patch_match_accuracy
from indiret.evidence import Evidence, explain
from indiret.experiments.evaluator import find_method, provenance
from indiret.experiments.evidence_protocol import DEFAULT_EVIDENCE
from indiret.experiments.query_evaluator import AskedQuery
from indiret.experiments.records import Row, keyed_values, long_rows, write_json
from indiret.experiments.runner import collect_rows, keep_settings
from indiret.images import Picture, pixel_box
from indiret.ranking import Method, NetworkMethod, prepare_query

FINER = 3  # pixels drawn for each pixel kept, so that what shrinks does not flicker
ROBUSTNESS_METHODS = ("base", "planes", "sift-ransac", "colour-histogram")
STORED_ROBUSTNESS = Path(__file__).parents[1] / "data" / "robustness"
Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Changed(NamedTuple):
    """A changed photo of the old size; ``matrix`` (3, 3) takes old pixels to new ones.

    ``hidden`` (H, W) bool is what of the new photo something else covers.
    """

    picture: Picture
    matrix: Matrix
    hidden: Mask


class Factor(NamedTuple):
    """One way to change a photo, and how strongly; the first strength changes nothing."""

    label: str
    strengths: tuple[float, ...]
    change: Callable[[Picture, float, Picture, Mask], Changed]


def shrink(picture: Picture, strength: float, ground: Picture, region: Mask) -> Changed:
    """The photo so many times smaller, in the middle of another photo."""
    return _warped(picture, ground, np.diag([1 / strength, 1 / strength, 1.0]))


def rotate(picture: Picture, strength: float, ground: Picture, region: Mask) -> Changed:
    """The photo turned anticlockwise by degrees, over another photo."""
    cos, sin = np.cos(np.deg2rad(strength)), np.sin(np.deg2rad(strength))
    return _warped(picture, ground, np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]]))


def turn_aside(picture: Picture, strength: float, ground: Picture, region: Mask) -> Changed:
    """The photo as a flat wall, seen from so many degrees aside and 1.5 widths away."""
    cos, sin = np.cos(np.deg2rad(strength)), np.sin(np.deg2rad(strength))
    away = sin / (1.5 * picture.shape[1])
    return _warped(picture, ground, np.array([[cos, 0, 0], [0, 1, 0], [away, 0, 1.0]]))


def darken(picture: Picture, strength: float, ground: Picture, region: Mask) -> Changed:
    """So many stops less light: half the light each, in whole levels of the file's grey scale."""
    linear = (picture / 255.0) ** 2.2 / 2**strength
    dark = np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8)
    return Changed(dark, np.eye(3), np.zeros(picture.shape[:2], dtype=bool))


def occlude(picture: Picture, strength: float, ground: Picture, region: Mask) -> Changed:
    """Such a share of the landmark covered by another photo, from the left."""
    covered = np.cumsum(region.sum(0)) / max(region.sum(), 1)
    hidden = np.zeros(picture.shape[:2], dtype=bool)
    hidden[:, : int(np.searchsorted(covered, strength))] = strength > 0
    return Changed(np.where(hidden[..., None], ground, picture), np.eye(3), hidden)


FACTORS = {
    "scale": Factor("times smaller", (1.0, 1.5, 2.0, 3.0, 4.0), shrink),
    "rotation": Factor("degrees", (0.0, 15.0, 30.0, 45.0, 90.0), rotate),
    "viewpoint": Factor("degrees aside", (0.0, 20.0, 40.0, 55.0, 70.0), turn_aside),
    "illumination": Factor("stops darker", (0.0, 1.0, 2.0, 3.0, 4.0), darken),
    "occlusion": Factor("share covered", (0.0, 0.25, 0.5, 0.7, 0.9), occlude),
}


def _warped(picture: Picture, ground: Picture, about_middle: Matrix) -> Changed:
    """The photo under a homography that keeps its middle in place, over the ground."""
    height, width = picture.shape[:2]
    to_middle = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    matrix = np.linalg.inv(to_middle) @ about_middle @ to_middle
    if np.allclose(about_middle, np.eye(3)):
        return Changed(picture, np.eye(3), np.zeros((height, width), dtype=bool))
    finer = np.diag([FINER, FINER, 1.0])
    back = np.linalg.inv(finer @ matrix)
    drawn = []
    for image in (Image.fromarray(picture), Image.new("L", (width, height), 255)):
        large = image.transform(
            (FINER * width, FINER * height),
            Image.Transform.PERSPECTIVE,
            (back / back[2, 2]).ravel()[:8].tolist(),
            Image.Resampling.BILINEAR,
        )
        drawn.append(np.asarray(large.reduce(FINER)).astype(float))
    there = drawn[1][..., None] / 255  # the photo's own part of each pixel
    mixed = drawn[0] + (1 - there) * ground  # outside the photo it draws black
    return Changed(np.rint(mixed).clip(0, 255).astype(np.uint8), matrix, there[..., 0] < 0.5)


def moved_partners(
    changed: Changed, box: Sequence[float], query_grid: Sequence[int], target_grid: Sequence[int]
) -> NDArray[np.int_]:
    """The patch of the changed photo where the centre of each query patch went.

    Parameters
    ----------
    changed
        The query's own photo.
    box
        The part of the old photo that the query grid covers, x1 y1 x2 y2 in pixels.
    query_grid, target_grid
        (m', n') and (m, n).

    Returns
    -------
    ndarray
        (m', n', 2) row and column, −1 where it is hidden or outside, for `patch_match_accuracy`.

    Examples
    --------
    >>> still = Changed(np.zeros((4, 6, 3), np.uint8), np.eye(3), np.zeros((4, 6), bool))
    >>> moved_partners(still, (2, 0, 6, 4), (1, 2), (2, 3)).tolist()
    [[[1, 1], [1, 2]]]
    """
    (rows, columns), (m, n) = query_grid, target_grid
    x1, y1, x2, y2 = box
    x, y = np.meshgrid(
        x1 + (np.arange(columns) + 0.5) / columns * (x2 - x1),
        y1 + (np.arange(rows) + 0.5) / rows * (y2 - y1),
    )
    new_x, new_y, w = np.tensordot(changed.matrix, np.stack([x, y, np.ones_like(x)]), 1)
    new_x, new_y = new_x / w, new_y / w
    height, width = changed.hidden.shape
    inside = (w > 0) & (new_x >= 0) & (new_x < width) & (new_y >= 0) & (new_y < height)
    at_x, at_y = (np.where(inside, at, 0) for at in (new_x, new_y))
    inside &= ~changed.hidden[at_y.astype(int), at_x.astype(int)]
    places = np.stack([at_y * m // height, at_x * n // width], axis=-1).astype(int)
    return np.where(inside[..., None], places, NO_PARTNER)


def run_robustness(
    out: Path,
    dataset: RetrievalDataset,
    methods: Sequence[str] = ROBUSTNESS_METHODS,
    queries: int = 1,
    others: int = 60,
) -> dict[str, Any]:
    """Every method under every factor at every strength.

    So many ``queries`` of each landmark ask, in a database of ``others`` photos of other things.
    ``out`` holds a file of records for each query.

    Returns
    -------
    dict
        ``curves``: by factor, method and measure, (mean, low, high) for each strength;
        ``reciprocal_rank`` is 1 where the changed photo is found first, ``patch_match`` as in
        `indiret.evaluation.patch_match_accuracy`. ``strengths``, ``labels``, settings and
        provenance. Also in ``out/results.json``.

    Raises
    ------
    ValueError
        If ``out`` holds a run of other settings or data, a method is unknown or
        ``queries`` is below 1.
    """
    if queries < 1:
        raise ValueError(f"queries={queries} of each landmark is not at least 1.")
    found = {name: find_method(name) for name in methods}
    asked: list[Query] = []
    for landmark in dataset.landmarks:
        asked += [query for query in dataset.queries if query.landmark == landmark][:queries]
    settings = {"methods": list(methods), "queries": len(asked), "others": others}
    settings |= {"dataset": dataset.name, "data": dataset.manifest_hash()}
    origin = keep_settings(out / "robustness.json", settings, provenance(dataset))
    strangers = _strangers(dataset, others)

    @cache
    def database() -> dict[str, list[Any]]:
        return {name: list(map(method.prepare, strangers)) for name, method in found.items()}

    def rows(one: AskedQuery) -> list[Row]:
        ground = strangers[one.number % len(strangers)]
        return _measure(one.query, dataset, found, database(), ground)

    configs = [AskedQuery(query, at) for at, query in enumerate(asked)]
    table = collect_rows("robustness", configs, rows, out)
    results = settings | {"provenance": origin}
    results |= {"strengths": {name: list(factor.strengths) for name, factor in FACTORS.items()}}
    results |= {"labels": {name: factor.label for name, factor in FACTORS.items()}}
    results |= {"curves": _curves(table)}
    write_json(out / "results.json", results)
    return results


def stored_robustness() -> dict[str, Any]:
    """The results that the book reports, as `run_robustness` returned them."""
    results: dict[str, Any] = json.loads((STORED_ROBUSTNESS / "results.json").read_text())
    return results


def _strangers(dataset: RetrievalDataset, count: int) -> list[Picture]:
    """Photos that no query names."""
    named = set().union(*({q.image} | q.positives | q.junk for q in dataset.queries))
    names = [name for name in dataset.images if name not in named]
    if not names:
        raise ValueError(f"Every photo of {dataset.name} belongs to a landmark; none is other.")
    spread = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    return [dataset.read(names[at]) for at in spread]


def _measure(
    query: Query,
    dataset: RetrievalDataset,
    methods: Mapping[str, Method],
    database: Mapping[str, Sequence[Any]],
    ground: Picture,
) -> list[Row]:
    picture, region = dataset.read(query.image), dataset.roi(query.image)
    height, width = picture.shape[:2]
    if region is None:
        region = np.ones((height, width), dtype=bool)
    box = pixel_box(query.box or (0, 0, width, height), (height, width))
    ground = np.asarray(Image.fromarray(ground).resize((width, height), Image.Resampling.LANCZOS))
    asked = {name: prepare_query(method, dataset, query) for name, method in methods.items()}
    scores = {name: methods[name].score(asked[name], database[name]) for name in methods}
    unchanged: dict[str, dict[str, float]] = {}
    place = {"landmark": query.landmark, "query": query.name, "seed": 0}
    rows: list[Row] = []
    for kind, factor in FACTORS.items():
        for strength in factor.strengths:
            changed = factor.change(picture, strength, ground, region)
            for name, method in methods.items():
                first = strength == factor.strengths[0]
                if first and name in unchanged:
                    values = unchanged[name]
                else:
                    target = method.prepare(changed.picture)
                    own = method.score(asked[name], [target])[0]
                    values = {"reciprocal_rank": 1 / (1 + int((scores[name] >= own).sum()))}
                    pairs = _pairs(method, asked[name], target)
                    if pairs is not None:
                        m, n, *of_query = pairs.shape
                        partners = moved_partners(changed, box, of_query, (m, n))
                        matches = Evidence(0.0, pairs).matches(20)
                        right = patch_match_accuracy(matches, partners, (m, n)).accuracy
                        values["patch_match"] = right
                if first:
                    unchanged[name] = values
                rows += long_rows(values, factor=kind, strength=strength, variant=name, **place)
    return rows


def _pairs(method: Method, query: Any, target: Any) -> Tensor | None:
    """Evidence of patch pairs (m, n, m', n'), of methods that have it."""
    if isinstance(method, NetworkMethod):
        tensor = method.tensor(query, [target])
        return explain(method.network, tensor, DEFAULT_EVIDENCE)[0].pairs
    if not hasattr(method, "evidence"):
        return None
    return next((v for v in method.evidence(query, target).values() if v.ndim == 4), None)


def _curves(table: DataFrame) -> dict[str, Any]:
    curves: dict[str, Any] = {}
    cells = table.groupby(["factor", "variant", "measure", "strength"], sort=False)
    for (factor, method, measure, _), rows in cells:
        point = [round(value, 4) for value in nested_bootstrap(keyed_values(rows))]
        curves.setdefault(factor, {}).setdefault(method, {}).setdefault(measure, []).append(point)
    return curves
