"""``indiret search``: the photos of a folder that are like a photo; see *Your own photos*."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tqdm import tqdm
from typer import Argument, Option, TyperException

from indiret.cli import hits as lists
from indiret.cli import options
from indiret.cli.explain import check_evidence
from indiret.datasets import find_images
from indiret.datasets.files import read_text, reason
from indiret.images import Box, ImageError, Picture, crop, printable, read_image

if TYPE_CHECKING:
    from indiret.index import Collection, MemoryCollection
    from indiret.retrieval import Hit

_ROW = "write path or path,x1,y1,x2,y2 on each line, numbers for x and y, without a header."


class Asked(NamedTuple):
    """What is searched for."""

    path: Path
    box: Box | None = None

    def read(self) -> Picture:
        picture = read_image(self.path)
        return crop(picture, self.box) if self.box else picture


def search_command(
    query: Annotated[Path, Argument(metavar="QUERY", help="A photo; not with --queries.")],
    folder: Annotated[
        Path | None, Argument(metavar="FOLDER", help="Of photos, at any depth.")
    ] = None,
    box: options.QueryBox = None,
    top: Annotated[int, Option(min=1, help="How many hits to show.")] = 10,
    queries: Annotated[
        Path | None,
        Option(metavar="FOLDER_OR_CSV", help="Of queries; a line is path[,x1,y1,x2,y2]."),
    ] = None,
    min_probability: Annotated[float | None, Option(min=0, max=1, help="Of a hit.")] = None,
    html: options.Page = None,
    style: Annotated[lists.Format, Option("--format", help="Of the list.")] = "table",
    as_json: options.Json = False,
    copy_to: Annotated[Path | None, Option(metavar="DIR", help="Copy the hits there.")] = None,
    link_to: Annotated[Path | None, Option(metavar="DIR", help="Link to the hits there.")] = None,
    method: options.Method = options.DEFAULT,
    shortlist: options.ShortlistName = None,
    turned: Annotated[
        bool, Option("--turned", help="Look for turned photos in a large folder, too; slower.")
    ] = False,
    out: options.Index = None,
    device: options.Device = "cpu",
    scheduler: options.Scheduler = None,
    keep_query: Annotated[bool, Option("--keep-query", help="As a hit, if it is there.")] = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the photos most like the query, best first; what is made of the folder is kept."""
    style = "json" if as_json else style
    lists.check_format(style)
    asked, folder = _questions(query, folder, box, queries)
    if queries and html:
        raise ValueError("--html is the page of one query; leave it or --queries out.")
    from indiret.retrieval import build_retriever

    retriever = build_retriever(method, options.check_device(device))
    if html:
        check_evidence(method, retriever)
    if min_probability is not None:
        options.require_probability(method, retriever)
    if not queries:
        asked[0].read()  # it is refused before long work begins
    options.report_passed_over(folder, verbose)
    collection = options.open_collection(
        folder, method, shortlist, out, retriever, scheduler, turned
    )
    collection.update()
    options.report_skipped(collection.problems())
    pixels = shortlist in (None, "pixels") and options.keeps_features(retriever)
    writer, names, found = lists.RowWriter(style), list[str](), None
    for found in filter(None, (_search(collection, one, keep_query, not queries) for one in asked)):
        hits = [hit for hit in found.hits if _reaches(hit, min_probability)][:top]
        notes = _notes(hits, found, min_probability)
        if pixels and not turned and not lists.is_found(found.hits) and not found.hits[-1].judged:
            notes.append("--turned looks for turned photos, too.")
        structure = {hit.name: retriever.structure(collection.features(hit.name)) for hit in hits}
        if style == "table":
            if queries:
                print(printable(f"{found.asked.path}:"))
            lists.print_table(hits, structure, notes)
        rows = [lists.plain(hit) | {"structure": structure[hit.name]} for hit in hits]
        if queries or style != "json":  # whose list of one query has always been this
            asker = {"query": str(found.asked.path)}
            rows = [asker | {"rank": rank} | row for rank, row in enumerate(rows, start=1)]
        writer.write(rows)
        names += [hit.name for hit in hits if hit.name not in names]
    if found is None:
        raise ValueError(f"nothing of {queries} could be searched for; see what was skipped.")
    writer.close()
    if html:
        _write_page(html, collection, found, hits, " ".join(notes))
    for into in filter(None, (copy_to, link_to)):
        with options.naming(into):
            lists.place_hits(folder, names, into, link=into is link_to)


