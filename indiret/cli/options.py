"""Options that several commands share, and what they mean."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from typer import Option

from indiret.datasets import LOADERS, RetrievalDataset, load_dataset, use_regions

Dataset = Annotated[str, Option(help=f"One of {', '.join(LOADERS)}.")]
Root = Annotated[Path | None, Option(help="Its folder; toytown is embedded.")]
Split = Annotated[str, Option(help="Of toytown: train, validation or test.")]
Regions = Annotated[Path | None, Option(metavar="FILE", help="Regions of interest, COCO.")]
Unreviewed = Annotated[bool, Option("--unreviewed", help="Take open proposals, too.")]
Out = Annotated[Path, Option(metavar="FOLDER", help="Of all that is written.")]
OutOrOwn = Annotated[Path | None, Option(metavar="FOLDER", help="Or one named like the input.")]
JsonFile = Annotated[Path | None, Option("--json", metavar="FILE", help="Write all figures here.")]
Methods = Annotated[list[str] | None, Option(metavar="METHOD ...", help="See `indiret methods`.")]


def load(
    name: str, root: Path | None, split: str, regions: Path | None = None, unreviewed: bool = False
) -> RetrievalDataset:
    """The data set asked for, what it skipped said aloud, with the regions asked for."""
    dataset = load_dataset(name, root, split)
    report_skipped(dict(dataset.skipped))
    if regions:
        used = use_regions(dataset, regions, unreviewed)
        report_skipped(dict(used.skipped[len(dataset.skipped) :]))
        return used
    if unreviewed:
        raise ValueError("--unreviewed chooses from the regions of a file; give --regions FILE.")
    return dataset


def load_towns(*splits: str) -> list[RetrievalDataset]:
    """Parts of Toytown."""
    return [load_dataset("toytown", split=split) for split in splits]


def given(**values: Any) -> dict[str, Any]:
    """Those options that the command line has."""
    return {name: value for name, value in values.items() if value is not None}


def check_device(name: str) -> None:
    """Refuse a device that this machine has not."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for absent
        raise ValueError(
            f"--device {name} cannot be used on this machine; choose cpu, or cuda with a GPU."
        ) from error


def report_skipped(skipped: Mapping[str, str]) -> None:
    """Say which photos are left out, and why."""
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
