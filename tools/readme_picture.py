"""Make the README's picture from the first chapter: ``python -m tools.readme_picture``.

The chapter is run as for the book, and its figure ``evidence`` saved with few enough colours
to stay below 300 KB. Set up with ``pip install -e .[book]``.
"""

import argparse
from pathlib import Path

from PIL import Image

from tools.run_notebooks import run_notebook

CHAPTER = Path("notebooks/01_quick_tour.ipynb")
PICTURE = Path("book/_static/evidence.png")
COLOURS, WIDTH = 128, 900


def main() -> None:
    """Run the chapter and write `PICTURE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--query", type=int, default=0, help="number of the query (0)")
    runs = Path("_build/runs")
    run_notebook(CHAPTER, runs, {"query_number": parser.parse_args().query})
    with Image.open(runs / "pictures" / CHAPTER.stem / "evidence.png") as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
