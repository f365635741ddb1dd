"""Links both ways between equations, functions and chapters, made while the book is built.

- ``Eq. 3`` in a docstring leads to the paper's equation on the notation page (`EQUATIONS`). Another
  paper's, which follows its year ("2016, Eq. 1"), is left alone.
- A title after ``Chapter:`` in a module's docstring leads to the chapter.
- ``{chapter}`7` `` on a page is the title of that chapter, and a link where it is in the book.
- After a chapter's imports stands where each of the library's names is documented.
- An address in ``_config.yml`` turns on the buttons that open a chapter in Binder and Colab.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

# Labels on the notation page in the paper's order, so that their numbers are the paper's.
EQUATIONS = (
    "eq-correlation",
    "eq-tensor",
    "eq-evidence",
    "eq-maps",
    "eq-attend",
    "eq-hypersphere",
    "eq-gradient-mu",
    "eq-gradient-sigma",
    "eq-gradient-center",
    "eq-feedback",
)
CHAPTERS = (
    "Quick tour",
    "Patches and metrics",
    "The correlation tensor",
    "Convolution in four dimensions",
    "A 4-D ResNet learns to match",
    "From Grad-CAM to evidence",
    "Hypersphere attention",
    "Indicative feedback",
    "Ranking and honest evaluation",
    "Baselines",
    "Reproducing the tables",
    "Your own photos",
    "Sphere or plane?",
    "From pairs to collections",
)
EQUATION = re.compile(r"(?<!\d{4}, )\bEq\. (\d+)(?:(–| and | to )(\d+))?")
LAUNCH = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}


def link_equations(text: str) -> str:
    """Turn equations named in a docstring into references.

    >>> link_equations("the mask (Eq. 6) and GeM (Radenović et al., 2018, Eq. 3)")
    'the mask (:eq:`eq-hypersphere`) and GeM (Radenović et al., 2018, Eq. 3)'
    >>> link_equations("Eq. 3 and 4")
    ':eq:`eq-evidence` and :eq:`eq-maps`'
    """

    def link(found: re.Match[str]) -> str:
        first, between, last = found.groups()
        linked = f":eq:`{EQUATIONS[int(first) - 1]}`"
        return linked + (f"{between}:eq:`{EQUATIONS[int(last) - 1]}`" if last else "")

    return EQUATION.sub(link, text)


def chapter_page(env: BuildEnvironment, number: int) -> tuple[str | None, str]:
    """The page of a chapter, or None where it is not in the book, and the chapter's short title."""
    pages = sorted(page for page in env.found_docs if page.startswith(f"notebooks/{number:02d}_"))
    if not pages:
        return None, CHAPTERS[number - 1]
    cells = json.loads(Path(env.doc2path(pages[0])).read_text(encoding="utf-8"))["cells"]
    heading = "".join(cells[0]["source"]).splitlines()[0]
    return pages[0], heading.removeprefix("# ").partition(":")[0].strip()


def link_chapters(env: BuildEnvironment, line: str) -> str:
    """Turn the titles of a line such as ``Chapters: *Quick tour*.`` into references."""

    def link(found: re.Match[str]) -> str:
        page, title = chapter_page(env, CHAPTERS.index(found[1]) + 1)
        return f":doc:`{title} </{page}>`" if page else found[0]

    return re.sub(r"\*([^*]+)\*", link, line) if re.match(r"Chapters?: ", line) else line


def process_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = [link_chapters(app.env, link_equations(line)) for line in lines]


class ChapterRole(SphinxRole):
    """``{chapter}`7` ``: the chapter's title, linked where the chapter is in the book."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        page, title = chapter_page(self.env, int(self.text))
        if page is None:
            return [nodes.emphasis(title, title)], []
        link = addnodes.pending_xref(
            refdomain="std", reftype="doc", reftarget=f"/{page}", refdoc=self.env.docname
        )
        link["refexplicit"], link["refwarn"] = True, True
        link += nodes.inline(title, title)
        return [link], []


def imported_names(source: str) -> list[str]:
    """The full names of what a cell imports from the library, where each is documented.

    >>> imported_names("import torch\\nfrom indiret import explain, figures")
    ['indiret.evidence.explain', 'indiret.figures']
    """
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "indiret":
            for alias in node.names:
                names.append(_documented(str(node.module), alias.name))
    return sorted(filter(None, names))


def _documented(module: str, name: str) -> str:
    try:
        value = getattr(importlib.import_module(module), name)
    except AttributeError:
        value = importlib.import_module(f"{module}.{name}")
    if isinstance(value, ModuleType):
        return value.__name__
    # Constants have no entry of their own.
    return f"{value.__module__}.{name}" if hasattr(value, "__qualname__") else ""


def add_library_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Say under a chapter's imports where each name is documented."""
    if not page.startswith("notebooks/"):
        return
    notebook: dict[str, Any] = json.loads(source[0])
    for position, cell in enumerate(notebook["cells"]):
        if cell.get("id") == "imports":
            names = imported_names("".join(cell["source"]))
            roles = [f"{{py:obj}}`{name.rsplit('.', 1)[1]} <{name}>`" for name in names]
            text = f"*In the library:* {', '.join(roles)}."
            links = {"cell_type": "markdown", "id": "library-links", "metadata": {}, "source": text}
            notebook["cells"].insert(position + 1, links)
            source[0] = json.dumps(notebook)
            return


def turn_on_launch(app: Sphinx, config: Any) -> None:
    """Without an address there is nothing to open, and no button."""
    if config.html_theme_options.get("repository_url"):
        config.html_theme_options["launch_buttons"] = LAUNCH


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("chapter", ChapterRole())
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("source-read", add_library_links)
    app.connect("config-inited", turn_on_launch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
