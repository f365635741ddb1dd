"""Regions proposed for a person to accept: the query's box, carried over into another photo.

Matches of RootSIFT that agree on one homography say where the box lies (`SiftRansac`). A proposal
is no truth: it is as right as its homography, and a box holds more than the landmark.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from indiret.baselines import Keypoints, SiftRansac
from indiret.datasets import Query, RetrievalDataset
from indiret.images import ImageError, image_size
from indiret.localisation import mask_iou
from indiret.regions import PhotoRegions, Points, Region, RegionFile, region_mask

MIN_INLIERS = 10  # no false one in 576 pairs of Toytown's validation; see book/decisions
SAVE_EVERY = 5.0  # seconds


class Proposal(NamedTuple):
    """The outline of the projected box inside the photo, and how many matches agree with it."""

    points: Points
    inliers: int


def propose(
    method: SiftRansac, query: Keypoints, target: Keypoints, min_inliers: int = MIN_INLIERS
) -> Proposal | None:
    """Carry the frame of a query picture over into a target picture.

    Parameters
    ----------
    method : SiftRansac
        That prepared both.
    query : Keypoints
        Of the query's picture, cut to its box.
    target : Keypoints
        Of the photo.
    min_inliers : int
        Matches that must agree on the homography.

    Returns
    -------
    Proposal or None
        None if it is not verified: too few matches agree, or the frame would be seen mirrored,
        folded, from behind, or hardly at all in the photo.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> picture = picture.repeat(8, axis=0).repeat(8, axis=1)
    >>> method = SiftRansac()
    >>> found = propose(method, method.prepare(picture[40:160, 60:200]), method.prepare(picture))
    >>> np.round(found.points, -1).astype(int).tolist()
    [[60, 40], [200, 40], [200, 160], [60, 160]]
    """
    homography, score = method.homography(query, target)
    inliers = int(score)
    if homography is None or inliers < min_inliers:
        return None
    height, width = query.size
    frame = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=float)
    projected = frame @ (homography / homography[2, 2]).T
    if projected[:, 2].min() <= 0:  # the frame would reach behind the camera
        return None
    outline = (projected[:, :2] / projected[:, 2:]).astype(np.float32)
    cv2 = method.cv2
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
    dataset: RetrievalDataset,
    path: str | os.PathLike[str],
    min_inliers: int = MIN_INLIERS,
) -> tuple[dict[str, PhotoRegions], dict[str, str]]:
    """Fill a file of regions: boxes of the queries, and a proposal for each other positive.

    Every query of a landmark is tried on every positive of that landmark, and the proposal on which
    most matches agree is kept, open for a person to accept. The file is saved every few seconds. A
    photo that was tried before, or that somebody has marked, is left as it is.

    Parameters
    ----------
    dataset : RetrievalDataset
        With queries.
    path : path
        The file; goes on where it was left.
    min_inliers : int
        As in `propose`.

    Returns
    -------
    tuple of (dict of str to PhotoRegions, dict of str to str)
        What the file holds now, and why photos that cannot be read were skipped, by name.

    Raises
    ------
    ValueError
        If the data set has no queries, or the file is of other photos or another program.
    ImportError
        If OpenCV, the extra ``baselines``, is not installed.
    """
    if not dataset.queries:
        raise ValueError(
            f"data set {dataset.name!r} has no queries to carry over; draw its regions instead."
        )
    method, file = SiftRansac(), RegionFile(path)
    wanted = wanted_regions(dataset)
    saved = time.monotonic()
    asked: dict[str, Keypoints] = {}
    skipped: dict[str, str] = {}
    try:
        for name, queries in tqdm(wanted.items(), desc="proposing", unit="photo", disable=None):
            try:
                photo = file.photo(name, image_size(dataset.path(name)))
                if photo.tried or photo.regions or photo.nothing:
                    continue
                photo.regions += _found(method, dataset, name, queries, asked, min_inliers)
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
    """The photos that evidence is measured on, each with the queries that it answers or asks.

    Examples
    --------
    >>> from indiret.datasets import load_dataset
    >>> len(wanted_regions(load_dataset("toytown", split="validation")))
    96
    """
    wanted: dict[str, list[Query]] = {}
    for query in dataset.queries:
        for name in sorted(query.positives | {query.image}):
            if name in dataset.images:
                wanted.setdefault(name, []).append(query)
    return dict(sorted(wanted.items()))


def mean_iou(dataset: RetrievalDataset, photos: Mapping[str, PhotoRegions], origin: str) -> float:
    """Mean IoU of regions of one origin, accepted or open, with what the data set has itself.

    Parameters
    ----------
    dataset : RetrievalDataset
        With masks, as Toytown has them.
    photos : mapping of str to PhotoRegions
        As `indiret.regions.read_regions` gives them.
    origin : str
        One of `indiret.regions.ORIGINS`.

    Returns
    -------
    float
        Over the photos that have such a region; NaN if there is none.
    """
    ious = []
    for name, photo in photos.items():
        chosen = [r for r in photo.regions if r.origin == origin and r.state != "rejected"]
        truth = dataset.roi(name) if chosen and name in dataset.images else None
        if truth is not None:
            ious.append(mask_iou(region_mask(chosen, truth.shape), truth))
    return float(np.mean(ious)) if ious else float("nan")


def _found(
    method: SiftRansac,
    dataset: RetrievalDataset,
    name: str,
    queries: list[Query],
    asked: dict[str, Keypoints],
    min_inliers: int,
) -> list[Region]:
    """The boxes of the queries that the photo asks; else a proposal for each landmark it shows."""
    boxes = [q for q in queries if q.image == name and q.box]
    if boxes:
        return [
            Region.from_box(box, landmark=landmark, origin="query")
            for landmark, box in sorted({(q.landmark, q.box) for q in boxes if q.box})
        ]
    target = method.prepare(dataset.read(name))
    best: dict[str, Proposal] = {}
    for query in queries:
        if query.name not in asked:
            asked[query.name] = method.prepare(dataset.read_query(query))
        proposal = propose(method, asked[query.name], target, min_inliers)
        known = best.get(query.landmark)
        if proposal and (known is None or proposal.inliers > known.inliers):
            best[query.landmark] = proposal
    return [
        Region(proposal.points, landmark, "sift", "open", proposal.inliers)
        for landmark, proposal in best.items()
    ]
