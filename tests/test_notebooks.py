"""The chapters' form, and the tool that runs them: it names what failed, and refuses parameters."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sysconfig
import venv
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from papermill.cli import papermill
from PIL import Image

from indiret.checkpoints import WEIGHTS
from tools import run_notebooks, set_up_cell
from tools.run_notebooks import chapter_key, check_parameters, is_a, library_key, main

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# The tour runs through without a stop, and what starts with 9 is reference.
LESSONS = [chapter for chapter in CHAPTERS if "02" < chapter.name < "9"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HIDDEN = ("set-up", "parameters-check")
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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


def test_chapters_run_where_the_caller_stands_and_name_the_cell_that_fails(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cell, drawn = "top: int = 3  # how many", "from PIL import Image\nImage.new('RGB', (5, 4))"
    cells = {"show": "print(top + 1); open('note', 'w').close()", "drawn": drawn}
    (tmp_path / "{top} 50%s").mkdir()
    good = write_notebook(Path("{top} 50%s/ok.ipynb"), parameters=cell, **cells)
    bad = write_notebook(tmp_path / "bad.ipynb", parameters=cell, broken="top / 0", never="x")
    out = Path("out {of} 100%")
    assert main([str(good), str(bad), "--out", str(out), "-p", "top", "41"]) == 1
    assert Path("note").is_file()
    assert read_cells(out / "ok.ipynb")[2].outputs[0].text == "42\n"
    with Image.open(out / "pictures/ok/drawn.png") as image:
        assert image.size == (5, 4)
    assert "bad.ipynb: cell 'broken' failed with ZeroDivisionError" in capsys.readouterr().err
    assert (out / "bad.ipynb").is_file()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tpo", "4", "has no parameter tpo; it takes: grid, name, top."),
        *(("top", text, "it takes int.") for text in ("three", "3.5", "True")),
        ("grid", "(3,)", "it takes tuple[int, int]."),
    ],
)
def test_unknown_parameters_and_values_of_a_wrong_type_are_refused(
    tmp_path, capsys, name, text, said
):
    cell = "top: int = 3  # a\nname: str = 'x'  # b\ngrid: tuple[int, int] = (2, 2)  # c"
    chapter = write_notebook(tmp_path / "ok.ipynb", parameters=cell)
    assert main([str(chapter), "--out", str(tmp_path / "out"), "-p", name, text]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
    check_parameters(chapter, {"top": 4, "grid": (3, 4), "name": "12"})
    assert run_notebooks.parse_values(chapter, {"name": "12"}) == {"name": "12"}


def test_what_is_no_notebook_or_no_type_is_refused(tmp_path):
    assert main([str(tmp_path / "none.ipynb")]) == 2
    with pytest.raises(ValueError, match="type 'Path' is not known"):
        is_a("x", "Path")


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
    monkeypatch.setenv("CI", "true")
    assert main(arguments) == 0 and len(runs) == 4, "all are run"
    assert 'export CI="${CI:-true}"' in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_a_chapter_that_failed_is_not_kept(tmp_path):
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x / 0")
    kept = tmp_path / "kept"
    assert main([str(chapter), "--out", str(tmp_path / "out"), "--reuse", str(kept)]) == 1
    assert not kept.exists()


def test_the_key_is_that_of_library_weights_data_and_notebook(tmp_path, monkeypatch):
    chapter = write_notebook(tmp_path / "ok.ipynb", fine="x = 1")
    monkeypatch.setattr(run_notebooks, "LIBRARY", tmp_path / "library")
    keys = {chapter_key(chapter, library_key())}
    for name in ("module.py", "data/weights/base.safetensors", "data/toytown/test/photo.jpg"):
        for text in ("as it was", "changed"):
            (tmp_path / "library" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "library" / name).write_text(text)
            keys.add(chapter_key(chapter, library_key()))
            assert chapter_key(chapter, library_key()) in keys
    write_notebook(chapter, fine="x = 2")
    assert len(keys | {chapter_key(chapter, library_key())}) == 8


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


@each_notebook
def test_a_notebook_is_stripped_thin_and_described(path):
    ids = [cell.get("id", "") for cell in read_cells(path)]
    assert len(set(ids)) == len(ids)
    # A made-up id is eight hexadecimal digits: names tell more, and do not change by themselves.
    assert all(re.fullmatch(r"(?![0-9a-f]{8}$)[a-z][a-z0-9-]+", cell_id) for cell_id in ids)
    code = read_cells(path, "code")
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count]
    lengths = [len(cell.source.splitlines()) for cell in code]
    assert max(lengths) <= 25 and statistics.median(lengths) <= 6
    for cell in code:
        if re.search(r"\b(figures\.\w+|bars)\(", cell.source):
            shown = cell.metadata.mystnb
            assert len(shown.image.alt.split()) >= 8, cell.id
            assert len(shown.figure.caption.split()) >= 8, cell.id


MEASURED = r"figures\.(bars|curves|heat_table|histograms|interval_rows|\w+_curves|trajectories)\("
OVER = r"Toytown|Oxford|WxBS, the eight|[Oo]ne pair|same (queries|photos|pairs)"


@each_chapter
def test_a_caption_says_over_what_was_measured(chapter):
    drawn = [cell for cell in read_cells(chapter, "code") if re.search(MEASURED, cell.source)]
    captions = {cell.id: cell.metadata.mystnb.figure.caption for cell in drawn}
    assert [name for name, caption in captions.items() if not re.search(OVER, caption)] == []


def test_the_quick_tour_is_short():
    cells = read_cells(CHAPTERS[0], "code")
    lines = "\n".join(c.source for c in cells if not c.id.startswith(("exercise-", *HIDDEN)))
    assert len([line for line in lines.splitlines() if line.strip()]) < 40


def set_parameters(chapter: Path, out: Path, *options: str) -> dict[str, object]:
    """A chapter's parameters, after their check, as papermill's command line sets them."""
    papermill.main([str(chapter), str(out), "--prepare-only", *options], standalone_mode=False)
    values: dict[str, object] = {}
    for cell in read_cells(out, "code"):
        if {"parameters", "injected-parameters"} & {*cell.metadata.get("tags", [])}:
            exec(cell.source, values)
    names = [name for name in values if not name.startswith("__")]
    exec(next(cell.source for cell in read_cells(out) if cell.id == "parameters-check"), values)
    return {name: values[name] for name in names}


def changed(value: object, kind: str) -> object:
    """Another value that the chapters take."""
    texts = {"": "", "base": str(WEIGHTS / "base.safetensors"), "toytown/test": "oxford5k"}
    texts |= {"test": "validation", "validation": "test", "combined": "gradcam"}
    if isinstance(value, str):
        return texts.get(value, f"some-{value}")
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [1.5, 2.0, 30.0, 40.0] if kind == "list[float]" else ["mean", "max"]
    if isinstance(value, tuple):
        return tuple(changed(one, kind) for one in value)
    return value / 2 if isinstance(value, float) else value - 1 if value > 1 else value + 1


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_set_in_each_of_papermills_ways_and_checked_at_once(chapter, tmp_path):
    out = tmp_path / "out.ipynb"
    defaults = set_parameters(chapter, out)
    kinds = run_notebooks.declared_parameters(chapter)
    assert kinds.keys() == defaults.keys()
    wanted = {name: changed(value, kinds[name]) for name, value in defaults.items()}
    if chapter.stem == "reproduce":
        wanted |= {"dataset": "toytown", "method": "network", "network": "paper-base"}
        wanted |= {"attention": "har", "norm": "group", "by": "query", "device": "cpu"}
        wanted |= {"metrics": ["zncc"], "feedback": ["mean", "max"]}
    as_yaml = yaml.safe_dump({k: [*v] if isinstance(v, tuple) else v for k, v in wanted.items()})
    (tmp_path / "values.yml").write_text(as_yaml)
    spelt = [word for name, value in wanted.items() for word in ("-p", name, str(value))]
    for options in (spelt, ["-y", as_yaml], ["-f", str(tmp_path / "values.yml")]):
        assert set_parameters(chapter, out, *options) == wanted
    checked = defaults.keys() - {"regions", "query_photo"}  # which may be anything
    for name in {"folds"} if chapter.stem == "reproduce" else checked:  # the rest by its config
        for wrong in ("some", "-1", "10000000000"):
            with pytest.raises(ValueError, match=f"the parameter {name} is .*{wrong}"):
                set_parameters(chapter, out, "-p", name, wrong)


@each_chapter
def test_code_and_prose_take_turns(chapter):
    """As the page has it: neither code without prose nor prose without code."""
    code = [cell.source for cell in read_cells(chapter, "code") if cell.id not in HIDDEN]
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


def test_the_first_cell_is_silent_where_the_library_is_and_says_how_where_it_is_not(monkeypatch):
    for source in (alone := set_up_cell.set_up_source("", "main"), set_up_cell.INSTALLING):
        exec(source, {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"indiret is missing here: pip install"):
        exec(alone, {})


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


def test_figures_and_functions_have_names_of_their_own_and_formulas_one_backslash_a_command():
    """Two are a line break, and show the command's name as text."""
    cells = [cell for chapter in CHAPTERS for cell in read_cells(chapter)]
    names = [
        c.metadata.mystnb.figure.name for c in cells if "figure" in c.metadata.get("mystnb", {})
    ]
    assert len(names) > 40
    for cell in cells:
        if cell.cell_type == "code":
            nodes = ast.walk(ast.parse(cell.source))
            names += [n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        else:
            inline = re.findall(r"(?<!\$)\$[^$]+\$(?!\$)", cell.source)
            assert not [one for one in inline if re.search(r"\\\\[a-zA-Z]", one)], cell.id
    assert [name for name, times in Counter(names).items() if times > 1] == []


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
