"""The tool that runs the chapters: it names what failed, and it refuses unknown parameters."""

import ast
import base64
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tools import run_notebooks, set_up_cell
from tools.run_notebooks import chapter_key, check_parameters, is_a, library_key, main, parse_value

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# The tour runs through without a stop, and what starts with 9 is reference.
LESSONS = [chapter for chapter in CHAPTERS if "02" < chapter.name < "9"]
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def read_cells(chapter: Path, kind: str = "") -> list[nbformat.NotebookNode]:
    """The cells of a notebook, of one kind or of both."""
    cells = nbformat.read(chapter, as_version=4).cells
    return [cell for cell in cells if kind in ("", cell.cell_type)]


def write_notebook(path: Path, **cells: str) -> Path:
    """A notebook with one code cell for each keyword: cell id and source."""
    notebook = nbformat.v4.new_notebook()
    for cell_id, source in cells.items():
        cell = nbformat.v4.new_code_cell(source, id=cell_id)
        if cell_id == "parameters":
            cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.run_notebooks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_chapter_runs_with_the_parameters_given(tmp_path):
    chapter = write_notebook(
        tmp_path / "ok.ipynb", parameters="top: int = 3  # how many", show="print(top + 1)"
    )
    done = run(chapter, "--out", tmp_path / "out", "-p", "top", "41")
    assert done.returncode == 0, done.stderr
    assert read_cells(tmp_path / "out" / "ok.ipynb")[-1].outputs[0].text == "42\n"


def test_a_failing_chapter_names_its_cell(tmp_path):
    chapter = write_notebook(tmp_path / "bad.ipynb", fine="x = 1", broken="x / 0", never="x")
    done = run(chapter, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "bad.ipynb: cell 'broken' failed with ZeroDivisionError" in done.stderr
    assert (tmp_path / "out" / "bad.ipynb").is_file()


def test_unknown_parameters_and_files_are_refused(tmp_path):
    chapter = write_notebook(tmp_path / "ok.ipynb", parameters="top: int = 3  # how many")
    done = run(chapter, "--out", tmp_path / "out", "-p", "tpo", "4")
    assert done.returncode == 2
    assert "has no parameter tpo; it takes: top." in done.stderr
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "none.ipynb").returncode == 2


def test_values_of_a_wrong_type_are_refused(tmp_path, capsys):
    cell = "top: int = 3  # a\nname: str = 'x'  # b\ngrid: tuple[int, int] = (2, 2)  # c"
    chapter = write_notebook(tmp_path / "ok.ipynb", parameters=cell)
    wrong = [("top", text, "int") for text in ("three", "3.5", "True")]
    for name, text, kind in [*wrong, ("grid", "(3,)", "tuple[int, int]")]:
        assert main([str(chapter), "--out", str(tmp_path / "out"), "-p", name, text]) == 2
        assert f"it takes {kind}." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    check_parameters(chapter, {"top": 4, "grid": (3, 4), "name": "12"})
    assert run_notebooks.parse_values(chapter, {"name": "12"}) == {"name": "12"}
    with pytest.raises(ValueError, match="type 'Path' is not known"):
        is_a("x", "Path")
    assert parse_value("(7, 7)") == (7, 7) and parse_value("none of these") == "none of these"


@pytest.fixture
def runs(monkeypatch):
    """The notebooks that were really run, by name; each run leaves a copy."""
    names: list[str] = []

    def pretend(notebook: Path, out: Path, parameters: dict[str, object]) -> Path:
        names.append(notebook.name)
        out.mkdir(parents=True, exist_ok=True)
        executed = out / notebook.name
        executed.write_bytes(notebook.read_bytes())
        return executed

    monkeypatch.setattr(run_notebooks, "run_notebook", pretend)
    monkeypatch.setattr(run_notebooks, "library_key", lambda: "one library")
    monkeypatch.delenv("CI", raising=False)
    return names


