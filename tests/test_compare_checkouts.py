"""Two recordings of the same code are equal; what differs or is missing is found."""

import shutil

import numpy as np
import pytest

from benchmarks.compare_checkouts import main, record
from tests.tiny_town import make_tiny_town

METHODS = ("thumbnail", "mutual-nn")


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    town = make_tiny_town(folder / "town", "tiny")
    for side in ("before", "after", "after"):  # what is recorded is not recorded again
        record(folder / side, [town], METHODS)
    return folder


@pytest.fixture
def recorded(twice, tmp_path):
    """Two recordings, and the path and arrays of one method's file in the second."""
    folder = shutil.copytree(twice, tmp_path / "recorded")
    (path,) = folder.glob("after/*/mutual-nn.npz")
    with np.load(path) as file:
        return folder, path, dict(file)


def compared(folder):
    return main(["compare", str(folder / "before"), str(folder / "after")])


def test_the_same_code_twice(recorded, capsys):
    folder, _, arrays = recorded
    assert arrays["scores"].shape == (6, 22)
    assert sum(name.endswith("pairs") for name in arrays) == 9
    assert compared(folder) == 0
    assert capsys.readouterr().out.count("bit-equal") == len(METHODS)


@pytest.mark.parametrize(("change", "code"), [(1e-8, 0), (1e-5, 1), (np.nan, 1)])
def test_a_score_that_differs(recorded, capsys, change, code):
    folder, path, arrays = recorded
    arrays["scores"][2, 3] += change * arrays["scores"].max()
    np.savez(path, **arrays)
    assert compared(folder) == code
    assert ("scores differs by" in capsys.readouterr().out) == bool(code)


def test_less_is_found_and_more_is_no_difference(recorded, capsys):
    folder, path, arrays = recorded
    np.savez(path, **arrays, more=np.zeros(3))
    assert compared(folder) == 0
    pairs = next(name for name in arrays if name.endswith("pairs"))
    del arrays[pairs]
    np.savez(path, **arrays)
    assert compared(folder) == 1
    path.with_name("thumbnail.npz").unlink()
    assert compared(folder) == 1
    shown = capsys.readouterr().out
    assert f"{pairs} is missing" in shown and "MISSING" in shown


@pytest.mark.parametrize(("now", "code"), [(3, 0), (4, 1)])
def test_a_single_number(tmp_path, now, code):
    for side, steps in (("before", 3), ("after", now)):
        (tmp_path / side / "town").mkdir(parents=True)
        np.savez(tmp_path / side / "town" / "training.npz", code="", steps=np.array(steps))
    assert compared(tmp_path) == code


def test_nothing_recorded(tmp_path):
    with pytest.raises(FileNotFoundError, match="record it first"):
        main(["compare", str(tmp_path), str(tmp_path)])
