"""`indiret.experiments.runner`: runs that are killed at any moment, by processes or a cluster."""

import errno
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from indiret.experiments import runner
from indiret.experiments.grid import read_grid, run_grid
from indiret.experiments.records import long_rows, values_by
from indiret.experiments.reproduction import RunConfig
from indiret.experiments.runner import collect_rows, keep_settings
from tests.test_chaos import results
from tests.tiny_town import make_tiny_town


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Two short trainings and six runs of methods that learn nothing."""
    town = make_tiny_town(tmp_path_factory.mktemp("town"), "a")
    file = town.root / "grid.toml"
    file.write_text(
        f'[run]\ndataset = "oxford5k"\nroot = "{town.root}"\nfolds = 3\nsteps = 2\n'
        '[[grid]]\nmethod = ["thumbnail", "colour-histogram"]\n'
        '[[grid]]\nfold = [0]\nby = ["query", "landmark"]\n'
    )
    return read_grid(file)


@pytest.fixture(scope="module")
def wanted(configs, tmp_path_factory):
    out = tmp_path_factory.mktemp("unkilled")
    assert run_grid(configs, out, notebooks=False) == {}
    return results(out)


def test_a_file_is_every_combination_of_its_lists(configs):
    assert len(configs) == len(set(configs)) == 8
    assert [c.fold for c in configs if c.method == "thumbnail"] == [0, 1, 2]
    assert [c.by for c in configs if c.method == "network"] == ["query", "landmark"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[run", "no TOML file"),
        ("[runs]\nfolds = 3", "one \\[run\\] and one or more"),
        ("[run]\nepochs = 3", "setting='epochs' is not known"),
        ('[[grid]]\nby = "query"', "grid.0.by input should be a valid list"),
        ("[run]\n[[grid]]\n[[grid]]", "it sets nothing"),
        ("[run]\nfolds = 3.5", "folds=3.5: .* integer"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, sentence):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match=f"wrong.toml.*{sentence}"):
        read_grid(tmp_path / "wrong.toml")


def test_a_grid_of_a_million_runs_says_so(tmp_path):
    file = tmp_path / "grid.toml"
    for text in ("[run]\nfolds = 1_000_000_000", f"[[grid]]\nseed = {list(range(1000))}\n" * 2):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"grid.toml: these are [\d,]+ runs or more, and more"):
            read_grid(file)
    file.write_text("[run]\nfolds = 10_001")
    assert len(read_grid(file, most=math.inf)) == 10_001


def test_a_grid_goes_on_when_a_worker_is_killed(configs, wanted, tmp_path, monkeypatch):
    killed, wait = [], runner.wait

    def kill_one(sentinels, timeout=None):
        children = multiprocessing.active_children()
        if not killed and len(children) == 2:
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)
        return wait(sentinels, timeout)

    monkeypatch.setattr(runner, "wait", kill_one)
    assert run_grid(configs, tmp_path, processes=2, notebooks=False) == {}
    assert killed and results(tmp_path) == wanted


def test_workers_die_with_the_one_that_started_them(tmp_path):
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=_start_a_child, args=(tmp_path / "pid",))
    parent.start()
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or _is_zombie(child):
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent by ten seconds")


def _start_a_child(file: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_sleep)
    child.start()
    file.with_suffix(".part").write_text(str(child.pid))
    os.replace(file.with_suffix(".part"), file)
    child.join()


def _sleep() -> None:
    runner.die_with_parent()
    time.sleep(60)


def _is_zombie(pid: int) -> bool:
    return ") Z" in Path(f"/proc/{pid}/stat").read_text()


def test_a_cluster_finishes_when_a_worker_is_killed(configs, wanted, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(runner, "tqdm", _KillAtFirst)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        _KillAtFirst.workers = [worker.pid for worker in cluster.workers.values()]
        assert run_grid(configs, tmp_path, 2, cluster.scheduler_address, notebooks=False) == {}
    assert _KillAtFirst.workers == []
    assert results(tmp_path) == wanted


class _KillAtFirst(nullcontext):
    """A progress bar that kills a worker when the first run is finished."""

    workers: list[int] = []  # noqa: RUF012

    def __init__(self, *_, **__):
        super().__init__(self)

    def update(self, *_):
        if self.workers:
            os.kill(self.workers[0], signal.SIGKILL)
            self.workers.clear()


def test_one_run_that_fails_is_told_and_stops_no_other(configs, tmp_path):
    bad = RunConfig(dataset="oxford5k", root=str(tmp_path / "nowhere"))
    good = configs[0]
    (sentence,) = run_grid([bad, good], tmp_path / "out", notebooks=False).values()
    assert "nowhere" in sentence
    finished = [path.parent.name for path in (tmp_path / "out").glob("*/results.json")]
    assert finished == [good.key] != [bad.key]


def test_a_run_leaves_an_executed_notebook(configs, tmp_path):
    (config, *_) = configs
    assert run_grid([config], tmp_path) == {}
    file = tmp_path / config.key / "reproduce.ipynb"
    cells = json.loads(file.read_text())["cells"]
    assert any("mAP" in str(cell.get("outputs")) for cell in cells)
    assert not list(file.parent.glob("unfinished*"))
    moment = file.stat().st_mtime_ns
    assert run_grid([config], tmp_path) == {} and file.stat().st_mtime_ns == moment


def test_no_process_is_refused(configs, tmp_path):
    with pytest.raises(ValueError, match="processes=0 is not at least 1"):
        run_grid(configs, tmp_path, processes=0)


def rows(config):
    return long_rows({"mAP": 0.5}, landmark="a", query=config.key, seed=0, variant="base")


def test_rows_of_the_others_are_kept_when_one_fails_or_is_broken(tmp_path):
    asked, broken = [], {"two"}

    def asked_for(config):
        asked.append(config.key)
        if config.key in broken:
            raise RuntimeError("no such photo")
        return rows(config)

    configs = [SimpleNamespace(key=key) for key in ("one", "two", "three")]
    with pytest.raises(ValueError, match="1 of 3 failed, first two: no such photo"):
        collect_rows("trial", configs, asked_for, tmp_path)
    broken.clear()
    table = collect_rows("trial", configs, asked_for, tmp_path)
    assert asked == ["one", "two", "three", "two"]
    assert list(table["query"]) == ["one", "two", "three"]
    values = {("a", key, 0): 0.5 for key in ("one", "two", "three")}
    assert values_by(table, "measure", "variant") == {("mAP", "base"): values}
    file = tmp_path / "one.jsonl"
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    nan, other = whole.replace("0.5", "NaN"), '[]\n{"rows": 1}\n'
    for damage in ("", whole[:-20], "".join(lines[:-1]), lines[-1], nan, other):
        file.write_text(damage)
        assert collect_rows("trial", configs, asked_for, tmp_path).equals(table)
    assert asked[4:] == ["one"] * 6


def test_a_second_command_waits_for_what_the_first_is_at(tmp_path, capsys):
    begun, go_on, asked = threading.Event(), threading.Event(), []

    def slow_rows(config):
        asked.append(config.key)
        begun.set()
        assert go_on.wait(60)
        return rows(config)

    configs = [SimpleNamespace(key="one")]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(collect_rows, "trial", configs, slow_rows, tmp_path)
        assert begun.wait(60)
        second = pool.submit(collect_rows, "trial", configs, slow_rows, tmp_path)
        while f"one: process {os.getpid()} on " not in capsys.readouterr().err:
            time.sleep(0.05)
        go_on.set()
        assert first.result().equals(second.result()) and asked == ["one"]


def test_another_experiment_in_a_folder_is_refused_and_named(tmp_path):
    file = tmp_path / "out" / "study.json"
    origin = {"photos": "1f", "commit": "a"}
    keep_settings(file, {"steps": 2}, origin)
    assert keep_settings(file, {"steps": 2}, origin | {"commit": "b"}) == origin
    for settings, data in (({"steps": 3}, "1f"), ({"steps": 2}, "2e")):
        name = "photos" if data == "2e" else "steps"
        with pytest.raises(
            ValueError, match=f"out holds another study: other settings or data, namely {name};"
        ):
            keep_settings(file, settings, {"photos": data})
    (file.parent / "one.jsonl").touch()
    file.write_text("{")  # nobody knows whose the rows are
    assert keep_settings(file, {"steps": 3}) == {}
    assert [path.name for path in file.parent.iterdir()] == ["study.json"]


def test_a_full_disk_is_a_sentence(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ValueError, match=r"1 of 1 failed, first one: .* the disk is full"):
        collect_rows("trial", [SimpleNamespace(key="one")], rows, tmp_path)
    assert "failure.txt: No space left on device" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".jsonl")]