class _Found(NamedTuple):
    """What a query found."""

    asked: Asked
    picture: Picture
    encoded: Any
    structure: float | None
    hits: list["Hit"]


def _search(
    collection: "Collection | MemoryCollection", asked: Asked, keep_query: bool, stop: bool
) -> _Found | None:
    """What a query finds; None, and said aloud, if nothing can be and it is not to ``stop`` all."""
    retriever = collection.retriever
    try:
        picture = asked.read()
        encoded = retriever.encode_query(picture)
        own = [] if keep_query else collection.names_of(asked.path)
        for name in own:  # it would be the first hit, and tell nothing
            said = f"left out {printable(name)}: the query itself; see --keep-query"
            print(said, file=sys.stderr)
        hits = collection.rank(picture, encoded, without=own)
        if not hits:
            find_images(collection.folder)  # which says what else is there
            raise ValueError(f"{collection.folder} holds no other photo that can be read.")
    except (ValueError, OSError) as error:
        if stop:
            raise
        options.report_skipped({str(asked.path): str(error)})
        return None
    return _Found(asked, picture, encoded, retriever.structure(encoded), hits)


def _questions(
    query: Path, folder: Path | None, box: Box | None, queries: Path | None
) -> tuple[list[Asked], Path]:
    """What is searched for, and where: with --queries, the only argument is the folder."""
    if not queries:
        if folder is None:
            raise TyperException("Missing argument 'FOLDER'.")
        return [Asked(query, box)], folder
    if folder is not None or box:
        raise ValueError("--queries stands for QUERY and --box; leave them out.")
    if queries.is_dir():
        return [Asked(path) for path in find_images(queries)], query
    return _read_table(queries), query


def _read_table(path: Path) -> list[Asked]:
    """The queries of a file; their paths are taken from its folder."""
    asked = []
    text = read_text(path, errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # a name may have two lines
    try:
        for row in reader:
            match row:
                case [*cells] if not any(map(str.strip, cells)):
                    continue
                case [name]:
                    asked.append(Asked(path.parent / name))
                case [name, x1, y1, x2, y2]:
                    box = float(x1), float(y1), float(x2), float(y2)
                    asked.append(Asked(path.parent / name, box))
                case _:
                    raise ValueError(f"it is {','.join(row)!r}")
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"line {reader.line_num} of {path} cannot be read ({reason(error)}); {_ROW}"
        ) from error
    if not asked:
        raise ValueError(f"{path} names no photo; {_ROW}")
    return asked


def _write_page(
    page: Path, collection: "Collection | MemoryCollection", found: _Found, hits: list["Hit"],
    note: str,
) -> None:  # fmt: skip
    """The page of a query with evidence of each hit."""
    from indiret.reports import ReportHit, write_search_report  # needs matplotlib

    sys.stdout.flush()  # explaining takes a while, and may be stopped
    retriever = collection.retriever

    def explained() -> Iterator[ReportHit]:
        for hit in tqdm(hits, desc="explaining", unit="hit", disable=None):
            try:
                target = read_image(collection.folder / hit.name)
            except (ImageError, OSError) as error:  # gone since it was ranked
                options.report_skipped({hit.name: str(error)})
                continue
            # Of all that is known of the photo, not of what is kept of it on disk.
            evidence = retriever.explain(found.encoded, retriever.encode(target))
            yield ReportHit(hit, target, evidence)

    # The query as it was typed: a page is passed on, the names of folders are not.
    with options.naming(page):
        write_search_report(page, str(found.asked.path), found.picture, explained(), note=note)


def _reaches(hit: "Hit", probability: float | None) -> bool:
    return probability is None or (hit.probability is not None and hit.probability >= probability)


def _notes(hits: list["Hit"], found: _Found, least: float | None) -> list[str]:
    """What to say before a ranked list."""
    from indiret.retrieval import FOUND

    notes = []
    if lists.is_little(found.structure):
        notes.append(
            f"Too little structure: {found.structure:.1%} of the query's patches can be judged, so "
            "that no hit is to be trusted."
        )
    if not hits:
        notes.append(f"Nothing found: no photo reaches probability {least}.")
    elif not lists.is_found(found.hits):
        notes.append(
            f"Nothing found: no photo reaches probability {FOUND} or stands out from the "
            "others. The closest are listed."
        )
    return notes
