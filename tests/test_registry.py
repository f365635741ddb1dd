"""`indiret.Registry`: what wings and strangers add is found when it is first looked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import indiret
from indiret.metrics import METRICS

ROOT = Path(__file__).parents[1]
PLUGIN = """
from indiret.retrieval import Retriever, list_retrievers, register_retriever
assert "planes" in list_retrievers()  # a plugin may look while it is loaded
register_retriever("brightness", "difference of mean brightness", Retriever)
"""


def shown(code, *folders, **settings):
    """What a fresh interpreter prints that sees these folders before the library's."""
    path = {"PYTHONPATH": ":".join(map(str, (*folders, ROOT))), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=path, **settings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_another_package_adds_a_retriever_to_the_command_line(tmp_path):
    for name, code in (("bright", PLUGIN), ("broken", "import nothing_of_this_name")):
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0")
        (tmp_path / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(
            f"[indiret.plugins]\n{name} = {name}"
        )
    listed = shown("from indiret.cli import main; main(['methods'])", tmp_path)
    assert "difference of mean brightness" in listed and "plane-net" in listed
    assert listed.count("the plugin broken (broken) cannot be loaded: No module named") == 1


@pytest.mark.parametrize("first", ["planes.matching", "baselines.verifiers", "network", "cli"])
def test_any_module_may_be_imported_first(first):
    code = f"import indiret.{first}; from indiret.retrieval import RETRIEVERS; print(*RETRIEVERS)"
    assert sorted(shown(code).split()) == sorted(indiret.list_retrievers())


def test_threads_that_look_at_once_find_the_same():
    code = """
from concurrent.futures import ThreadPoolExecutor
from indiret.retrieval import list_retrievers
with ThreadPoolExecutor(8) as threads:
    print({len(names) for names in threads.map(lambda _: list_retrievers(), range(8))})
"""
    assert shown(code).strip() == str({len(indiret.list_retrievers())})


def test_names_are_as_the_face_says():
    assert {*indiret.HOMES, "baselines", "planes"} == {*indiret.__all__} <= {*dir(indiret)}
    for name in ("nothing", "__nothing__"):
        with pytest.raises(AttributeError, match="has no attribute"):
            getattr(indiret, name)


def test_a_taken_name_is_refused_and_a_missing_one_a_key_error():
    with pytest.raises(ValueError, match=r"a metric named 'cosine' .* choose another"):
        METRICS["cosine"] = METRICS["zncc"]
    assert "sift" not in METRICS and len(METRICS) == len(list(METRICS))
