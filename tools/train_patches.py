"""Train ``patch-net`` on Toytown's training part: ``python -m tools.train_patches``.

Pairs of windows of 128 pixels show the same thing: two photos of one landmark, whose geometry is
known, or a photo and its warp by a random homography, up to 50° from its normal. Either is lit anew
and blurred. The loss (InfoNCE) asks that a place be more like itself in the other window than like
any other place of the batch.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.checkpoints import WEIGHTS, save_tensors, write_json
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import ground_truth_points
from indiret.experiments.evaluator import provenance
from indiret.images import Picture
from indiret.metrics import DIRECTIONS
from indiret.pairs import views_by_landmark
from indiret.planes.gradients import CELL, PATCH_CELLS, gradient_cells
from indiret.planes.patch_network import PATCH_NET, PatchNetwork, surrounded_patches

Points = NDArray[np.float64]
SIDE = 128  # pixels of a window
POINTS = 48  # correspondences of a pair
FEWEST = 24  # or the pair is left out
LEVELS = 70, 280  # pixels of a photo's longer side, as in the pyramid of planes
NEAR = 12  # pixels from a place within which others are no wrong answers
TEMPERATURE = 0.1
MARGIN = 8  # pixels from a window's edge, within which no patch has its centre
STEEP = 0.5  # length of a patch that has structure
OWN = DIRECTIONS * PATCH_CELLS**2  # numbers of a patch without its surroundings
PAIRS = 3000
TRAINING: dict[str, Any] = {
    "steps": 1000,
    "batch": 24,  # pairs
    "optimiser": "adamw",
    "learning_rate": 2e-3,
    "weight_decay": 1e-3,
    "seed": 0,
}
WARM_UP = 0.1  # of the steps; the rate then falls along a cosine
LOG_EVERY = 100  # steps


class WindowPair(NamedTuple):
    patches: Tensor  # (2, POINTS, 256) half, those nearest to the points
    points: Tensor  # (2, POINTS, 2), x and y in pixels


def relight(random: np.random.Generator, window: Picture) -> Picture:
    """A grey window in other light: contrast, gamma, a shadow's edge, blur and noise."""
    if random.random() < 0.5:
        blurred = Image.fromarray(window).filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
        window = np.asarray(blurred)
    grey = (window / 255) ** 2 ** random.uniform(-1, 1)
    grey = grey * 2 ** random.uniform(-1.5, 0.2) + random.uniform(0, 0.2)
    if random.random() < 0.5:
        angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.4, 0.4)
        y, x = (np.mgrid[: window.shape[0], : window.shape[1]] - SIDE / 2) / SIDE
        edge = (x * np.cos(angle) + y * np.sin(angle) - place) * 2 ** random.uniform(1, 6)
        grey = grey * (1 - random.uniform(0.2, 0.7) / (1 + np.exp(-edge.clip(-30, 30))))
    grey = grey + random.normal(0, random.uniform(0, 0.02), grey.shape)
    return np.asarray((255 * grey).clip(0, 255), dtype=np.uint8)


def shrink(picture: Picture, long_side: float) -> tuple[Image.Image, float]:
    """The grey picture of such a longer side, and by how much it was scaled."""
    scale = long_side / max(picture.shape[:2])
    size = [max(1, round(scale * side)) for side in picture.shape[1::-1]]
    small = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BILINEAR)
    return small, scale


def random_homography(random: np.random.Generator) -> Points:
    """(3, 3): a plane seen up to 50° from its normal, turned by 15°, up to a quarter larger."""
    tilt, about = np.deg2rad(random.uniform(0, 50)), random.uniform(0, 2 * np.pi)
    turn, size = np.deg2rad(random.normal(0, 7)), 2 ** random.uniform(-0.3, 0.3)
    axis = np.array([[np.cos(about), -np.sin(about)], [np.sin(about), np.cos(about)]])
    squeeze = axis @ np.diag([np.cos(tilt) ** 0.5, np.cos(tilt) ** -0.5]) @ axis.T
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = np.eye(3)
    found[:2, :2] = size * spin @ squeeze
    found[2, :2] = random.uniform(0, 0.6) * np.sin(tilt) / SIDE * axis[:, 0]
    return found


