"""Make a course for nbgrader out of the chapters: ``python -m tools.make_course``, `make course`.

A chapter's exercises become one assignment. In ``--out`` there are then

- ``source``, the instructor's version: solutions, their reasons, the tests and the points;
- ``release``, the students' version, which nbgrader makes of it: no solutions, no hidden tests;
- ``chapters``, the chapters without solutions, and ``indiret-students.zip`` with both of these;
- ``nbgrader_config.py``: ``nbgrader autograde`` and all other commands work in this folder.

A visible test calls the chapter's own check, which says what is wrong. A hidden one calls it with
random numbers of two other seeds, so that an answer for one set of numbers only gets no points.

``--strip FOLDER`` takes the solutions out of notebooks and pages there, for a book without them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "_build" / "course"
TASK = re.compile(r"### (★{1,3})☆{0,2} .+")
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>.*?</details>", re.DOTALL)
ROLE = re.compile(r" ?\{\w+(?::\w+)?\}`[^`]*`")  # such as a citation, which only the book resolves

CONFIG = """\
c = get_config()  # noqa: F821  nbgrader's
c.CourseDirectory.course_id = "indiret"
c.ClearSolutions.code_stub = {"python": "# Replace the `...` above by your answer."}
c.Execute.timeout = 60  # seconds for a cell; the slowest check takes one
"""
README = """\
# Exercises of *Indicative image retrieval*

`chapters` holds the chapters and `assignments` one notebook for each chapter's exercises.

1. Install the library, as its README says, and JupyterLab: `pip install jupyterlab`.
2. Read a chapter, then open its assignment. Replace each `...` by your answer, and run the cell
   below it: it says whether the answer is right, and if not, what to look at.
3. Keep the file's name and its cells. Hand in the notebook.

An answer is also tried on random numbers that you do not see. ★☆☆ is worth one point, ★★★ three.
"""
TEST = """\
from indiret.exercises import check

verdict = check("{name}", {answer})
print(verdict)
assert verdict.right, verdict.hint
### BEGIN HIDDEN TESTS
for seed in {seeds}:
    verdict = check("{name}", {answer}, seed)
    assert verdict.right, verdict.hint
### END HIDDEN TESTS"""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter, as its cells have it."""

    chapter: str
    name: str
    answer: str  # what `check` is called with
    grade: int  # stars
    imports: str
    task: str
    starter: str
    solution: str
    reason: str
    mistake: str


def read_exercises(chapter: Path) -> Iterator[Exercise]:
    """Every exercise: a task, then ``exercise-*-starter``, then ``exercise-*-solution``.

    Raises ValueError if cells are missing or do not have the form that CONTRIBUTING.md describes.
    """
    cells = [
        (cell["id"], "".join(cell["source"]))
        for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    ]
    imports = dict(cells).get("imports", "")
    for (_, task), (starter_id, starter), (answer_id, answers) in zip(
        cells, cells[1:], cells[2:], strict=False
    ):
        if not re.fullmatch("exercise-.*-starter", starter_id):
            continue
        heading = TASK.match(task)
        called = re.search(r'^check\("(\w+)", (\w+)\)$', starter, re.MULTILINE)
        blocks = re.findall(r"^```python\n(.*?)^```$", answers, re.MULTILINE | re.DOTALL)
        start = "<details>\n<summary>Solution</summary>\n\n```python"
        if (
            not (heading and called and len(blocks) == 2 and answers.startswith(start))
            or answer_id != starter_id.removesuffix("starter") + "solution"
            or not answers.endswith("```\n\n</details>")
        ):
            raise ValueError(
                f"{chapter.name}: the cells around {starter_id} do not have the form of an "
                "exercise; CONTRIBUTING.md describes it."
            )
        reason = answers.split("```")[2].strip()
        yield Exercise(
            chapter.stem, called[1], called[2], len(heading[1]), imports, task, starter,
            blocks[0], reason, blocks[1],
        )  # fmt: skip


