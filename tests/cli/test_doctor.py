"""What the doctor says of a machine that has all, and of one that lacks something."""

import pytest

from indiret.cli import doctor
from tests.cli.command import run


def test_a_whole_machine_passes_and_finds_its_photo(capsys):
    status, out, err = run(capsys, "doctor")
    assert (status, err) == (0, "")
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert {"torch", "python", "threads", "memory", "browser", "papermill"} <= told.keys()
    assert told["self-test"].startswith("found 1 of 1 in ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("_PACKAGES", ("no-such-package",), "no-such-package is missing; `pip install"),
        ("read_memory", lambda: 0.5, "0.5 GB of memory is little"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(capsys, monkeypatch, name, value, said):
    monkeypatch.setattr(doctor, "self_test", lambda: "left out")
    monkeypatch.setattr(doctor, name, value)
    status, _, err = run(capsys, "doctor")
    assert status == 1 and said in err and err.count("\n") == 1


def test_without_the_books_packages_the_library_still_passes(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "self_test", lambda: "left out")
    monkeypatch.setattr(doctor, "_FOR_THE_BOOK", ("no-such-package",))
    status, out, _ = run(capsys, "doctor")
    assert status == 0 and "without no-such-package the library works" in out


def test_a_wrong_answer_fails_the_self_test(monkeypatch):
    class Wrong:
        def encode(self, picture):
            return picture

        encode_query = encode

        def score(self, query, database):
            return list(range(len(database)))

    monkeypatch.setattr("indiret.retrieval.build_retriever", lambda name: Wrong())
    with pytest.raises(ValueError, match="a wrong photo first"):
        doctor.self_test(3)
