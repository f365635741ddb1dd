"""`indiret.experiments.runner`: runs that are killed at any moment, by processes or a cluster."""

import json
import multiprocessing
import os
import random
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from indiret.experiments import runner
from indiret.experiments.grid import is_done, read_grid, run_grid
from indiret.experiments.records import long_rows, select_values
from indiret.experiments.reproduction import RunConfig
from indiret.experiments.runner import collect_rows
from tests.tiny_town import make_tiny_town

# What two runs of the same settings may differ in; who edits meanwhile changes the commit.
TIMES = ("seconds", "processor_seconds", "commit")


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
    return numbers(configs, out)


def numbers(configs, out: Path) -> dict[str, dict]:
    """All results without what the clock and the log of time say."""
    found = {}
    for config in configs:
        results = json.loads((out / config.key / "results.json").read_text())
        for part in (results["provenance"], *results["log"]):
            for name in TIMES:
                part.pop(name, None)
        found[config.key] = results
    return found


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
        ('[[grid]]\nby = "query"', "by = 'query' in \\[\\[grid\\]\\] is not a list"),
        ("[run]\nfolds = 3.5", "folds=3.5: .* integer"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, sentence):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match=f"wrong.toml.*{sentence}"):
        read_grid(tmp_path / "wrong.toml")


def test_kill_9_at_ten_moments_loses_nothing(configs, wanted, tmp_path):
    """Nothing that finished is touched again, and nothing half-written is taken for finished."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["indiret.experiments.grid"])

    def started():
        process = context.Process(target=run_grid, args=(configs, tmp_path, 1, None, False))
        process.start()
        return process

    dice, kept, killed = random.Random(0), {}, 0
    for _ in range(10):
        process = started()
        process.join(dice.uniform(0.05, 0.6))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        for config in configs:
            file = tmp_path / config.key / "results.json"
            if file.exists():
                json.loads(file.read_text())
                kept.setdefault(config.key, file.stat().st_mtime_ns)
        for key, moment in kept.items():
            assert (tmp_path / key / "results.json").stat().st_mtime_ns == moment
    assert killed > 5
    process = started()
    process.join(120)
    assert process.exitcode == 0
    assert numbers(configs, tmp_path) == wanted
    for key, moment in kept.items():
        assert (tmp_path / key / "results.json").stat().st_mtime_ns == moment


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
    assert killed and numbers(configs, tmp_path) == wanted


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
    assert numbers(configs, tmp_path) == wanted


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
    assert is_done(good, tmp_path / "out") and not is_done(bad, tmp_path / "out")


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


def test_rows_of_the_others_are_kept_when_one_fails(tmp_path):
    asked, broken = [], {"two"}

    def rows(config):
        asked.append(config.key)
        if config.key in broken:
            raise RuntimeError("no such photo")
        return long_rows({"mAP": 0.5}, landmark="a", query=config.key, seed=0, variant="base")

    configs = [SimpleNamespace(key=key) for key in ("one", "two", "three")]
    with pytest.raises(ValueError, match="1 of 3 failed, first two: no such photo"):
        collect_rows("trial", configs, rows, tmp_path)
    broken.clear()
    table = collect_rows("trial", configs, rows, tmp_path)
    assert asked == ["one", "two", "three", "two"]
    assert list(table["query"]) == ["one", "two", "three"]
    values = {("a", key, 0): 0.5 for key in ("one", "two", "three")}
    assert select_values(table, "mAP", variant="base") == values