def without_solutions(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without the cells that hold a solution."""
    cells = [cell for cell in notebook["cells"] if not cell.get("id", "").endswith("-solution")]
    return {**notebook, "cells": cells}


def strip_folder(folder: Path) -> None:
    """Take solutions out of the notebooks of a folder, and what is folded away of its pages."""
    for path in folder.rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        _write(path, without_solutions(notebook))
    for path in folder.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        path.write_text(DETAILS.sub(r"\1", text), encoding="utf-8")


def assignment(chapter: Path, seeds: tuple[int, int]) -> dict[str, Any] | None:
    """The instructor's version of a chapter's exercises, or None where there are none."""
    exercises = list(read_exercises(chapter))
    if not exercises:
        return None
    source = json.loads(chapter.read_text(encoding="utf-8"))
    first = "".join(source["cells"][0]["source"])
    set_up = next("".join(c["source"]) for c in source["cells"] if c["id"] == "set-up")
    title = first.splitlines()[0].removeprefix("# ")
    total = sum(one.grade for one in exercises)
    head = (
        f"# Exercises: {title}\n\nReplace each `...` by your answer and run the cell below it. "
        f"{total} points in all. A task may ask you to go on in the chapter; that is not graded."
    )
    cells = [
        _cell("markdown", "title", head, locked=True),
        _cell("code", "set-up", set_up, locked=True),
        _cell("code", "imports", exercises[0].imports, locked=True),
    ]
    for one in exercises:
        reason = "\n".join(f"# {line}" for line in one.reason.splitlines() if line)
        mistake = "\n".join(f"#     {line}".rstrip() for line in one.mistake.splitlines())
        answer = re.sub(r"\n*^check\(.*\)$", "", one.starter, flags=re.MULTILINE)
        answer += f"\n\n### BEGIN SOLUTION\n{one.solution}\n{reason}\n{mistake}\n### END SOLUTION"
        test = TEST.format(name=one.name, answer=one.answer, seeds=seeds)
        cells += [
            _cell("markdown", f"{one.name}-task", ROLE.sub("", one.task), locked=True),
            _cell("code", f"{one.name}-answer", answer, solution=True),
            _cell("code", f"{one.name}-test", test, grade=True, locked=True, points=one.grade),
        ]
    return {**source, "cells": cells}


def _cell(kind: str, name: str, text: str, **nbgrader: Any) -> dict[str, Any]:
    """A cell with what nbgrader has to know of it."""
    known = {"grade": False, "solution": False, "locked": False, "task": False} | nbgrader
    meta = {"nbgrader": {"grade_id": name, "schema_version": 3, "cell_type": kind} | known}
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": meta, "source": text}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _write(path: Path, notebook: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run_nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of nbgrader in a course's folder; it looks for alembic on the path."""
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "PATH": here}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def make_course(chapters: list[Path], out: Path = OUT, seed: int = 0) -> list[str]:
    """Write the course; return the assignments' names.

    Raises ModuleNotFoundError without nbgrader, and RuntimeError where it fails.
    """
    if find_spec("nbgrader") is None:
        raise ModuleNotFoundError('a course needs nbgrader: pip install "indiret[course]".')
    for name in ("source", "release", "chapters"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    names = []
    for chapter in chapters:
        notebook = json.loads(chapter.read_text(encoding="utf-8"))
        _write(out / "chapters" / chapter.name, without_solutions(notebook))
        if source := assignment(chapter, (2 * seed + 1, 2 * seed + 2)):
            _write(out / "source" / chapter.stem / chapter.name, source)
            names.append(chapter.stem)
    for name in names:
        done = run_nbgrader(out, "generate_assignment", name, "--force")
        if done.returncode:
            raise RuntimeError(f"nbgrader cannot make {name}:\n{done.stderr}")
    with zipfile.ZipFile(out / "indiret-students.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README.md", README)
        for folder, inside in (("chapters", "chapters"), ("release", "assignments")):
            for path in sorted((out / folder).rglob("*.ipynb")):
                file.write(path, Path(inside) / path.relative_to(out / folder))
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make a course for nbgrader of the chapters.")
    parser.add_argument("chapters", nargs="*", type=Path, help="notebooks; without, all chapters")
    parser.add_argument("--out", type=Path, default=OUT, help="the course's folder")
    parser.add_argument("--seed", type=int, default=0, help="of the hidden tests' numbers")
    parser.add_argument(
        "--strip", type=Path, metavar="FOLDER", help="only take out solutions there"
    )
    given = parser.parse_args(arguments)
    if given.strip:
        strip_folder(given.strip)
        return 0
    chapters = given.chapters or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    try:
        names = make_course(chapters, given.out, given.seed)
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(names)} assignments in {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
