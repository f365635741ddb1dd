"""The plane vote in JavaScript: its source, and the constants that it needs, packed for a page.

Chapter: *Your own photos*.
"""

import re
from pathlib import Path

from indiret.widgets.payload import pack

_FOLDER = Path(__file__).parent / "match"
_CORE = ("data", "matcher")
_IMPORT = re.compile(r"^import [^;]+;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function |const |class )", re.MULTILINE)


def pack_matcher() -> bytes:
    """Constants for ``matcherData``, as ``unpack`` of shared.js unpacks them."""
    return pack({}, [])


def page_source() -> str:
    """What a page's script needs: ``matcherData`` and ``createWorkerPool``."""
    return _joined("data", "matcher", "pool")


def worker_source() -> str:
    """What ``createWorkerPool`` makes workers of."""
    return _joined(*_CORE)


def _joined(*names: str) -> str:
    """Modules one behind the other as one script, without their imports and exports."""
    sources = ((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)
