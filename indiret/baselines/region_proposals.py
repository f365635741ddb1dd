"""Regions proposed for a person to accept: the query's box, projected into another photo.

Matches of RootSIFT that agree on one homography say where the box lies (`SiftRansac`). A proposal
is no truth: it is as right as its homography, and a box holds more than the landmark.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from indiret.baselines.sift import Keypoints, SiftRansac
from indiret.datasets import PhotoRegions, Query, Region, RegionFile, RetrievalDataset, region_mask
from indiret.datasets.regions import Outline
from indiret.evaluation import mask_iou
from indiret.images import ImageError, image_size

MIN_INLIERS = 10  # no false one in 576 pairs of Toytown's validation; see book/decisions
SAVE_EVERY = 5.0  # seconds


class Proposal(NamedTuple):
    """The outline of the projected box inside the photo, and how many matches agree with it."""

    points: Outline
    inliers: int


def propose(sift: SiftRansac, query: Keypoints, target: Keypoints) -> Proposal | None:
    """Project the frame of a query's picture, cut to its box, into a photo.

    None if it is not verified: fewer than `MIN_INLIERS` matches agree on the homography, or the
    frame would be seen mirrored, folded, from behind, or hardly at all in the photo.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> picture = picture.repeat(8, axis=0).repeat(8, axis=1)
    >>> sift = SiftRansac()
    >>> found = propose(sift, sift.encode(picture[40:160, 60:200]), sift.encode(picture))
    >>> np.round(found.points, -1).astype(int).tolist()
    [[60, 40], [200, 40], [200, 160], [60, 160]]
    """
    homography, score = sift.homography(query, target)
    inliers = int(score)
    if homography is None or inliers < MIN_INLIERS:
        return None
    height, width = query.size
    frame = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=float)
    projected = frame @ (homography / homography[2, 2]).T
    if projected[:, 2].min() <= 0:  # the frame would reach behind the camera
        return None
    outline = (projected[:, :2] / projected[:, 2:]).astype(np.float32)
    cv2 = sift.cv2
    if not cv2.isContourConvex(outline) or cv2.contourArea(outline, oriented=True) <= 0:
        return None
    height, width = target.size
    photo = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    area, inside = cv2.intersectConvexConvex(outline, photo)
    if not area:  # then what is inside is not set
        return None
    corners = inside.reshape(-1, 2).round(1).tolist()
    try:
        region = Region(tuple((x, y) for x, y in corners)).within(target.size)
    except ValueError:  # hardly anything of it is in the photo
        return None
    return Proposal(region.points, inliers)


def propose_regions(
    dataset: RetrievalDataset, path: str | Path
) -> tuple[dict[str, PhotoRegions], dict[str, str]]:
    """Fill a file of regions: boxes of the queries, and a proposal for each other positive.

    Every query of a landmark is tried on every positive of that landmark, and the proposal on which
    most matches agree is kept, open for a person to accept. The file is saved every few seconds,
    and gone on with where it was left: a photo that was tried before, or that somebody has marked,
    stays as it is. What the file holds now comes back, and why photos that cannot be read were
    skipped, by name.

    Raises ValueError if the data set has no queries, or the file is of other photos or another
    program, and ImportError if OpenCV, of the extra ``baselines``, is not installed.
    """
    if not dataset.queries:
        raise ValueError(
            f"data set {dataset.name!r} has no queries to project; draw its regions instead."
        )
    sift, file = SiftRansac(), RegionFile(path)
    saved = time.monotonic()
    encoded: dict[str, Keypoints] = {}
    skipped: dict[str, str] = {}
    wanted = tqdm(wanted_regions(dataset).items(), desc="proposing", unit="photo", disable=None)
    try:
        for name, queries in wanted:
            try:
                shape, file_name = image_size(dataset.path(name)), dataset.file_name(name)
                photo = file.photo(name, shape, file_name)
                if photo.tried or photo.regions or photo.nothing:
                    continue
                photo.regions += _found(sift, dataset, name, queries, encoded)
            except ImageError as error:
                skipped[name] = str(error)
                continue
            photo.tried = True
            if time.monotonic() - saved > SAVE_EVERY:
                file.save()
                saved = time.monotonic()
    finally:
        file.save()
    return file.photos, skipped


def wanted_regions(dataset: RetrievalDataset) -> dict[str, list[Query]]:
    """The photos that evidence is measured on, each with the queries that it answers or asks."""
    wanted: dict[str, list[Query]] = {}
    for query in dataset.queries:
        for name in sorted(query.positives | {query.image}):
            if name in dataset.images:
                wanted.setdefault(name, []).append(query)
    return dict(sorted(wanted.items()))


def mean_iou(dataset: RetrievalDataset, photos: Mapping[str, PhotoRegions], origin: str) -> float:
    """Mean IoU of regions of one origin, accepted or open, with the masks of the data set itself.

    ``origin`` is one of `indiret.datasets.regions.ORIGINS`. NaN if no photo has such a region.
    """
    ious = []
    for name, photo in photos.items():
        chosen = [r for r in photo.regions if r.origin == origin and r.state != "rejected"]
        truth = dataset.roi(name) if chosen and name in dataset.images else None
        if truth is not None:
            ious.append(mask_iou(region_mask(chosen, truth.shape), truth))
    return float(np.mean(ious)) if ious else float("nan")


def _found(
    sift: SiftRansac,
    dataset: RetrievalDataset,
    name: str,
    queries: list[Query],
    encoded: dict[str, Keypoints],
) -> list[Region]:
    """The boxes of the queries that the photo asks; else a proposal for each landmark it shows."""
    boxes = sorted({(q.landmark, q.box) for q in queries if q.image == name and q.box})
    if boxes:
        return [Region.from_box(box, landmark=mark, origin="query") for mark, box in boxes]
    target = sift.encode(dataset.read(name))
    best: dict[str, Proposal] = {}
    for query in queries:
        if query.name not in encoded:
            encoded[query.name] = sift.encode(dataset.read_query(query))
        proposal = propose(sift, encoded[query.name], target)
        known = best.get(query.landmark)
        if proposal and (known is None or proposal.inliers > known.inliers):
            best[query.landmark] = proposal
    return [
        Region(proposal.points, landmark, "sift", "open", proposal.inliers)
        for landmark, proposal in best.items()
    ]
