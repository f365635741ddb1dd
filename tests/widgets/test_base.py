"""What both widgets share: a live one, and HTML for a page."""

import pytest

from indiret.widgets import PageWidget
from tests.test_explorer import Page

MODULE = "export default { render() {} }; function renderPage() {}"


class Plain(PageWidget):
    _esm = MODULE

    def to_html(self) -> str:
        return self._inlined("plain", state='<b a="1">&</b>', more="x")


def test_a_notebook_gets_the_live_widget_and_a_page_the_html():
    data, _ = Plain()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == Plain().to_html()


def test_data_are_attributes_behind_which_the_module_stands():
    text = Plain().to_html()
    (tag, attributes), *others = Page(text).tags
    assert tag == "div" and [name for name, _ in others] == ["noscript", "script"]
    assert attributes == {
        "class": "indiret-plain",
        "data-state": '<b a="1">&</b>',
        "data-more": "x",
    }
    assert text.count(f"\n{MODULE}\nrenderPage();\n") == 1


def test_a_widget_without_a_page_says_so():
    with pytest.raises(NotImplementedError, match="PageWidget does not say"):
        PageWidget().to_html()
