"""The checks of the chapter on planes; see `indiret.exercises` for how they work.

Chapter: *Sphere or plane?*
"""

import torch

from indiret.exercises.checks import Answer, exercise, expect, random_tensor
from indiret.planes.geometry import Plane, sample_plane
from indiret.planes.voting import hough_votes

RESPONSES = random_tensor(11, 12, 4, 5)  # of a small template


@exercise
def plane_entries(answer: Answer) -> None:
    hint = "A plane has one place in the target for each query patch, wherever that place is."
    expect(answer, 13 * 9, hint)


@exercise
def lands_at(answer: Answer) -> None:
    A, t = torch.tensor([[2.0, 0.5], [-0.5, 2.0]]), torch.tensor([3.0, 1.0])
    hint = "Row i takes the first row of A and the first of t; (k, l) = (1, 0) lands at (5, 0.5)."
    expect(answer(A, t, 1, 0), [5.0, 0.5], hint)
    expect(answer(A, t, 2, 3), [8.5, 6.0], hint)


@exercise
def middle_stays(answer: Answer) -> None:
    A, middle = torch.tensor([[1.5, 0.2], [-0.2, 1.1]]), torch.tensor([6.0, 4.0])
    there = torch.tensor([20.0, 17.0])
    hint = "The middle m lands at A m + t; choose t so that this is the place asked for."
    expect(answer(A, middle, there), there - A @ middle, hint)


@exercise
def along_the_plane(answer: Answer) -> None:
    inside = "Mean of responses[i, j, k, l] at (i, j) = A (k, l) + t over all k and l."
    far = "A patch that lands outside the target responds with 0, and it still counts in the mean."
    for t, hint in (((1, 2), inside), ((6, 7), far)):
        plane = Plane(2 * torch.eye(2), torch.tensor(t, dtype=torch.float32), 0.0)
        expect(answer(RESPONSES, 2, t), sample_plane(RESPONSES, plane).mean(), hint)


@exercise
def z_score(answer: Answer) -> None:
    votes = hough_votes(RESPONSES, step=2)
    wanted = (votes.max() - votes.mean()) / votes.std()
    hint = "How far the best vote lies above the mean of all, in their standard deviations."
    expect(answer(votes), wanted, hint)
    hint = "Brighter responses all over must change nothing: the z-score has no unit."
    expect(answer(3 * votes + 1), wanted, hint)
