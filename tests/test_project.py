"""What holds the project together: environments agree, notebooks are clean, pages are complete."""

import importlib
import json
import re
import statistics
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import indiret

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXT_FILES = {"", *(f".{end}" for end in "py md toml yml txt ipynb json css bib j2 js".split())}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read_cells(path: Path, kind: str = "") -> list[dict]:
    """The cells of a notebook, of one kind or of both, each source as one text."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = [{**cell, "source": "".join(cell["source"])} for cell in cells]
    return [cell for cell in cells if kind in ("", cell["cell_type"])]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pinned)
    return {canonical(name): version for name, version in pinned}


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout, so it is not known which files belong to it.")
    return [ROOT / line for line in listed.stdout.splitlines()]


def test_every_requirement_is_pinned():
    requirements = [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]
    names = {canonical(re.split(r"[<>=!~\[ ]", requirement)[0]) for requirement in requirements}
    assert names <= set(pins())
    assert pins()["torch"] == "2.13.0"


def test_environment_yml_agrees_with_pyproject_and_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    (python,) = [entry.partition("=")[2] for entry in conda if entry.startswith("python=")]
    (editable,) = [line for line in pip if line.startswith("--editable")]

    assert environment["name"] == PROJECT["name"]
    assert PROJECT["requires-python"] == f">={python}"
    assert f",python{python} " in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--constraint constraints.txt" in pip
    extras = re.fullmatch(r"--editable \.\[(.*)\]", editable)
    assert extras is not None
    assert set(extras[1].split(",")) == set(EXTRAS) - {"toytown"}


@each_notebook
def test_notebook_is_stripped_thin_and_has_fixed_ids(path):
    ids = [cell.get("id", "") for cell in read_cells(path)]
    assert len(set(ids)) == len(ids)
    # A made-up id is eight hexadecimal digits: names tell more, and do not change by themselves.
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", cell_id) for cell_id in ids)
    assert not [cell_id for cell_id in ids if re.fullmatch(r"[0-9a-f]{8}", cell_id)]
    code = read_cells(path, "code")
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]]
    lengths = [len(cell["source"].splitlines()) for cell in code]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 6


@each_notebook
def test_figures_of_a_notebook_are_described(path):
    for cell in read_cells(path, "code"):
        if re.search(r"\b(figures\.\w+|bars)\(", cell["source"]):
            described = cell["metadata"]["mystnb"]
            assert len(described["image"]["alt"].split()) >= 8, cell["id"]
            assert len(described["figure"]["caption"].split()) >= 8, cell["id"]


def test_the_quick_tour_is_short():
    lines = [
        line
        for cell in read_cells(ROOT / "notebooks/01_quick_tour.ipynb", "code")
        if not cell["id"].startswith(("exercise-", "set-up"))
        for line in cell["source"].splitlines()
        if line.strip()
    ]
    assert len(lines) < 40


def test_no_file_names_a_folder_of_one_machine():
    home = re.compile(r"(?<![\w.])/(?:home|root|Users|work|farm)/\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        if path.suffix in TEXT_FILES and path.is_file() and "mathjax" not in path.name
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if home.search(line)
    ]
    assert found == []


def test_the_readme_links_to_files_that_are_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https:)([^)]+)\)", readme)
    assert [link for link in links if not (ROOT / link).is_file()] == []
    assert all((ROOT / link).stat().st_size < 300_000 for link in links)


def test_every_module_is_in_the_book():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "book/api").glob("*.md"))
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "indiret").rglob("[a-z]*.py")
    ]
    assert sorted(modules) == sorted(re.findall(r"automodule:: ([\w.]+)", pages))


def test_public_names_exist_once_and_in_order():
    assert indiret.__all__ == sorted(set(indiret.__all__))
    for name in indiret.__all__:
        assert hasattr(indiret, name)


def test_the_command_is_installed():
    module, function = PROJECT["scripts"]["indiret"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
