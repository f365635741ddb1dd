"""Write Toytown's description as Croissant, and a card for each file of shipped weights.

    python -m tools.describe_data
    python -m tools.describe_data --check

The first writes ``indiret/data/toytown.croissant.json`` from the data set's own card, licence and
manifest, and ``book/model_cards.md`` from the weights and the logs of their training. The second
says whether they are up to date, and exits with 1 if not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).parents[1]
DATA = ROOT / "indiret" / "data"
CROISSANT, CARDS = DATA / "toytown.croissant.json", ROOT / "book" / "model_cards.md"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
FROZEN = "2026-11-23"  # when the manifest got its last file
MADE_BY = {  # the commands; a verifier's name tells its own
    "base": "indiret train --seed 1 --out runs/base",
    "patch-net": "python -m tools.train_patches",
    "plane-net": "indiret train --network plane-net --out runs/plane-net",
    "planes": "python -m tools.fit_planes",
    "postings": "python -m tools.fit_postings",
}


def croissant() -> dict[str, Any]:
    """Toytown as JSON-LD; the parts of the data set are folders of the package."""
    card = json.loads((DATA / "toytown/card.json").read_text("utf-8"))
    manifest = (DATA / "toytown/MANIFEST.sha256").read_bytes()
    kinds = {"images": "image/jpeg", "masks": "image/png", "groundtruth": "text/plain"}
    sets: list[dict[str, Any]] = [
        {
            "@type": "cr:FileSet",
            "@id": f"{split}-{kind}",
            "encodingFormat": form,
            "includes": f"toytown/{split}/{kind}/*",
        }
        for split in card["splits"]
        for kind, form in kinds.items()
    ]
    manifest_file = {
        "@type": "cr:FileObject",
        "@id": "manifest",
        "name": "MANIFEST.sha256",
        "description": "SHA-256 of every file.",
        "contentUrl": "toytown/MANIFEST.sha256",
        "encodingFormat": "text/plain",
        "sha256": hashlib.sha256(manifest).hexdigest(),
    }
    counts = ", ".join(f"{one['images']} of {name}" for name, one in card["splits"].items())
    records = [
        {
            "@type": "cr:RecordSet",
            "@id": f"{split}-photos",
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{split}-photos/image",
                    "dataType": "sc:ImageObject",
                    "source": {
                        "fileSet": {"@id": f"{split}-images"},
                        "extract": {"fileProperty": "content"},
                    },
                }
            ],
        }
        for split in card["splits"]
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": card["name"],
        "version": f"{card['maker']}.0",
        "datePublished": FROZEN,
        "description": "Rendered photos of landmarks for image retrieval, with masks, points that "
        f"correspond and relevance of each photo to each query: {counts}.",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "creator": {"@type": "sc:Organization", "name": "The indiret authors"},
        "citeAs": f"The indiret authors: {card['name']}, version {card['maker']}.0, a rendered "
        "data set for image retrieval.",
        "distribution": [manifest_file, *sets],
        "recordSet": records,
    }


def model_cards() -> Iterator[str]:
    """The lines of the page: of each file of weights, what the file and its log say."""
    yield "# Model cards\n"
    yield "One card for each file of weights in `indiret/data/weights`, written from the file and"
    yield "the log of its training by `python -m tools.describe_data`. Limits of all: they have"
    yield "learned on [Toytown](toytown.md), a rendered town, and were not measured on people, on"
    yield "documents or on medical pictures. On real photos take probabilities as hints; only those"
    yield "of `plane-net` were [fitted to some](decisions/0022_probabilities.md)."
    for path in sorted((DATA / "weights").glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            values = sum(file.get_tensor(name).numel() for name in file.keys())
            fitted_on_real_photos = "calibration" in (file.metadata() or {})
        log_file = path.with_suffix(".log.json")
        log = json.loads(log_file.read_text("utf-8")) if log_file.is_file() else None
        rows = {"file": f"`{path.name}`, {path.stat().st_size / 1e3:.0f} kB, {values:,} values"}
        backbone, _, kind = path.stem.rpartition("_")
        learn = f"indiret train --network {backbone.replace('_', '/')}:{kind} --pairs smvs"
        if log:
            learn += f" --steps {log['training']['steps']}"
        rows["command"] = f"`{MADE_BY.get(path.stem, learn)}`"
        rows["data"] = "Toytown, landmarks for training; choices on its validation landmarks"
        if backbone:
            rows["data"] += "; 166 pairs of photos of SMVS; on EfficientNet-lite0, of ImageNet"
        if fitted_on_real_photos:
            rows["probabilities"] = (
                "fitted to Toytown's validation photos and to real ones of SMVS and WxBS by "
                "`python -m tools.fit_calibration FOLDER`"
            )
        if log:
            training, steps = log["training"], log["log"]
            measured = [one["validation_map"] for one in steps if "validation_map" in one]
            rows["training"] = (
                f"{training['steps']:,} steps of {training['batch']} at most, "
                f"{training['optimiser']}, learning rate {training['learning_rate']}, "
                f"seed {training['seed']}"
            )
            if measured:
                rows["best mAP on validation"] = (
                    f"{max(measured):.3f}, over {training['validation_queries']} queries"
                )
            made = log["provenance"]
            rows["made with"] = f"torch {made['torch']}, {made['machine']}"
        else:
            rows["training"] = "no steps: fitted to photos by that command"
        licence = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"]
        rows["licence"] = licence.partition(" ")[0]  # of the code; the second is the texts'
        if backbone:
            rows["licence"] += "; SMVS's photos are for research, EfficientNet's weights apart"
        yield f"\n## {path.stem}\n\n| | |\n|---|---|"
        yield from (f"| {name} | {text} |" for name, text in rows.items())


def described() -> dict[Path, str]:
    """The text of each file that is written."""
    data = json.dumps(croissant(), indent=1, ensure_ascii=False) + "\n"
    return {CROISSANT: data, CARDS: "\n".join(model_cards()) + "\n"}


def main() -> int:
    """Write the files, or say which is out of date; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.describe_data")
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [path for path, text in described().items() if _read(path) != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date' if check else 'written'}")
        if not check:
            path.write_text(described()[path], encoding="utf-8")
    return int(check and bool(stale))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