def test_an_unchanged_chapter_is_reused_and_a_changed_one_is_not(tmp_path, runs, monkeypatch):
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x = 1")
    kept, out = tmp_path / "kept", tmp_path / "out"
    arguments = [str(chapter), "--out", str(out), "--reuse", str(kept)]
    assert main(arguments) == 0 and runs == ["ok.ipynb"]
    (out / "ok.ipynb").unlink()
    assert main(arguments) == 0 and runs == ["ok.ipynb"]
    assert (out / "ok.ipynb").read_bytes() == chapter.read_bytes()

    write_notebook(chapter, fine="x = 2")
    assert main(arguments) == 0 and len(runs) == 2
    monkeypatch.setattr(run_notebooks, "library_key", lambda: "another library")
    assert main(arguments) == 0 and len(runs) == 3
    assert len(list(kept.iterdir())) == 1, "only the last run of a chapter is kept"


def test_ci_never_reuses_a_chapter(tmp_path, runs, monkeypatch):
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x = 1")
    arguments = [str(chapter), "--out", str(tmp_path / "out"), "--reuse", str(tmp_path / "kept")]
    assert main(arguments) == 0
    monkeypatch.setenv("CI", "true")
    assert main(arguments) == 0
    assert len(runs) == 2
    assert 'export CI="${CI:-true}"' in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_a_chapter_that_failed_is_not_kept(tmp_path, runs, monkeypatch):
    def fail(*_: object) -> Path:
        raise run_notebooks.NotebookFailure("ok.ipynb: cell 'x' failed")

    monkeypatch.setattr(run_notebooks, "run_notebook", fail)
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x = 1")
    kept = tmp_path / "kept"
    assert main([str(chapter), "--out", str(tmp_path / "out"), "--reuse", str(kept)]) == 1
    assert not kept.exists()


def test_the_key_is_that_of_library_weights_data_and_notebook(tmp_path, monkeypatch):
    library = tmp_path / "library"
    files = ("module.py", "data/weights/base.safetensors", "data/toytown/test/photo.jpg")
    for name in files:
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("as it was")
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x = 1")
    monkeypatch.setattr(run_notebooks, "LIBRARY", library)
    keys = [chapter_key(chapter, library_key())]
    assert keys == [chapter_key(chapter, library_key())]
    for name in files:
        (library / name).write_text("changed")
        keys.append(chapter_key(chapter, library_key()))
    write_notebook(chapter, fine="x = 2")
    keys.append(chapter_key(chapter, library_key()))
    assert len(set(keys)) == len(keys)


@each_chapter
def test_every_chapter_declares_commented_and_typed_parameters(chapter):
    check_parameters(chapter, {})
    cells = read_cells(chapter)
    declared = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(declared) == 1
    for line in declared[0].source.splitlines():
        name, _, rest = line.partition(":")
        assert name.isidentifier() and "=" in rest and "  # " in rest, line
        value = ast.literal_eval(rest.partition("=")[2].partition("  # ")[0].strip())
        assert is_a(value, run_notebooks.declared_parameters(chapter)[name]), line


@each_chapter
def test_code_and_prose_take_turns(chapter):
    """As the page has it: neither code without prose nor prose without code."""
    code = [cell.source for cell in read_cells(chapter, "code") if cell.id != "set-up"]
    lines = [line for source in code for line in source.splitlines() if line.strip()]
    text = "\n".join(cell.source for cell in read_cells(chapter, "markdown"))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # without its code
    assert 6 <= len(prose.split()) / len(lines) <= 20


@each_chapter
def test_every_chapter_begins_by_finding_the_library(chapter):
    first = read_cells(chapter, "code")[0]
    remedy = "run `python -m tools.set_up_cell`"
    assert first.source == set_up_cell.set_up_source(**set_up_cell.repository()), remedy
    assert first.metadata.tags == ["remove-cell"] and first.metadata.jupyter.source_hidden, remedy


