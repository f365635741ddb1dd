"""What holds the project together: environments agree, links lead somewhere, pages are complete."""

import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import indiret

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TEXT_FILES = {"", *(f".{end}" for end in "py md toml yml txt ipynb json css bib j2 js".split())}


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
    assert names <= set(pins()) and pins()["torch"] == "2.13.0"


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
    assert set(extras[1].split(",")) == set(EXTRAS) - {"matchers", "toytown"}


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


def test_public_names_exist_once_and_in_order_and_the_command_is_installed():
    assert indiret.__all__ == sorted(set(indiret.__all__))
    assert all(hasattr(indiret, name) for name in indiret.__all__)
    module, function = PROJECT["scripts"]["indiret"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
