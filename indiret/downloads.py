# SHIM
from indiret.datasets.downloads import SOURCES, Source, download, unpack  # noqa: F401
from indiret.datasets.downloads import dataset_info as describe  # noqa: F401
from indiret.datasets.downloads import fetch_dataset as fetch  # noqa: F401
from indiret.datasets.downloads import verify_dataset as verify  # noqa: F401
