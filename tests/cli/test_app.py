"""Help, and the sentences that a wrong command line gets."""

import io
import os
import re
import subprocess
import sys

import pytest
from PIL import Image
from tqdm import tqdm

from indiret.cli import experiments, progress
from indiret.cli.app import COMMANDS
from indiret.cli.progress import ProgressLines
from indiret.experiments import evaluator
from tests.cli.command import refused, run


@pytest.mark.parametrize("command", ["", "search", "explain"])
def test_help_is_printed_without_loading_what_commands_need(command):
    """The package itself is put aside: it lends the names of a first search from everywhere."""
    code = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('indiret')\n"
        "package.__path__ = importlib.util.find_spec('indiret').submodule_search_locations\n"
        "sys.modules['indiret'] = package\n"
        "from indiret.cli import main\n"
        "status = main([*sys.argv[1:], '--help'])\n"
        "loaded = {'torch', 'matplotlib', 'cv2', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'{status}, {loaded}' if status or loaded else 0)"
    )
    line = [sys.executable, "-c", code, *command.split()]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert command or [name for name in COMMANDS if name not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    status, out, err = run(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert COMMANDS[command][1] in " ".join(out.split())


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        *((line, "choose from search, explain") for line in ("", "serach x y", "--foo")),
        *((line, "takes QUERY, FOLDER, --box") for line in ("search x", "search x y z")),
        *((line, "--top") for line in ("search x y --tpo 3", "search x y --top")),
        ("search x y --top 0", "greater than or equal to 1"),
        ("explain x y --top 0", "greater than or equal to 1"),
        ("search x y --top many", "a valid integer"),
        ("search x y --box 1 2 3", "requires 4 arguments"),
        ("search x y --box 1 2 3 d", "a valid number"),
        ("data fecth oxford5k", "'fetch', 'verify', 'info'"),
        ("data", "fetch, verify, info"),
        ("train --recipe own", "'default', 'paper'"),
        ("compare --methods", "--methods"),
        ("reproduce --jsn x", "CONFIG, --out"),
    ],
)
def test_a_wrong_command_line_gets_a_sentence_with_what_is_allowed(capsys, line, allowed):
    assert allowed in refused(capsys, *line.split())


def test_a_list_is_given_with_spaces_or_one_by_one(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluator, "compare", lambda *given: calls.append(given) or [])
    for line in ("--methods a b,c --no-evidence", "--methods a --no-evidence --methods=b,c"):
        assert run(capsys, "compare", *line.split()) == (0, "", "")
    assert [(names, evidence) for names, _, _, evidence, _ in calls] == [(["a", "b,c"], False)] * 2


def test_a_scheduler_needs_no_address(capsys, monkeypatch, tmp_path):
    given = []
    grid = tmp_path / "grid.toml"
    grid.write_text('[run]\nmethod = "thumbnail"\n')
    monkeypatch.setattr(experiments.grid, "run_grid", lambda *values: given.append(values[3]) or {})
    for more in ("", "--scheduler", "--scheduler tcp://there:1", "--scheduler --no-notebooks"):
        assert run(capsys, "reproduce", grid, *more.split())[0] == 0
    assert given == [None, "local", "tcp://there:1", "local"]


@pytest.mark.parametrize(
    "command",
    [
        ("reproduce", "absent"), ("reproduce", "."), ("report", "absent"),
        ("search", "absent", "."), ("explain", "absent", "absent"),
        ("search", "absent", ".", "--method", "absent.safetensors"),
        ("evaluate", "--method", "absent.safetensors"), ("evaluate", "--regions", "absent"),
        ("compare", "--methods", "absent.safetensors"), ("compare", "--root", "absent"),
        ("regions", "propose", "oxford5k", "--root", "absent", "--out", "x.json"),
        ("data", "verify", "oxford5k", "--root", "absent"), ("study", "--wxbs", "absent"),
        ("audit", "--dataset", "oxford5k", "--root", "absent"),
        ("robustness", "--methods", "absent.safetensors"),
    ],
)  # fmt: skip
def test_a_missing_file_gets_a_sentence_with_a_remedy(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save("photo.png")
    sentence = refused(capsys, *command)
    assert "Errno" not in sentence and ";" in sentence
    assert "absent" in sentence or command == ("reproduce", ".")


def test_off_a_terminal_a_bar_says_a_line_now_and_then(monkeypatch):
    told = io.StringIO()
    stream = ProgressLines(told)
    for every in (10**6, 0):
        monkeypatch.setattr(progress, "EVERY", every)
        outer = tqdm(total=2, desc="comparing", unit="method", file=stream, mininterval=0)
        for _ in tqdm(range(3), desc="ranking", file=stream, leave=False, mininterval=0):
            print("skipped a.jpg", file=stream)
        outer.update()
        outer.close()
    lines = told.getvalue().splitlines()
    assert lines.count("skipped a.jpg") == 6 and lines[:3] == ["skipped a.jpg"] * 3
    assert any(re.match(r"comparing: +50% +1/2 \[.*method", line) for line in lines[3:])
    assert not re.search(r"[\r\x1b|]", told.getvalue())


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_told_otherwise(capsys, monkeypatch, given, kept):
    """Spinning made a photo 40 times slower to encode beside another busy program."""
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert run(capsys, "--help")[0] == 0
    assert os.environ["OMP_WAIT_POLICY"] == kept
