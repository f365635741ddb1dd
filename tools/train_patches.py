"""Train ``patch-net`` on Toytown's training part: ``python -m tools.train_patches``.

Pairs of windows of 128 pixels show the same thing: two photos of one landmark, whose geometry is
known, or a photo and its warp by a random homography, up to 50° from its normal. Either is lit anew
and blurred. The loss (InfoNCE) asks that a place be more like itself in the other window than like
any other place of the batch.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from indiret.checkpoints import WEIGHTS, save_tensors
from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import ground_truth_points
from indiret.images import Picture
from indiret.pairs import views_by_landmark
from indiret.planes.gradients import gradient_cells
from indiret.planes.patch_network import PATCH_NET, PatchNetwork

Points = NDArray[np.float64]
SIDE = 128  # pixels of a window
POINTS = 48  # correspondences of a pair
FEWEST = 24  # or the pair is left out
LEVELS = 70, 280  # pixels of a photo's longer side, as in the pyramid of planes
NEAR = 12  # pixels from a place within which others are no wrong answers
TEMPERATURE = 0.07


class WindowPair(NamedTuple):
    cells: Tensor  # (2, 8, 32, 32) half
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
    random, found = np.random.default_rng(0), []
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
        both = both[:, ((both > 2) & (both < SIDE - 2)).all((0, 2))]
        if both.shape[1] < FEWEST:
            continue
        few = random.choice(both.shape[1], POINTS, replace=both.shape[1] < POINTS)
        cells = [
            gradient_cells(torch.from_numpy(relight(random, one) / np.float32(255)))
            for one in (here, there)
        ]
        found.append(WindowPair(torch.stack(cells).half(), torch.from_numpy(both[:, few]).float()))
        bar.update()
    return found


def loss_of(network: PatchNetwork, pairs: list[WindowPair]) -> tuple[Tensor, float]:
    """InfoNCE of all points of a batch, both ways, and the share of points that find themselves."""
    cells = torch.stack([pair.cells for pair in pairs]).float()
    points = torch.stack([pair.points for pair in pairs])
    maps = network(cells.flatten(0, 1))
    places = (points * (2 / SIDE) - 1).flatten(0, 1)[:, None]
    read = F.grid_sample(maps, places, align_corners=False)[:, :, 0].mT
    here, there = F.normalize(read, dim=-1).unflatten(0, (-1, 2)).unbind(1)
    logits = here.flatten(0, 1) @ there.flatten(0, 1).mT / TEMPERATURE
    for number, pair in enumerate(points):
        block = slice(number * POINTS, (number + 1) * POINTS)
        near = (torch.cdist(pair[0], pair[0]) < NEAR) | (torch.cdist(pair[1], pair[1]) < NEAR)
        near.fill_diagonal_(False)
        logits[block, block] = logits[block, block].masked_fill(near, -1e4)
    own = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)) / 2
    return loss, (logits.argmax(1) == own).float().mean().item()


def train(pairs: list[WindowPair], steps: int, batch: int, rate: float = 2e-3) -> PatchNetwork:
    """A network after steps of AdamW, the rate falling along a cosine."""
    torch.manual_seed(0)
    network, random = PatchNetwork(), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    bar = tqdm(range(steps), desc="training", unit="step", disable=None, mininterval=5)
    for _ in bar:
        few = random.choice(len(pairs), batch, replace=False)
        loss, found = loss_of(network, [pairs[number] for number in few])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.2f}", found=f"{found:.2f}", refresh=False)
    return network.eval()


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=24, help="pairs a step")
    parser.add_argument("--out", type=Path, default=WEIGHTS / f"{PATCH_NET}.safetensors")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    town = load_dataset("toytown", split="train")
    network = train(make_pairs(town, asked.pairs), asked.steps, asked.batch)
    made = {"pairs": asked.pairs, "steps": asked.steps, "data": town.manifest_hash()}
    save_tensors(asked.out, network.state_dict(), {PATCH_NET: json.dumps(made)})


if __name__ == "__main__":
    main()
