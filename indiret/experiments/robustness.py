"""What a method bears: the photo that is searched for, changed in one way at a time.

A query asks for its own photo, which stands in a database among photos of other things and is
changed by one factor at several strengths, so that nothing else differs and every patch's true
place is known. Viewpoint is that of a flat picture turned about its upright axis: real buildings
have depth, and Toytown's test queries show what that costs.

A query that is finished is written down at once: a run that was killed goes on with the next one.

Chapter: *Ranking and honest evaluation*.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indiret.datasets import Query, RetrievalDataset, read_all
from indiret.evaluation import NO_MATCH, held_out_images, nested_bootstrap, patch_match_accuracy
from indiret.evidence import Evidence
from indiret.experiments.evaluator import provenance
from indiret.experiments.query_evaluator import rows_or_reason, skipped_queries
from indiret.experiments.records import Row, long_rows, read_stored, values_by, write_results
from indiret.experiments.runner import Keyed, collect_rows, keep_settings
from indiret.images import Picture, pixel_box
from indiret.retrieval import Retriever, build_retriever, encode_query

_FINER = 3  # pixels drawn for each pixel kept, so that what shrinks does not flicker
ROBUSTNESS_METHODS = ("base", "plane-net-turned", "sift-ransac", "colour-histogram")
_Matrix = NDArray[np.float64]
_Mask = NDArray[np.bool_]


class Changed(NamedTuple):
    """A changed photo of the old size."""

    picture: Picture
    matrix: _Matrix  # (3, 3), takes old pixels to new ones
    hidden: _Mask  # (H, W), what of the new photo something else covers


class Factor(NamedTuple):
    """One way to change a photo, and how strongly; the first strength changes nothing."""

    label: str
    strengths: tuple[float, ...]
    change: Callable[[Picture, float, Picture, _Mask], Changed]


def scale_down(picture: Picture, strength: float, ground: Picture, region: _Mask) -> Changed:
    """The photo so many times smaller, in the middle of another photo."""
    return _warped(picture, ground, np.diag([1 / strength, 1 / strength, 1.0]))


def rotate(picture: Picture, strength: float, ground: Picture, region: _Mask) -> Changed:
    """The photo turned anticlockwise by degrees, over another photo."""
    cos, sin = np.cos(np.deg2rad(strength)), np.sin(np.deg2rad(strength))
    return _warped(picture, ground, np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]]))


def turn_aside(picture: Picture, strength: float, ground: Picture, region: _Mask) -> Changed:
    """The photo as a flat wall, seen from so many degrees aside and 1.5 widths away."""
    cos, sin = np.cos(np.deg2rad(strength)), np.sin(np.deg2rad(strength))
    away = sin / (1.5 * picture.shape[1])
    return _warped(picture, ground, np.array([[cos, 0, 0], [0, 1, 0], [away, 0, 1.0]]))


def darken(picture: Picture, strength: float, ground: Picture, region: _Mask) -> Changed:
    """So many stops less light: half the light each, in whole levels of the file's grey scale."""
    linear = (picture / 255.0) ** 2.2 / 2**strength
    dark = np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8)
    return Changed(dark, np.eye(3), np.zeros(picture.shape[:2], dtype=bool))


def occlude(picture: Picture, strength: float, ground: Picture, region: _Mask) -> Changed:
    """Such a share of the landmark covered by another photo, from the left."""
    covered = np.cumsum(region.sum(0)) / max(region.sum(), 1)
    hidden = np.zeros(picture.shape[:2], dtype=bool)
    hidden[:, : int(np.searchsorted(covered, strength))] = strength > 0
    return Changed(np.where(hidden[..., None], ground, picture), np.eye(3), hidden)


FACTORS = {
    "scale": Factor("times smaller", (1.0, 1.5, 2.0, 3.0, 4.0), scale_down),
    "rotation": Factor("degrees", (0.0, 15.0, 30.0, 45.0, 90.0), rotate),
    "viewpoint": Factor("degrees aside", (0.0, 20.0, 40.0, 55.0, 70.0), turn_aside),
    "illumination": Factor("stops darker", (0.0, 1.0, 2.0, 3.0, 4.0), darken),
    "occlusion": Factor("share covered", (0.0, 0.25, 0.5, 0.7, 0.9), occlude),
}


def _warped(picture: Picture, ground: Picture, about_middle: _Matrix) -> Changed:
    """The photo under a homography that keeps its middle in place, over the ground."""
    height, width = picture.shape[:2]
    to_middle = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    matrix = np.linalg.inv(to_middle) @ about_middle @ to_middle
    if np.allclose(about_middle, np.eye(3)):
        return Changed(picture, np.eye(3), np.zeros((height, width), dtype=bool))
    finer = np.diag([_FINER, _FINER, 1.0])
    back = np.linalg.inv(finer @ matrix)
    drawn = []
    for image in (Image.fromarray(picture), Image.new("L", (width, height), 255)):
        large = image.transform(
            (_FINER * width, _FINER * height),
            Image.Transform.PERSPECTIVE,
            (back / back[2, 2]).ravel()[:8].tolist(),
            Image.Resampling.BILINEAR,
        )
        drawn.append(np.asarray(large.reduce(_FINER)).astype(float))
    there = drawn[1][..., None] / 255  # the photo's own part of each pixel
    mixed = drawn[0] + (1 - there) * ground  # outside the photo it draws black
    return Changed(np.rint(mixed).clip(0, 255).astype(np.uint8), matrix, there[..., 0] < 0.5)


