"""``indiret doctor``: whether this machine has what the library and the book need."""

import os
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from typer import Exit

from indiret.cli import options
from indiret.datasets import load_dataset

_PACKAGES = ("torch", "numpy", "pillow", "scipy", "scikit-learn", "matplotlib", "pandas")
_FOR_THE_BOOK = ("jupyter-book", "papermill", "anywidget", "ipywidgets", "ipykernel")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_LEAST_MEMORY = 2.0  # GB


def doctor_command() -> None:
    """Print what is there and what is missing, then search and time it; exit status 0 or 1."""
    missing = [name for name in _PACKAGES if _show_package(name)]
    absent = [name for name in _FOR_THE_BOOK if _show_package(name)]
    print(f"{'python':14} {sys.version.split()[0]}")
    print(f"{'threads':14} {_threads()}")
    memory = read_memory()
    print(f"{'memory':14} {f'{memory:.1f} GB' if memory else 'unknown'}")
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    print(f"{'browser':14} {browser or 'none: the tests of pages are skipped'}")
    if absent:
        print(f"without {', '.join(absent)} the library works and the book cannot be made")
    try:
        if missing:
            raise ValueError(f"{', '.join(missing)} is missing; `pip install -c constraints.txt .`")
        if memory and memory < _LEAST_MEMORY:
            raise ValueError(f"{memory:.1f} GB of memory is little; give {_LEAST_MEMORY:.0f} GB.")
        print(f"{'self-test':14} {self_test()}")
    except ValueError as error:
        print(f"indiret: {error}", file=sys.stderr)
        raise Exit(1) from error


def _show_package(name: str) -> bool:
    """Print a package's version; whether it is missing."""
    try:
        print(f"{name:14} {version(name)}")
    except PackageNotFoundError:
        print(f"{name:14} missing")
        return True
    return False


def _threads() -> str:
    import torch  # here, so that help comes at once

    said = f"{torch.get_num_threads()} of torch on {os.cpu_count()} cores"
    return said + (", a GPU" if torch.cuda.is_available() else ", no GPU")


def read_memory() -> float:
    """The machine's memory in GB; 0 where it does not tell.

    >>> read_memory() >= 0
    True
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows
        return 0.0


def self_test(photos: int = 12) -> str:
    """Search some photos of Toytown with the default method; ValueError if the answer is wrong.

    >>> self_test(3)
    'found 1 of 1 in ... s'
    """
    from indiret.retrieval import build_retriever

    started = time.perf_counter()
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    answer = sorted(query.good - {query.image})[0]
    others = sorted(set(town.images) - query.positives - {query.image} - query.junk)
    names = [answer, *others[: photos - 1]]
    retriever = build_retriever(options.DEFAULT)
    scores = retriever.score(
        retriever.encode_query(town.read_query(query)),
        [retriever.encode(town.read(name)) for name in names],
    )
    if names[int(max(range(len(names)), key=lambda n: scores[n]))] != answer:
        raise ValueError("the self-test ranks a wrong photo first; install constraints.txt anew.")
    return f"found 1 of 1 in {time.perf_counter() - started:.0f} s"
