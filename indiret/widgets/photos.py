"""The page *Your own photos*: the plane vote on the reader's photos, in one HTML file, offline.

What the file holds is written here: the page (``photos/``), the explorer and the matcher, all as
one script, the matcher's constants, and samples: photos of Toytown, and old pictures. A content
security policy in it allows that one script, by its hash, and no connection.

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
_PICTURES = Path(__file__).parents[1] / "data" / "pictures"
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
    parts = {"constants": base64.b64encode(pack_matcher()).decode(), "matcher": worker_source()}
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
    """Photos by name, and sets of them: a title, a query, its box, and where to look for it."""
    town = load_dataset("toytown", split="validation")
    queries = {query.landmark: query for query in reversed(town.queries)}  # the first of each
    query = queries[_LANDMARK]
    views = sorted(query.good - {query.image})
    folder = [*views, *(one.image for one in queries.values())][:11]
    size = town.read(query.image).shape[1::-1]
    box = [at / side for at, side in zip(query.box or (), size * 2, strict=True)]
    house, other, old, painting = (
        query.image,
        queries[_OTHER].image,
        "great_wave_1",
        "starry_night_1",
    )
    files = {path.stem: path for path in sorted(_PICTURES.glob("*.jpg"))}
    sets = [
        ("One house, twice", house, box, views[2:3]),
        ("Two houses", house, box, [other]),
        ("A house and a folder", house, box, folder),
        ("A detail of a print", old, None, ["great_wave_2"]),
        ("Two prints", old, None, ["tago_bay"]),
        ("A painting and a folder", painting, None, [name for name in files if name != painting]),
    ]
    files |= {name: town.path(name) for name in (house, other, *folder)}
    jpegs = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    return {"photos": jpegs, "sets": sets}
