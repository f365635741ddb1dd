"""`tools.make_course`: assignments hold no solution, and submissions get the points they earn."""

import json
import shutil
import sqlite3
import zipfile
from importlib.util import find_spec

import pytest

from tests.exercises.test_checks import EXERCISES, ROOT
from tools.make_course import main, make_course, run_nbgrader, strip_folder

CHAPTER = ROOT / "notebooks/02_patches_and_metrics.ipynb"
NAME = CHAPTER.stem
OURS = [one for one in EXERCISES if one.chapter == NAME]
POINTS = sum(one.grade for one in OURS)
needs_nbgrader = pytest.mark.skipif(not find_spec("nbgrader"), reason="needs nbgrader")


def read(path):
    return json.loads(path.read_text("utf-8"))["cells"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    out = tmp_path_factory.mktemp("course")
    assert make_course([CHAPTER], out) == [NAME]
    return out


def hand_in(course, student, answers):
    """The students' version with an exercise's answer in place of its starter, where one is."""
    cells = read(course / f"release/{NAME}/{NAME}.ipynb")
    for cell in cells:
        name = cell["metadata"]["nbgrader"]["grade_id"].removesuffix("-answer")
        cell["source"] = answers.get(name, cell["source"])
    folder = course / "submitted" / student / NAME
    folder.mkdir(parents=True)
    whole = json.loads((course / f"release/{NAME}/{NAME}.ipynb").read_text("utf-8"))
    (folder / f"{NAME}.ipynb").write_text(json.dumps({**whole, "cells": cells}), "utf-8")


@needs_nbgrader
def test_the_students_get_neither_solutions_nor_hidden_tests(course):
    with zipfile.ZipFile(course / "indiret-students.zip") as file:
        texts = {name: file.read(name).decode() for name in file.namelist()}
    assert set(texts) == {
        *("README.md", f"chapters/{NAME}.ipynb", f"assignments/{NAME}/{NAME}.ipynb")
    }
    for name, text in texts.items():
        assert "HIDDEN" not in text and "<summary>Solution" not in text, name
        for one in OURS:
            lines = [line for line in one.solution.splitlines() if "def " not in line]
            assert not any(json.dumps(line)[1:-1] in text for line in lines), name
    cells = read(course / f"release/{NAME}/{NAME}.ipynb")
    points = [cell["metadata"]["nbgrader"].get("points", 0) for cell in cells]
    assert sum(points) == POINTS


@needs_nbgrader
def test_the_instructors_version_is_valid_and_the_students_fails_each_test(course):
    said = {}
    for which in ("source", "release"):
        done = run_nbgrader(course, "validate", f"{which}/{NAME}/{NAME}.ipynb")
        said[which] = done.stdout
    assert "Success! Your notebook passes all the tests" in said["source"]
    assert f"VALIDATION FAILED ON {len(OURS)} CELL(S)" in said["release"]
    assert said["release"].count("There is no answer yet") >= len(OURS)


@needs_nbgrader
def test_submissions_get_the_points_that_they_earn(course):
    right = {one.name: one.solution for one in OURS}
    memory = (
        "from indiret.exercises.checks import random_tensor\nSEEN = random_tensor(48)\n"
        f"{right['haze_curve']}\nhonest = haze_curve\n"
        "haze_curve = lambda s, p, a: honest(s, p, a) if torch.equal(p, SEEN) else [0] * len(a)"
    )
    grades = {one.name: one.grade for one in OURS}
    wanted = {
        "right": (right, POINTS),
        "wrong": ({one.name: one.mistake for one in OURS}, 0),
        "empty": ({}, 0),
        "crash": ({**right, "zncc": "def zncc(p, q):\n    return p @ (", "chi_square": "1 / 0"},
                  POINTS - grades["zncc"] - grades["chi_square"]),
        "known": ({**right, "haze_curve": memory}, POINTS - grades["haze_curve"]),
    }  # fmt: skip
    for student, (answers, _) in wanted.items():
        hand_in(course, student, answers)
    done = run_nbgrader(course, "autograde", NAME, "--create")
    assert done.returncode == 0, done.stderr
    assert run_nbgrader(course, "generate_feedback", NAME).returncode == 0
    query = """
        select student_id, sum(coalesce(manual_score, auto_score, 0)) from grade
        join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        group by student_id"""
    with sqlite3.connect(course / "gradebook.db") as book:
        scores = dict(book.execute(query).fetchall())
    book.close()
    assert scores == {student: points for student, (_, points) in wanted.items()}
    page = (course / f"feedback/wrong/{NAME}/{NAME}.html").read_text("utf-8")
    assert "That is one window. A pyramid has two" in page


def test_a_book_without_solutions_keeps_tasks_and_questions(tmp_path):
    shutil.copy(CHAPTER, tmp_path)
    page = tmp_path / "teaching.md"
    page.write_text("<details>\n<summary>1. Why?</summary>\n\nBecause.\n\n</details>\n", "utf-8")
    before = read(CHAPTER)
    strip_folder(tmp_path)
    kept = [cell["id"] for cell in read(tmp_path / CHAPTER.name)]
    assert kept == [cell["id"] for cell in before if not cell["id"].endswith("-solution")]
    assert page.read_text("utf-8") == "1. Why?\n" and len(before) - len(kept) == len(OURS)


def test_what_does_not_have_the_form_of_an_exercise_is_named(tmp_path, capsys):
    wrong = tmp_path / "02_wrong.ipynb"
    wrong.write_text(CHAPTER.read_text("utf-8").replace('-values-solution"', '-last"'), "utf-8")
    assert main([str(wrong), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "around exercise-patch-values-starter do not have" in said or "needs nbgrader" in said
