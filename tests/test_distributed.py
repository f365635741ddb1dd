"""`indiret.distributed`: two processes learn what one learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from indiret.distributed import ProcessGroup, init_process_group

ROOT = Path(__file__).parents[1]
STUDENT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from indiret.datasets import load_dataset
from indiret.distributed import init_process_group, destroy_process_group
from indiret.training import TrainingConfig, fit
from tests.test_training import SMALL

folder, norm, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
recipe = TrainingConfig(
    steps=12, batch=8, validate_every=6, checkpoint_every=1, validation_queries=2, patience=9
)
towns = [load_dataset("oxford5k", folder / town) for town in ("train", "validation")]
group = init_process_group()
network, log = fit(replace(SMALL, norm=norm), *towns, recipe, folder / name, group=group)
(folder / f"{name}-{group.rank}.json").write_text(json.dumps(
    {"log": log, "weights": [p.double().sum().item() for p in network.state_dict().values()]}
))
destroy_process_group(group)
"""


@pytest.fixture(scope="module")
def folder(towns):
    folder = towns[0].root.parent
    (folder / "student.py").write_text(STUDENT)
    return folder


def start(processes: int, *command: str) -> None:
    """Run Python, or torchrun with several processes, to its end."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def learn(folder: Path, norm: str, name: str, processes: int) -> list[dict]:
    start(processes, str(folder / "student.py"), str(folder), norm, name)
    return [json.loads((folder / f"{name}-{n}.json").read_text()) for n in range(processes)]


def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(folder):
    """With group norm; apart by rounding alone, which twelve steps let grow."""
    (alone,) = learn(folder, "group", "alone", 1)
    one, two = learn(folder, "group", "together", 2)
    losses, together = ([row["loss"] for row in who["log"]] for who in (alone, one))
    assert len(losses) == 12 and max(losses) - min(losses) > 0.01
    assert together == pytest.approx(losses, abs=1e-4)
    assert together[0] == pytest.approx(losses[0], abs=1e-6)
    assert one["weights"] == two["weights"]
    assert one["weights"] == pytest.approx(alone["weights"], abs=1e-2)
    maps = [[row.get("validation_map") for row in who["log"]] for who in (one, two)]
    assert maps[0] == maps[1] and maps[0][5] is not None


def test_without_torchrun_one_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert init_process_group() == ProcessGroup(0, 1) and ProcessGroup().mean(0.25) == 0.25
    with pytest.raises(ValueError, match="a batch of 15 pairs cannot be shared by 2"):
        ProcessGroup(0, 2).share(15)


def test_a_grid_under_torchrun_has_the_results_of_one_process(folder, tmp_path):
    config = tmp_path / "grid.toml"
    config.write_text(
        f'[run]\ndataset = "oxford5k"\nroot = "{folder / "train"}"\nfolds = 3\nfold = 0\n'
        'steps = 3\nnorm = "group"\n'
    )
    rows = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = ["-m", "indiret", "reproduce", str(config), "--out", str(out)]
        start(processes, *command, "--processes", "1", "--no-notebooks")
        (file,) = out.glob("*/results.json")
        rows.append(json.loads(file.read_text()))
    assert [one["provenance"]["processes"] for one in rows] == [1, 2]
    assert rows[1]["log"][-1]["loss"] == pytest.approx(rows[0]["log"][-1]["loss"], abs=1e-5)
    for one, two in zip(*(found["records"] for found in rows), strict=True):
        assert two["query"] == one["query"]
        assert two["mAP"] == pytest.approx(one["mAP"], abs=0.05)