def move(points: Points, homography: Points) -> Points:
    """Points (..., 2) moved by a homography (3, 3)."""
    moved = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ homography.T
    return np.asarray(moved[..., :2] / moved[..., 2:])


def shift(x: float, y: float) -> Points:
    """The homography (3, 3) that adds (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def cut(picture: Image.Image, corner: Points) -> Picture:
    """The window with its upper left corner there; black past the picture's edge."""
    x, y = (int(value) for value in corner)
    return np.asarray(picture.crop((x, y, x + SIDE, y + SIDE)))


def warped_windows(
    random: np.random.Generator, picture: Picture
) -> tuple[Picture, Picture, Points, Points]:
    """A window of a photo in a random size, its warp, and points of either."""
    small, _ = shrink(picture, float(random.uniform(SIDE, LEVELS[1])))
    corner = np.floor(random.uniform(0, 1, 2) * np.maximum(np.array(small.size) - SIDE, 0))
    middle = SIDE / 2
    away = random.uniform(-12, 12, 2)
    there = shift(*(middle + away)) @ random_homography(random) @ shift(-middle, -middle)
    back = np.linalg.inv(there @ shift(*-corner))
    coefficients = (back / back[2, 2]).ravel()[:8].tolist()
    smooth, perspective = Image.Resampling.BICUBIC, Image.Transform.PERSPECTIVE
    warped = small.transform((SIDE, SIDE), perspective, coefficients, smooth)
    points = random.uniform(4, np.minimum(np.array(small.size), SIDE) - 4, (3 * POINTS, 2))
    return cut(small, corner), np.asarray(warped), points, move(points, there)


def viewed_windows(
    random: np.random.Generator, town: RetrievalDataset, names: tuple[str, str]
) -> tuple[Picture, Picture, Points, Points] | None:
    """Windows of two photos of a landmark, in sizes in which it is as large in both."""
    here, there = map(town.geometry, names)
    pictures = [town.read(name) for name in names]
    if here is None or there is None:
        return None
    points = random.uniform(0, 1, (1500, 2)) * pictures[0].shape[1::-1]
    found = ground_truth_points(here, there, points, pictures[1].shape)
    known = np.isfinite(found).all(1)
    if known.sum() < FEWEST:
        return None
    points, found = points[known], found[known]
    seed = random.integers(len(points))
    near = np.argsort(((points - points[seed]) ** 2).sum(1))[:150]
    larger = np.sqrt(found[near].var(0).sum() / points[near].var(0).sum())
    windows, moved = [], []
    size = random.uniform(*LEVELS) / max(pictures[0].shape[:2])
    jitter = 2 ** random.uniform(-0.25, 0.25)
    for picture, places, scale in zip(
        pictures, (points, found), (size, size * jitter / larger), strict=True
    ):
        small, scale = shrink(picture, float(np.clip(scale * max(picture.shape[:2]), 48, 400)))
        room = np.maximum(np.array(small.size) - SIDE, 0)
        corner = scale * places[seed] - SIDE / 2 + random.uniform(-16, 16, 2)
        corner = np.floor(np.clip(corner, 0, room))
        windows.append(cut(small, corner))
        moved.append(scale * places - corner)
    return windows[0], windows[1], moved[0], moved[1]


