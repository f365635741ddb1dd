"""The checks of the chapter on collections; see `indiret.exercises` for how they work.

Chapter: *From pairs to collections*.
"""

from indiret.exercises.checks import Answer, exercise, expect


@exercise
def hamming(answer: Answer) -> None:
    hint = "Count the digits that differ, place by place: 0b110 and 0b011 differ in two."
    expect(answer(0b1011, 0b1011), 0, hint)
    expect(answer(0b110, 0b011), 2, hint)
    expect(answer(2**63, 2**64 - 1), 63, hint)


@exercise
def recall_of(answer: Answer) -> None:
    ranked = ["b", "x", "a", "y", "c"]
    hint = "Of all answers, the share that is in the list: divide by how many answers there are."
    expect(answer(ranked, {"a", "b", "c", "d"}, 3), 0.5, hint)
    expect(answer(ranked, {"c"}, 4), 0.0, "An answer after the first `length` names is not found.")
    expect(answer(ranked, {"c"}, 5), 1.0, "The name in place `length` counts, too.")


@exercise
def merge(answer: Answer) -> None:
    first = {1: [("a", 3), ("b", 5)], 2: [("b", 0)]}
    second = {1: [("c", 4)], 7: [("c", 1), ("a", 2)]}
    whole = {1: [("a", 3), ("b", 5), ("c", 4)], 2: [("b", 0)], 7: [("c", 1), ("a", 2)]}
    expect(_as_text(answer(first, second, set())), _as_text(whole), "Where both files have a word, "
           "the postings of both belong under it, those of the first in front.")  # fmt: skip
    left = {1: [("a", 3), ("c", 4)], 7: [("c", 1), ("a", 2)]}
    hint = "Postings of removed photos go, and so does a word that has none left."
    expect(_as_text(answer(first, second, {"b"})), _as_text(left), hint)


@exercise
def fullest_bin(answer: Answer) -> None:
    shifts, weights = [(0, 0), (1, 2), (4, 4), (5, 5), (9, -3)], [1.0, 1.0, 2.0, 2.0, 3.5]
    hint = "A square may start at any shift: (4, 4) and (5, 5) fit into one of three by three."
    expect(answer(shifts, weights, 3), 4.0, hint)
    expect(answer(shifts, weights, 1), 3.5, "With squares of one shift the heaviest shift wins.")
    expect(answer([(2, 2), (3, 3)], [1.0, 1.0], 3), 2.0, "The border of a bin may not part them.")


def _as_text(postings: Answer) -> Answer:
    """An inverted file in order of its words, so that two can be compared."""
    return str(sorted(postings.items())) if isinstance(postings, dict) else postings
