"""Options that several commands share, and what they mean."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from indiret.datasets import LOADERS, RetrievalDataset, list_folder, load_dataset, use_regions
from indiret.images import printable

if TYPE_CHECKING:
    from indiret.index import Collection, MemoryCollection
    from indiret.retrieval import Retriever

DEFAULT = "plane-net-turned"  # the method
_Corners = tuple[float, float, float, float]

QueryPhoto = Annotated[Path, Argument(metavar="QUERY", help="A photo.")]
Folder = Annotated[Path, Argument(metavar="FOLDER", help="Of photos, at any depth.")]
QueryBox = Annotated[_Corners | None, Option(metavar="x1 y1 x2 y2", help="Of it, in pixels.")]
Page = Annotated[Path | None, Option(metavar="FILE", help="Write a page with evidence here.")]
Json = Annotated[bool, Option("--json", help="Print json.")]
Method = Annotated[str, Option(help="See `indiret methods`.")]
ShortlistName = Annotated[
    str | None, Option(metavar="NAME", help="Of large folders: pixels, BACKBONE:POOLING, none.")
]
Index = Annotated[Path | None, Option("--out", metavar="DIR", help="Index; else in the cache.")]
Scheduler = Annotated[
    str | None,
    Option(metavar="[ADDRESS]", help="Of a Dask cluster; without it, one is started here."),
]
Verbose = Annotated[bool, Option("--verbose", help="Name every file passed over.")]
Dataset = Annotated[str, Option(help=f"One of {', '.join(LOADERS)}.")]
Root = Annotated[Path | None, Option(help="Its folder; toytown is embedded.")]
Split = Annotated[str, Option(help="Of toytown: train, validation or test.")]
Regions = Annotated[Path | None, Option(metavar="FILE", help="Regions of interest, COCO.")]
Unreviewed = Annotated[bool, Option("--unreviewed", help="Take open proposals, too.")]
Out = Annotated[Path, Option(metavar="FOLDER", help="Of all that is written.")]
OutOrOwn = Annotated[Path | None, Option(metavar="FOLDER", help="Or one named like the input.")]
Device = Annotated[str, Option(help="As torch names it, such as cuda.")]
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


def check_device(name: str) -> str:
    """The device; ValueError if this machine has none of this name."""
    import torch  # here, so that help comes at once

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for absent
        raise ValueError(
            f"--device {name} cannot be used on this machine; choose cpu, or cuda with a GPU."
        ) from error
    return name


def open_collection(
    folder: Path,
    method: str,
    shortlist: str | None,
    out: Path | None,
    retriever: "Retriever",
    scheduler: str | None = None,
    turned: bool = False,
) -> "Collection | MemoryCollection":
    """The index of a folder; of methods whose features cannot be kept, one in memory."""
    from indiret.index import Collection, MemoryCollection

    if turned and shortlist not in (None, "none", "pixels"):
        raise ValueError(
            f"--turned works with --shortlist pixels or none, not with {shortlist}; choose."
        )
    # of the others, it says that they cannot
    if keeps_features(retriever) or shortlist or out or scheduler:
        collection = Collection.open(folder, method, shortlist, out, retriever)
        collection.turned = turned
        if scheduler:
            collection.use_cluster(scheduler)
        return collection
    return MemoryCollection(folder, retriever)


def keeps_features(retriever: "Retriever") -> bool:
    """Whether what a retriever encodes can be kept on disk."""
    try:
        retriever.fingerprint()
    except ValueError:
        return False
    return True


def require_probability(method: str, retriever: "Retriever") -> None:
    """ValueError if a method's scores are no probabilities."""
    import numpy as np

    if retriever.probability(np.zeros(1)) is None:
        raise ValueError(
            f"{method} gives scores without probabilities; choose a method that has them, such as "
            f"{DEFAULT}."
        )


def report_skipped(skipped: Mapping[str, str]) -> None:
    """Say which photos are left out, and why."""
    for name, reason in skipped.items():
        print(printable(f"skipped {name}: {reason}"), file=sys.stderr)


def report_passed_over(folder: Path, verbose: bool) -> None:
    """Say in one line how many files of a folder are no photos, by kind, or name each."""
    kinds = list_folder(folder)[1]
    if verbose:
        report_skipped({str(path): kind for kind, paths in kinds.items() for path in paths})
    elif kinds:
        counts = [
            f"{len(paths)} {kind}" + f" ({paths[0].name})" * (len(paths) == 1)
            for kind, paths in kinds.items()
        ]
        print(printable(f"passed over {', '.join(counts)}; --verbose names all"), file=sys.stderr)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be written; pipes and devices would be replaced by it."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError("it is a pipe or a device")
        yield
    except OSError as error:
        if str(error).startswith(f"{path} cannot be written"):
            raise
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); give the path of a file in a "
            "folder with room and the right to write."
        ) from error
