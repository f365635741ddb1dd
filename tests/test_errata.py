"""The chapter of errata: each cell computes what the words beside it say."""

import ast
import contextlib
import io
from pathlib import Path

import nbformat
import pytest

CHAPTER = Path(__file__).parents[1] / "notebooks/90_errata.ipynb"


@pytest.fixture(scope="module")
def printed():
    """What each code cell prints, line by line."""
    names, found = {}, {}
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        if cell.cell_type == "code":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(cell.source, cell.id, "exec"), names)
            found[cell.id] = out.getvalue().splitlines()
    return found


def test_equations_1_and_4(printed):
    assert printed["eq1-code"] == ["196 patches; 225 as printed"]
    assert len(set(printed["eq4-code"][0].split())) == 1, "P, Q and M have one sum"
    assert printed["eq4-printed-code"] == ["(3, 4, 2, 5) instead of (2, 5)"]


def test_equations_6_to_9(printed):
    assert [line.split()[-1] for line in printed["eq6-code"][::2]] == ["False", "True"]
    paper, normal = (line.split() for line in printed["eq6-autograd"])
    assert paper[2] != paper[-1] and normal[2] == normal[-1]
    assert [float(line.split()[-1]) for line in printed["range-code"]] == [0.399, 0.159]
    vector, length = (ast.literal_eval(line[8:]) for line in printed["eq9-code"])
    assert len(set(vector)) == 4 and len(set(length)) == 1
    assert "floating point" in printed["integer-code"][0]


def test_counts_and_tables(printed):
    assert printed["counts-code"] == ["55 queries; 6,392 usable photos"]
    millions = {
        line.split()[0]: float(line.split()[1]) for line in printed["parameters-count-code"]
    }
    assert round(millions["flat"]) == 11 and millions["full"] > 90
    base, har = (line.split()[-3:] for line in printed["same-iou-code"])
    assert base == har
    gains = [float(line.split()[1].strip(",")) for line in printed["bold-code"]]
    deviation = float(printed["bold-code"][0].split()[-1])
    assert 0 < gains[0] < deviation and max(gains[1:]) < 0
    ratios = [float(line.split()[-2]) for line in printed["ratios-code"]]
    assert max(ratios) == 79.8 < 209.19
    assert float(printed["mean-code"][0].split()[2].strip(";")) == 58.5
    rest = [float(line.split()[-1]) for line in printed["mean-code"][1:]]
    assert max(rest) < 50, "no row of Table 2 is that low"
    assert all(float(line.split()[-1]) < 1 for line in printed["ceiling-code"])
