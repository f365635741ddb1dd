"""Write the first cell of every chapter, which finds or installs the library.

    python -m tools.set_up_cell

The cell does nothing where ``indiret`` is installed, as after ``make lab``, ``pip install .`` or in
Binder. Elsewhere it installs it from the address in ``_config.yml``, or says what to do while there
is none. Readers of the page do not see it. Run this after a new chapter or a new address.
"""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CELL_ID = "set-up"

MISSING = """\
from importlib.util import find_spec

if find_spec("indiret") is None:
    raise ModuleNotFoundError("indiret is missing here: pip install its folder, then run again.")"""

INSTALLING = """\
import subprocess
import sys
from importlib.util import find_spec

if find_spec("indiret") is None:  # in Colab; Binder and `make lab` have it
    wanted = ["anywidget", "indiret[baselines] @ git+{url}@{branch}"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)"""


def repository() -> dict[str, str]:
    """The address and branch that ``_config.yml`` names; the address may be empty."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    options = config["sphinx"]["config"]["html_theme_options"]
    return {"url": options["repository_url"], "branch": options["repository_branch"]}


def set_up_source(url: str, branch: str) -> str:
    """The code of the first cell."""
    return INSTALLING.format(url=url, branch=branch) if url else MISSING


def with_set_up(notebook: dict[str, Any], source: str) -> dict[str, Any]:
    """The notebook with the cell after its title, in place of an earlier one."""
    cells = [cell for cell in notebook["cells"] if cell["id"] != CELL_ID]
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL_ID,
        "metadata": {"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
    return {**notebook, "cells": [cells[0], cell, *cells[1:]]}


def main() -> None:
    """Write the cell into all chapters."""
    source = set_up_source(**repository())
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = with_set_up(json.loads(path.read_text(encoding="utf-8")), source)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
