"""Edge values of the chapters' parameters: taken or refused at once, and listed by papermill."""

import re
from functools import cache
from itertools import chain

import nbformat
import pytest
from click.testing import CliRunner
from papermill.cli import papermill

import indiret
from indiret.exercises.parameters import ParameterError, check_parameters
from tests.test_notebooks import NOTEBOOKS, write_notebook
from tools import sweep_parameters
from tools.sweep_parameters import Case, edge_values, read_limits, run_case

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_first_and_last_values_are_taken_and_those_beyond_refused(path, monkeypatch):
    monkeypatch.setattr(indiret, "load_dataset", cache(indiret.load_dataset))
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    taken = 0
    for case in chain.from_iterable(edge_values(*one) for one in read_limits(path).items()):
        values: dict[str, object] = {}
        exec(cells["parameters"], values)
        values[case.name] = str(case.value)  # as `papermill -p` gives it
        if case.legal:
            exec(cells["parameters-check"], values)
            assert values[case.name] == case.value or case.name == "shown_pair", case
            taken += 1
        else:
            with pytest.raises(ParameterError) as refused:
                exec(cells["parameters-check"], values)
            assert "\n" not in str(refused.value) and case.name.rstrip("s") in str(refused.value), (
                case
            )
    assert taken > 1


@each
def test_papermill_lists_every_parameter_with_type_default_and_meaning(path):
    shown = CliRunner().invoke(papermill, ["--help-notebook", str(path)])
    assert shown.exit_code == 0
    listed = " ".join(shown.output.partition("Parameters inferred")[2].split())
    for name in read_limits(path):
        assert re.search(rf" {name}: \S.*?\(default .*?\) \w", listed), name
    assert "Unknown" not in listed


def test_a_run_has_to_end_as_the_value_demands(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_parameters, "BESIDES", {"own": {"out": "{out}"}})
    cells = {
        "parameters": "top: int = 3  # how many\nout: str = ''  # folder",
        "parameters-check": "from indiret.exercises.parameters import check_parameters\n"
        "check_parameters(globals(), top=range(1, 4), out=str)",
        "show": "open(out, 'w').write('x'); 1 / (top - 2)",
    }
    chapter = write_notebook(tmp_path / "own.ipynb", **cells)
    for value, legal, wrong in [
        (3, True, ""),
        (2, True, "ZeroDivisionError: division by zero"),
        (0, False, ""),
    ]:
        out = tmp_path / str(value)
        out.mkdir()
        assert run_case(chapter, Case("top", value, legal), out) == wrong
        assert (out / "results").is_file() == (value > 0), "results land where told"


def test_a_name_that_the_chapter_does_not_declare_is_refused():
    values = {"In": ["top: int = 3", "# Parameters\ntpo = float('nan')\n"], "top": 3}
    with pytest.raises(ParameterError, match=r"^this chapter has no parameter tpo\.$"):
        check_parameters(values, top=range(4))
