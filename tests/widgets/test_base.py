"""What all widgets share: a live one, HTML for a page, and modules that load nothing."""

import json
import re
import subprocess
import sys

import pytest

from indiret.widgets import (
    Annotator,
    Explorer,
    GuessNetwork,
    KernelTrainer,
    PlaneExplorer,
    TensorSlices,
)
from indiret.widgets.base import PageWidget
from tests.widgets.pages import NASTY, Tags

SOURCE = "export default { render() {} }; function renderPage() {}"


class Plain(PageWidget):
    _esm = SOURCE
    kind = "plain"
    page_state = ("layout_name",)
    layout_name = NASTY


def test_a_notebook_gets_the_live_widget_and_a_page_the_html():
    data, _ = Plain()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == Plain().to_html()


def test_data_are_never_markup_and_the_module_stands_behind_them():
    text = Plain(payload=b"ab").to_html()
    (tag, attributes), *others = Tags(text).tags
    assert tag == "div" and [name for name, _ in others] == ["noscript", "script"]
    state = json.dumps({"layout_name": NASTY})
    expected = {"class": "indiret-plain", "data-state": state, "data-payload": "YWI="}
    assert attributes == expected
    assert text.count(f"\n{SOURCE}\nrenderPage();\n") == text.count("</script") == 1
    assert "<script>" not in text and "<img" not in text


WIDGETS = (Annotator, Explorer, GuessNetwork, KernelTrainer, PlaneExplorer, TensorSlices)


@pytest.mark.parametrize("widget", WIDGETS)
def test_a_module_loads_nothing_and_reads_no_text_as_markup(widget):
    source = widget._esm
    assert set(re.findall(r"https?:[^\"\s]+", source)) == {"http://www.w3.org/2000/svg"}
    words = ["innerHTML", "outerHTML", "insertAdjacent", "</script"]
    words += ["fetch(", "import ", "import(", "eval("]
    assert [word for word in words if word in source] == []
    assert source.count("export default") == 1


def test_the_wing_is_imported_without_anywidget_and_knows_its_names():
    code = "import sys, indiret.widgets as w; print('anywidget' in sys.modules, hasattr(w, 'x'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
