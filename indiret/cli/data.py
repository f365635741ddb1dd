"""``indiret data`` and ``regions``: get the photos, and say where to look in them."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from indiret.baselines.region_proposals import mean_iou, propose_regions
from indiret.cli import options
from indiret.datasets import LOADERS
from indiret.datasets.downloads import SOURCES, dataset_info, fetch_dataset, verify_dataset
from indiret.images import printable


def data_command(
    action: Annotated[Literal["fetch", "verify", "info"], Argument(metavar="ACTION")],
    name: Annotated[str, Argument(metavar="NAME", help=f"One of {', '.join(SOURCES)}.")],
    root: Annotated[Path | None, Option(help="Its folder; data/NAME if not given.")] = None,
) -> None:
    """Describe a data set; fetch it, or look at every photo of it."""
    root = root or Path("data") / name
    if action != "verify":
        print(dataset_info(name))
    if action == "fetch":
        fetch_dataset(name, root)
        print(f"{root} is filled; `indiret data verify {name} --root {root}` looks at every photo.")
    elif action == "verify":
        found = verify_dataset(name, root)
        for problem in found.problems:
            print(printable(problem), file=sys.stderr)
        print(f"{root}: {found.photos:,} photos, {found.queries} queries")
        if found.problems:
            raise ValueError(f"{root} is not the whole of {name}; see the lines above.")
        print(f"{root} is {name} at full size, and every photo can be read.")


def regions_command(
    action: Annotated[Literal["propose"], Argument(metavar="ACTION")],
    dataset: Annotated[str, Argument(metavar="DATASET", help=f"One of {', '.join(LOADERS)}.")],
    out: Annotated[Path, Option(metavar="FILE", help="COCO json.")],
    root: options.Root = None,
    split: options.Split = "test",
) -> None:
    """Propose a region of interest in each photo, and write them all into one file."""
    town = options.load(dataset, root, split)
    photos, skipped = propose_regions(town, out)
    options.report_skipped(skipped)
    origins = [{region.origin for region in photo.regions} for photo in photos.values()]
    boxes, proposed = (sum(kind in found for found in origins) for kind in ("query", "sift"))
    others = len(photos) - boxes
    print(f"{out}: {len(photos)} photos, {sum(one.done for one in photos.values())} of them done")
    print(f"boxes of queries in {boxes}, proposals in {proposed} of the other {others}")
    if (town.root / "masks").is_dir():
        ious = (mean_iou(town, photos, origin) for origin in ("query", "sift"))
        print("mean IoU with the masks: boxes {:.3f}, proposals {:.3f}".format(*ious))
