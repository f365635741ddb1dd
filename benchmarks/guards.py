"""What the guards of real folders cost a search: their share of its processor time.

    python benchmarks/guards.py [--photos 100] [--out indiret/data/guards.json]

Guards are all that `read_image` does beyond Pillow's own decoding, turning and conversion, all
that `list_folder` does beyond a plain listing, and how much of a photo can be judged. Each is timed
in turn with its plain form, in one process, and the best of several times counts. The whole is the
best of three searches through the command line: the first, which makes the index, and the next. The
aim is 2 %. Both parts are processor time of one thread, so that a busy machine changes both alike.
"""

import argparse
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from indiret import build_retriever, load_dataset
from indiret.cli.app import main as indiret
from indiret.cli.options import DEFAULT
from indiret.datasets import list_folder
from indiret.images import read_image

TIMES = 7


def best(function: Callable[[], Any], times: int = TIMES) -> float:
    """The least processor time of several calls, in seconds."""
    found = []
    for _ in range(times):
        began = time.process_time()
        function()
        found.append(time.process_time() - began)
    return min(found)


def plain(path: Path) -> np.ndarray:
    """A photo as a program without guards reads it."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def extra(guarded: Callable[[], Any], bare: Callable[[], Any]) -> float:
    """Seconds by which one takes longer than the other, in turns."""
    pairs = [(best(guarded, 1), best(bare, 1)) for _ in range(TIMES)]
    return max(0.0, min(first for first, _ in pairs) - min(second for _, second in pairs))


def measure(count: int) -> dict[str, Any]:
    """Shares of the first and of the next search of so many photos."""
    torch.set_num_threads(1)
    town = load_dataset("toytown")
    with TemporaryDirectory() as scratch:
        folder, index = Path(scratch, "photos"), Path(scratch, "index")
        folder.mkdir()
        paths = [
            Path(shutil.copy(path, folder)) for path in [*town.images.values()][:: 273 // count]
        ]
        query = town.path(town.queries[0].image)

        def search(anew: bool) -> None:
            if anew:
                shutil.rmtree(index, ignore_errors=True)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                assert indiret(["search", str(query), str(folder), "--out", str(index)]) == 0

        whole = [best(lambda anew=anew: search(anew), 3) for anew in (True, False)]
        retriever = build_retriever(DEFAULT)
        reading = [extra(lambda p=p: read_image(p), lambda p=p: plain(p)) for p in paths]
        features = [retriever.encode(read_image(path)) for path in paths[::10]]
        judging = np.mean([best(lambda one=one: retriever.structure(one)) for one in features])
        listing = extra(lambda: list_folder(folder), lambda: sorted(folder.rglob("*.jpg")))
    first = sum(reading) + len(paths) * judging + listing
    after = np.mean(reading) + judging + listing
    return {
        "method": DEFAULT,
        "photos": len(paths),
        "seconds": dict(zip(("first search", "next search"), np.round(whole, 3), strict=True)),
        "milliseconds": {
            "reading, a photo": round(1e3 * float(np.mean(reading)), 3),
            "judging, a photo": round(1e3 * float(judging), 3),
            "listing": round(1e3 * listing, 3),
        },
        "share": {
            "first search": round(float(first / whole[0]), 4),
            "next search": round(float(after / whole[1]), 4),
        },
        "machine": f"{os.uname().machine}, {os.cpu_count()} cores",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100, help="at most 273")
    parser.add_argument("--out", type=Path, help="write the figures here")
    options = parser.parse_args()
    text = json.dumps(measure(options.photos), indent=2) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
