"""`indiret.evaluation.lines`: the lines of a drawing, counted one by one."""

from fractions import Fraction
from itertools import combinations
from math import atan2, degrees
from statistics import pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.evaluation import line_pattern, map_coverage

GRID = (6, 7, 4, 5)
SHAPES = (90, 120), (100, 80)  # target, query


@st.composite
def matched_patches(draw, most=9):
    """As `Evidence.matches`: every patch of either side once at most."""
    count = draw(st.integers(0, most))
    sides = []
    for rows, columns in (GRID[:2], GRID[2:]):
        every = [(row, column) for row in range(rows) for column in range(columns)]
        sides.append(draw(st.permutations(every))[:count])
    return [(*target, *query) for target, query in zip(*sides, strict=True)]


def drawn(match):
    """The ends of a line: x and y in heights of a photo."""
    i, j, k, l = match
    wide, far = (shape[1] / shape[0] for shape in reversed(SHAPES))
    return ((l + 0.5) / 5 * wide, (k + 0.5) / 4), (wide + (j + 0.5) / 7 * far, (i + 0.5) / 6)


def counted_on_plane(matches):
    """By exact fractions, a triple at a time."""
    best = min(len(matches), 2)
    for a, b, c in combinations(matches, 3):
        u, v = ([x - y for x, y in zip(other, a, strict=True)] for other in (b, c))
        query, target = u[2] * v[3] - u[3] * v[2], u[0] * v[1] - u[1] * v[0]
        if query * target <= 0:
            continue
        count = 0
        for match in matches:
            w = [x - y for x, y in zip(match, a, strict=True)]
            one = Fraction(w[2] * v[3] - w[3] * v[2], query)
            two = Fraction(u[2] * w[3] - u[3] * w[2], query)
            count += all(abs(one * u[n] + two * v[n] - w[n]) <= 1 for n in (0, 1))
        best = max(best, count)
    return best


def meet(one, other):
    """Whether two segments cross, by where their lines meet."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = *one, *other
    bottom = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
    if bottom == 0:
        return False
    along = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / bottom
    aside = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / bottom
    return 0 < along < 1 and 0 < aside < 1


@settings(deadline=None)
@given(matched_patches())
def test_a_pattern_counted_line_by_line(matches):
    found = line_pattern(matches, GRID, *SHAPES)
    ends = [drawn(match) for match in matches]
    turns = [degrees(atan2(y2 - y1, x2 - x1)) for (x1, y1), (x2, y2) in ends]
    assert found.lines == len(matches)
    assert found.spread == pytest.approx(pstdev(turns) if turns else 0, abs=1e-9)
    assert found.crossings == sum(meet(*pair) for pair in combinations(ends, 2))
    assert found.on_plane == counted_on_plane(matches)


def test_a_match_has_four_numbers():
    with pytest.raises(ValueError, match="give i, j, k and l"):
        line_pattern([(1, 2)], GRID, *SHAPES)


def test_coverage_of_a_map():
    assert map_coverage(np.ones((3, 4))) == pytest.approx(1)
    assert map_coverage(np.eye(4)) == pytest.approx(1 / 4)
    assert map_coverage(np.zeros((3, 3))) == 0
    assert 1 / 12 < map_coverage(np.arange(12).reshape(3, 4)) < 1
