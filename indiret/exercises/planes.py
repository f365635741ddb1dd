"""The checks of the chapter on planes; see `indiret.exercises` for how they work.

Chapter: *Sphere or plane?*
"""

import torch

from indiret.exercises.checks import Answer, exercise, expect, random_tensor
from indiret.planes.geometry import Plane, sample_plane
from indiret.planes.voting import hough_votes


@exercise
def plane_entries(answer: Answer) -> None:
    hint = "A plane has one place in the target for each query patch, wherever that place is."
    patches, places = 13 * 9, 38 * 41
    mistakes = {
        "That is the whole target for each patch. A plane fixes the place of each.": (
            patches * places
        ),
        "Those are the places of the target. Count the query patches.": places,
    }
    expect(answer, patches, hint, mistakes)


@exercise
def lands_at(answer: Answer) -> None:
    A, t = torch.tensor([[2.0, 0.5], [-0.5, 2.0]]), torch.tensor([3.0, 1.0])
    hint = "Row i takes the first row of A and the first of t; (k, l) = (1, 0) lands at (5, 0.5)."
    mistakes = {
        "That is the transposed matrix: rows of A belong to i and j.": [5.0, 1.5],
        "The shift t is missing.": [2.0, -0.5],
        "Column before row: return (i, j).": [0.5, 5.0],
    }
    expect(answer(A, t, 1.0, 0.0), [5.0, 0.5], hint, mistakes)
    expect(answer(A, t, 2.0, 3.0), [8.5, 6.0], hint)


@exercise
def middle_stays(answer: Answer) -> None:
    A, middle = torch.tensor([[1.5, 0.2], [-0.2, 1.1]]), torch.tensor([6.0, 4.0])
    there = torch.tensor([20.0, 17.0])
    hint = "The middle m lands at A m + t; choose t so that this is the place asked for."
    mistakes = {
        "That is right only where A is 1: send the middle through A first.": there - middle,
        "That is the transposed matrix: A m is `A @ middle`.": there - middle @ A,
        "The sign: t is what A m still lacks of the place.": A @ middle - there,
    }
    expect(answer(A, middle, there), there - A @ middle, hint, mistakes)


@exercise
def along_the_plane(answer: Answer) -> None:
    inside = "Mean of responses[i, j, k, l] at (i, j) = A (k, l) + t over all k and l."
    far = "A patch that lands outside the target responds with 0, and it still counts in the mean."
    responses = random_tensor(11, 12, 4, 5)
    for t, hint in (((1, 2), inside), ((6, 7), far)):
        plane = Plane(2 * torch.eye(2), torch.tensor(t, dtype=torch.float32), 0.0)
        wanted = sample_plane(responses, plane).mean()
        total = "That is the sum. Divide by how many patches the template has."
        turned = Plane(plane.matrix, plane.offset.flip(0), 0.0)
        swapped = "Rows and columns are exchanged: t is (rows, columns)."
        mistakes = {total: 20 * wanted, swapped: sample_plane(responses, turned).mean()}
        expect(answer(responses, 2, t), wanted, hint, mistakes)


@exercise
def z_score(answer: Answer) -> None:
    votes = hough_votes(random_tensor(11, 12, 4, 5), step=2)
    above, found = votes.max() - votes.mean(), answer(votes)
    whole = above / votes.std(correction=0)  # of all votes, or as of a sample: both are right
    wanted = whole if abs(_number(found) - whole) < 1e-4 else above / votes.std()
    mistakes = {
        "Divide by the standard deviation, not by its square.": above / votes.var(),
        "That is a distance in votes. Divide it by the standard deviation.": above,
        "Take the mean away from the best vote first.": votes.max() / votes.std(),
        "Those are the z-scores of all votes. Return that of the best.": (
            (votes - votes.mean()) / votes.std()
        ),
    }
    hint = "How far the best vote lies above the mean of all, in their standard deviations."
    expect(found, wanted, hint, mistakes)
    hint = "Brighter responses all over must change nothing: the z-score has no unit."
    expect(answer(3 * votes + 1), wanted, hint)


def _number(found: Answer) -> float:
    """An answer as a number; 0 where it is none."""
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError):
        return 0.0