def test_the_first_cell_installs_or_says_how(monkeypatch):
    alone = set_up_cell.set_up_source("", "main")
    address = set_up_cell.set_up_source("https://example.org/name/indiret", "v1")
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    exec(alone, {})
    exec(address, {})
    assert calls == [], "where the library is there, nothing happens"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"indiret is missing here: pip install"):
        exec(alone, {})
    exec(address, {})
    assert calls[0][-1] == "indiret[baselines] @ git+https://example.org/name/indiret@v1"
    assert calls[0][:4] == [sys.executable, "-m", "pip", "install"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, to install from")
def test_the_first_cell_installs_the_library_where_it_is_missing(tmp_path):
    """As in Colab: all packages are there but this one, which comes from its repository."""
    pytest.importorskip("setuptools", minversion="77", reason="builds without a network")
    venv.create(tmp_path / "colab", symlinks=True)
    python = tmp_path / "colab/bin/python"
    (site,) = (tmp_path / "colab/lib").glob("python3*/site-packages")
    # A path in a .pth file lends its packages; what is installed in place there stays unknown.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    address = "https://example.org/indiret"  # older pips take no git+file:// with extras
    cell = set_up_cell.set_up_source(address, commit)
    code = f"{cell}\nimport indiret\nindiret.load_network('base')\nprint(indiret.__file__)"
    # pip reads NO_BUILD_ISOLATION the wrong way round: 0 builds with what is installed.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    here = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": address}
    here |= {"GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | offline | here
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout


def test_no_function_is_defined_in_two_places():
    defined = Counter(
        node.name
        for chapter in CHAPTERS
        for cell in read_cells(chapter, "code")
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    )
    assert [name for name, times in defined.items() if times > 1] == []


@pytest.mark.parametrize("chapter", LESSONS, ids=lambda path: path.stem)
def test_every_section_asks_for_a_prediction(chapter):
    cells = read_cells(chapter)
    sections = re.split(r"^## ", "\n".join(cell.source for cell in cells), flags=re.MULTILINE)[1:]
    named = {section.splitlines()[0]: section for section in sections}
    assert list(named)[-2:] == ["Summary", "Exercises"]
    asking = [name for name, text in named.items() if "guess(" in text or "**Predict" in text]
    assert asking == list(named)[:-2]
    # The code of a guess holds its answer, so it is folded away in the page and in JupyterLab.
    for cell in read_cells(chapter, "code"):
        if re.search(r"^guess\(", cell.source, re.MULTILINE):
            assert cell.metadata.tags == ["hide-input"], cell.id
            assert cell.metadata.jupyter.source_hidden, cell.id


def test_pictures_are_saved_under_their_cells_id(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    notebook = nbformat.read(write_notebook(tmp_path / "run.ipynb", silent="", drawn=""), 4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(notebook, tmp_path / "run.ipynb")
    (picture,) = run_notebooks.save_pictures(tmp_path / "run.ipynb", tmp_path / "pictures")
    assert picture.name == "drawn.png"
    with Image.open(picture) as image:
        assert image.size == (5, 4)


def test_no_figure_has_the_name_of_another():
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for chapter in CHAPTERS
        for cell in read_cells(chapter)
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert len(names) > 40 and len(set(names)) == len(names)


def test_formulas_hold_one_backslash_a_command():
    """Two are a line break, and show the command's name as text."""
    for chapter in CHAPTERS:
        for cell in read_cells(chapter, "markdown"):
            inline = re.findall(r"(?<!\$)\$[^$]+\$(?!\$)", cell.source)
            assert not [one for one in inline if re.search(r"\\\\[a-zA-Z]", one)], cell.id


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 127", "No Python 3.11 to 3.14 is found: "),
        ('case "$2" in *venv*) exit 1; esac', "has no venv module: "),
        ('[ "$1" = -c ] || mkdir -p .venv/bin', ""),
    ],
)
def test_make_finds_a_python_or_says_what_is_missing(tmp_path, python, sentence):
    here = tmp_path / "a folder"
    here.mkdir()
    (here / "python").write_text(f"#!/bin/sh\n{python}\n")
    (here / "python").chmod(0o755)
    shutil.copy(ROOT / "Makefile", here)
    command = ["make", ".venv/bin/python", f"PYTHON={here / 'python'}"]
    alone = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, env=alone)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert len(said) == bool(sentence) and sentence in done.stderr and done.stdout == ""
    assert (here / ".venv").is_dir() == (not sentence)
