"""The checks of the chapter on collections; see `indiret.exercises` for how they work.

Chapter: *From pairs to collections*.
"""

from indiret.exercises.checks import Answer, exercise, expect


@exercise
def hamming(answer: Answer) -> None:
    hint = "Count the digits that differ, place by place: 0b110 and 0b011 differ in two."
    expect(answer(0b1011, 0b1011), 0, hint)
    expect(answer(0b110, 0b011), 2, hint, {"Compare digit by digit, not how many are 1.": 0})
    expect(answer(2**63, 2**64 - 1), 63, hint)


@exercise
def recall_of(answer: Answer) -> None:
    ranked = ["b", "x", "a", "y", "c"]
    hint = "Of all answers, the share that is in the list: divide by how many answers there are."
    precision = "That is precision: divide by how many answers there are, not by the length."
    expect(
        answer(ranked, {"a", "b", "c", "d"}, 3),
        0.5,
        hint,
        {precision: 2 / 3, "That is how many were found. Divide by how many answers there are.": 2},
    )
    expect(answer(ranked, {"c"}, 4), 0.0, "An answer after the first `length` names is not found.")
    expect(answer(ranked, {"c"}, 5), 1.0, "The name in place `length` counts, too.")


@exercise
def merge(answer: Answer) -> None:
    first = {1: [("a", 3), ("b", 5)], 2: [("b", 0)]}
    second = {1: [("c", 4)], 7: [("c", 1), ("a", 2)]}
    whole = {1: [("a", 3), ("b", 5), ("c", 4)], 2: [("b", 0)], 7: [("c", 1), ("a", 2)]}
    hint = "Where both files have a word, its postings are those of the first, then of the second."
    back = {**whole, 1: [("c", 4), ("a", 3), ("b", 5)]}
    mistakes = {
        "Only the second file's postings are left of a word that both have.": first | second,
        "Only the first file's postings are left of a word that both have.": second | first,
        "The postings of the first file come first.": back,
    }
    expect(answer(first, second, set()), whole, hint, mistakes)
    left = {1: [("a", 3), ("c", 4)], 7: [("c", 1), ("a", 2)]}
    hint = "Postings of removed photos go, and so does a word that has none left."
    mistakes = {
        "A word without postings goes, too.": {**left, 2: []},
        "The set `removed` holds photos; a posting is (photo, place).": whole,
    }
    expect(answer(first, second, {"b"}), left, hint, mistakes)


@exercise
def fullest_bin(answer: Answer) -> None:
    shifts, weights = [(0, 0), (1, 2), (4, 4), (5, 5), (9, -3)], [1.0, 1.0, 2.0, 2.0, 3.5]
    hint = "A square may start at any shift: (4, 4) and (5, 5) fit into one of three by three."
    mistakes = {
        "That is the heaviest single shift. Add all in one square.": 3.5,
        "That counts all shifts. Those of one square count.": 9.5,
        "That counts shifts. Add their weights.": 2.0,
    }
    expect(answer(shifts, weights, 3), 4.0, hint, mistakes)
    expect(answer(shifts, weights, 1), 3.5, "With squares of one shift the heaviest shift wins.")
    hint = "The border of a bin may not part them: let the square start anywhere."
    expect(answer([(2, 2), (3, 3)], [1.0, 1.0], 3), 2.0, hint)
    hint = "(0, 2) and (2, 0) fit into the square that starts at (0, 0), where no shift is."
    expect(answer([(0, 2), (2, 0)], [1.0, 1.5], 3), 2.5, hint)