def make_pairs(town: RetrievalDataset, count: int) -> list[WindowPair]:
    """Pairs of windows, every second one of two photos."""
    random, found = np.random.default_rng(0), list[WindowPair]()
    landmarks = [views for views in views_by_landmark(town).values() if views[1:]]
    names = list(town.images)
    bar = tqdm(total=count, desc="cutting", unit="pair", disable=None)
    while len(found) < count:
        if len(found) % 2:
            views = landmarks[random.integers(len(landmarks))]
            one, other = random.choice(views, 2, replace=False).tolist()
            windows = viewed_windows(random, town, (one, other))
        else:
            windows = warped_windows(random, town.read(names[random.integers(len(names))]))
        if windows is None:
            continue
        here, there, points, moved = windows
        both = np.stack([points, moved])
        both = both[:, ((both > MARGIN) & (both < SIDE - MARGIN)).all((0, 2))]
        if both.shape[1] < FEWEST:
            continue
        few = random.choice(both.shape[1], POINTS, replace=both.shape[1] < POINTS)
        places = torch.from_numpy(both[:, few]).float()
        lit = [relight(random, window) for window in (here, there)]
        patches = [read_patches(*one) for one in zip(lit, places, strict=True)]
        found.append(WindowPair(torch.stack(patches).half(), places))
        bar.update()
    return found


def read_patches(window: Picture, points: Tensor) -> Tensor:
    """(P, 256): of a window, the patches whose centres are nearest to points (P, 2)."""
    grey = torch.from_numpy(window / np.float32(255))
    x, y = (points / CELL - PATCH_CELLS / 2).round().long().unbind(-1)
    return surrounded_patches(gradient_cells(grey))[y, x]


def loss_of(network: PatchNetwork, pairs: list[WindowPair]) -> tuple[Tensor, float]:
    """InfoNCE of all points of a batch, both ways, and the share of points that find themselves."""
    patches = torch.stack([pair.patches for pair in pairs], 1).float().flatten(1, 2)
    points = torch.stack([pair.points for pair in pairs], 1).flatten(1, 2)
    steep = (patches[..., :OWN].norm(dim=-1) > STEEP).all(0)
    here, there = network(patches[:, steep])
    photo = torch.arange(len(pairs)).repeat_interleave(POINTS)[steep]
    near = torch.stack([torch.cdist(one, one) < NEAR for one in points[:, steep]]).any(0)
    near &= photo[:, None] == photo
    near.fill_diagonal_(False)
    logits = (here @ there.mT / TEMPERATURE).masked_fill(near, -1e4)
    own = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)) / 2
    return loss, (logits.argmax(1) == own).float().mean().item()


def train(
    pairs: list[WindowPair], training: dict[str, Any] = TRAINING
) -> tuple[PatchNetwork, list[dict[str, float]]]:
    """A network after steps of AdamW, and every hundredth step's mean loss and points found."""
    torch.manual_seed(training["seed"])
    network, random = PatchNetwork(), np.random.default_rng(training["seed"])
    rate, steps = training["learning_rate"], training["steps"]
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=training["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=WARM_UP)
    log, recent = list[dict[str, float]](), list[tuple[float, float]]()
    for step in tqdm(range(1, steps + 1), desc="training", unit="step", disable=None):
        few = random.choice(len(pairs), training["batch"], replace=False)
        loss, found = loss_of(network, [pairs[number] for number in few])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        recent.append((loss.item(), found))
        if step % LOG_EVERY == 0 or step == steps:
            means = np.mean(recent, 0).tolist()
            log.append({"step": step, "loss": means[0], "found": means[1]})
            recent.clear()
    return network.eval(), log


def main() -> None:
    """Train, and write the weights and their log."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS / f"{PATCH_NET}.safetensors")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    town = load_dataset("toytown", split="train")
    made = provenance(town)  # before anything is changed
    network, log = train(make_pairs(town, PAIRS))
    save_tensors(out, network.state_dict(), {PATCH_NET: json.dumps(TRAINING)})
    write_json(out.with_suffix(".log.json"), {"training": TRAINING, "provenance": made, "log": log})
    print(f"{out}: of {log[-1]['found']:.1%} of the points, the other photo's place is the nearest")


if __name__ == "__main__":
    main()
