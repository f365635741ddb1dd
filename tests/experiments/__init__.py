"""Experiments are tested with a network that learns within a second."""

import re

from indiret.datasets import RetrievalDataset
from indiret.network import CONFIGS

SMALL = CONFIGS["base"].replace(
    grid=(6, 6), query_grid=(4, 4), size=8, scales=(1.0,), shifts=1, width=2, blocks=(1,)
)


def record_calls(monkeypatch, module, name):
    """The positional arguments of every call of a module's function from now on, as a list."""
    calls, original = [], getattr(module, name)

    def recording(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, recording)
    return calls


def lose_photo(monkeypatch, name):
    """Let a photo be gone from now on, for whoever reads it."""
    original = RetrievalDataset.read

    def read(self, wanted):
        if wanted == name:
            raise FileNotFoundError(f"There is no file {name}.jpg.")
        return original(self, wanted)

    monkeypatch.setattr(RetrievalDataset, "read", read)


def damages(path):
    """Each way in which a file that we wrote may be found again: empty, cut, of another kind."""
    kept = path.read_bytes()
    broken = re.sub(rb"(?<=[\s\[,:])0\.\d+", b"NaN", kept)
    for content in {b"", kept[: len(kept) // 2], kept[:-9], b"[1]\n", broken} - {kept}:
        path.write_bytes(content)
        yield content
    path.unlink()
    path.mkdir()
    (path / "note").touch()
    yield "a folder"
