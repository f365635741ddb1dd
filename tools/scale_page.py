# SHIM
from typing import Any

from tools.render_pages import environment


def tables(found: Any) -> str:
    return environment().get_template("scale.md.j2").render(scale=found)
