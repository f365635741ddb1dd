"""Every reader of files that people hand to us, on files with bytes changed: data or a sentence."""

import io
import json
import os
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indiret.datasets import RetrievalDataset, load_clicked_pairs, load_dataset, use_regions
from indiret.datasets.downloads import unpack
from indiret.datasets.files import read_array, read_json
from indiret.datasets.groundtruth import read_pickled
from indiret.datasets.pickles import read_plain_pickle
from indiret.experiments.grid import read_grid
from tests.datasets.test_downloads import archive, member
from tests.datasets.test_groundtruth import small_truth
from tests.datasets.test_loaders import photo
from tests.datasets.test_regions import coco
from tests.mutation import mutate

MUTATIONS = int(os.environ.get("INDIRET_FUZZ", 200))  # of each file
TOKENS = (
    *(b"1e400", b"-1", b"NaN", b"Infinity", b"null", b"true", b"{", b"[" * 2000, b'"', b"\\udce9"),
    *(b"9" * 5000, b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"../", b"\x80\x04"),
    *(b"1979-05-27", b"0x" + b"f" * 9000, b"{a = 1}"),
)
GRID = Path(__file__).parents[2] / "configs" / "toytown_fast.toml"


def groundtruth(kind):
    def make(root):
        for name in ("mill_1", "mill_2", "tower_1"):
            photo(root / "images" / f"{name}.jpg")
        lists = {"query": "oxc1_mill_1 5 5 60 40.5", "good": "mill_1\nmill_2", "ok": "", "junk": ""}
        (root / "groundtruth").mkdir()
        for what, text in lists.items():
            (root / "groundtruth" / f"mill_1_{what}.txt").write_text(text)
        return root / "groundtruth" / f"mill_1_{kind}.txt", lambda: load_dataset("oxford5k", root)

    return make


def clicked(file):
    def make(root):
        scene = root / "hard" / "tower"
        photo(scene / "01.jpg")
        photo(scene / "02.jpg")
        (scene / "corrs.txt").write_text("8 6 10 4 99\n80 60 20 8 99\n")
        sizes = {"hard/tower": {"images": {"01.jpg": {"orig": [80, 60], "now": [40, 30]}}}}
        (root / "sizes.json").write_text(json.dumps(sizes))
        return root / file, lambda: load_clicked_pairs(root)

    return make


def regions(root):
    photo(root / "x" / "a.jpg")
    town = load_dataset("folder", root)
    data = coco()
    data["annotations"] += [data["annotations"][0] | {"segmentation": [[1, 2, 30.5, 4, 9, 40]]}]
    (root / "c.json").write_text(json.dumps(data))
    return root / "c.json", lambda: use_regions(town, root / "c.json").roi("x/a.jpg")


def mask(root):
    photo(root / "mill.jpg")
    (root / "masks").mkdir()
    Image.fromarray(np.eye(60, 80, dtype=bool)).save(root / "masks" / "mill.png")
    town = RetrievalDataset("town", root, {"mill": root / "mill.jpg"}, (), {})
    return root / "masks" / "mill.png", lambda: town.roi("mill")


def file(data, read):
    def make(root):
        (root / "file").write_bytes(data)
        return root / "file", lambda: read(root / "file")

    return make


def tgz(root):
    path = archive(root / "a.tgz", member("a/b.jpg", b"photo" * 99), member("c.jpg", b"x" * 5000))
    return path, lambda: unpack(path, root / "images", ".jpg")


def npy():
    stream = io.BytesIO()
    np.save(stream, np.arange(24, dtype="f4").reshape(2, 3, 4))
    return stream.getvalue()


PLAIN = {"imlist": ["a", "b"], "gnd": [{"bbx": [1.5, 2, 3, 4], "junk": list(range(300))}]}
TARGETS = {
    **{f"{kind} list": groundtruth(kind) for kind in ("query", "good", "junk")},
    "clicked points": clicked("hard/tower/corrs.txt"),
    "sizes": clicked("sizes.json"),
    "COCO": regions,
    "mask": mask,
    "json": file(b'{"a": [1, 2.5], "b": []}', lambda path: read_json(path, dict[str, list[float]])),
    "npy": file(npy(), read_array),
    "truth": file(pickle.dumps(small_truth(), 2), lambda path: read_pickled(path, "roxford5k")),
    **{f"pickle {n}": file(pickle.dumps(PLAIN, n), read_plain_pickle) for n in (0, 2, 4)},
    "tgz": tgz,
    "grid": file(GRID.read_bytes(), read_grid),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore:.*invalid escape sequence")
def test_changed_files_give_data_or_a_sentence(tmp_path, target):
    path, read = TARGETS[target](tmp_path)
    whole, chance = path.read_bytes(), random.Random(target)
    read()
    refused = 0
    for _ in range(MUTATIONS):
        data = mutate(whole, chance, TOKENS)
        path.write_bytes(data)
        since = time.process_time()
        try:
            read()
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000, data
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} of {data[:2000]!r}") from error
        assert time.process_time() - since < 5, data
    assert refused
