"""The page *Your own photos*: the plane vote on the reader's photos, in one HTML file, offline.

What the file holds is written here: the page (``photos/``), the explorer and the matcher, all as
one script, the matcher's constants, and sample photos of Toytown. A content security policy in it
allows that one script, by its hash, and no connection.

Chapter: *Your own photos*.
"""

import base64
import hashlib
import json
from pathlib import Path
from string import Template
from typing import Any

from indiret import retrieval
from indiret.datasets import load_dataset
from indiret.widgets.base import join_modules, module_source
from indiret.widgets.matcher import pack_matcher, page_source, worker_source

_FOLDER = Path(__file__).parent / "photos"
_POLICY = (
    "default-src 'none'; connect-src 'none'; script-src 'sha256-{hash}'; worker-src blob:; "
    "img-src blob: data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)
_ROOMS = ("files", "words", "box", "pair", "ranking", "export", "page")
_LANDMARK, _OTHER = "upper_town_library", "linden_library"  # of the samples
_LIMITS = ("FOUND", "NOT_NEGLIGIBLE", "STANDS_OUT", "LEAST_COMPANY", "LITTLE_STRUCTURE")


def photos_page() -> str:
    """The whole page, which needs no other file.

    Examples
    --------
    >>> page = photos_page()
    >>> "connect-src 'none'" in page, "https://" in page
    (True, False)
    """
    limits = ", ".join(f"{name} = {getattr(retrieval, name)}" for name in _LIMITS)
    script = "\n".join(
        [
            f"const {limits};",
            module_source("explorer_channels", "explorer_lines", "explorer"),
            page_source(),
            join_modules(*(f"photos/{name}" for name in _ROOMS)),
        ]
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "constants": base64.b64encode(pack_matcher()).decode(),
        "matcher": worker_source(),
    }
    version = hashlib.sha256("".join(parts.values()).encode()).hexdigest()[:12]
    return Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        parts,
        policy=_POLICY.format(hash=digest),
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        samples=json.dumps(_samples()),
        script=script,
        version=version,
    )


def _samples() -> dict[str, Any]:
    """Photos by name, and three sets of them: a query with its box, and where to look for it."""
    town = load_dataset("toytown", split="validation")
    queries = {query.landmark: query for query in reversed(town.queries)}  # the first of each
    query = queries[_LANDMARK]
    views = sorted(query.good - {query.image})
    folder = [*views, *(one.image for one in queries.values())]
    height, width = town.read(query.image).shape[:2]
    box = [at / side for at, side in zip(query.box or (), (width, height) * 2, strict=True)]
    sets = {
        "One house, twice": views[2:3],
        "Two houses": [queries[_OTHER].image],
        "A house and a folder": folder,
    }
    jpegs = {name: town.path(name).read_bytes() for name in folder}
    return {
        "photos": {f"{name}.jpg": base64.b64encode(jpeg).decode() for name, jpeg in jpegs.items()},
        "sets": [
            {
                "title": title,
                "query": f"{query.image}.jpg",
                "box": box,
                "targets": [f"{name}.jpg" for name in names],
            }
            for title, names in sets.items()
        ],
    }
