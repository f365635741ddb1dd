"""``indiret index`` and ``duplicates``: a folder of photos, encoded once; see *Your own photos*."""

import json
from typing import Annotated

from typer import Option

from indiret.cli import options
from indiret.images import printable


def index_command(
    folder: options.Folder,
    method: options.Method = options.DEFAULT,
    shortlist: options.ShortlistName = None,
    out: options.Index = None,
    device: options.Device = "cpu",
    scheduler: options.Scheduler = None,
    verbose: options.Verbose = False,
) -> None:
    """Make or update the index of a folder, which `search` uses, and say how large it is."""
    from indiret.index import Collection
    from indiret.retrieval import build_retriever

    retriever = build_retriever(method, options.check_device(device))
    options.report_passed_over(folder, verbose)
    with Collection.open(folder, method, shortlist, out, retriever) as collection:
        if scheduler:
            collection.use_cluster(scheduler)
        added, removed = collection.update()
        options.report_skipped(collection.problems())
        found, place = collection.stats(), collection.store.folder
    print(printable(f"{place}: the index of {folder}"))
    print(f"{added:,} files read, {removed:,} gone, {found.problems:,} cannot be read")
    print(f"{found.photos:,} photos in {found.files - found.problems:,} files")
    sizes = {"codes": found.codes, "shortlist": found.segments, "catalogue": found.catalogue}
    parts = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items())
    print(f"{sum(sizes.values()) / max(found.photos, 1) / 1e3:,.1f} KB a photo: {parts}")


def duplicates_command(
    folder: options.Folder,
    min_probability: Annotated[float, Option(min=0, max=1, help="Of a pair of one group.")] = 0.85,
    as_json: options.Json = False,
    method: options.Method = options.DEFAULT,
    shortlist: options.ShortlistName = None,
    out: options.Index = None,
    device: options.Device = "cpu",
    verbose: options.Verbose = False,
) -> None:
    """Print groups of photos that are copies, or probably show one thing."""
    from indiret.index import Collection, find_duplicates
    from indiret.retrieval import build_retriever

    retriever = build_retriever(method, options.check_device(device))
    options.require_probability(method, retriever)
    options.report_passed_over(folder, verbose)
    with Collection.open(folder, method, shortlist, out, retriever) as collection:
        collection.update()
        options.report_skipped(collection.problems())
        groups = find_duplicates(collection, min_probability)
    if as_json:
        print(json.dumps(groups, indent=2))
        return
    for group in groups:
        print(f"{len(group)} photos")
        print(*(f"  {printable(name)}" for name in group), sep="\n")
    print(f"{len(groups)} groups" if groups else "no two photos are probably of one thing")
