"""Data sets for retrieval: photos, queries, ground truth, regions of interest, downloads.

Chapters: *Ranking and honest evaluation*, *Reproducing the tables*.
"""

from indiret.datasets.dataset import (
    GONE,
    Query,
    RetrievalDataset,
    join_datasets,
    read_all,
    use_regions,
    why_gone,
)
from indiret.datasets.folders import find_images, list_folder
from indiret.datasets.groundtruth import BENCHMARKS, read_pickled
from indiret.datasets.loaders import LOADERS, ClickedPair, load_clicked_pairs, load_dataset
from indiret.datasets.regions import (
    PhotoRegions,
    Region,
    RegionFile,
    check_shape,
    read_regions,
    region_mask,
    write_regions,
)
from indiret.datasets.toytown import SPLITS, TOYTOWN, Geometry

__all__ = [
    "BENCHMARKS", "GONE", "LOADERS", "SPLITS", "TOYTOWN", "ClickedPair", "Geometry", "PhotoRegions",
    "Query", "Region", "RegionFile", "RetrievalDataset", "check_shape", "find_images",
    "join_datasets", "list_folder", "load_clicked_pairs", "load_dataset", "read_all",
    "read_pickled", "read_regions", "region_mask", "use_regions", "why_gone", "write_regions",
]  # fmt: skip
