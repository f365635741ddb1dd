"""Make the README's picture, the pair of the landing page: ``python -m tools.readme_picture``.

It is chosen by the rule of `tools.landing.middle_pair` and drawn under the evidence of the planes,
with few enough colours to stay below 300 KB. Set up with ``pip install -e .[book]``.
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from indiret.datasets import load_dataset
from indiret.figures import draw_evidence_pairs
from indiret.retrieval import build_retriever, sort_hits
from tools.landing import middle_pair

PICTURE = Path(__file__).parents[1] / "book" / "_static" / "evidence.png"
METHOD = "plane-net"
COLOURS, WIDTH = 256, 900


def main() -> None:
    """Draw the pair and write `PICTURE`."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    town, retriever = load_dataset("toytown", split="validation"), build_retriever(METHOD)
    name, (right, _) = middle_pair()
    query = next(query for query in town.queries if query.name == name)
    picture, found = town.read_query(query), town.read(right)
    pair = retriever.encode_query(picture), retriever.encode(found)
    (hit,) = sort_hits(retriever, [right], retriever.score(pair[0], [pair[1]]))
    titles = "query", f"the same landmark: {hit.probability:.0%}"
    figure = draw_evidence_pairs(picture, found, retriever.explain(*pair), titles=titles)
    drawn = io.BytesIO()
    figure.savefig(drawn, bbox_inches="tight", dpi=110)
    small = Image.open(drawn).convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    small.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