def moved_partners(
    changed: Changed, box: Sequence[float], query_grid: Sequence[int], target_grid: Sequence[int]
) -> NDArray[np.int_]:
    """The patch of the changed photo where the centre of each query patch went.

    The query grid (m', n') covers ``box``, x1 y1 x2 y2 in pixels of the old photo, the target grid
    all of the new one. (m', n', 2) rows and columns come back, −1 where hidden or outside, as
    `patch_match_accuracy` takes them.
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
    return np.where(inside[..., None], places, NO_MATCH)


def run_robustness(
    out: Path,
    dataset: RetrievalDataset,
    methods: Sequence[str] = ROBUSTNESS_METHODS,
    queries: int = 1,
    others: int = 60,
) -> dict[str, Any]:
    """Every method under every factor at every strength.

    So many ``queries`` of each landmark ask, in a database of ``others`` photos of other things.
    ``out`` keeps records by query, and ``results.json`` with what is returned: settings,
    provenance, what was ``skipped``, ``strengths`` and ``labels`` of the factors, and ``curves``:
    by factor, method and measure, (mean, low, high) for each strength. ``reciprocal_rank`` is 1
    where the changed photo is found first, ``patch_match`` is `patch_match_accuracy`. Raises
    ValueError if ``out`` has other settings or data, a method is unknown or ``queries`` < 1.
    """
    if queries < 1:
        raise ValueError(f"queries={queries} of each landmark is not at least 1.")
    found = {name: build_retriever(name) for name in methods}
    asked: list[Query] = []
    for landmark in dataset.landmarks:
        asked += [query for query in dataset.queries if query.landmark == landmark][:queries]
    settings = {"methods": list(methods), "queries": len(asked), "others": others}
    settings |= {"dataset": dataset.name}
    negatives, gone = _negatives(dataset, others)
    made_of = provenance(dataset, *methods)
    origin = keep_settings(out / "robustness.json", settings, made_of)

    @cache
    def database() -> dict[str, list[Any]]:
        return {name: list(map(method.encode, negatives)) for name, method in found.items()}

    def rows(one: Keyed) -> list[Row]:
        ground = negatives[asked.index(one.value) % len(negatives)]
        return _measure(one.value, dataset, found, database(), ground)

    configs = [Keyed(query.name, query) for query in asked]
    table = collect_rows("robustness", configs, partial(rows_or_reason, rows), out)
    curves: dict[str, Any] = {}
    cells = values_by(table, "factor", "variant", "measure", "strength")
    for (factor, method, measure, _), values in cells.items():
        point = [round(value, 4) for value in nested_bootstrap(values)]
        curves.setdefault(factor, {}).setdefault(method, {}).setdefault(measure, []).append(point)
    results = settings | {
        "provenance": origin,
        "strengths": {name: list(factor.strengths) for name, factor in FACTORS.items()},
        "labels": {name: factor.label for name, factor in FACTORS.items()},
        "curves": curves,
        "skipped": gone | skipped_queries(table),
    }
    return write_results(out, results)


stored_robustness = partial(read_stored, "robustness")  # what the book reports


def _negatives(dataset: RetrievalDataset, count: int) -> tuple[list[Picture], dict[str, str]]:
    """Photos that no query names, and why some of them cannot be read."""
    named = held_out_images(dataset.queries, "landmark")
    names = [name for name in dataset.images if name not in named]
    spread = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    found, gone = read_all([names[at] for at in spread if names], dataset.read)
    if not found:
        raise ValueError(f"No photo of {dataset.name} shows something other than its landmarks.")
    return list(found.values()), gone


def _measure(
    query: Query,
    dataset: RetrievalDataset,
    methods: Mapping[str, Retriever],
    database: Mapping[str, Sequence[Any]],
    ground: Picture,
) -> list[Row]:
    picture, region = dataset.read(query.image), dataset.roi(query.image)
    height, width = picture.shape[:2]
    if region is None:
        region = np.ones((height, width), dtype=bool)
    box = pixel_box(query.box or (0, 0, width, height), (height, width))
    ground = np.asarray(Image.fromarray(ground).resize((width, height), Image.Resampling.LANCZOS))
    place = {"landmark": query.landmark, "query": query.name, "seed": 0}
    changes = [
        (kind, strength, factor.change(picture, strength, ground, region))
        for kind, factor in FACTORS.items()
        for strength in factor.strengths
    ]
    rows: list[Row] = []
    for name, method in methods.items():
        encoded = encode_query(method, dataset, query)
        others = method.score(encoded, database[name])
        unchanged: dict[str, float] = {}
        for kind, strength, changed in changes:
            first = strength == FACTORS[kind].strengths[0]
            values = unchanged if first else {}
            if not values:
                target = method.encode(changed.picture)
                own = method.score(encoded, [target])[0]
                values["reciprocal_rank"] = 1 / (1 + int((others >= own).sum()))
                pairs = method.explain(encoded, target).pairs if method.evidence_kinds else None
                if pairs is not None and pairs.shape[2:] != (1, 1):  # a map of the target alone
                    m, n, *of_query = pairs.shape
                    partners = moved_partners(changed, box, of_query, (m, n))
                    matches = Evidence(0.0, pairs).matches(20)
                    values["patch_match"] = patch_match_accuracy(matches, partners, (m, n)).accuracy
            rows += long_rows(values, factor=kind, strength=strength, variant=name, **place)
    return rows
